"""What follows an attempt's end: nothing, or another attempt and when.

`retries` answers known failures (failed, timed_out). `delivery` decides only the unknown outcome (lost).
An attempt that never began (settled from `claimed`) is followed by another under either, without
using a retry.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from singd.core.values import Backoff, Delivery, Policy, Report, State

ATTEMPTS_MAX = 100
"""Most attempts of one occurrence, whatever ended them: the bound that keeps a crash loop finite."""


def wait_before_retry(backoff: Backoff, retries_used: int) -> timedelta:
    """The wait before retry number `retries_used` + 1: `first`, doubled each time, at most `most`."""
    doubled: timedelta = backoff.first * (1 << min(retries_used, 32))
    return min(doubled, backoff.most)


def after_report(
    policy: Policy, report: Report, attempt: int, retries_used: int, now: datetime
) -> datetime | None:
    """When the next attempt is due after an executor's report; None = the occurrence is done.

    Args:
        policy: The schedule's.
        report: How the attempt ended.
        attempt: Its number, from 1.
        retries_used: Attempts of this occurrence that failed or timed out before this one.
        now: The moment of the decision, aware UTC.
    """
    if attempt >= ATTEMPTS_MAX:
        return None
    if report.state is State.LOST:
        return after_loss(policy, attempt, now)
    if not report.begun and report.state is State.CANCELLED and not report.give_up:
        return now
    if (
        report.state not in (State.FAILED, State.TIMED_OUT)
        or report.give_up
        or retries_used >= policy.retries
    ):
        return None
    wait = wait_before_retry(policy.backoff, retries_used)
    if report.retry_after_s is not None:
        wait = max(wait, timedelta(seconds=report.retry_after_s))
    return now + wait


def after_loss(policy: Policy, attempt: int, now: datetime) -> datetime | None:
    """When the next attempt is due after one whose outcome is unknown; None = recorded as lost, and done."""
    again = policy.delivery is Delivery.AT_LEAST_ONCE and attempt < ATTEMPTS_MAX
    return now if again else None
