"""Between the core's values and the columns of the journal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from singd.core.values import Finish, Occurrence, Recording
from singd.edges.postgres.text import ERROR_CHARS, clean

Row = tuple[Any, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)


def micros(at: datetime) -> int:
    """Whole microseconds since the Unix epoch."""
    return (at - _EPOCH) // _TICK


def instant(ticks: int) -> datetime:
    """The instant of so many microseconds."""
    return _EPOCH + ticks * _TICK


def maybe_micros(at: datetime | None) -> int | None:
    return None if at is None else micros(at)


def maybe_instant(ticks: int | None) -> datetime | None:
    return None if ticks is None else instant(ticks)


def recording(said: Recording, generation: int, now: int) -> dict[str, Any]:
    """Columns of `record.sql`."""
    what = said.occurrence
    return {
        "schedule": what.schedule, "owner": what.owner, "due_at": micros(what.due_at), "request": clean(what.request),
        "due_until": maybe_micros(said.due_until), "count": said.count, "task": said.task, "generation": generation,
        "verdict": said.verdict and str(said.verdict), "reason": clean(said.reason), "attempts": int(said.open_attempt),
        "open": int(said.open_attempt or said.verdict is None), "now": now,
    }  # fmt: skip


def end(finish: Finish, now: int) -> dict[str, Any]:
    """Columns of the statements that end attempts."""
    skipped = None if finish.skipped is None else clean(finish.skipped) or "the task said so"
    return {
        "token": finish.token, "state": str(finish.state), "error": clean(finish.error)[:ERROR_CHARS],
        "result": None if finish.result is None else json.dumps(finish.result), "skipped": skipped,
        "started_at": maybe_micros(finish.started_at), "finished_at": maybe_micros(finish.finished_at),
        "retry_at": maybe_micros(finish.retry_at), "now": now,
    }  # fmt: skip


def log(finish: Finish) -> dict[str, Any] | None:
    """Columns of `log.sql`; None where nothing was written."""
    kept = finish.log
    if not (kept.head or kept.tail or kept.dropped):
        return None
    return {"token": finish.token, "head": kept.head, "tail": kept.tail, "dropped": kept.dropped}


def occurrence(schedule: str, due_at: int, owner: str, request: str) -> Occurrence:
    """From the columns that identify it."""
    return Occurrence(schedule, instant(due_at), owner, request)


def result(text: str | None) -> Mapping[str, Any] | None:
    """What a task returned."""
    found: Mapping[str, Any] | None = None if text is None else json.loads(text)
    return found
