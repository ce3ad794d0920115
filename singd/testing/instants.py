"""I1 and I12: each instant is accounted for, and none was made due by a change of configuration."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from singd.core.trigger import upcoming
from singd.core.values import CLUSTER, Startup
from singd.edges.memory.rows import Row
from singd.testing.history import History, Journal

Violations = Iterator[str]
SKEW_S = 30.0
"""A clock that is off by no more may lead."""


def accounted(history: History) -> Violations:
    """I1."""
    for journal in (history.ledger, *history.journals):
        windows = _windows(journal)
        covered = _covered(history, journal, windows)
        for name in sorted(windows.keys() | covered.keys()):
            yield from _gaps(history, journal, name, windows.get(name, []), covered.get(name, []))


Window = tuple[datetime, str, datetime | None]
"""From this cursor on a trigger is in force, up to that cursor."""


def _windows(journal: Journal) -> dict[str, list[Window]]:
    windows: defaultdict[str, list[Window]] = defaultdict(list)
    for change in journal.changes:
        if change.what not in ("begun", "gone"):
            continue
        name, *about = change.about
        if windows[str(name)] and windows[str(name)][-1][2] is None:
            begin, trigger, _ = windows[str(name)].pop()
            end = about[1] if change.what == "begun" else about[0]
            windows[str(name)].append((begin, trigger, end))  # type: ignore[arg-type]
        if change.what == "begun":
            windows[str(name)].append((about[2], str(about[0]), None))  # type: ignore[arg-type]
    return windows


def _covered(
    history: History, journal: Journal, windows: Mapping[str, Sequence[Window]]
) -> dict[str, list[datetime]]:
    """Schedule -> every instant that a row stands for."""
    covered: defaultdict[str, list[datetime]] = defaultdict(list)
    startups = {name for name, item in history.schedules.items() if isinstance(item.trigger, Startup)}
    for row in journal.rows:
        what = row.occurrence
        if what.owner != journal.owner or what.request or what.schedule in startups:
            continue
        covered[what.schedule].append(what.due_at)
        if row.recording.due_until is not None:
            covered[what.schedule].extend(_range(history, windows.get(what.schedule, ()), row))
    return covered


def _range(history: History, windows: Sequence[Window], row: Row) -> list[datetime]:
    """The instants after the first of a range row, by the trigger that was in force."""
    first, until = row.occurrence.due_at, row.recording.due_until
    for begin, trigger, _ in reversed(windows):
        if begin < first:
            found: list[datetime] = []
            for instant in upcoming(history.triggers[trigger], first):
                if until is None or instant > until:
                    return found
                found.append(instant)
            return found
    return []


def _gaps(
    history: History, journal: Journal, name: str, windows: Sequence[Window], covered: Sequence[datetime]
) -> Violations:
    counted = Counter(covered)
    for instant, times in counted.items():
        if times > 1:
            yield f"{journal.machine}/{name}: {instant} is covered by {times} rows"
    sure = history.end - timedelta(seconds=60 * history.unit_s)
    if not journal.live:  # what came due after its daemon's last end is nobody's yet
        sure = min(sure, max(covered, default=history.start))
    expected: set[datetime] = set()
    for begin, trigger, end in windows:
        until = end if end is not None else max(sure, max(covered, default=sure))
        for instant in upcoming(history.triggers[trigger], begin):
            if instant > until:
                break
            expected.add(instant)
    for instant in sorted(expected - counted.keys()):
        if instant <= sure:
            yield f"{journal.machine}/{name}: {instant} is not accounted for"
    for instant in sorted(counted.keys() - expected):
        yield f"{journal.machine}/{name}: {instant} was never due"


def nothing_retroactive(history: History) -> Violations:
    """I12."""
    for journal in (history.ledger, *history.journals):
        for change in journal.changes:
            if change.what == "begun":
                name, _, old, new = change.about
                accepted = history.start + timedelta(seconds=change.at - (SKEW_S + 1) * history.unit_s)
                assert isinstance(new, datetime)
                if journal.owner == CLUSTER and new < accepted:
                    yield f"{name} was accepted {change.at:.3f} s from the start and begins at {new}"
                if isinstance(old, datetime) and new < old:
                    yield f"{name}: a new trigger moved the cursor back from {old} to {new}"
