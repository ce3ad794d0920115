"""The daemon's answers as JSON values: pure, so that what `--json` promises is tested without a daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from singd.bounds import RUNS_BYTES
from singd.core.cron import Cron
from singd.core.history import AttemptRow, Judgement, OccurrenceRow, expand
from singd.core.trigger import next_after
from singd.core.units import format_duration
from singd.core.values import At, Every, Log, Overlap, Schedule, State, Trigger
from singd.views import ScheduleView, Snapshot, Trouble

NEXT_RUNS = 3
LATE = timedelta(seconds=10)
"""A schedule is late when an instant of it is older than its grace and this, and not yet dealt with."""
MISSED_FOR = timedelta(days=1)
"""How long a missed instant that nothing followed is shown as a problem."""
BEGUN_LATE = timedelta(seconds=1)
"""An attempt that begins later than this after its instant waited for something."""
_TICK = timedelta(microseconds=1)
_BAD_ENDS = (State.FAILED, State.TIMED_OUT, State.LOST)


def text(at: datetime | None) -> str | None:
    """RFC 3339, UTC, Z."""
    return None if at is None else at.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def plain(value: Any) -> Any:
    """The value with instants, spans and other kinds as text, all the way down."""
    match value:
        case datetime():
            return text(value)
        case timedelta():
            return format_duration(value)
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case None | bool() | int() | float():
            return value
    return str(value)


_FACTS = (
    "node",
    "role",
    "version",
    "state",
    "database",
    "started_at",
    "config_file",
    "generation",
    "epoch",
    "trust_s",
)


def standing(found: Snapshot) -> dict[str, Any]:
    """The calm facts of `singd status` that this node knows by itself (`singd.cluster` has the others)."""
    return {name: plain(getattr(found, name)) for name in _FACTS} | {
        "at": text(found.now), "uptime_s": round((found.now - found.started_at).total_seconds(), 3),
        "running": [plain(asdict(run)) for run in found.running],
        "schedules": len(found.schedules), "next": next_runs(found), "paused": paused_now(found),
    }  # fmt: skip


def trigger_text(trigger: Trigger) -> str:
    """A trigger in one short phrase."""
    match trigger:
        case Cron():
            return f"cron {trigger.expression}" + (
                f" {trigger.timezone}" if trigger.timezone != "UTC" else ""
            )
        case Every():
            return f"every {format_duration(trigger.interval)}"
        case At():
            return f"at {text(trigger.instant)}"
    return "startup"


def entry(row: OccurrenceRow) -> dict[str, Any]:
    """One occurrence as `singd runs` gives it, with its last attempt. A range that cannot be counted out keeps its ends."""
    last = row.attempts[-1] if row.attempts else None
    ends = {} if row.due_until is None else {"due_until": text(row.due_until), "count": row.count}
    return {
        "schedule": row.schedule, "task": row.task, "owner": row.owner, "due_at": text(row.due_at),
        "verdict": row.verdict, "reason": row.reason, "outcome": row.outcome and str(row.outcome), "standing": row.standing,
        "run_id": row.run_id, "generation": row.generation, "retry_at": text(row.retry_at),
        **_attempt(last), **ends,
    }  # fmt: skip


def counted_out(
    rows: Sequence[OccurrenceRow], triggers: Mapping[str, Trigger], since: datetime | None, limit: int
) -> dict[str, Any]:
    """The answer to `singd runs`: `rows` newest first, ranges counted out, cut to `limit` and to what the socket carries."""
    single = [one for row in rows for one in expand(row, triggers.get(row.schedule), limit + 1)]
    kept = [one for one in single if since is None or (one.due_until or one.due_at) >= since]
    kept.sort(key=lambda one: (one.due_at, one.occurrence_id), reverse=True)
    entries: list[dict[str, Any]] = []
    room = RUNS_BYTES
    for one in kept[:limit]:
        told = entry(one)
        room -= len(json.dumps(told))
        if room < 0:
            break
        entries.append(told)
    return {"runs": entries, "more": len(entries) < len(kept)}


_NO_ATTEMPT = dict.fromkeys(
    ("attempt", "node", "epoch", "state", "started_at", "finished_at", "result", "error")
) | {"abandoned": False}


def _attempt(last: AttemptRow | None) -> dict[str, Any]:
    if last is None:
        return _NO_ATTEMPT
    return {
        "attempt": last.number, "node": last.node, "epoch": last.epoch, "state": str(last.state),
        "started_at": text(last.started_at), "finished_at": text(last.finished_at),
        "result": plain(last.result), "error": last.error,
        "abandoned": last.abandoned,
    }  # fmt: skip


def listed(view: ScheduleView, now: datetime, last: OccurrenceRow | None) -> dict[str, Any]:
    """One schedule as `singd list` gives it."""
    schedule = view.schedule
    return {
        "schedule": schedule.name, "task": schedule.task, "trigger": trigger_text(schedule.trigger),
        "scope": str(schedule.scope), "role": schedule.role, "enabled": schedule.enabled, "here": view.here,
        "unavailable": view.unavailable, "next": text(_next_at(view, now)), "last": last and entry(last),
        "paused": _paused(view, now),
    }  # fmt: skip


def next_runs(found: Snapshot) -> list[dict[str, Any]]:
    """The next few instants of the whole configuration."""
    due = [(at, view.schedule.name) for view in found.schedules if (at := _next_at(view, found.now))]
    return [{"schedule": name, "due_at": text(at)} for at, name in sorted(due)[:NEXT_RUNS]]


def _next_at(view: ScheduleView, now: datetime) -> datetime | None:
    """The next instant that will run, as far as can be known."""
    if not view.here or not view.schedule.enabled or view.unavailable:
        return None
    pause = view.paused(now)
    if pause is None:
        return next_after(view.schedule.trigger, now)
    return next_after(view.schedule.trigger, pause.until - _TICK) if pause.until else None


def _paused(view: ScheduleView, at: datetime) -> dict[str, Any] | None:
    pause = view.paused(at)
    return None if pause is None else {key: plain(value) for key, value in asdict(pause).items()}


def paused_now(found: Snapshot) -> list[dict[str, Any]]:
    """The schedules that are paused: who may have forgotten it is to see it."""
    return [
        {"schedule": view.schedule.name, **pause}
        for view in found.schedules
        if (pause := _paused(view, found.now)) is not None
    ]


def problems_of(found: Snapshot, latest: Mapping[str, OccurrenceRow]) -> Iterator[Trouble]:
    """What is wrong with the schedules: unavailable, late, or ended badly the last time."""
    for view in found.schedules:
        name = view.schedule.name
        if view.unavailable:
            yield Trouble(f"{name} is unavailable: {view.unavailable}", "`singd plugins`")
        if (due := _late_since(view, found.now)) is not None:
            yield Trouble(
                f"{name} is late: its instant {text(due)} is not dealt with",
                f"`singd why {name} --at {text(due)}`",
            )
        if (ahead := _ahead(view, found.now)) is not None:
            yield Trouble(
                f"{name} rests until {text(ahead)}: this node's clock was there before, and no instant is dealt with twice",
                "if that is far away, compare this node's clock with others; `singd trigger` runs it now",
            )
        if (last := latest.get(name)) is not None:
            yield from _bad_end(last, found.now)


def _ahead(view: ScheduleView, now: datetime) -> datetime | None:
    """The instant up to which everything was dealt with, if that lies in the future."""
    if view.cursor is None or not view.here or view.cursor <= now + LATE:
        return None
    return view.cursor


def _late_since(view: ScheduleView, now: datetime) -> datetime | None:
    if view.cursor is None or not view.here:
        return None
    due = next_after(view.schedule.trigger, view.cursor)
    return due if due is not None and due < now - view.schedule.policy.grace - LATE else None


def _bad_end(last: OccurrenceRow, now: datetime) -> Iterator[Trouble]:
    when = text(last.due_until or last.due_at)
    if last.outcome in _BAD_ENDS:
        words = str(last.outcome).replace("_", " ")
        first = last.attempts[-1].error.strip().split("\n")[0][:200]
        yield Trouble(
            f"{last.schedule} {words} at {when}" + (f": {first}" if first else ""),
            f"`singd logs {last.run_id}`",
        )
    elif last.verdict == "missed" and now - (last.due_until or last.due_at) < MISSED_FOR:
        yield Trouble(
            f"{last.schedule} missed {when}: {last.reason}", f"`singd why {last.schedule} --at {when}`"
        )


def explained(
    name: str, at: datetime, found: Snapshot, schedule: Schedule | None, judged: Judgement, leader: str = ""
) -> dict[str, Any]:
    """The answer to `singd why`."""
    row = judged.row
    return {
        "schedule": name, "at": text(at), "now": text(found.now), "state": judged.state,
        "verdict": row and row.verdict, "reason": row.reason if row else "", "outcome": row and row.outcome,
        "configured": schedule is not None, "enabled": schedule is None or schedule.enabled,
        "paused": next((_paused(view, at) for view in found.schedules if view.schedule.name == name), None),
        "trigger": schedule and trigger_text(schedule.trigger),
        "before": text(judged.before), "after": text(judged.after), "leader": found.leader or leader, "node_state": found.state,
        "occurrence": row and entry(row), "attempts": [plain(asdict(one)) for one in row.attempts] if row else [],
    }  # fmt: skip


def begun_late(row: OccurrenceRow | None) -> bool:
    """Whether its first attempt began at least a second after it was due."""
    first = row.attempts[0].started_at if row and row.attempts else None
    return row is not None and first is not None and first - row.due_at >= BEGUN_LATE


def behind(
    schedule: Schedule, row: OccurrenceRow | None, before: OccurrenceRow | None
) -> dict[str, Any] | None:
    """The run that it waited for: the one before it, if that went on past its instant and ended before its claim."""
    if schedule.policy.overlap is Overlap.ALLOW or row is None or before is None or not before.attempts:
        return None
    ended, claimed = before.attempts[-1].finished_at, row.attempts[0].claimed_at if row.attempts else None
    if ended is None or claimed is None or not row.due_at < ended <= claimed:
        return None
    return {"run_id": before.run_id, "until": text(ended)}


def output_from(log: Log, offset: int) -> tuple[bytes, int, int]:
    """What an attempt has written from a byte on.

    Returns:
        The bytes that are kept, how many between them and `offset` are not kept, and the offset to ask from next.
    """
    behind = len(log.head) + log.dropped
    end = behind + len(log.tail)
    if offset < len(log.head):
        return log.head[offset:] + (_gap(log.dropped) if log.dropped else b"") + log.tail, log.dropped, end
    return log.tail[max(offset - behind, 0) :], max(behind - offset, 0), end


def _gap(dropped: int) -> bytes:
    return f"\n[… {dropped} bytes are not kept …]\n".encode()
