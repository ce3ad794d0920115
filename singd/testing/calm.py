"""Where nothing was wrong: what was due ran, in time, and after the loss of a leader another one led soon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from singd.core.values import CLUSTER, Overlap, Verdict
from singd.ports import YIELD_S
from singd.testing.history import History
from singd.testing.machine import Begun

Violations = Iterator[str]


def in_time(history: History) -> Violations:
    """I10, where nothing was wrong."""
    calm = _calm(history)
    late = [one for one in calm if _lateness(history, one) > history.unit_s]
    if len(late) > max(0.01 * len(calm), 2):
        yield f"{len(late)} of {len(calm)} began more than a second late though nothing was wrong: {late[0]}"


def _lateness(history: History, one: Begun) -> float:
    return one.began_s - (one.due_at - history.start).total_seconds()


def _calm(history: History) -> list[Begun]:
    """First attempts that nothing had disturbed; bodies that wait for their turn are left out."""
    busy = _disturbed(history)
    found = []
    for one in history.begun:
        due_s = (one.due_at - history.start).total_seconds()
        waits = history.schedules[one.schedule].policy.overlap in (Overlap.QUEUE, Overlap.REPLACE)
        if (
            one.attempt == 1
            and not waits
            and not _hits(busy, due_s - 60 * history.unit_s, due_s + history.unit_s)
        ):
            found.append(one)
    return found


def _disturbed(history: History) -> list[tuple[float, float]]:
    """When something was wrong, merged, in order."""
    merged: list[tuple[float, float]] = [(0.0, 30.0 * history.unit_s)]
    for fault in sorted(history.faults, key=lambda fault: fault.at_s):
        if merged and fault.at_s <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], fault.until_s))
        else:
            merged.append((fault.at_s, fault.until_s))
    return merged


def _hits(spans: Sequence[tuple[float, float]], begin: float, end: float) -> bool:
    return any(first <= end and begin <= last for first, last in spans)


def succeeded(history: History) -> Violations:
    """I17. Judged where nothing else was wrong for 20 s before, and until the limit was over."""
    unit = history.unit_s
    yields = YIELD_S if any(fault.kind == "configuration" for fault in history.faults) else 0.0
    elected = [change.at for change in history.ledger.changes if change.what == "elected"]
    for fault in history.faults:
        limit = GAPS.get(fault.kind)
        if not fault.led or limit is None:
            continue
        until = fault.at_s + (limit + yields * 1.1) * unit
        others = [(one.at_s, one.until_s) for one in history.faults if one is not fault]
        lasting = fault.kind not in ("freeze", "partition") or fault.until_s >= until
        if until >= history.end_s or not lasting or _hits(others, fault.at_s - 20 * unit, until):
            continue
        if not any(fault.at_s <= at <= until for at in elected):
            yield f"{limit} s after {fault.kind} of the leader {fault.node} at {fault.at_s:.3f} s nobody led"


GAPS = {"kill": 0.5, "down": 0.5, "freeze": 6.0, "partition": 6.0}
"""Kind of fault -> seconds until another node has the lead, where all have one configuration."""


def alive(history: History) -> Violations:
    """I22. A range row that reaches into a fault was written because of it."""
    busy = _disturbed(history)
    due = ran = 0
    for row in history.ledger.rows:
        due_s = (row.occurrence.due_at - history.start).total_seconds()
        until = row.recording.due_until or row.occurrence.due_at
        over_s = (until - history.start).total_seconds()
        calm = not _hits(busy, due_s - 60 * history.unit_s, over_s + history.unit_s)
        if row.occurrence.owner == CLUSTER and calm and over_s <= history.end_s:
            due += row.recording.count
            ran += row.verdict not in (Verdict.MISSED, Verdict.SUPERSEDED)
    if ran < 0.95 * due - 2:
        yield f"of {due} instants that nothing disturbed {ran} ran"
    if not history.begun:
        yield "nothing ran at all"
