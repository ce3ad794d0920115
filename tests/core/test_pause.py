"""Pauses in plans: each instant of one is skipped however late somebody looks, and the others are decided as if it were not there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singd.core.plan import Plan, plan
from singd.core.values import CatchUp, Every, Pause, Policy, Verdict

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MINUTE = Every(timedelta(minutes=1))


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def decided(
    policy: Policy, now: datetime, pause: Pause | None, limit: int = 20_000
) -> tuple[list[datetime], dict]:
    """What runs, and instant -> verdict of what does not, planned slice by slice from noon on."""
    cursor, run, gone = NOON, [], {}
    for _ in range(10_000):
        step: Plan = plan(MINUTE, policy, cursor, now, limit, pause)
        run += step.run
        for one in step.ranges:
            instants = [one.first + timedelta(minutes=index) for index in range(one.count)]
            assert instants[-1] == one.last, "consecutive instants"
            assert not gone.keys() & set(instants)
            gone |= dict.fromkeys(instants, one.verdict)
        cursor = step.cursor or cursor
        if step.next_at is None or step.next_at > now:
            return run, gone
    raise AssertionError("it makes no progress")


def test_an_instant_of_the_pause_is_skipped_with_who_and_why():
    pause = Pause(at(1), "uid 0 on a", at(3), "deploy")
    step = plan(MINUTE, Policy(grace=timedelta(hours=1)), NOON, at(4.5), pause=pause)
    assert step.run == (at(3), at(4))
    [gone] = step.ranges
    assert (gone.first, gone.last, gone.count, gone.verdict) == (at(1), at(2), 2, Verdict.SKIPPED)
    assert gone.reason == f"paused by uid 0 on a until {at(3):%FT%TZ}: deploy"
    assert step.cursor == at(4)


def test_a_pause_without_an_end_goes_on():
    step = plan(MINUTE, Policy(), NOON, at(1000.5), pause=Pause(at(0), "x"))
    assert (step.run, step.ranges[0].count, step.cursor) == ((), 1000, at(1000))
    assert step.ranges[0].reason == "paused by x"


@pytest.mark.parametrize("limit", [20_000, 7])
@given(
    since=st.integers(-10, 200),
    length=st.one_of(st.none(), st.integers(0, 100)),
    elapsed=st.integers(1, 150),
    catch_up=st.sampled_from(CatchUp),
    grace=st.integers(0, 20),
)
def test_paused_instants_are_skipped_and_nothing_else_is(limit, since, length, elapsed, catch_up, grace):
    pause = Pause(at(since), "x", None if length is None else at(since + length))
    now = at(elapsed + 0.5)
    policy = Policy(
        grace=timedelta(minutes=grace),
        catch_up=catch_up,
        catch_up_window=timedelta(minutes=60),
        catch_up_max=5,
    )
    run, gone = decided(policy, now, pause, limit)
    due = [at(minute) for minute in range(1, elapsed + 1)]
    assert sorted([*run, *gone]) == due, "every instant once"
    assert {one for one, verdict in gone.items() if verdict is Verdict.SKIPPED} == {
        one for one in due if pause.covers(one)
    }


@given(
    since=st.integers(-10, 200),
    length=st.integers(0, 100),
    elapsed=st.integers(1, 150),
    catch_up=st.sampled_from(CatchUp),
)
def test_the_others_are_decided_as_if_the_paused_ones_were_not_there(since, length, elapsed, catch_up):
    pause = Pause(at(since), "x", at(since + length))
    policy = Policy(grace=timedelta(minutes=2), catch_up=catch_up, catch_up_max=3)
    run, _ = decided(policy, at(elapsed + 0.5), pause)
    others = [at(minute) for minute in range(1, elapsed + 1) if not pause.covers(at(minute))]
    old = [one for one in others if one < at(elapsed + 0.5 - 2)]
    within = [one for one in old if one >= at(elapsed + 0.5 - 60)]
    kept = {CatchUp.NONE: 0, CatchUp.LATEST: 1, CatchUp.ALL: 3}[catch_up]
    assert run == [*within[len(within) - min(kept, len(within)) :], *others[len(old) :]]
