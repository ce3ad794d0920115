"""Admission and retry as tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singd.core.admission import Admission, Blocker, admit
from singd.core.retry import ATTEMPTS_MAX, after_loss, after_report, wait_before_retry
from singd.core.values import Backoff, Delivery, Overlap, Policy, Report, State

NOW = datetime(2026, 11, 23, tzinfo=UTC)
BLOCKER = Blocker("4711")


@pytest.mark.parametrize(
    ("overlap", "backlog", "expected"),
    [
        (Overlap.SKIP, False, Admission.SKIP),
        (Overlap.QUEUE, False, Admission.WAIT),
        (Overlap.REPLACE, False, Admission.REPLACE),
        (Overlap.ALLOW, False, Admission.START),
        (Overlap.SKIP, True, Admission.WAIT),
        (Overlap.QUEUE, True, Admission.WAIT),
        (Overlap.REPLACE, True, Admission.WAIT),
        (Overlap.ALLOW, True, Admission.WAIT),
    ],
)
def test_an_instant_that_meets_an_unfinished_one_is_judged_by_overlap_but_backlog_waits(
    overlap, backlog, expected
):
    assert admit(overlap, BLOCKER, backlog=backlog)[0] is expected


@pytest.mark.parametrize("overlap", Overlap)
@pytest.mark.parametrize("backlog", [True, False])
def test_an_instant_that_meets_nothing_starts(overlap, backlog):
    assert admit(overlap, None, backlog=backlog) == (Admission.START, "")


def test_a_skip_names_the_run_that_blocked_it():
    assert admit(Overlap.SKIP, BLOCKER, backlog=False)[1] == "overlap = skip: run 4711 still runs"


def report(state: State, **more) -> Report:
    return Report("token", state, **more)


@pytest.mark.parametrize(
    ("given_report", "retries", "used", "wait_s"),
    [
        (report(State.SUCCEEDED), 3, 0, None),
        (report(State.FAILED), 0, 0, None),
        (report(State.FAILED), 1, 0, 10),
        (report(State.FAILED), 1, 1, None),
        (report(State.FAILED), 3, 2, 40),
        (report(State.TIMED_OUT), 1, 0, 10),
        (report(State.CANCELLED), 3, 0, None),
        (report(State.FAILED, give_up=True), 3, 0, None),
        (report(State.FAILED, retry_after_s=60), 3, 0, 60),
        (report(State.FAILED, retry_after_s=1), 3, 0, 10),
        (report(State.FAILED, retry_after_s=60), 0, 0, None),
        (report(State.CANCELLED, begun=False), 0, 0, 0),
        (report(State.CANCELLED, begun=False, give_up=True), 3, 0, None),
    ],
)
def test_what_follows_an_attempt(given_report, retries, used, wait_s):
    expected = None if wait_s is None else NOW + timedelta(seconds=wait_s)
    assert after_report(Policy(retries=retries), given_report, 1, used, NOW) == expected


@pytest.mark.parametrize(
    ("delivery", "expected"), [(Delivery.AT_MOST_ONCE, None), (Delivery.AT_LEAST_ONCE, NOW)]
)
def test_delivery_alone_decides_what_follows_an_unknown_outcome(delivery, expected):
    assert after_loss(Policy(delivery=delivery, retries=5), 1, NOW) == expected


@pytest.mark.parametrize("delivery", Delivery)
def test_an_executor_that_lost_an_attempt_is_believed(delivery):
    policy = Policy(delivery=delivery, retries=5)
    assert after_report(policy, report(State.LOST), 1, 0, NOW) == after_loss(policy, 1, NOW)


def test_an_occurrence_has_a_last_attempt_whatever_ends_them():
    assert after_loss(Policy(delivery=Delivery.AT_LEAST_ONCE), ATTEMPTS_MAX, NOW) is None
    assert after_report(Policy(retries=10**6), report(State.FAILED), ATTEMPTS_MAX, 0, NOW) is None


@given(first=st.integers(1, 100), most=st.integers(1, 1000), used=st.integers(0, 10**6))
def test_waits_never_pass_their_most_and_never_shrink(first, most, used):
    backoff = Backoff(timedelta(seconds=first), timedelta(seconds=most))
    wait = wait_before_retry(backoff, used)
    assert wait <= timedelta(seconds=most)
    assert wait <= wait_before_retry(backoff, used + 1)
