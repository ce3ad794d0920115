"""The local journal's side that shipping reads, on a `MemoryDatabase` that stands for the state directory's file.

A row is shipped once it has its verdict, has no attempt alive and none to come; oldest first.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import trio

from singd.core.values import Shipment, ShippedAttempt, Verdict
from singd.edges.memory.database import Link, MemoryDatabase
from singd.edges.memory.rows import Row, Try


class MemoryOutbox:
    """`ports.Outbox`.

    Args:
        database: The local journal's rows.
        origin: The identity of the state directory.
        content_hash: Of the configuration in force.
    """

    def __init__(
        self, database: MemoryDatabase, origin: uuid.UUID, link: Link | None = None, content_hash: str = ""
    ) -> None:
        self._db = database
        self._origin = origin
        self._link = link or Link()
        self._hash = content_hash
        self._grown = trio.Event()
        database.on_over = self._note

    def _note(self) -> None:
        self._grown.set()

    @property
    def origin(self) -> uuid.UUID:
        """See `ports.Outbox`."""
        return self._origin

    async def changed(self) -> None:
        """See `ports.Outbox`."""
        await self._grown.wait()

    async def unshipped(self, limit: int) -> Sequence[Shipment]:
        """See `ports.Outbox`."""
        self._grown = trio.Event()

        def act() -> list[Shipment]:
            numbers = sorted(self._db.over)[:limit]
            return [_shipment(self._db.rows[number], self._hash) for number in numbers]

        return await self._db.call(self._link, lambda call: act(), "unshipped")

    async def shipped(self, numbers: Sequence[int]) -> None:
        """See `ports.Outbox`."""
        await self._db.call(self._link, lambda call: self._db.over.difference_update(numbers), "shipped")


def _shipment(row: Row, content_hash: str) -> Shipment:
    attempts = tuple(_shipped(one) for one in row.attempts)
    first = attempts[0].claimed_at if attempts else row.occurrence.due_at
    verdict = row.verdict or Verdict.RAN
    return Shipment(row.number, row.recording, verdict, row.reason, content_hash, first, attempts)


def _shipped(one: Try) -> ShippedAttempt:
    finished_at = one.finished_at or one.claimed_at
    result = one.finish.result if one.finish else None
    return ShippedAttempt(
        one.attempt.number,
        one.attempt.token,
        str(one.process),
        one.state,
        one.claimed_at,
        finished_at,
        one.started_at,
        one.error,
        result,
        one.log,
    )
