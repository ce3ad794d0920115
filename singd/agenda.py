"""The agenda: where each schedule of a term stands, and what a plan means for it.

A line is one schedule's standing: its cursor, and its unfinished occurrences in order of time. The decisions here are made from values;
the scheduler writes them to the ledger and acts on them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from singd.core.admission import Admission, Blocker, admit
from singd.core.plan import Plan, Range
from singd.core.values import (
    CLUSTER,
    At,
    Isolation,
    Occurrence,
    Overlap,
    Override,
    Recording,
    Schedule,
    Startup,
    Trigger,
    Verdict,
    run_id,
)
from singd.ports import Adoption

Kind = tuple[str, Isolation]
"""What shares room in an executor: the task, and where it runs."""

RUNS, WAITS, RETRIES, READY = "runs", "waits", "waits for its retry", "waits for a free slot"


@dataclass(slots=True)
class Unfinished:
    """An occurrence that is not done.

    Attributes:
        doing: One of RUNS, WAITS (for its turn), RETRIES, READY.
        unwanted: Why no attempt follows the one that runs; "" = one may.
    """

    occurrence_id: int
    doing: str = WAITS
    retries_used: int = 0
    unwanted: str = ""


@dataclass(slots=True)
class Line:
    """One schedule's standing in this term.

    Attributes:
        trigger: The schedule's; the cluster's startup as one instant where that is its trigger.
        cursor: The last instant dealt with.
        since: When this term took it over: what was due by then is backlog.
        next_at: The next one; None = there is none.
        unfinished: Occurrence id -> what it is doing, oldest first.
    """

    schedule: Schedule
    trigger: Trigger
    cursor: datetime
    since: datetime
    owner: str = CLUSTER
    next_at: datetime | None = None
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
        return Blocker(run_id(self.owner, last.occurrence_id), last.doing)

    @property
    def taken(self) -> bool:
        """Whether an occurrence of it runs, or is about to."""
        return any(item.doing in (RUNS, READY) for item in self.unfinished.values())

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
    backlog = len(step.run) > 1 or any(due_at <= line.since for due_at in step.run)
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
    schedule, occurrence = line.schedule, Occurrence(line.schedule.name, due_at, line.owner)
    if not schedule.enabled:
        return Due(line, Recording(occurrence, schedule.task, Verdict.SKIPPED, "enabled = false"))
    return _admitted(line, occurrence, backlog=backlog, behind=behind)


def by_hand(line: Line, asked: Override) -> Due:
    """What an operator triggers: due when it was asked, judged as an instant whose time comes.

    That its schedule is disabled or paused is about the schedule's own instants.
    """
    occurrence = Occurrence(line.schedule.name, asked.asked_at, line.owner, asked.wish.request)
    return _admitted(line, occurrence)


def _admitted(line: Line, occurrence: Occurrence, *, backlog: bool = False, behind: bool = False) -> Due:
    schedule = line.schedule
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
    occurrence = Occurrence(line.schedule.name, gone.first, line.owner)
    return Due(
        line,
        Recording(
            occurrence, line.schedule.task, gone.verdict, gone.reason, due_until=until, count=gone.count
        ),
    )


def take_over(
    schedules: Iterable[Schedule], adoption: Adoption, now: datetime, owner: str = CLUSTER
) -> tuple[dict[str, Line], dict[str, datetime]]:
    """Lines from what earlier terms left.

    Accepting the generation has put the cursors of new and changed schedules where they begin; what is unfinished of a
    schedule that is not in this configuration stays as it is until the schedule is there again.

    Returns:
        Schedule name -> line; and the cursors to write of those that had none.
    """
    lines: dict[str, Line] = {}
    new: dict[str, datetime] = {}
    for schedule in schedules:
        name = schedule.name
        trigger = _trigger(schedule, adoption.startup_at)
        line = lines[name] = Line(schedule, trigger, adoption.cursors.get(name, now), now, owner)
        if name not in adoption.cursors or _clock_went_back(line):
            line.cursor = new[name] = _first_cursor(line)
    for item in adoption.live:
        _adopt(
            lines, item.attempt.occurrence, Unfinished(item.attempt.occurrence_id, RUNS, item.retries_used)
        )
    for waiting in sorted(adoption.unfinished, key=lambda item: item.occurrence.due_at):
        _adopt(lines, waiting.occurrence, Unfinished(waiting.occurrence_id, WAITS, waiting.retries_used))
    return lines, new


def _adopt(lines: Mapping[str, Line], occurrence: Occurrence, unfinished: Unfinished) -> None:
    if line := lines.get(occurrence.schedule):
        line.unfinished[unfinished.occurrence_id] = unfinished


class Budget:
    """How many attempts may be opened in one step: asked once a kind, then counted down.

    All kinds of one executor share its slots, so what one takes is gone for the others. A kind of which others
    already wait (`behind`) gets none, so nothing overtakes.
    """

    def __init__(self, room: Callable[[Schedule], int], behind: Iterable[Kind] = ()) -> None:
        self._ask = room
        self._room = dict.fromkeys(behind, 0)
        self._taken: defaultdict[Isolation, int] = defaultdict(int)

    def take(self, line: Line) -> bool:
        """Whether there is room for one more of this schedule's kind; it is then used up."""
        kind = line.kind
        if kind not in self._room:
            self._room[kind] = self._ask(line.schedule)
        granted = self._taken[kind[1]] < self._room[kind]
        self._taken[kind[1]] += granted
        return granted


def _trigger(schedule: Schedule, startup_at: datetime | None) -> Trigger:
    """The cluster's startup is one instant like any other: within the grace it runs, later catch-up decides."""
    if isinstance(schedule.trigger, Startup) and startup_at is not None:
        return At(startup_at)
    return schedule.trigger


def _clock_went_back(line: Line) -> bool:
    """This process began before an earlier one of its node did, by the clock: its startup is due all the same. That it
    is done once, its identity sees to."""
    return (
        line.owner != CLUSTER
        and isinstance(line.schedule.trigger, Startup)
        and _startup_at(line) < line.cursor
    )


def _startup_at(line: Line) -> datetime:
    return line.trigger.instant if isinstance(line.trigger, At) else line.cursor


def _first_cursor(line: Line) -> datetime:
    """A schedule nobody saw before begins now; a startup schedule still gets the startup that is going on."""
    if isinstance(line.schedule.trigger, Startup) and isinstance(line.trigger, At):
        return line.trigger.instant - timedelta(microseconds=1)
    return line.cursor
