"""Taking in what nodes recorded for themselves: `ports.Intake` on Postgres.

    insert, ON CONFLICT DO NOTHING ──all written──▶ done
      └── some were not ──▶ ours already (same origin, number, identity): a repeat, nothing to do
                        └─▶ somebody else's: two state directories under one node name, or a copy of one;
                            an audit event each, once, and the caller raises the alarm

A batch is one statement. The right to write a row is its identity, so no term is asked for; a connection that breaks
around COMMIT has the batch sent again, as in `ledger.py`, and it finds itself there. Only the audit of what is not
ours needs a lock of the origin: that the same event is there already is seen by looking, not by a key.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from singd.core.values import Finish, Shipment, ShippedAttempt
from singd.edges.postgres import batches, keys, text
from singd.edges.postgres.ledger import durably
from singd.edges.postgres.pool import Pool
from singd.edges.postgres.statements import run
from singd.edges.postgres.wire import TrioConnection
from singd.ports import NodeInfo

ACTOR = "node {}"


class PostgresIntake:
    """`ports.Intake` on the ledger's pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def take_in(self, node: NodeInfo, origin: uuid.UUID, shipments: Sequence[Shipment]) -> set[int]:
        """See `ports.Intake`."""
        if not shipments:
            return set()
        given = {"origin": str(origin), "actor": text.clean(ACTOR.format(node.name))}
        values = {**given, **_occurrences(shipments), **_attempts(shipments)}
        lock = {"key": keys.intake_key(self._pool.schema, str(origin))}

        async def body(connection: TrioConnection, _: bool) -> set[int]:
            [[written]] = await run(connection, "take_in", values)
            if written == len(shipments):
                return set()
            strange = {**given, **_occurrences(shipments), "details": _details(shipments)}
            async with connection.transaction():
                await run(connection, "serialise", lock)
                return {row[0] for row in await run(connection, "take_in_strange", strange)}

        return await durably(self._pool, "taking in a node's journal", body)


def _occurrences(shipments: Sequence[Shipment]) -> dict[str, Any]:
    said = [one.recording for one in shipments]
    whats = [recording.occurrence for recording in said]
    return {
        "numbers": text.numbers(one.number for one in shipments),
        "schedules": text.texts(what.schedule for what in whats),
        "owners": text.texts(what.owner for what in whats),
        "dues": text.instants(what.due_at for what in whats),
        "untils": text.instants(recording.due_until for recording in said),
        "counts": text.numbers(recording.count for recording in said),
        "requests": text.texts(what.request for what in whats),
        "tasks": text.texts(recording.task for recording in said),
        "verdicts": text.texts(one.verdict for one in shipments),
        "reasons": text.texts(one.reason for one in shipments),
        "hashes": text.texts(one.content_hash for one in shipments),
        "recorded": text.instants(one.recorded_at for one in shipments),
        "tries": text.numbers(one.attempts[-1].number if one.attempts else 0 for one in shipments),
    }


def _attempts(shipments: Sequence[Shipment]) -> dict[str, Any]:
    pairs = [(one.number, attempt) for one in shipments for attempt in one.attempts]
    tried = [attempt for _, attempt in pairs]
    ends = [_end(attempt) for attempt in tried]
    return {
        **batches.ends(ends),
        **batches.logs(ends),
        "tried": text.numbers(number for number, _ in pairs),
        "orders": text.numbers(attempt.number for attempt in tried),
        "processes": text.plain(attempt.process for attempt in tried),
        "claims": text.instants(attempt.claimed_at for attempt in tried),
    }


def _end(attempt: ShippedAttempt) -> Finish:
    """The part of an attempt that the ledger knows from any attempt's end."""
    return Finish(
        attempt.token, attempt.state, attempt.error, attempt.result,
        started_at=attempt.started_at, finished_at=attempt.finished_at, log=attempt.log,
    )  # fmt: skip


def _details(shipments: Sequence[Shipment]) -> str:
    """What an audit event keeps of the attempts: all but their output."""
    return text.results({"attempts": [_detail(attempt) for attempt in one.attempts]} for one in shipments)


def _detail(attempt: ShippedAttempt) -> dict[str, Any]:
    return {
        "number": attempt.number, "token": attempt.token, "process": attempt.process, "state": str(attempt.state),
        "claimed_at": attempt.claimed_at.isoformat(), "finished_at": attempt.finished_at.isoformat(),
        "started_at": attempt.started_at and attempt.started_at.isoformat(), "error": attempt.error, "result": attempt.result,
    }  # fmt: skip
