"""psycopg on trio: one connection class that waits on the socket itself.

psycopg speaks to libpq through generators that say "wake me when the socket is readable / writable".
Its own asyncio loop around them wakes every 0.1 s, whether or not there is anything to do; a daemon with
five idle connections would wake fifty times a second. Here trio waits on the descriptor, so an idle
connection costs nothing, and a cancel scope ends any wait at once:

    AsyncCursor ─▶ generator ─▶ wait() ─▶ _drive: next → poll(0) → wait_readable → send → … → result
                                   │
                              on cancellation ── abandon_on_cancel: drop the socket (lock sessions: a
                                   │              partition must not add 10 s of polite clean-up)
                                   └──────────── else: cancel the query on the server, drain, stay usable

trio's cancellation is level-triggered (every later await raises again), psycopg's own clean-up is not
written for that: `transaction()` and `pipeline()` therefore leave under a shield with a bound.

psycopg has no official support for trio. This module is the only one that touches private names of it
(`_connect_gen`, `_cancel_gen`, `_should_cancel`, `_get_connection_params`, `_autocommit`, `_pipeline`,
`errors._WaitTimeout`): the minor version is pinned and `tests/integration/test_wire.py` checks each name.
"""

from __future__ import annotations

import math
import select
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import trio
from psycopg import AsyncConnection, errors
from psycopg.abc import PQGen, PQGenConn
from psycopg.conninfo import conninfo_attempts, make_conninfo, timeout_from_conninfo
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGconn
from psycopg.rows import AsyncRowFactory, tuple_row
from psycopg.waiting import READY_R, READY_W, WAIT_R, WAIT_RW, WAIT_W

T = TypeVar("T")

CLEAN_UP_S = 5.0
"""Seconds given to a cancel request, to draining after it, and to a rollback under a shield."""

BUSY_S = 0.005
"""After so long without a wait the task yields, so that a big batch does not starve the loop."""

_EVENTS = {WAIT_R: select.POLLIN, WAIT_W: select.POLLOUT, WAIT_RW: select.POLLIN | select.POLLOUT}


