"""Planning against an oracle that looks at one instant at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singd.core.plan import Plan, plan
from singd.core.trigger import next_after, upcoming
from singd.core.values import At, CatchUp, Every, Policy, Startup, Verdict

T0 = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def every(seconds: float) -> Every:
    return Every(timedelta(seconds=seconds))


def spread(planned: Plan, trigger: Every) -> dict[datetime, str]:
    """Each instant's decision, range rows expanded by stepping the trigger."""
    decisions = dict.fromkeys(planned.run, "run")
    for gone in planned.ranges:
        count = 0
        for instant in upcoming(trigger, gone.first - timedelta(microseconds=1)):
            if instant > gone.last:
                break
            assert instant not in decisions
            decisions[instant] = str(gone.verdict)
            count += 1
        assert count == gone.count
    return decisions


def oracle(trigger: Every, policy: Policy, cursor: datetime, now: datetime) -> dict[datetime, str]:
    """The words of docs/schedules.md, one instant at a time."""
    due, instant = [], trigger.interval * ((cursor - datetime(1970, 1, 1, tzinfo=UTC)) // trigger.interval)
    instant = datetime(1970, 1, 1, tzinfo=UTC) + instant
    while (instant := instant + trigger.interval) <= now:
        due.append(instant)
    within = [d for d in due if now - policy.catch_up_window <= d < now - policy.grace]
    answer = {}
    for instant in due:
        later = sum(1 for other in within if other > instant)
        if instant >= now - policy.grace:
            answer[instant] = "run"
        elif instant not in within or policy.catch_up is CatchUp.NONE:
            answer[instant] = "missed"
        elif policy.catch_up is CatchUp.LATEST:
            answer[instant] = "run" if later == 0 else "superseded"
        else:
            answer[instant] = "run" if later < policy.catch_up_max else "missed"
    return answer


policies = st.builds(
    Policy,
    grace=st.integers(0, 120).map(lambda s: timedelta(seconds=s)),
    catch_up=st.sampled_from(CatchUp),
    catch_up_window=st.integers(0, 900).map(lambda s: timedelta(seconds=s)),
    catch_up_max=st.integers(1, 20),
)


@given(policy=policies, interval=st.integers(1, 90), gap=st.integers(0, 1500), offset=st.integers(0, 89))
def test_every_instant_gets_the_decision_that_the_policy_words_give_it(policy, interval, gap, offset):
    trigger, cursor, now = every(interval), at(offset), at(offset + gap)
    planned = plan(trigger, policy, cursor, now)
    assert spread(planned, trigger) == oracle(trigger, policy, cursor, now)
    assert planned.next_at == next_after(trigger, now)


@given(policy=policies, gap=st.integers(0, 600), limit=st.integers(25, 60))
def test_planning_in_slices_decides_as_planning_at_once(policy, gap, limit):
    trigger, now = every(1), at(gap)
    cursor, together = at(0), {}
    for _ in range(1000):
        step = plan(trigger, policy, cursor, now, limit)
        together |= spread(step, trigger)
        cursor = step.cursor or cursor
        if step.next_at is None or step.next_at > now:
            break
        assert step.cursor is not None, "a slice must move the cursor"
        assert next_after(trigger, cursor) == step.next_at
    assert together == oracle(trigger, policy, at(0), now)


def test_nothing_due_moves_no_cursor_and_names_the_next_instant():
    assert plan(every(60), Policy(), at(0), at(59)) == Plan(next_at=at(60))


def test_an_instant_is_due_at_its_very_moment_and_not_before():
    assert plan(every(60), Policy(), at(0), at(60)).run == (at(60),)
    assert plan(every(60), Policy(), at(0), at(60) - timedelta(microseconds=1)).run == ()


def test_instants_within_the_grace_simply_run_in_order():
    assert plan(every(10), Policy(grace=timedelta(seconds=30)), at(0), at(35)).run == (at(10), at(20), at(30))


def test_a_week_down_with_a_one_second_schedule_is_a_handful_of_ranges():
    now, cursor, rows = at(7 * 86400), at(0), 0
    while True:
        step = plan(every(1), Policy(), cursor, now)
        rows += len(step.ranges)
        cursor = step.cursor or cursor
        if step.next_at > now:
            break
    assert rows < 50


def test_a_one_shot_in_the_past_of_the_cursor_never_comes_due():
    assert plan(At(at(0)), Policy(), at(0), at(100)) == Plan()
    assert plan(At(at(1)), Policy(), at(0), at(1)).run == (at(1),)


def test_a_startup_trigger_has_no_instants_of_its_own():
    assert plan(Startup(), Policy(), at(0), at(10_000)) == Plan()


@pytest.mark.parametrize(
    ("catch_up", "verdict"), [(CatchUp.NONE, Verdict.MISSED), (CatchUp.LATEST, Verdict.SUPERSEDED)]
)
def test_the_reason_names_the_policy_that_decided(catch_up, verdict):
    planned = plan(every(60), Policy(catch_up=catch_up), at(0), at(600))
    assert {gone.verdict for gone in planned.ranges} == {verdict}
    assert f"catch_up = {catch_up}" in planned.ranges[0].reason
