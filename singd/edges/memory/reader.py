"""The ledger as operators read it (`views.LedgerView`), from `MemoryDatabase`."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import trio

from singd.core.cluster import Cluster, LeaderRow, NodeRow
from singd.core.history import AttemptRow, Known, OccurrenceRow
from singd.core.values import CLUSTER, Log, State
from singd.edges.memory.database import Link, MemoryDatabase, Row, Try
from singd.edges.memory.intake import taken_by

TERMS = 5
"""Changes of leader in one answer."""
SILENT_S = 7.0
"""Two beats and their way: see `sql/view_run.sql`."""


class MemoryReader:
    """See `singd.edges.postgres.reader.LedgerReader`."""

    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._db = database
        self._link = link or Link()
        self._taken = taken_by(database)

    async def runs(self, schedule: str | None, since: datetime | None, limit: int) -> Sequence[OccurrenceRow]:
        """The newest rows, newest first, each with its last attempt; of `since` or later."""
        await self._db.reach(self._link)
        rows = [r for r in self._db.rows.values() if schedule in (None, r.occurrence.schedule)]
        if since is not None:
            rows = [r for r in rows if (r.recording.due_until or r.occurrence.due_at) >= since]
        rows.sort(key=_newest, reverse=True)
        return [self._view(row, row.attempts[-1:]) for row in rows[:limit]]

    async def latest(self) -> Mapping[str, OccurrenceRow]:
        """Of each schedule of the cluster the newest row with a verdict that is over, with its last attempt."""
        await self._db.reach(self._link)
        over = [
            r
            for r in self._db.rows.values()
            if r.occurrence.owner == CLUSTER and r.number not in self._db.unfinished
        ]
        return {r.occurrence.schedule: self._view(r, r.attempts[-1:]) for r in sorted(over, key=_newest)}

    async def known(self, schedule: str, at: datetime, owner: str | None) -> Known:
        """What there is around one instant, of one owner or (None) of any; its row with every attempt."""
        await self._db.reach(self._link)
        rows = self._of(schedule, owner)
        covering = [
            r for r in rows if r.occurrence.due_at <= at <= (r.recording.due_until or r.occurrence.due_at)
        ]
        covering.sort(
            key=lambda r: (
                r.occurrence.due_at == at,
                r.occurrence.owner == CLUSTER,
                r.occurrence.request == "",
                r.occurrence.due_at,
            )
        )
        oldest = min((r.occurrence.due_at for r in rows), default=None)
        row = self._view(covering[-1], covering[-1].attempts) if covering else None
        return Known(row, self._db.cursors.get(schedule) if owner in (None, CLUSTER) else None, oldest)

    async def run(self, occurrence_id: int) -> OccurrenceRow | None:
        """One row with every attempt."""
        await self._db.reach(self._link)
        row = self._db.rows.get(occurrence_id)
        return self._view(row, row.attempts) if row else None

    async def node_run(self, node: str, number: int) -> OccurrenceRow | None:
        """One row of a node's own, with every attempt, by its number in that node's local journal."""
        await self._db.reach(self._link)
        places = [
            row for (owner, _, local), row in self._taken.rows.items() if (owner, local) == (node, number)
        ]
        return self._view(places[-1], places[-1].attempts) if places else None

    async def begun(self, schedule: str, owner: str | None) -> OccurrenceRow | None:
        """The newest row of an owner that has an attempt, with every one; None if none ever had."""
        await self._db.reach(self._link)
        rows = [r for r in self._of(schedule, owner) if r.attempts]
        newest = max(rows, key=_newest, default=None)
        return self._view(newest, newest.attempts) if newest else None

    async def log(self, occurrence_id: int, number: int) -> Log | None:
        """The kept output of an attempt that is over; None where none is kept."""
        await self._db.reach(self._link)
        row = self._db.rows.get(occurrence_id)
        if row is None or not 0 < number <= len(row.attempts):
            return None
        log = row.attempts[number - 1].log
        return log if log.head or log.tail or log.dropped else None

    async def running(self, limit: int) -> Sequence[OccurrenceRow]:
        """What is in progress on any node, each with its last attempt."""
        await self._db.reach(self._link)
        rows = sorted((r for r in self._db.unfinished.values() if r.live), key=lambda r: r.number)
        return [self._view(row, row.attempts[-1:]) for row in rows[:limit]]

    async def cluster(self) -> Cluster:
        """The nodes, who leads, and the newest changes of leader."""
        await self._db.reach(self._link)
        db, live = self._db, self._live()
        nodes = [
            NodeRow(
                one.name, one.role, one.version, str(one.process), at, one.process in live, one.content_hash
            )
            for one, at in db.registered.values()
        ]
        generation = db.generations.get(db.in_force)
        return Cluster(self._leader(), nodes, db.terms[: -TERMS - 1 : -1], generation, db.in_force)

    def _leader(self) -> LeaderRow | None:
        db = self._db
        if db.elected is None or db.seen_at is None:
            return None
        silent_s = (db.clock.now() - db.seen_at).total_seconds()
        held = db.leader is not None and db.leader.node.process == db.elected.process
        process = str(db.elected.process)
        return LeaderRow(db.epoch, db.elected.name, process, db.terms[-1].elected_at, silent_s, held)

    def _live(self) -> set[uuid.UUID]:
        self._db.expire()
        return {one.node.process for one in self._db.sessions if one.name}

    def _of(self, schedule: str, owner: str | None) -> list[Row]:
        rows = (r for r in self._db.rows.values() if r.occurrence.schedule == schedule)
        return [r for r in rows if owner in (None, r.occurrence.owner)]

    def _view(self, row: Row, attempts: Sequence[Try]) -> OccurrenceRow:
        what, said = row.occurrence, row.recording
        return OccurrenceRow(
            row.number, what.schedule, what.due_at, said.task, row.generation, what.owner, said.due_until, said.count,
            str(row.verdict) if row.verdict else None, row.reason, row.retry_at, tuple(_attempt(one, self._live()) for one in attempts),
            self._taken.numbers.get(row.number),
        )  # fmt: skip


def _newest(row: Row) -> tuple[datetime, int]:
    return row.occurrence.due_at, row.number


def _attempt(one: Try, live: Collection[uuid.UUID]) -> AttemptRow:
    result = one.finish.result if one.finish else None
    silent = one.state is State.RUNNING and trio.current_time() - one.renewed > SILENT_S
    return AttemptRow(
        one.attempt.number, one.state, one.attempt.epoch, one.node, one.started_at, one.finished_at, one.error,
        result, one.claimed_at, silent and one.process not in live,
    )  # fmt: skip
