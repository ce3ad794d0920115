"""The local journal as operators read it: `views.LedgerView` for this node's own schedules, also without Postgres."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from singd.bounds import RUNS_MAX
from singd.core.history import AttemptRow, Known, OccurrenceRow
from singd.core.values import Log, State
from singd.edges.local import rows
from singd.edges.local.ledger import LocalLedger
from singd.edges.local.statements import statement

MOST_ROWS = RUNS_MAX + 1
_DOING = "reading the local journal"


class LocalReader:
    """What the journal still has: everything that is not shipped, and a day of what is. Run ids are its own numbers."""

    def __init__(self, ledger: LocalLedger) -> None:
        self._file = ledger.file

    async def runs(self, schedule: str | None, since: datetime | None, limit: int) -> Sequence[OccurrenceRow]:
        """The newest rows, newest first, each with its last attempt; of `since` or later."""
        values = {
            "schedule": schedule, "limit": min(limit, MOST_ROWS), "since": -(1 << 62) if since is None else rows.micros(since)
        }  # fmt: skip
        return await self._views("view_runs" if schedule is None else "view_runs_of", values)

    async def latest(self) -> Mapping[str, OccurrenceRow]:
        """Of each schedule the newest row with a verdict that is over, with its last attempt."""
        return {row.schedule: row for row in await self._views("view_latest", {})}

    async def known(self, schedule: str, at: datetime, owner: str | None) -> Known:
        """What there is around one instant, of one owner or (None) of any; its row with every attempt."""
        values = {"schedule": schedule, "at": rows.micros(at), "owner": owner}

        def body(connection: sqlite3.Connection) -> Known:
            found = connection.execute(statement("view_known"), values).fetchone()
            cursor, oldest = connection.execute(statement("view_extent"), values).fetchone()
            row = _run(connection, found[0]) if found else None
            return Known(row, rows.maybe_instant(cursor), rows.maybe_instant(oldest))

        return await self._file.transact(_DOING, body)

    async def run(self, number: int) -> OccurrenceRow | None:
        """One row with every attempt, by its local number."""
        if not 0 < number < 1 << 63:
            return None
        return await self._file.transact(_DOING, lambda connection: _run(connection, number))

    async def begun(self, schedule: str, owner: str | None) -> OccurrenceRow | None:
        """The newest row of an owner that has an attempt, with every one; None if none ever had."""

        def body(connection: sqlite3.Connection) -> OccurrenceRow | None:
            found = connection.execute(
                statement("view_begun"), {"schedule": schedule, "owner": owner}
            ).fetchone()
            return _run(connection, found[0]) if found else None

        return await self._file.transact(_DOING, body)

    async def log(self, occurrence: int, number: int) -> Log | None:
        """The kept output of an attempt that is over; None where none is kept (any more)."""
        text = "SELECT head, tail, dropped FROM attempt_log WHERE occurrence = ? AND number = ?"
        found = await self._file.transact(
            _DOING, lambda connection: connection.execute(text, (occurrence, number)).fetchone()
        )
        return Log(*found) if found else None

    async def leader(self) -> None:
        """Of a node's own schedules there is none."""

    async def _views(self, name: str, values: Mapping[str, Any]) -> list[OccurrenceRow]:
        def body(connection: sqlite3.Connection) -> list[OccurrenceRow]:
            found = connection.execute(statement(name), values).fetchall()
            return [_view(row, _attempts(connection, row, 1)) for row in found]

        return await self._file.transact(_DOING, body)


def _run(connection: sqlite3.Connection, number: int) -> OccurrenceRow | None:
    row = connection.execute(statement("view_run"), {"number": number}).fetchone()
    return _view(row, _attempts(connection, row, -1)) if row else None


def _attempts(connection: sqlite3.Connection, row: rows.Row, newest: int) -> tuple[AttemptRow, ...]:
    """The newest so many attempts of an occurrence, oldest first; -1 = all."""
    found = connection.execute(
        "SELECT number, state, node, started_at, finished_at, error, result, claimed_at "
        "FROM attempt WHERE occurrence = ? ORDER BY number DESC LIMIT ?",
        (row[0], newest),
    )
    return tuple(_attempt(one) for one in reversed(found.fetchall()))


def _attempt(row: rows.Row) -> AttemptRow:
    number, state, node, started_at, finished_at, error, result, claimed_at = row
    return AttemptRow(
        number, State(state), 0, node, rows.maybe_instant(started_at), rows.maybe_instant(finished_at), error,
        rows.result(result), rows.instant(claimed_at),
    )  # fmt: skip


def _view(row: rows.Row, attempts: tuple[AttemptRow, ...]) -> OccurrenceRow:
    number, schedule, due_at, task, owner, due_until, count, verdict, reason, retry_at = row
    return OccurrenceRow(
        number, schedule, rows.instant(due_at), task, 0, owner, rows.maybe_instant(due_until), count, verdict, reason,
        rows.maybe_instant(retry_at), attempts, number,
    )  # fmt: skip
