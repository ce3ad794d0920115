"""Taking in nodes' journals in memory: the rules of `singd.edges.postgres.intake`, without SQL."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from singd.core.values import NO_LOG, Attempt, Finish, Occurrence, Shipment, ShippedAttempt
from singd.edges.memory.database import Link, MemoryDatabase, Row, Try
from singd.edges.memory.ledger import MemoryLedger
from singd.ports import NodeInfo

Place = tuple[str, uuid.UUID, int]
"""Whose journal, which file, which number."""


@dataclass(slots=True)
class Taken:
    """What one database has from nodes' journals.

    Attributes:
        rows: Where a row was in its node's journal -> the row.
        numbers: Number of a row in the ledger -> its number in its node's journal.
        conflicts: What became an audit event, oldest first.
    """

    rows: dict[Place, Row] = field(default_factory=dict)
    numbers: dict[int, int] = field(default_factory=dict)
    conflicts: dict[tuple[Place, Occurrence], dict[str, Any]] = field(default_factory=dict)


def taken_by(database: MemoryDatabase) -> Taken:
    """The table of one database."""
    return _TAKEN.setdefault(database, Taken())


_TAKEN: WeakKeyDictionary[MemoryDatabase, Taken] = WeakKeyDictionary()


class MemoryIntake:
    """`ports.Intake`; any number of them share one database."""

    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._db = database
        self._ledger = MemoryLedger(database, link)
        self.taken = taken_by(database)

    async def take_in(self, node: NodeInfo, origin: uuid.UUID, shipments: Sequence[Shipment]) -> set[int]:
        """See `ports.Intake`."""
        numbers = self._db.numbers(len(shipments))

        def act() -> set[int]:
            pairs = zip(shipments, numbers, strict=True)
            return {one.number for one, number in pairs if not self._take(origin, one, number)}

        return await self._ledger._apply("take_in", act)  # which repeats it where the connection breaks

    def _take(self, origin: uuid.UUID, one: Shipment, number: int) -> bool:
        """Whether the row is there as this origin's."""
        what = one.recording.occurrence
        place = (what.owner, origin, one.number)
        known = self.taken.rows.get(place)
        if known is None and what not in self._db.by_identity:
            self.taken.rows[place] = self._written(one, number)
            self.taken.numbers[number] = one.number
            return True
        if known is not None and known.occurrence == what:
            return True
        self.taken.conflicts.setdefault((place, what), _conflict(origin, one))
        return False

    def _written(self, one: Shipment, number: int) -> Row:
        generation = self._db.generations.get(one.content_hash, 0)
        row = Row(number, one.recording, generation, one.verdict, one.reason)
        row.attempts.extend(_try(row, attempt) for attempt in one.attempts)
        self._db.rows[number] = self._db.by_identity[one.recording.occurrence] = row
        self._db.by_token.update({each.attempt.token: (row, each) for each in row.attempts})
        return row


def _try(row: Row, said: ShippedAttempt) -> Try:
    attempt = Attempt(row.number, row.occurrence, said.number, said.token, 0)
    end = Finish(
        said.token, said.state, said.error, said.result, started_at=said.started_at, finished_at=said.finished_at,
        log=said.log,
    )  # fmt: skip
    return Try(
        attempt, row.occurrence.owner, uuid.UUID(said.process), said.claimed_at, 0.0, said.state, said.started_at,
        said.finished_at, said.error, end,
    )  # fmt: skip


def _conflict(origin: uuid.UUID, one: Shipment) -> dict[str, Any]:
    recording = one.recording
    attempts = [asdict(replace(attempt, log=NO_LOG)) for attempt in one.attempts]
    return asdict(recording.occurrence) | {
        "origin": str(origin), "number": one.number, "verdict": str(one.verdict), "reason": one.reason,
        "due_until": recording.due_until, "count": recording.count, "task": recording.task, "attempts": attempts,
    }  # fmt: skip
