"""Planning: what became due since the cursor, what of it runs, and what to write of the rest.

The cursor is the last instant that was dealt with. Every instant in (cursor, now] gets exactly one
decision here, in order of time:

      cursor        now - window            now - grace          now
        |-----------------|----------------------|----------------|
             missed         catch_up decides        simply runs
                            none    missed
                            latest  the newest runs, the others are superseded
                            all     the newest catch_up_max run, the others are missed

Instants of a pause are skipped, however late they are looked at, and nothing else is decided about them.

Consecutive instants with one verdict and reason share a range. A plan looks at no more than `LIMIT`
instants: a one-second schedule that slept for a year is dealt with in slices, each of which moves the cursor,
so no single step holds up the loop or makes a huge transaction. A slice that ends inside the catch-up zone leaves
its newest instants undecided, because what becomes of them depends on those after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from singd.core.trigger import upcoming
from singd.core.units import format_duration
from singd.core.values import CatchUp, Pause, Policy, Trigger, Verdict

LIMIT = 20_000
"""Most instants that one plan decides."""


@dataclass(frozen=True, slots=True)
class Range:
    """Consecutive instants that do not run: `first` to `last`, `count` of them, for one reason."""

    first: datetime
    last: datetime
    count: int
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about one schedule at one moment.

    Attributes:
        run: Instants to run, oldest first.
        ranges: Instants that will not run.
        cursor: The newest instant decided here; None = nothing was due.
        next_at: The first instant not decided here: in the past if a slice was cut off, None if there is none.
    """

    run: tuple[datetime, ...] = ()
    ranges: tuple[Range, ...] = ()
    cursor: datetime | None = None
    next_at: datetime | None = None


def plan(
    trigger: Trigger,
    policy: Policy,
    cursor: datetime,
    now: datetime,
    limit: int = LIMIT,
    pause: Pause | None = None,
) -> Plan:
    """Decide every instant of `trigger` in (cursor, now], or the first `limit` of them.

    Args:
        trigger: Where instants come from.
        policy: `grace`, `catch_up`, `catch_up_window` and `catch_up_max` count.
        cursor: The last instant dealt with, aware UTC.
        now: The moment of the decision, aware UTC, read once by the caller.
        limit: Most instants to decide.
        pause: The schedule's newest, if it ever was paused.
    """
    due, next_at = _due(trigger, cursor, now, limit)
    paused = [instant for instant in due if pause and pause.covers(instant)]
    if not paused or pause is None:
        return _plan(due, policy, now, next_at)
    if next_at is not None and next_at <= now:
        return _slice_at_pause(due, paused, pause, policy, now, next_at)
    others = [instant for instant in due if not pause.covers(instant)]
    step = _plan(others, policy, now, next_at)
    apart = [part for gone in step.ranges for part in _split(gone, others, paused[0])]
    return replace(step, ranges=(*apart, *_paused(paused, pause)), cursor=due[-1])


def _plan(due: list[datetime], policy: Policy, now: datetime, next_at: datetime | None) -> Plan:
    if not due:
        return Plan(next_at=next_at)
    fresh_from = now - policy.grace
    if due[0] >= fresh_from:
        return Plan(tuple(due), (), due[-1], next_at)
    return _plan_old(due, policy, now, next_at)


def _slice_at_pause(
    due: list[datetime],
    paused: list[datetime],
    pause: Pause,
    policy: Policy,
    now: datetime,
    next_at: datetime,
) -> Plan:
    """Of a slice that was cut off only what lies on one side of the pause's begin or end."""
    before = [instant for instant in due if instant < paused[0]]
    if before:
        return _plan(before, policy, now, paused[0])
    after = next((instant for instant in due if instant > paused[-1]), next_at)
    return Plan((), _paused(paused, pause), paused[-1], after)


def _split(gone: Range, instants: Sequence[datetime], at: datetime) -> Iterator[Range]:
    """A range in two where the pause lies inside: a range row holds consecutive instants."""
    within = [instant for instant in instants if gone.first <= instant <= gone.last]
    for part in ([i for i in within if i < at], [i for i in within if i > at]):
        yield from _range(part, gone.verdict, gone.reason)


def _paused(instants: Sequence[datetime], pause: Pause) -> tuple[Range, ...]:
    return _range(instants, Verdict.SKIPPED, pause.reason)


def _due(
    trigger: Trigger, cursor: datetime, now: datetime, most: int
) -> tuple[list[datetime], datetime | None]:
    """The first `most` instants in (cursor, now], and the one after them."""
    due: list[datetime] = []
    for instant in islice(upcoming(trigger, cursor), most + 1):
        if instant > now or len(due) == most:
            return due, instant
        due.append(instant)
    return due, None


def _plan_old(due: list[datetime], policy: Policy, now: datetime, next_at: datetime | None) -> Plan:
    fresh_from = now - policy.grace
    old = [instant for instant in due if instant < fresh_from]
    fresh = due[len(old) :]
    cut_off = next_at is not None and next_at < fresh_from
    if cut_off:
        held = old[_decidable(len(old), policy) :]
        old, next_at = old[: len(old) - len(held)], (held[0] if held else next_at)
    ranges, caught_up = _catch_up(old, policy, now, complete=not cut_off)
    return Plan((*caught_up, *fresh), ranges, (fresh or old)[-1], next_at)


def _decidable(count: int, policy: Policy) -> int:
    """How many of a cut-off slice can be decided without seeing what follows it."""
    held_back = policy.catch_up_max if policy.catch_up is CatchUp.ALL else 1
    return max(count - held_back, 1)


def _catch_up(
    old: Sequence[datetime], policy: Policy, now: datetime, *, complete: bool
) -> tuple[tuple[Range, ...], tuple[datetime, ...]]:
    """Split instants older than the grace into ranges that do not run and instants that do."""
    window_from = now - policy.catch_up_window
    lapsed = [instant for instant in old if instant < window_from]
    within = old[len(lapsed) :]
    keep = {CatchUp.NONE: 0, CatchUp.LATEST: 1, CatchUp.ALL: policy.catch_up_max}[policy.catch_up]
    split = max(len(within) - keep, 0) if complete else len(within)
    let_go, run = within[:split], within[split:]
    ranges = (
        *_range(
            lapsed,
            Verdict.MISSED,
            f"older than the catch-up window of {format_duration(policy.catch_up_window)}",
        ),
        *_range(let_go, *_why_let_go(policy)),
    )
    return ranges, tuple(run)


def _why_let_go(policy: Policy) -> tuple[Verdict, str]:
    match policy.catch_up:
        case CatchUp.LATEST:
            return Verdict.SUPERSEDED, "catch_up = latest: a later instant stands for it"
        case CatchUp.ALL:
            return Verdict.MISSED, f"more than catch_up_max = {policy.catch_up_max} instants were waiting"
        case CatchUp.NONE:
            return (
                Verdict.MISSED,
                f"later than the grace of {format_duration(policy.grace)}, and catch_up = none",
            )


def _range(instants: Sequence[datetime], verdict: Verdict, reason: str) -> tuple[Range, ...]:
    if not instants:
        return ()
    return (Range(instants[0], instants[-1], len(instants), verdict, reason),)
