"""Operators' requests in memory: the rules of `singd.edges.postgres.overrides`, without SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from singd.core.values import Occurrence, Override, Pause, Verb, Wish
from singd.edges.memory.database import Link, MemoryDatabase


@dataclass(slots=True)
class Table:
    """The rows of one database.

    Attributes:
        traces: What the audit has: actor, verb, target.
    """

    asked: list[Override] = field(default_factory=list)
    answers: dict[int, str] = field(default_factory=dict)
    traces: list[tuple[str, Verb, str]] = field(default_factory=list)


_TABLES: WeakKeyDictionary[MemoryDatabase, Table] = WeakKeyDictionary()


class MemoryOverrides:
    """`ports.Overrides`; any number of them share one database."""

    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._db = database
        self._link = link or Link()
        self.table = _TABLES.setdefault(database, Table())

    async def ask(self, wish: Wish) -> Override:
        """See `ports.Overrides`."""
        return await self._db.call(self._link, lambda call: self._ask(wish), "ask")

    async def open(self) -> Sequence[Override]:
        """See `ports.Overrides`."""
        return await self._db.call(self._link, lambda call: self._open(), "open")

    async def take(self, number: int, answer: Mapping[str, Any]) -> None:
        """See `ports.Overrides`."""
        said = json.dumps(answer)
        await self._db.call(self._link, lambda call: self.table.answers.setdefault(number, said), "take")

    async def answer(self, number: int) -> Mapping[str, Any] | None:
        """See `ports.Overrides`."""
        said = await self._db.call(self._link, lambda call: self.table.answers.get(number), "answer")
        return None if said is None else json.loads(said)

    async def pauses(self) -> Mapping[str, Pause]:
        """See `ports.Overrides`."""
        return await self._db.call(self._link, lambda call: self._pauses(), "pauses")

    def _ask(self, wish: Wish) -> Override:
        self._db.notify()
        for one in self.table.asked:
            if one.wish.request == wish.request:
                return one
        asked = Override(len(self.table.asked) + 1, wish, self._db.clock.now())
        self.table.asked.append(asked)
        self.table.traces.append((wish.actor, wish.verb, wish.target))
        return asked

    def _open(self) -> list[Override]:
        return [
            replace(one, run_id=self._carried_out(one))
            for one in self.table.asked
            if one.number not in self.table.answers
        ]

    def _carried_out(self, asked: Override) -> str:
        wish = asked.wish
        row = self._db.by_identity.get(Occurrence(wish.target, asked.asked_at, wish.owner, wish.request))
        return str(row.number) if row and wish.verb is Verb.TRIGGER else ""

    def _pauses(self) -> dict[str, Pause]:
        pauses: dict[str, Pause] = {}
        for one in self.table.asked:
            wish, pause = one.wish, pauses.get(one.wish.target)
            if wish.verb is Verb.PAUSE:
                pauses[wish.target] = Pause(one.asked_at, wish.actor, wish.until, wish.note)
            elif wish.verb is Verb.RESUME and pause is not None:
                pauses[wish.target] = replace(pause, until=_earlier(pause.until, one.asked_at))
        return pauses


def _earlier(until: datetime | None, resumed: datetime) -> datetime:
    return resumed if until is None else min(until, resumed)
