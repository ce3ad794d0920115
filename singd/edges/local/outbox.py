"""What is to be shipped, what was, and what is done while nothing can be: the journal is bounded.

over, not shipped ──▶ in the ledger ──▶ kept here for a day, for `why` and `runs` ──▶ forgotten
  └── UNSHIPPED_MOST of them: neighbours that did not run become range rows; if that is not enough, nothing
      new is recorded, and node schedules wait until the ledger is back
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby

from singd.core.values import (
    NO_LOG,
    Log,
    Recording,
    Shipment,
    ShippedAttempt,
    State,
    Verdict,
)
from singd.edges.local import rows
from singd.edges.local.statements import statement
from singd.errors import EdgeError

KEEP_SHIPPED = timedelta(days=1)
FORGET_BATCH = 2_000
UNSHIPPED_MOST = 200_000
MERGE_BATCH = 20_000
"""Rows that one making of room takes away at most: it is done inside a transaction that plans."""
FILE_MOST = 512 << 20
"""Bytes in use above which output is let go, the oldest first: without a ledger it would fill the disk."""
SHIP_BYTES = 8 << 20
"""Of output in one batch, or of one occurrence."""


def unshipped(connection: sqlite3.Connection, limit: int) -> list[Shipment]:
    """The oldest that are over: at least one, if there is any, and others as long as their output fits."""
    shipments: list[Shipment] = []
    room = SHIP_BYTES
    for row in connection.execute(statement("unshipped"), {"limit": limit}):
        attempts, weight = _attempts(connection, row[0])
        if shipments and weight > room:
            break
        room -= weight
        shipments.append(_shipment(row, attempts))
    return shipments


def shipped(connection: sqlite3.Connection, numbers: Sequence[int], now: int) -> None:
    """Note it, forget what was shipped long ago, and give the disk what that frees."""
    connection.executemany(
        "UPDATE occurrence SET shipped_at = ? WHERE number = ? AND shipped_at IS NULL",
        [(now, number) for number in numbers],
    )
    before = now - KEEP_SHIPPED // timedelta(microseconds=1)
    if not connection.execute("SELECT 1 FROM occurrence WHERE shipped_at < ? LIMIT 1", (before,)).fetchone():
        return
    forgotten = connection.execute(statement("forget"), {"before": before, "limit": FORGET_BATCH})
    if forgotten.rowcount:
        connection.execute("PRAGMA incremental_vacuum(2000)").fetchall()


def bound_output(connection: sqlite3.Connection) -> None:
    """Let the oldest output go where the file has grown too large; what became of the runs stays."""
    while _bytes(connection) > FILE_MOST:
        if not connection.execute(statement("forget_output")).rowcount:
            return


def _bytes(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def backlog(connection: sqlite3.Connection) -> tuple[int, datetime | None]:
    """How many are over and not shipped, and since when."""
    count, oldest = connection.execute(
        "SELECT count(*), min(number) FROM occurrence WHERE shipped_at IS NULL AND open = 0"
    ).fetchone()
    since = connection.execute("SELECT recorded_at FROM occurrence WHERE number = ?", (oldest,)).fetchone()
    return count, rows.instant(since[0]) if since else None


def make_room(connection: sqlite3.Connection, wanted: int) -> None:
    """For so many rows more.

    Raises:
        EdgeError: There is none.
    """
    [count] = connection.execute("SELECT count(*) FROM occurrence WHERE shipped_at IS NULL").fetchone()
    if not wanted or count + wanted <= UNSHIPPED_MOST:
        return
    if count - _merge(connection) + wanted > UNSHIPPED_MOST:
        raise EdgeError(
            f"the local journal is full: {count} occurrences could not be shipped to the ledger",
            cure="bring the ledger's database back: node schedules go on as soon as it takes them",
        )


def _merge(connection: sqlite3.Connection) -> int:
    """Make range rows of neighbours with one verdict and reason; how many rows that saved."""
    saved = 0
    found = connection.execute(
        "SELECT schedule, owner, task, generation, verdict, reason, attempts, shipped_at, number, due_at, due_until, count "
        "FROM occurrence WHERE request = '' ORDER BY schedule, due_at"
    )
    for kind, group in groupby(found.fetchall(), key=lambda row: row[:8]):
        *_, verdict, _, attempts, shipped_at = kind
        mergeable = verdict not in (None, Verdict.RAN) and not attempts and shipped_at is None
        neighbours = [row[8:] for row in group] if mergeable else []
        if len(neighbours) > 1:
            _replace(connection, neighbours)
            saved += len(neighbours) - 1
        if saved >= MERGE_BATCH:
            break
    return saved


def _replace(connection: sqlite3.Connection, neighbours: Sequence[rows.Row]) -> None:
    """The first row stands for all."""
    first, last = neighbours[0], neighbours[-1]
    connection.executemany("DELETE FROM occurrence WHERE number = ?", [(row[0],) for row in neighbours[1:]])
    until, count = last[2] or last[1], sum(row[3] for row in neighbours)
    connection.execute(
        "UPDATE occurrence SET due_until = ?, count = ? WHERE number = ?", (until, count, first[0])
    )


def _attempts(connection: sqlite3.Connection, number: int) -> tuple[tuple[ShippedAttempt, ...], int]:
    """Those of an occurrence, oldest first, and the bytes of output that go with them: the newest go first."""
    shipped: list[ShippedAttempt] = []
    weight = 0
    for row in connection.execute(statement("attempts_of"), {"number": number}):
        fits = weight + row[-1] <= SHIP_BYTES
        weight += row[-1] if fits else 0
        log = _log(connection, number, row[0]) if fits else Log(dropped=row[-1])
        shipped.append(_attempt(row, log))
    return tuple(reversed(shipped)), weight


def _log(connection: sqlite3.Connection, occurrence: int, number: int) -> Log:
    found = connection.execute(
        "SELECT head, tail, dropped FROM attempt_log WHERE occurrence = ? AND number = ?",
        (occurrence, number),
    ).fetchone()
    return Log(*found) if found else NO_LOG


def _attempt(row: rows.Row, log: Log) -> ShippedAttempt:
    number, token, process, state, claimed_at, started_at, finished_at, error, result, _ = row
    return ShippedAttempt(
        number, token, process, State(state), rows.instant(claimed_at), rows.instant(finished_at),
        rows.maybe_instant(started_at), error, rows.result(result), log,
    )  # fmt: skip


def _shipment(row: rows.Row, attempts: tuple[ShippedAttempt, ...]) -> Shipment:
    (
        number,
        schedule,
        owner,
        due_at,
        due_until,
        count,
        request,
        task,
        content_hash,
        verdict,
        reason,
        recorded_at,
    ) = row
    recording = Recording(
        rows.occurrence(schedule, due_at, owner, request), task, Verdict(verdict), reason,
        due_until=rows.maybe_instant(due_until), count=count,
    )  # fmt: skip
    return Shipment(
        number, recording, Verdict(verdict), reason, content_hash, rows.instant(recorded_at), attempts
    )