class TrioConnection(AsyncConnection[Any]):
    """An `AsyncConnection` for trio.

    Attributes:
        abandon_on_cancel: Drop the socket when a wait is cancelled, rather than cancel the query politely.
            For sessions that hold a lease: the server must not be waited for.
    """

    abandon_on_cancel = False

    def __init__(self, pgconn: PGconn, row_factory: AsyncRowFactory[Any] = tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self.lock = trio.Lock()  # type: ignore[assignment]

    @classmethod
    async def open(cls, conninfo: str, **parameters: Any) -> TrioConnection:
        """Connect, in autocommit mode.

        Args:
            conninfo: What libpq understands; several hosts are tried in order.
            parameters: Further libpq parameters, which win over `conninfo`.

        Raises:
            psycopg.OperationalError: No host could be reached, or all refused.
        """
        params = await cls._get_connection_params(conninfo, **parameters)
        limit = timeout_from_conninfo(params)
        failure: errors.Error = errors.OperationalError("no host in the connection string")
        for attempt in await _attempts(params):
            try:
                gen = cls._connect_gen(make_conninfo("", **attempt))
                connection: TrioConnection = await _drive_connect(gen, limit)
            except errors._WaitTimeout:
                failure = errors.ConnectionTimeout("connection timeout expired")
            except errors.Error as error:
                failure = error
            else:
                connection._autocommit = True
                return connection
        raise failure

    async def wait(self, gen: PQGen[T], interval: float = 0.0, timeout: float | None = None) -> T:
        """Drive one of psycopg's generators; `interval` (its polling) is not needed here."""
        try:
            return await _drive(gen, self.pgconn.socket, timeout)
        except (trio.Cancelled, KeyboardInterrupt):
            if self.abandon_on_cancel:
                self.drop()
            elif self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                await self._end_query(gen)
            raise

    async def _end_query(self, gen: PQGen[Any]) -> None:
        """Cancel the query on the server and read to its end; a connection that cannot be saved is dropped."""
        with trio.CancelScope(shield=True):
            try:
                await self.cancel_safe(timeout=CLEAN_UP_S)
                await _drive(gen, self.pgconn.socket, CLEAN_UP_S)
            except errors.QueryCanceled:
                pass  # as asked
            except errors.Error:
                self.drop()
        if not self._pipeline and self.pgconn.transaction_status == TransactionStatus.ACTIVE:
            self.drop()  # a COPY that was left in the middle cannot be resumed

    async def hear(self) -> None:
        """Wait until the server says something unasked; its notifications go to the handlers.

        Raises:
            psycopg.OperationalError: It closed the connection.
        """
        await trio.lowlevel.wait_readable(self.pgconn.socket)
        self.pgconn.consume_input()
        while notification := self.pgconn.notifies():
            if self.pgconn.notify_handler:
                self.pgconn.notify_handler(notification)

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:
        """Ask the server to cancel the running query.

        Raises:
            psycopg.errors.CancellationTimeout: No answer within `timeout` seconds.
        """
        if not self._should_cancel():
            return
        try:
            await _drive_connect(self._cancel_gen(), timeout)
        except errors._WaitTimeout:
            raise errors.CancellationTimeout("cancellation timeout expired") from None

    def drop(self) -> None:
        """Close the socket now; never waits, never raises, may be repeated."""
        self._closed = True
        self.pgconn.finish()

    def transaction(self, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[Any]:  # type: ignore[override]
        """As in psycopg, with a rollback that finishes even when the task is cancelled."""
        return self._shielded(super().transaction(*args, **kwargs))

    def pipeline(self) -> AbstractAsyncContextManager[Any]:  # type: ignore[override]
        """As in psycopg, with an exit that finishes even when the task is cancelled."""
        return self._shielded(super().pipeline())

    @asynccontextmanager
    async def _shielded(self, scope: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
        value = await scope.__aenter__()
        try:
            yield value
        except BaseException as error:
            with trio.move_on_after(CLEAN_UP_S, shield=True) as clean_up:
                if await scope.__aexit__(type(error), error, error.__traceback__):
                    return
            if clean_up.cancelled_caught:
                self.drop()
            raise
        else:
            await scope.__aexit__(None, None, None)


async def _attempts(params: dict[str, Any]) -> list[dict[str, Any]]:
    """One set of parameters a host; only names need the resolver, which blocks, hence the thread."""
    host = str(params.get("host") or "")
    if not host or host.startswith("/"):
        return conninfo_attempts(params)
    return await trio.to_thread.run_sync(conninfo_attempts, params, abandon_on_cancel=True)


async def _drive(gen: PQGen[T], fd: int, limit: float | None) -> T:
    try:
        with trio.fail_after(math.inf if limit is None else limit):
            wanted = next(gen)
            yielded_at = trio.current_time()
            while True:
                # A socket asked for writing is nearly always writable, and an answer is often there
                # already: poll(0) costs 1 µs, a round through epoll and the scheduler 40.
                if ready := _poll(fd, wanted):
                    if (now := trio.current_time()) - yielded_at > BUSY_S:
                        await trio.lowlevel.checkpoint()
                        yielded_at = now
                else:
                    ready = await _wait(fd, wanted)
                    yielded_at = trio.current_time()
                wanted = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result
    except trio.TooSlowError:
        raise errors._WaitTimeout("wait timeout expired") from None
    except OSError as error:
        raise errors.OperationalError(f"connection socket closed: {error}") from error


async def _drive_connect(gen: PQGenConn[T], limit: float | None) -> T:
    """The same for generators that may change the descriptor as they go (connecting, cancelling)."""
    try:
        with trio.fail_after(math.inf if limit is None else limit):
            fd, wanted = next(gen)
            while True:
                fd, wanted = gen.send(await _wait(fd, wanted))
    except StopIteration as end:
        result: T = end.value
        return result
    except trio.TooSlowError:
        raise errors._WaitTimeout("wait timeout expired") from None
    except OSError as error:
        raise errors.OperationalError(f"connection socket closed: {error}") from error


def _poll(fd: int, wanted: Any) -> Any:
    poller = select.poll()
    poller.register(fd, _EVENTS[wanted])
    ready = 0
    for _, event in poller.poll(0):
        # POLLERR and POLLHUP come unasked: whoever waits must wake and read the error.
        broken = event & ~(select.POLLIN | select.POLLOUT)
        if event & select.POLLIN or broken:
            ready |= READY_R & wanted
        if event & select.POLLOUT or broken:
            ready |= READY_W & wanted
    return ready


async def _wait(fd: int, wanted: Any) -> Any:
    if wanted == WAIT_R:
        await trio.lowlevel.wait_readable(fd)
        return READY_R
    if wanted == WAIT_W:
        await trio.lowlevel.wait_writable(fd)
        return READY_W
    ready = 0

    async def one(wait: Any, bit: int) -> None:
        nonlocal ready
        await wait(fd)
        ready |= bit
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, trio.lowlevel.wait_readable, READY_R)
        nursery.start_soon(one, trio.lowlevel.wait_writable, READY_W)
    return ready
