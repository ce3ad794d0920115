"""The ledger of `scope = "node"`: one file in the state directory, the same rules as the cluster's.

    scheduler, runner ──▶ LocalLedger ──▶ journal.db ──▶ unshipped ──▶ singd.shipping ──▶ the cluster's ledger
                          one transaction a call          shipped ◀──────────────────────── has them, durably

There is one planner, the daemon that holds the state directory, so there is no epoch and no fence: every term is
`Term(0)`. What a daemon before this one left live is over, because we hold its directory and its workers were ended
before anything began here: a claim of it is shown with an epoch of the past, so that it is settled at once, and what
it ran with an infinite age. How long our own attempts have been silent is known in memory; it is nobody else's
business, so a beat writes nothing.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import trio

from singd.core.values import Attempt, Finish, Recorded, Recording, Shipment, State
from singd.edges.local import outbox, rows, writes
from singd.edges.local.file import Body, JournalFile
from singd.edges.local.statements import statement
from singd.errors import EdgeError
from singd.ports import Adoption, Clock, LiveAttempt, NodeInfo, OpenOccurrence, Term

T = TypeVar("T")

DEAD_EPOCH = -1
"""Of an attempt that another process claimed: older than any term's."""


class LocalLedger:
    """`ports.Ledger` and `ports.Outbox` on the local journal.

    Args:
        path: The file; made when it is first used.
        node: Whose journal it is; attempts of another process are a dead daemon's.

    Attributes:
        backlog: How many rows are over and not shipped, and when the oldest was recorded.
    """

    def __init__(self, path: Path, node: NodeInfo, clock: Clock) -> None:
        self.file = JournalFile(path, clock)
        self._node = node
        self._clock = clock
        self._origin: UUID | None = None
        self._adopted: UUID | None = None
        self._opened = clock.boot()
        self._renewed: dict[str, float] = {}
        self._more = trio.Event()
        self.backlog: tuple[int, datetime | None] = (0, None)

    @property
    def set_aside(self) -> Path | None:
        """Where a damaged journal was put, with what it had not shipped; None = there was none."""
        return self.file.set_aside

    @property
    def tell(self) -> Callable[[str], None]:
        """Is given the news that a new journal took the place of a damaged or removed one."""
        return self.file.tell

    @tell.setter
    def tell(self, tell: Callable[[str], None]) -> None:
        self.file.tell = tell

    @property
    def origin(self) -> UUID:
        """See `ports.Outbox`; known once the file was open."""
        assert self._origin is not None, "the journal was not opened"
        return self._origin

    async def open(self) -> None:
        """Open the file, or make it; any other call does so too.

        Raises:
            EdgeError: The disk is full or fails, or the file is of a newer singd.
        """

        def body(connection: sqlite3.Connection) -> None:
            self._know_origin(connection)
            self.backlog = outbox.backlog(connection)

        await self.file.transact("opening the local journal", body)

    def close(self) -> None:
        """Let the file go."""
        self.file.close()

    # -- ports.Ledger -----------------------------------------------------------------------------

    async def adopt(self, term: Term) -> Adoption:
        """What is unfinished; without a startup: a node's own is the start of its process."""

        def body(connection: sqlite3.Connection) -> tuple[UUID, Adoption]:
            return _origin(connection), self._adoption(connection)

        self._adopted, adoption = await self.file.transact("adopting the local journal", body)
        return adoption

    async def generation(
        self, term: Term, content_hash: str, triggers: Mapping[str, str], now: datetime
    ) -> int:
        """See `ports.Ledger`."""
        return await self.file.transact(
            "accepting a generation",
            lambda connection: writes.accept(connection, content_hash, triggers, now),
        )

    async def record(
        self, term: Term, generation: int, recordings: Sequence[Recording], cursors: Mapping[str, datetime]
    ) -> Sequence[Recorded]:
        """See `ports.Ledger`. Raises EdgeError too where the journal is full of what could not be shipped."""

        def body(connection: sqlite3.Connection) -> list[Recorded]:
            _same(connection, self._adopted)
            outbox.make_room(connection, len(recordings))
            writes.move_cursors(connection, cursors)
            return writes.record(connection, generation, recordings, self._node, self._now())

        answers = await self._ending("recording occurrences", body)
        self._renew(answer.attempt.token for answer in answers if answer.attempt)
        return answers

    async def open_attempts(self, term: Term, occurrence_ids: Sequence[int]) -> Sequence[Attempt | None]:
        """See `ports.Ledger`."""

        def body(connection: sqlite3.Connection) -> list[Attempt | None]:
            _same(connection, self._adopted)
            now = self._now()
            return [writes.open_next(connection, number, self._node, now) for number in occurrence_ids]

        attempts = await self.file.transact("opening attempts", body)
        self._renew(attempt.token for attempt in attempts if attempt)
        return attempts

    async def decide(self, term: Term, verdicts: Mapping[int, tuple[str, str]]) -> None:
        """See `ports.Ledger`."""

        def body(connection: sqlite3.Connection) -> None:
            _same(connection, self._adopted)
            writes.decide(connection, verdicts)

        await self._ending("deciding occurrences", body)

    async def start(self, tokens: Sequence[str]) -> set[str]:
        """See `ports.Ledger`."""
        live = await self.file.transact(
            "starting attempts", lambda connection: writes.start(connection, tokens, self._now())
        )
        self._renew(live)
        return live

    async def beat(self, tokens: Sequence[str]) -> set[str]:
        """See `ports.Ledger`."""
        live = await self.file.transact(
            "renewing attempts", lambda connection: writes.live(connection, tokens)
        )
        self._renew(live)
        return live

    async def finish(self, finishes: Sequence[Finish]) -> set[str]:
        """See `ports.Ledger`. Of two ends for one token in a batch the first counts."""
        first = {one.token: one for one in reversed(finishes)}.values()

        def body(connection: sqlite3.Connection) -> set[str]:
            accepted = writes.finish(connection, first, self._now())
            outbox.bound_output(connection)
            return accepted

        accepted = await self._ending("finishing attempts", body)
        self._ended(accepted)
        return accepted

    async def settle(self, term: Term, finishes: Sequence[Finish]) -> set[str]:
        """See `ports.Ledger`. CANCELLED settles only what is still claimed, LOST only what is running."""
        plain = [Finish(one.token, one.state, one.error, retry_at=one.retry_at) for one in finishes]

        def body(connection: sqlite3.Connection) -> set[str]:
            _same(connection, self._adopted)
            return writes.settle(connection, plain, self._now())

        settled = await self._ending("settling attempts", body)
        self._ended(settled)
        return settled

    # -- ports.Outbox -----------------------------------------------------------------------------

    async def changed(self) -> None:
        """See `ports.Outbox`."""
        await self._more.wait()

    async def unshipped(self, limit: int) -> Sequence[Shipment]:
        """See `ports.Outbox`; fewer than `limit` where their output is long."""
        self._more = trio.Event()

        def body(connection: sqlite3.Connection) -> list[Shipment]:
            self._know_origin(connection)
            return outbox.unshipped(connection, limit)

        return await self.file.transact("reading what to ship", body)

    async def shipped(self, numbers: Sequence[int]) -> None:
        """See `ports.Outbox`. What was shipped a day ago is forgotten here."""

        def body(connection: sqlite3.Connection) -> None:
            _same(connection, self._origin)
            outbox.shipped(connection, numbers, self._now())
            self.backlog = outbox.backlog(connection)

        await self.file.transact("noting what was shipped", body)

    # -- what only this process knows -------------------------------------------------------------

    def _now(self) -> int:
        return rows.micros(self._clock.now())

    def _renew(self, tokens: Iterable[str]) -> None:
        now = self._clock.boot()
        self._renewed.update(dict.fromkeys(tokens, now))

    def _ended(self, tokens: Iterable[str]) -> None:
        for token in tokens:
            self._renewed.pop(token, None)

    async def _ending(self, doing: str, body: Body[T]) -> T:
        """A transaction after which there may be more to ship."""

        def counting(connection: sqlite3.Connection) -> T:
            answer = body(connection)
            self.backlog = outbox.backlog(connection)
            return answer

        answer = await self.file.transact(doing, counting)
        self._more.set()
        return answer

    def _know_origin(self, connection: sqlite3.Connection) -> None:
        self._origin = _origin(connection)

    def _adoption(self, connection: sqlite3.Connection) -> Adoption:
        cursors = connection.execute("SELECT schedule, due_at FROM cursor")
        return Adoption(
            {name: rows.instant(due_at) for name, due_at in cursors},
            [_unfinished(row) for row in connection.execute(statement("adopt_unfinished"))],
            [self._live(row) for row in connection.execute(statement("adopt_live"))],
        )

    def _live(self, row: rows.Row) -> LiveAttempt:
        number, tried, token, process, state, *identity, retries_used = row
        epoch, age_s = DEAD_EPOCH, math.inf
        if process == str(self._node.process):
            epoch, age_s = 0, self._clock.boot() - self._renewed.get(token, self._opened)
        attempt = Attempt(number, rows.occurrence(*identity), tried, token, epoch)
        return LiveAttempt(attempt, state == State.RUNNING, UUID(process), retries_used, age_s)


def _origin(connection: sqlite3.Connection) -> UUID:
    [origin] = connection.execute("SELECT value FROM fact WHERE name = 'origin'").fetchone()
    return UUID(origin)


def _same(connection: sqlite3.Connection, origin: UUID | None) -> None:
    """Numbers are a journal's own: whoever has those of one that is gone must adopt the new one first."""
    if origin not in (None, _origin(connection)):
        raise EdgeError(
            "another journal took the place of the one that was read", cure="nothing: it is read anew"
        )


def _unfinished(row: rows.Row) -> OpenOccurrence:
    number, *identity, attempts, retry_at, retries_used = row
    return OpenOccurrence(
        number, rows.occurrence(*identity), attempts, retries_used, rows.maybe_instant(retry_at)
    )
