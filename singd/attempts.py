"""An attempt in progress as a value, and what its end means: decisions that the runner carries out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from singd.core.retry import after_report
from singd.core.values import Attempt, Delivery, Finish, Report, Schedule, State
from singd.events import AttemptEnded


@dataclass(slots=True)
class Run:
    """An attempt in progress on this node.

    Attributes:
        retries_used: Attempts of the same occurrence that failed or timed out before.
        claimed, renewed: Seconds on the boot clock: when the ledger answered the claim; when the start or the last
            answered beat was sent (0.0: not started).
        unwanted: Why nobody wants it any more: it does not begin, and no other follows it; "" = it is wanted.
    """

    attempt: Attempt
    schedule: Schedule
    retries_used: int
    claimed: float
    renewed: float = 0.0
    unwanted: str = ""

    @property
    def may_follow(self) -> bool:
        """Whether another attempt may start once this one counts as lost: then this one must end before."""
        return self.schedule.policy.delivery is Delivery.AT_LEAST_ONCE


@dataclass(frozen=True, slots=True)
class Ended:
    """What the scheduler learns when an attempt's end is durable."""

    occurrence_id: int
    schedule: str
    attempt: int
    retries_used: int
    retry_at: datetime | None


def finish_of(run: Run, report: Report, now: datetime) -> Finish:
    """What the ledger is to write at an attempt's end, with the time of the next one if one follows."""
    follows = after_report(run.schedule.policy, report, run.attempt.number, run.retries_used, now)
    return Finish(
        report.token,
        report.state,
        report.error,
        report.result,
        report.skipped,
        None if run.unwanted else follows,
        datetime.fromtimestamp(report.started_at, UTC) if report.begun else None,
        datetime.fromtimestamp(report.finished_at, UTC) if report.finished_at else now,
        report.log,
    )


def ended_of(run: Run, finish: Finish) -> Ended:
    """What the scheduler is told of an end that the ledger took."""
    used = run.retries_used + (finish.state in (State.FAILED, State.TIMED_OUT))
    attempt = run.attempt
    return Ended(attempt.occurrence_id, run.schedule.name, attempt.number, used, finish.retry_at)


def event_of(run: Run, finish: Finish) -> AttemptEnded:
    """What the journal is told of it."""
    begun, over = finish.started_at, finish.finished_at
    seconds = (over - begun).total_seconds() if begun and over else 0.0
    return AttemptEnded(
        run.attempt.run_id,
        run.schedule.name,
        run.attempt.number,
        finish.state,
        seconds,
        finish.error,
        finish.skipped,
        finish.retry_at,
    )
