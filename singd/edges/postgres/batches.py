"""Between the core's values and the columns of a statement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from singd.core.values import Attempt, Finish, Log, Occurrence, Recorded, Recording
from singd.edges.postgres import text
from singd.edges.postgres.statements import Row
from singd.ports import LiveAttempt, OpenOccurrence

BATCH_BYTES = 8 << 20
"""Most bytes of logs in one statement (twice that on the wire)."""


def recordings(batch: Sequence[Recording], ids: Sequence[int], tokens: Sequence[str]) -> dict[str, Any]:
    """Columns of `record.sql`; a token only where an attempt is asked for."""
    whats = [r.occurrence for r in batch]
    return {
        "ids": text.numbers(ids),
        "schedules": text.texts(o.schedule for o in whats),
        "owners": text.texts(o.owner for o in whats),
        "dues": text.instants(o.due_at for o in whats),
        "requests": text.texts(o.request for o in whats),
        "untils": text.instants(r.due_until for r in batch),
        "counts": text.numbers(r.count for r in batch),
        "tasks": text.texts(r.task for r in batch),
        "verdicts": text.texts(r.verdict for r in batch),
        "reasons": text.texts(r.reason for r in batch),
        "tokens": text.plain(t if r.open_attempt else "NULL" for r, t in zip(batch, tokens, strict=True)),
    }


def cursors(moved: Mapping[str, datetime]) -> dict[str, Any]:
    """Columns of `record.sql` that move the schedules' cursors."""
    return {"cursors": text.texts(moved), "cursor_dues": text.instants(moved.values())}


def ends(finishes: Sequence[Finish]) -> dict[str, Any]:
    """Columns of the statements that end attempts."""
    return {
        "tokens": text.plain(f.token for f in finishes),
        "states": text.plain(f.state for f in finishes),
        "starts": text.instants(f.started_at for f in finishes),
        "ends": text.instants(f.finished_at for f in finishes),
        "errors": text.texts(text.clean(f.error)[: text.ERROR_CHARS] for f in finishes),
        "results": text.results(f.result for f in finishes),
        "skips": text.texts(f.skipped for f in finishes),
        "retries": text.instants(f.retry_at for f in finishes),
    }


def short_ends(finishes: Sequence[Finish]) -> dict[str, Any]:
    """Columns of `finish.sql`."""
    return {
        "tokens": text.plain(f.token for f in finishes),
        "states": text.plain(f.state for f in finishes),
        "starts": text.instants(f.started_at for f in finishes),
        "ends": text.instants(f.finished_at for f in finishes),
        "errors": text.texts("" for _ in finishes),
    }


def logs(finishes: Sequence[Finish]) -> dict[str, Any]:
    """Columns of `finish_in_full.sql` for what the attempts wrote, each within the bound; null = nothing."""
    kept = [_bounded(f.log) if _has_log(f) else None for f in finishes]
    return {
        "heads": text.blobs(log.head if log else None for log in kept),
        "tails": text.blobs(log.tail if log else None for log in kept),
        "drops": text.numbers(log.dropped if log else 0 for log in kept),
    }


def by_weight(finishes: Sequence[Finish]) -> Iterator[list[Finish]]:
    """Parts whose logs fit a statement of BATCH_BYTES, or that are one finish."""
    part: list[Finish] = []
    weight = 0
    for finish in finishes:
        size = len(finish.log.head) + len(finish.log.tail)
        if part and weight + size > BATCH_BYTES:
            yield part
            part, weight = [], 0
        part.append(finish)
        weight += size
    yield part


def is_short(finish: Finish) -> bool:
    """Whether it says nothing beyond the outcome and its times: the fast path."""
    said = finish.error or finish.result is not None or finish.skipped is not None or finish.retry_at
    return not (said or _has_log(finish))


def recorded(recording: Recording, number: int, token: str, epoch: int) -> Recorded:
    """The answer for a row that is in the ledger as ours."""
    if not recording.open_attempt:
        return Recorded(number)
    return Recorded(number, Attempt(number, recording.occurrence, 1, token, epoch))


def attempt(row: Row) -> Attempt:
    """From the columns of `which_attempts.sql`, also the first of `adopt_live.sql`."""
    number, attempt_number, token, epoch, schedule, due_at, owner, request = row[:8]
    return Attempt(number, Occurrence(schedule, due_at, owner, request), attempt_number, token, epoch)


def live_attempt(row: Row) -> LiveAttempt:
    """From `adopt_live.sql`."""
    started, process, retries_used, age_s = row[8:]
    return LiveAttempt(attempt(row), started, process, retries_used, max(age_s, 0.0))


def open_occurrence(row: Row) -> OpenOccurrence:
    """From `adopt_unfinished.sql`."""
    number, schedule, due_at, owner, request, attempts, retries_used, retry_at = row
    return OpenOccurrence(
        number, Occurrence(schedule, due_at, owner, request), attempts, retries_used, retry_at
    )


def _has_log(finish: Finish) -> bool:
    return bool(finish.log.head or finish.log.tail or finish.log.dropped)


def _bounded(log: Log) -> Log:
    extra = len(log.head) + len(log.tail) - text.LOG_BYTES
    if extra <= 0:
        return log
    half = text.LOG_BYTES // 2
    head, tail = log.head[:half], log.tail[-half:]
    return Log(head, tail, log.dropped + len(log.head) + len(log.tail) - len(head) - len(tail))
