"""The ledger as operators read it: history as the frozen rows of `singd.core.history`, nothing written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
import trio

from singd.bounds import RUNS_MAX
from singd.core.cluster import Cluster, LeaderRow, NodeRow, TermRow
from singd.core.history import AttemptRow, Known, OccurrenceRow
from singd.core.values import Log, State
from singd.edges.postgres import keys, text
from singd.edges.postgres.failure import PostgresError, translate
from singd.edges.postgres.pool import CALL_S, Pool
from singd.edges.postgres.statements import Row, run

MOST_ROWS = RUNS_MAX + 1
"""Rows in one answer at most, of which the last only tells that there are more; a range row counts as one."""


TERMS = 5
"""Changes of leader in one answer."""


class LedgerReader:
    """`views.LedgerView` on a pool of sessions. Every method raises EdgeError where Postgres is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def runs(self, schedule: str | None, since: datetime | None, limit: int) -> Sequence[OccurrenceRow]:
        """The newest rows, newest first, each with its last attempt; of `since` or later."""
        values = {"since": since, "limit": min(limit, MOST_ROWS)}
        if schedule is None:
            rows = await self._ask("view_runs", values)
        else:
            rows = await self._ask("view_runs_of", {**values, "schedule": text.clean(schedule)})
        return [_with_last(row) for row in rows]

    async def latest(self) -> Mapping[str, OccurrenceRow]:
        """Of each schedule of the cluster the newest row with a verdict that is over, with its last attempt."""
        return {row[1]: _with_last(row) for row in await self._ask("view_latest", {})}

    async def known(self, schedule: str, at: datetime, owner: str | None) -> Known:
        """What there is around one instant, of one owner or (None) of any; its row with every attempt."""
        whose = _whose(schedule, owner)
        found = await self._ask("view_known", {**whose, "at": at})
        extent = await self._ask("view_extent", whose)
        return Known(await self.run(found[0][0]) if found else None, *extent[0])

    async def run(self, occurrence_id: int) -> OccurrenceRow | None:
        """One row with every attempt."""
        if not 0 < occurrence_id < 1 << 63:
            return None
        rows = await self._ask("view_run", {"id": occurrence_id})
        return (
            _occurrence(rows[0], tuple(_attempt(row) for row in rows if row[13] is not None))
            if rows
            else None
        )

    async def node_run(self, node: str, number: int) -> OccurrenceRow | None:
        """One row of a node's own, with every attempt, by its number in that node's local journal."""
        if not 0 < number < 1 << 63:
            return None
        found = await self._ask("view_node_run", {"node": text.clean(node), "number": number})
        return await self.run(found[0][0]) if found else None

    async def begun(self, schedule: str, owner: str | None) -> OccurrenceRow | None:
        """The newest row of an owner that has an attempt, with every one; None if none ever had."""
        found = await self._ask("view_begun", _whose(schedule, owner))
        return await self.run(found[0][0]) if found else None

    async def log(self, occurrence_id: int, number: int) -> Log | None:
        """The kept output of an attempt that is over; None where none is kept (any more)."""
        rows = await self._ask("view_log", {"id": occurrence_id, "number": number})
        return Log(*rows[0]) if rows else None

    async def running(self, limit: int) -> Sequence[OccurrenceRow]:
        """What is in progress on any node, each with its last attempt."""
        return [_with_last(row) for row in await self._ask("view_running", {"limit": min(limit, MOST_ROWS)})]

    async def cluster(self) -> Cluster:
        """The nodes, who leads, and the newest changes of leader."""
        classid, objid = keys.halves(keys.leader_key(self._pool.schema))
        leader = await self._ask("view_leader", {"classid": classid, "objid": objid})
        nodes = await self._ask("view_nodes", {})
        terms = await self._ask("view_terms", {"limit": TERMS})
        generation = await self._ask("view_generation", {})
        return Cluster(
            LeaderRow(*leader[0]) if leader else None,
            [NodeRow(*row) for row in nodes],
            [TermRow(*row) for row in terms],
            *(generation[0] if generation else (None, "")),
        )

    async def _ask(self, name: str, values: Mapping[str, Any]) -> list[Row]:
        """One statement; once more on a fresh connection if the first turns out to be broken."""
        doing = "reading the ledger"
        for last in (False, True):
            try:
                async with self._pool.connection(doing) as connection:
                    return await run(connection, name, values)
            except trio.TooSlowError:
                raise PostgresError(f"{doing}: no answer within {CALL_S:.0f} s") from None
            except psycopg.Error as error:
                if last or not isinstance(error, psycopg.OperationalError):
                    raise translate(error, doing) from error
                self._pool.close()
        raise AssertionError("the second try returns or raises")


def _whose(schedule: str, owner: str | None) -> dict[str, Any]:
    return {"schedule": text.clean(schedule), "owner": None if owner is None else text.clean(owner)}


def _with_last(row: Row) -> OccurrenceRow:
    return _occurrence(row, (_attempt(row),) if row[13] is not None else ())


def _occurrence(row: Row, attempts: tuple[AttemptRow, ...]) -> OccurrenceRow:
    number, schedule, due_at, task, generation, owner, due_until, count, verdict, reason, retry_at = row[:11]
    return OccurrenceRow(
        number,
        schedule,
        due_at,
        task,
        generation,
        owner,
        due_until,
        count,
        verdict,
        reason,
        retry_at,
        attempts,
        row[12],
    )


def _attempt(row: Row) -> AttemptRow:
    number, state, epoch, node, started_at, finished_at, error, result, claimed_at, abandoned = row[13:23]
    return AttemptRow(
        number, State(state), epoch, node, started_at, finished_at, error, result, claimed_at, abandoned
    )
