"""History as values: what the ledger says of past instants, and what may be said of any instant at all.

`judge` answers `singd why`: there is an answer for every instant, also for those that nobody recorded.

    at in the future .................... not_yet_due, or not_an_instant
    a row for it ........................ its verdict: ran, skipped, missed, superseded; or open
    no row, at before what is kept ...... beyond_retention
    no row, not an instant .............. not_an_instant, with the nearest ones
    no row, before the oldest record .... before_known
    no row, after the cursor ............ pending: nobody has dealt with it yet
    no row at all ....................... unrecorded: the promise is broken, and we say so
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Any

from singd.core.trigger import upcoming
from singd.core.values import CLUSTER, Schedule, State, Trigger, run_id

EXPANDED_MAX = 20_000
"""Most instants of one range that are counted out; the planner writes no longer ones (`singd.core.plan.LIMIT`)."""
_LOOKBACK = tuple(
    timedelta(minutes=minutes) for minutes in (2, 120, 2 * 1440, 70 * 1440, 730 * 1440, 3300 * 1440)
)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt as the ledger has it. `error` is "" where there is none.

    Attributes:
        abandoned: It is running by the ledger's word, but silent, and the daemon that began it is not live any more.
    """

    number: int
    state: State
    epoch: int
    node: str
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str = ""
    result: Mapping[str, Any] | None = None
    claimed_at: datetime | None = None
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class OccurrenceRow:
    """One row of the ledger's occurrences.

    Attributes:
        due_until, count: For a range of consecutive instants with one verdict and reason; else None and 1.
        verdict: None while it is open.
        retry_at: When its next attempt is due, if one follows.
        attempts: Those the reader was asked for, by number; the last is the one that counts.
        local_number: Of a node's own occurrence: its number in that node's local journal.
    """

    occurrence_id: int
    schedule: str
    due_at: datetime
    task: str
    generation: int
    owner: str = CLUSTER
    due_until: datetime | None = None
    count: int = 1
    verdict: str | None = None
    reason: str = ""
    retry_at: datetime | None = None
    attempts: tuple[AttemptRow, ...] = ()
    local_number: int | None = None

    @property
    def run_id(self) -> str:
        """The id an operator uses."""
        number = self.occurrence_id if self.local_number is None else self.local_number
        return run_id(self.owner if self.local_number is not None else CLUSTER, number)

    @property
    def outcome(self) -> State | None:
        """What the last attempt ended with; None while one lives, or follows, or where there is none."""
        last = self.attempts[-1] if self.attempts else None
        return last.state if last and last.state.terminal and self.retry_at is None else None

    @property
    def standing(self) -> str:
        """One word for people: the outcome of what ran, the verdict of what did not, or how far it is."""
        if self.verdict not in (None, "ran"):
            return str(self.verdict)
        if self.outcome is not None:
            return str(self.outcome)
        if self.retry_at is not None:
            return "retrying"
        return str(self.attempts[-1].state) if self.attempts else "waiting"


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows around one instant of one schedule.

    Attributes:
        row: The row for it: its own, or the range that spans it.
        cursor: Every instant up to here was dealt with; None = the schedule never was in the ledger.
        oldest: The oldest instant that is recorded of the schedule.
        kept_from: Rows older than this were deleted.
    """

    row: OccurrenceRow | None = None
    cursor: datetime | None = None
    oldest: datetime | None = None
    kept_from: datetime | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is so of one instant; `state` as in this module's head. `before`, `after`: the nearest instants."""

    state: str
    row: OccurrenceRow | None = None
    before: datetime | None = None
    after: datetime | None = None


def judge(at: datetime, now: datetime, schedule: Schedule | None, known: Known) -> Judgement:
    """What became of an instant.

    Args:
        at, now: Aware UTC.
        schedule: As configured now; None if it is not any more.
        known: What the ledger says.
    """
    before, after = nearest(schedule.trigger, at) if schedule else (None, None)
    regular = schedule is not None and is_instant(schedule.trigger, at)
    if known.row is not None and (
        regular or schedule is None or at in (known.row.due_at, known.row.due_until)
    ):
        return Judgement(known.row.verdict or "open", known.row, before, after)
    return Judgement(_without_row(at, now, schedule, regular, known), known.row, before, after)


def _without_row(at: datetime, now: datetime, schedule: Schedule | None, regular: bool, known: Known) -> str:
    if schedule is None and known.cursor is None and known.oldest is None:
        return "unknown_schedule"
    if at <= now and known.kept_from is not None and at < known.kept_from:
        return "beyond_retention"
    if not regular:
        return "not_an_instant"
    if at > now:
        return "not_yet_due"
    if known.cursor is None or at > known.cursor:
        return "pending" if known.cursor is not None else "before_known"
    return "before_known" if known.oldest is None or at < known.oldest else "unrecorded"


def is_instant(trigger: Trigger, at: datetime) -> bool:
    """Whether the trigger comes due exactly then."""
    return next(upcoming(trigger, at - _TICK), None) == at


def nearest(trigger: Trigger, at: datetime) -> tuple[datetime | None, datetime | None]:
    """The last instant before `at` (looking back nine years) and the first after it."""
    return _last_before(trigger, at), next(upcoming(trigger, at), None)


def _last_before(trigger: Trigger, at: datetime) -> datetime | None:
    """Triggers only step forward, so begin a little earlier; each window is longer than all before it."""
    for back in _LOOKBACK:
        begin = max(at - back, datetime(1970, 1, 2, tzinfo=UTC))
        found = deque(takewhile(lambda due: due < at, upcoming(trigger, begin)), maxlen=1)
        if found:
            return found[0]
    return None


def expand(row: OccurrenceRow, trigger: Trigger | None, limit: int) -> Sequence[OccurrenceRow]:
    """A range as one row an instant, newest first, at most `limit`.

    The instants are the trigger's. Where the schedule is gone, or another now than it was then, they cannot be
    told one by one, and the range stays one row.
    """
    if row.due_until is None or row.count > EXPANDED_MAX or trigger is None:
        return [row]
    until = row.due_until
    every = takewhile(lambda due: due <= until, upcoming(trigger, row.due_at - _TICK))
    instants = list(islice(every, row.count + 1))
    if len(instants) != row.count or instants[0] != row.due_at or instants[-1] != until:
        return [row]
    return [replace(row, due_at=due, due_until=None, count=1) for due in instants[: -limit - 1 : -1]]
