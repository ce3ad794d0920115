"""A small bounded pool of pinned sessions.

    async with pool.connection() as c:     one of `size`, the most recently used first
        await c.execute(…)                 healthy afterwards: kept.  broken or in a transaction: dropped

There is no background task: a connection proves its health by use, and whoever meets a broken one repeats
the statement on a new one (`ledger.py` knows how to do that safely).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import psycopg
import trio
from psycopg.pq import TransactionStatus

from singd.edges.postgres.failure import PostgresError, translate
from singd.edges.postgres.wire import TrioConnection

CALL_S = 12.0
"""Seconds the client waits for one statement: the server's own bound and 2 s for the way."""

SESSION: Mapping[str, str] = {
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    # How long a frozen daemon's open transaction can hold up others: a takeover, which waits for its FOR
    # SHARE, and its own repeat after a lost connection. Hence shorter than lock_timeout.
    "idle_in_transaction_session_timeout": "3s",
    "client_connection_check_interval": "1s",
    # Every statement finds its rows by key: a plan made while the tables were empty would read them whole,
    # and one made for ten rows would loop over ten thousand.
    "enable_seqscan": "off",
    "random_page_cost": "1",  # and what it looks for was written a moment ago
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
}
"""Settings pinned in each session; `search_path` and `application_name` are added."""

CONNECT: Mapping[str, object] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq parameters, each unless the connection string has its own."""

READ_ONLY = "25006"
"""SQLSTATE of a write in a session that may not write."""

_SCHEMA = re.compile(r"[a-z][a-z0-9_]{0,62}")


def checked_schema(name: str) -> str:
    """`name` if it can be a schema of ours, else ValueError: it becomes part of SQL text (S8)."""
    if not _SCHEMA.fullmatch(name):
        raise ValueError(f"schema {name!r}: lower-case letters, digits and _, first a letter, at most 63")
    return name


async def connect(
    conninfo: str, schema: str, purpose: str, session: Mapping[str, str] = SESSION
) -> TrioConnection:
    """A connection with its session pinned.

    Args:
        purpose: Goes into `application_name`, after "singd ".
        session: Settings for the whole session.

    Raises:
        psycopg.Error: As from the server.
    """
    given = psycopg.conninfo.conninfo_to_dict(conninfo)
    defaults = {key: value for key, value in CONNECT.items() if key not in given}
    connection = await TrioConnection.open(conninfo, **defaults)
    # Our statements are short: a cancelled one ends by itself, and nobody waits for it in a partition.
    connection.abandon_on_cancel = True
    pinned = {**session, "search_path": checked_schema(schema), "application_name": f"singd {purpose}"}
    try:
        with trio.fail_after(CALL_S):
            await connection.execute(
                "SELECT set_config(n, v, false) FROM unnest(%s::text[], %s::text[]) AS s(n, v)",
                (list(pinned), list(pinned.values())),
            )
    except BaseException:
        connection.drop()
        raise
    return connection


class Pool:
    """At most `size` connections of one purpose, opened when first needed.

    Args:
        conninfo: libpq connection string or URL.
        schema: The ledger's schema: the only thing on `search_path` beside pg_catalog.
        size: Most connections at a time (3, so that a daemon never has more than five in all: I15).
        wait_s: Seconds to wait for a free one.
    """

    def __init__(self, conninfo: str, schema: str = "singd", *, size: int = 3, wait_s: float = 10.0) -> None:
        self.schema = checked_schema(schema)
        self._conninfo = conninfo
        self._wait_s = wait_s
        self._idle: list[TrioConnection] = []
        self._slots = trio.CapacityLimiter(size)

    @asynccontextmanager
    async def connection(self, doing: str = "using the database") -> AsyncIterator[TrioConnection]:
        """Borrow a connection.

        Raises:
            PostgresError: None was free in time.
            psycopg.Error: None could be opened, or as raised inside.
        """
        borrower = object()
        with trio.move_on_after(self._wait_s) as patience:
            await self._slots.acquire_on_behalf_of(borrower)
        if patience.cancelled_caught:
            raise PostgresError(
                f"{doing}: all {self._slots.total_tokens} connections were busy for {self._wait_s} s"
            )
        try:
            connection = (
                self._idle.pop() if self._idle else await connect(self._conninfo, self.schema, "ledger")
            )
            try:
                yield connection
            except psycopg.Error as error:
                # A session keeps the default it began with: a server that takes writes again is seen by new ones only.
                if READ_ONLY in (error.sqlstate, getattr(error.__cause__, "sqlstate", None)):
                    connection.drop()
                    self.close()
                raise
            finally:
                self._give_back(connection)
        finally:
            self._slots.release_on_behalf_of(borrower)

    def _give_back(self, connection: TrioConnection) -> None:
        if not connection.closed and connection.info.transaction_status == TransactionStatus.IDLE:
            self._idle.append(connection)
        else:
            connection.drop()

    def close(self) -> None:
        """Close what is idle; what is borrowed closes with its borrower's scope."""
        while self._idle:
            self._idle.pop().drop()

    async def __aenter__(self) -> Self:
        """Prove that the database answers, so that a wrong address is told at once.

        Raises:
            PostgresError: It does not.
        """
        try:
            async with self.connection("connecting to the database"):
                pass
        except psycopg.Error as error:
            raise translate(error, "connecting to the database") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
