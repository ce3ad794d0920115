"""Events: what happened, as frozen values. The journal, the status and the tests read the same ones.

An event says what is so, in words an operator knows; how it looks as a line is the journal's business
(`singd.journal`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from singd.core.values import Occurrence, State


@dataclass(frozen=True, slots=True)
class TermBegan:
    """This node leads the cluster."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Armed:
    """The term has taken over: every schedule is planned. `next_at` of `next_schedule` comes first."""

    schedules: int
    next_schedule: str = ""
    next_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TermEnded:
    """This node no longer leads; `reason` says why."""

    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class Registered:
    """The ledger has this node under its name, and operators' requests are heard."""

    node: str


@dataclass(frozen=True, slots=True)
class Campaigning:
    """This node waits for the leader's lock: from now on it stands by."""


@dataclass(frozen=True, slots=True)
class LedgerAway:
    """The ledger cannot be reached, or (`cure` says what to do) is not one to lead with: cluster work waits.

    Attributes:
        retry_s: Until the next try.
    """

    reason: str
    retry_s: float
    cure: str = ""


@dataclass(frozen=True, slots=True)
class NameInUse:
    """Another live daemon has this node's name: nothing runs here until it is free. `retry_s` until the next try."""

    reason: str
    retry_s: float
    cure: str = ""


@dataclass(frozen=True, slots=True)
class FilesDiffer:
    """Live nodes would lead with different configurations. `nodes`: node -> the beginning of its content hash."""

    nodes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """The ledger has the attempt's end.

    Attributes:
        seconds: From the body's begin to its end.
        retry_at: When the next attempt is due, if one follows.
    """

    run_id: str
    schedule: str
    number: int
    state: State
    seconds: float
    error: str = ""
    skipped: str | None = None
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AttemptSettled:
    """The leader ended an attempt whose owner is gone: cancelled (never started) or lost."""

    run_id: str
    schedule: str
    number: int
    state: State


@dataclass(frozen=True, slots=True)
class ResultRefused:
    """An attempt of this node ended, but its token was no longer its own."""

    run_id: str
    schedule: str
    number: int


@dataclass(frozen=True, slots=True)
class NotRun:
    """Instants that will not run: one, or `count` of them up to `until`."""

    occurrence: Occurrence
    verdict: str
    reason: str
    count: int = 1
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Draining:
    """The daemon was asked to stop; `running` attempts may finish for `seconds`."""

    running: int
    seconds: float


@dataclass(frozen=True, slots=True)
class KeeperLost:
    """The keeper process died; its workers and servers are being started again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A fact for the operator that has no type of its own yet; `level` is info, warning or error."""

    level: str
    text: str


Event = (
    TermBegan
    | Armed
    | TermEnded
    | Registered
    | Campaigning
    | LedgerAway
    | NameInUse
    | FilesDiffer
    | AttemptEnded
    | AttemptSettled
    | ResultRefused
    | NotRun
    | Draining
    | KeeperLost
    | Notice
)
Emit = Callable[[Event], None]
