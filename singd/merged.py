"""The ledger and this node's local journal, read as one: what was not shipped yet is history too.

                     the ledger                     the local journal
    runs, latest     every owner's rows         +   this node's own that the ledger does not have
    known, node_run  what is forgotten here     <-  first
    away             -                              still answers for this node's own schedules

A row of the journal has no number in the ledger: its `occurrence_id` is the negative of its local number here, so that
one number says where a row's output is. People see its run id, `node:number`, the same before and after shipping.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol, TypeVar

import trio

from singd.core.cluster import Cluster
from singd.core.history import Known, OccurrenceRow
from singd.core.values import Log
from singd.errors import EdgeError
from singd.views import LedgerView, PartialAnswer

T = TypeVar("T")
PATIENCE_S = 1.5
"""For the ledger, where the journal alone is an answer too; within the patience of those who ask."""


class JournalView(Protocol):
    """What is read of the local journal; its numbers are its own."""

    async def runs(
        self, schedule: str | None, since: datetime | None, limit: int
    ) -> Sequence[OccurrenceRow]: ...

    async def latest(self) -> Mapping[str, OccurrenceRow]: ...

    async def known(self, schedule: str, at: datetime, owner: str | None) -> Known: ...

    async def run(self, number: int) -> OccurrenceRow | None: ...

    async def begun(self, schedule: str, owner: str | None) -> OccurrenceRow | None: ...

    async def log(self, occurrence: int, number: int) -> Log | None: ...


class Merged:
    """A `views.LedgerView` over both.

    Args:
        ledger: The cluster's.
        journal: This node's.
        node: Its name.
        own: Names of the schedules that are this node's own: for these the journal is an answer by itself.
    """

    def __init__(
        self, ledger: LedgerView, journal: JournalView, node: str, own: Callable[[], Collection[str]]
    ) -> None:
        self._ledger = ledger
        self._journal = journal
        self._node = node
        self._own = own

    async def runs(self, schedule: str | None, since: datetime | None, limit: int) -> Sequence[OccurrenceRow]:
        """The newest rows of both; of one of this node's schedules the journal's alone where the ledger is away."""
        here = [_here(row) for row in await self._journal.runs(schedule, since, limit)]
        shared: Sequence[OccurrenceRow] = await self._asked(
            lambda: self._ledger.runs(schedule, since, limit), (), schedule
        )
        there = {(row.owner, row.local_number) for row in shared}
        rows = [*shared, *(row for row in here if (row.owner, row.local_number) not in there)]
        return sorted(rows, key=lambda row: (row.due_at, row.occurrence_id), reverse=True)[:limit]

    async def latest(self) -> Mapping[str, OccurrenceRow]:
        """Of each schedule the newest row that is over; of this node's own the journal's.

        Raises:
            PartialAnswer: The ledger is away; the journal's part is in it.
        """
        found = {
            name: _here(row) for name, row in (await self._journal.latest()).items() if name in self._own()
        }
        try:
            with trio.fail_after(PATIENCE_S):
                return {**await self._ledger.latest(), **found}
        except EdgeError as error:
            raise PartialAnswer(str(error), found, cure=error.cure) from error
        except trio.TooSlowError as error:
            raise PartialAnswer(f"it did not answer within {PATIENCE_S:g} s", found) from error

    async def known(self, schedule: str, at: datetime, owner: str | None) -> Known:
        """What there is around an instant: the journal's word first, the ledger's on what is forgotten here."""
        if schedule not in self._own():
            return await self._ledger.known(schedule, at, owner)
        here = await self._journal.known(schedule, at, owner)
        if here.row is not None or (here.oldest is not None and at >= here.oldest):
            return replace(here, row=here.row and _here(here.row))
        there = await self._ledger.known(schedule, at, owner)
        oldest = min((each for each in (here.oldest, there.oldest) if each), default=None)
        return Known(there.row, here.cursor or there.cursor, oldest, there.kept_from)

    async def run(self, occurrence_id: int) -> OccurrenceRow | None:
        """One row with every attempt."""
        if occurrence_id < 0:
            return await self.node_run(self._node, -occurrence_id)
        return await self._ledger.run(occurrence_id)

    async def node_run(self, node: str, number: int) -> OccurrenceRow | None:
        """One row of a node's own, by its number there."""
        row = await self._journal.run(number) if node == self._node else None
        return _here(row) if row is not None else await self._ledger.node_run(node, number)

    async def begun(self, schedule: str, owner: str | None) -> OccurrenceRow | None:
        """The newest row of an owner that has an attempt."""
        here = await self._journal.begun(schedule, owner)
        there = await self._asked(lambda: self._ledger.begun(schedule, owner), None, schedule)
        if here is None or (there is not None and there.due_at > here.due_at):
            return there
        return _here(here)

    async def log(self, occurrence_id: int, number: int) -> Log | None:
        """The kept output of an attempt that is over."""
        if occurrence_id < 0:
            return await self._journal.log(-occurrence_id, number)
        return await self._ledger.log(occurrence_id, number)

    async def running(self, limit: int) -> Sequence[OccurrenceRow]:
        """What the ledger has in progress; what runs of this node's own, the daemon itself knows."""
        return await self._ledger.running(limit)

    async def cluster(self) -> Cluster:
        """The nodes, who leads, and the newest changes of leader."""
        return await self._ledger.cluster()

    async def _asked(self, ask: Callable[[], Awaitable[T]], otherwise: T, schedule: str | None) -> T:
        """The ledger's answer; for a schedule of this node's own it may be away."""
        if schedule not in self._own():
            return await ask()
        try:
            with trio.fail_after(PATIENCE_S):
                return await ask()
        except (EdgeError, trio.TooSlowError):
            return otherwise


def _here(row: OccurrenceRow) -> OccurrenceRow:
    return replace(row, occurrence_id=-row.occurrence_id)
