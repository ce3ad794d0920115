"""What the control verbs see: the daemon as it is at this moment, and the ledger as it remembers.

Two small Protocols; the composition root (`singd.cli.run`) makes the first from its parts, an edge is the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from singd.core.cluster import Cluster
from singd.core.history import Known, OccurrenceRow
from singd.core.values import Log, Pause, Schedule
from singd.errors import EdgeError, SingdError


class BadRequest(SingdError):
    """The question cannot be answered as it was asked; the client's own mistake."""

    exit = 2


class NotFound(SingdError):
    """There is no such schedule, run or attempt."""

    exit = 1


class PartialAnswer(EdgeError):
    """A part of what was asked for cannot be had; `answer` is the rest."""

    def __init__(self, message: str, answer: Any, *, cure: str = "") -> None:
        super().__init__(message, cure=cure)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something an operator should know or do."""

    text: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class RunningAttempt:
    """An attempt in progress on this node. `node_scope`: of one of its own schedules, recorded in its local journal."""

    run_id: str
    attempt: int
    schedule: str
    due_at: datetime
    epoch: int
    node_scope: bool = False


@dataclass(frozen=True, slots=True)
class Unshipped:
    """Rows of the local journal that the ledger does not have yet; `since`: the oldest one's instant."""

    count: int = 0
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule of the generation in force.

    Attributes:
        cursor: Every instant up to here was dealt with, as far as this process knows; None outside a term.
        here: Whether it runs on a node of this role.
        unavailable: Why its task cannot run ("" = it can).
        pause: The newest one that this node has heard of.
    """

    schedule: Schedule
    cursor: datetime | None = None
    here: bool = True
    unavailable: str = ""
    pause: Pause | None = None

    def paused(self, at: datetime) -> Pause | None:
        """The pause that an instant falls into."""
        return self.pause if self.pause and self.pause.covers(at) else None


@dataclass(frozen=True, slots=True)
class Setting:
    """One value in force and where it was set: `file:line:column`, or "default"."""

    key: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is so in the daemon at this moment; no credentials in it.

    Attributes:
        state: `starting`, `leading`, `standing by` (another node leads, or is about to), `name taken` (by another live
            daemon), `no ledger` (it is away), `refused` (it is there, and no ledger to lead with) or `stopping`.
        database: Where the ledger is, for people.
        epoch, trust_s: Of this node's term; None where it does not lead.
        leader: Name of the leading node; "" = not known here.
        skew_s: By how much this node's clock is ahead of the database's.
        unshipped: What the local journal has and the ledger has not.
    """

    node: str
    role: str
    version: str
    state: str
    database: str
    started_at: datetime
    now: datetime
    config_file: str
    generation: int | None = None
    epoch: int | None = None
    trust_s: float | None = None
    leader: str = ""
    schedules: Sequence[ScheduleView] = ()
    running: Sequence[RunningAttempt] = ()
    troubles: Sequence[Trouble] = ()
    skew_s: float = 0.0
    unshipped: Unshipped = Unshipped()


class DaemonView(Protocol):
    """What the handlers see of the daemon; never blocks."""

    def snapshot(self) -> Snapshot: ...

    def settings(self, schedule: str) -> Sequence[Setting]:
        """Every effective value of a schedule in force, in the order of the documentation."""
        ...

    def live_log(self, occurrence_id: int) -> Log | None:
        """What the running attempt of an occurrence has written so far; None where none runs here."""
        ...


class LedgerView(Protocol):
    """What the handlers read of the ledger. Raises EdgeError where it cannot be reached."""

    async def runs(self, schedule: str | None, since: datetime | None, limit: int) -> Sequence[OccurrenceRow]:
        """The newest rows, newest first, each with its last attempt; of `since` or later."""
        ...

    async def latest(self) -> Mapping[str, OccurrenceRow]:
        """Of each schedule of the cluster the newest row with a verdict that is over, with its last attempt."""
        ...

    async def known(self, schedule: str, at: datetime, owner: str | None) -> Known:
        """What there is around one instant; its row with every attempt.

        `owner`: whose occurrences are meant, the cluster's or a node's; None = anybody's, the cluster's first.
        """
        ...

    async def run(self, occurrence_id: int) -> OccurrenceRow | None:
        """One row with every attempt."""
        ...

    async def node_run(self, node: str, number: int) -> OccurrenceRow | None:
        """One row of a node's own, with every attempt, by its number in that node's local journal."""
        ...

    async def begun(self, schedule: str, owner: str | None) -> OccurrenceRow | None:
        """The newest row of an owner (as `known`) that has an attempt, with every one; None if none ever had."""
        ...

    async def log(self, occurrence_id: int, number: int) -> Log | None:
        """The kept output of an attempt that is over; None where none is kept (any more)."""
        ...

    async def running(self, limit: int) -> Sequence[OccurrenceRow]:
        """What is in progress on any node, the oldest first, each with its last attempt."""
        ...

    async def cluster(self) -> Cluster:
        """The nodes, who leads, and the newest changes of leader."""
        ...
