"""What must hold of a history, whatever was done to the cluster: pure functions, one an invariant.

| id  | holds |
|-----|---|
| I1  | each instant that a schedule promised is covered by exactly one row, and that has its verdict |
| I2  | one row an identity; a body begins at most once an attempt |
| I3  | epochs rise, each with one holder; an attempt belongs to one; no lease ends while its leader trusts it |
| I4  | nothing is written behind the fence of an epoch that is over |
| I5  | no attempt is alive, and no occurrence unfinished, once the cluster came to rest |
| I6  | an attempt ends once; only `lost` may become the true outcome, once |
| I7  | at most once: no second begin after an unknown outcome; at least once: a known outcome, and never two at a time |
| I9  | overlap: bodies of a schedule that may not overlap do not |
| I10 | no body begins before its instant; none late where nothing was wrong |
| I12 | no change of configuration makes a past instant due |
| I13 | a daemon that is asked to stop ends, and no other does |
| I17 | somebody leads again soon after a leader was lost |
| I18 | what a node recorded for itself is in the ledger exactly once |
| I22 | where nothing was wrong, what was due ran: an idle cluster cannot pass |
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise

from singd.core.values import CLUSTER, Delivery, Occurrence, Overlap, Schedule, State
from singd.edges.memory.rows import Row
from singd.testing.calm import alive, in_time, succeeded
from singd.testing.history import History, Journal
from singd.testing.instants import SKEW_S, accounted, nothing_retroactive
from singd.testing.machine import Begun

Violations = Iterator[str]
KNOWN = (State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED)


def check(history: History) -> list[str]:
    """Every violation of every invariant, each with its id."""
    return [
        f"{name}: {text}" for name, rules in INVARIANTS.items() for holds in rules for text in holds(history)
    ]


# -- rows and attempts ---------------------------------------------------------------------------------------------


def unique(history: History) -> Violations:
    """I2."""
    for journal in (history.ledger, *history.journals):
        for identity, times in Counter(row.occurrence for row in journal.rows).items():
            if times > 1:
                yield f"{identity} has {times} rows"
    for (what, number), times in Counter((_identity(one), one.attempt) for one in history.begun).items():
        if times > 1:
            yield f"attempt {number} of {what} began {times} times"


def _identity(one: Begun) -> tuple[str, str, datetime]:
    return one.owner, one.schedule, one.due_at


def one_leader(history: History) -> Violations:
    """I3."""
    elected = [change for change in history.ledger.changes if change.what == "elected"]
    for before, after in pairwise(elected):
        if after.epoch is None or before.epoch is None or after.epoch <= before.epoch:
            yield f"epoch {after.epoch} followed epoch {before.epoch}"
    for change in history.overdrawn:
        yield f"at {change.at:.3f} s the lease ended, and {change.about[0]} still trusted it"


def fenced(history: History) -> Violations:
    """I4."""
    for change in history.ledger.changes:
        if change.what in ("wrote", "accepted") and change.epoch != change.current:
            yield f"at {change.at:.3f} s epoch {change.epoch} wrote {change.about} in epoch {change.current}"


def at_rest(history: History) -> Violations:
    """I5. What waits its turn behind one that runs, or behind a retry that is still to come, is not stuck."""
    for journal in (journal for journal in (history.ledger, *history.journals) if journal.live):
        open_rows: defaultdict[str, list[Row]] = defaultdict(list)
        for row in journal.rows:
            if (row.live or row.waits) and row.occurrence.due_at <= _sure(history):
                open_rows[row.occurrence.schedule].append(row)
        for name in open_rows.keys() - _gone(journal):
            rows = open_rows[name]
            coming = any(
                row.live or (row.retry_at is not None and row.retry_at > _sure(history)) for row in rows
            )
            long_s = _policy(history, name).policy.timeout.total_seconds() + 60 * history.unit_s
            for row in rows:
                since = row.live.claimed_at if row.live else None
                if since is not None and since < history.end - timedelta(seconds=long_s):
                    yield f"{row.occurrence} runs since {since}"
                elif not coming:
                    yield f"{row.occurrence} waits for nothing: {row.verdict} {row.retry_at}"


def _gone(journal: Journal) -> set[str]:
    """Schedules that the configuration in force does not have: what they left waits until they come back."""
    last = {change.about[0]: change.what for change in journal.changes if change.what in ("begun", "gone")}
    return {str(name) for name, what in last.items() if what == "gone"}


def _sure(history: History) -> datetime:
    return history.end - timedelta(seconds=60 * history.unit_s)


def ends_once(history: History) -> Violations:
    """I6."""
    for journal in (history.ledger, *history.journals):
        for change in journal.changes:
            if change.what == "ended":
                what, number, before, after = change.about
                assert isinstance(what, Occurrence)
                assert isinstance(before, State)
                corrected = before is State.LOST and after in KNOWN and _may_correct(history, what)
                if before.terminal and not corrected:
                    yield f"attempt {number} of {what} ended as {before} and again as {after}"


def _may_correct(history: History, what: Occurrence) -> bool:
    return _policy(history, what.schedule).policy.delivery is Delivery.AT_MOST_ONCE


def _policy(history: History, name: str) -> Schedule:
    return history.schedules[name]


def delivered(history: History) -> Violations:
    """I7."""
    ends = _ends(history)
    began: defaultdict[tuple[str, str, datetime], list[Begun]] = defaultdict(list)
    for one in history.begun:
        began[_identity(one)].append(one)
    for what, tries in began.items():
        once = _policy(history, what[1]).policy.delivery is Delivery.AT_MOST_ONCE
        for before, after in pairwise(sorted(tries, key=lambda one: one.began_s)):
            if before.ended_s is None or before.ended_s > after.began_s:
                yield f"{what}: attempt {after.attempt} began while attempt {before.attempt} still ran"
            known = ends.get((what, before.attempt))
            if once and known not in (State.FAILED, State.TIMED_OUT):
                yield f"{what} is at most once, and began again after attempt {before.attempt} ({known})"


def _ends(history: History) -> dict[tuple[tuple[str, str, datetime], int], State]:
    """How each attempt ended, by the ledger that it is in."""
    found = {}
    for journal in (history.ledger, *history.journals):
        for row in journal.rows:
            what = row.occurrence
            if what.owner == journal.owner:
                for one in row.attempts:
                    found[(journal.machine, what.schedule, what.due_at), one.attempt.number] = one.state
    return found


# -- bodies --------------------------------------------------------------------------------------------------------


def no_overlap(history: History) -> Violations:
    """I9. One that was taken for lost and goes on, at most once, is out of everybody's reach: it may be overlapped."""
    lost = {
        (journal.machine, what.schedule, what.due_at, number)
        for journal in (history.ledger, *history.journals)
        for what, number, _, after in (c.about for c in journal.changes if c.what == "ended")
        if isinstance(what, Occurrence) and after is State.LOST
    }
    lines: defaultdict[tuple[str, str], list[Begun]] = defaultdict(list)
    for one in history.begun:
        if _policy(history, one.schedule).policy.overlap is not Overlap.ALLOW:
            lines[one.owner, one.schedule].append(one)
    for line in lines.values():
        line.sort(key=lambda one: one.began_s)
        for before, after in pairwise(line):
            over = before.ended_s is not None and before.ended_s <= after.began_s
            if not over and (*_identity(before), before.attempt) not in lost:
                yield f"{_identity(after)} began at {after.began_s:.3f} s while {before.due_at} still ran"


