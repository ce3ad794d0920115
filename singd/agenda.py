"""The agenda: where each schedule of a term stands, and what a plan means for it.

A line is one schedule's standing: its cursor, and its unfinished occurrences in order of time. The decisions here are made from values;
the scheduler writes them to the ledger and acts on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from singd.core.admission import Admission, Blocker, admit
from singd.core.plan import Plan, Range
from singd.core.values import Isolation, Occurrence, Overlap, Recording, Schedule, Trigger, Verdict

Kind = tuple[str, Isolation]
"""What shares room in an executor: the task, and where it runs."""

RUNS, WAITS, RETRIES, READY = "runs", "waits", "waits for its retry", "waits for a free slot"


@dataclass(slots=True)
class Unfinished:
    """An occurrence that is not done; `doing`: one of RUNS, WAITS (for its turn), RETRIES, READY."""

    occurrence_id: int
    doing: str = WAITS
    retries_used: int = 0


@dataclass(slots=True)
class Line:
    """One schedule's standing in this term.

    Attributes:
        trigger: The schedule's; the cluster's startup as one instant where that is its trigger.
        cursor: The last instant dealt with.
        next_at: The next one; None = there is none.
        planned: Whether this term has planned it before: what is due at the first look is backlog.
        unfinished: Occurrence id -> what it is doing, oldest first.
    """

    schedule: Schedule
    trigger: Trigger
    cursor: datetime
    next_at: datetime | None = None
    planned: bool = False
    unfinished: dict[int, Unfinished] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """What its attempts share room with."""
        return self.schedule.task, self.schedule.policy.isolation

    def blocker(self) -> Blocker | None:
        """The newest unfinished occurrence, if any."""
        if not self.unfinished:
            return None
        last = next(reversed(self.unfinished.values()))
        return Blocker(str(last.occurrence_id), last.doing)

    def next_to_start(self) -> Unfinished | None:
        """The oldest that waits, if nothing else of this schedule is being worked on (or overlap = allow)."""
        if not self.unfinished:
            return None
        first = next(iter(self.unfinished.values()))
        alone = all(item.doing == WAITS for item in self.unfinished.values())
        allowed = alone or self.schedule.policy.overlap is Overlap.ALLOW
        return first if first.doing == WAITS and allowed else None


@dataclass(frozen=True, slots=True)
class Due:
    """One row to record.

    Attributes:
        start: It may start as soon as there is room.
        replaces: overlap = replace: what is unfinished has to go first.
    """

    line: Line
    recording: Recording
    start: bool = False
    replaces: bool = False


def from_plan(line: Line, step: Plan) -> Iterator[Due]:
    """What a plan means for its line: instants let go as ranges, the others judged one by one."""
    for gone in step.ranges:
        yield _range(line, gone)
    backlog = len(step.run) > 1 or not line.planned
    line.planned = True
    for index, due_at in enumerate(step.run):
        yield judge(line, due_at, backlog=backlog, behind=index > 0)


def judge(line: Line, due_at: datetime, *, backlog: bool, behind: bool = False) -> Due:
    """One instant that should run: start it, let it wait, or skip it.

    Args:
        line: Its schedule's standing.
        due_at: The instant.
        backlog: Whether it was already past when somebody looked.
        behind: Whether an earlier instant of the same plan goes first.
    """
    schedule, occurrence = line.schedule, Occurrence(line.schedule.name, due_at)
    if not schedule.enabled:
        return Due(line, Recording(occurrence, schedule.task, Verdict.SKIPPED, "enabled = false"))
    admission, reason = admit(schedule.policy.overlap, line.blocker(), backlog=backlog)
    if admission is Admission.SKIP:
        return Due(line, Recording(occurrence, schedule.task, Verdict.SKIPPED, reason))
    start = admission is Admission.START and not behind
    return Due(
        line, Recording(occurrence, schedule.task, None), start, replaces=admission is Admission.REPLACE
    )


def opened(recording: Recording) -> Recording:
    """The same row with its first attempt opened in the same transaction."""
    return Recording(recording.occurrence, recording.task, Verdict.RAN, open_attempt=True)


def _range(line: Line, gone: Range) -> Due:
    until = gone.last if gone.count > 1 else None
    occurrence = Occurrence(line.schedule.name, gone.first)
    return Due(
        line,
        Recording(
            occurrence, line.schedule.task, gone.verdict, gone.reason, due_until=until, count=gone.count
        ),
    )