def on_time(history: History) -> Violations:
    """I10. What a clock that is wrong within the tolerance called due may begin where another says less."""
    set_at = _clocks_set(history)
    first = min(set_at.values(), default=math.inf)
    for one in history.begun:
        set_s = first if one.owner == CLUSTER else set_at.get(one.node, math.inf)
        if one.at < one.due_at and one.began_s < set_s:
            yield f"{_identity(one)} began at {one.at} by its node's clock"
        true = history.start + timedelta(seconds=one.began_s + SKEW_S * history.unit_s + 1)
        if one.owner == CLUSTER and true < one.due_at:
            yield f"{_identity(one)} began at {one.began_s:.3f} s, {one.due_at - true} before its time and all tolerance"


def _clocks_set(history: History) -> dict[str, float]:
    """Machine -> when its clock was first made wrong."""
    found: dict[str, float] = {}
    for fault in history.faults:
        if fault.kind in ("clock step", "skew"):
            found.setdefault(fault.node, fault.at_s)
    return found


# -- ends -------------------------------------------------------------------------------------------------------


def stops(history: History) -> Violations:
    """I13."""
    for text in history.stuck:
        yield f"the daemon of {text}"


# -- journals ------------------------------------------------------------------------------------------------------


def shipped(history: History) -> Violations:
    """I18."""
    there = {row.occurrence: row for row in history.ledger.rows}
    for journal in history.journals:
        for row in journal.rows:
            found = there.get(row.occurrence)
            over = journal.live and row.occurrence.due_at <= _sure(history) and not (row.live or row.waits)
            if found is None and over:
                yield f"{row.occurrence} is in the journal of {journal.owner} and not in the ledger"
            elif (
                found is not None and found.verdict is not row.verdict and not _twins(history, journal.owner)
            ):
                yield f"{row.occurrence} is {row.verdict} in its journal and {found.verdict} in the ledger"


def _twins(history: History, owner: str) -> bool:
    """Whether two machines had this name: the second one's row may be an audit event."""
    return sum(journal.owner == owner for journal in history.journals) > 1


INVARIANTS: dict[str, tuple[Callable[[History], Violations], ...]] = {
    "I1": (accounted,),
    "I2": (unique,),
    "I3": (one_leader,),
    "I4": (fenced,),
    "I5": (at_rest,),
    "I6": (ends_once,),
    "I7": (delivered,),
    "I9": (no_overlap,),
    "I10": (on_time, in_time),
    "I12": (nothing_retroactive,),
    "I13": (stops,),
    "I17": (succeeded,),
    "I18": (shipped,),
    "I22": (alive,),
}
