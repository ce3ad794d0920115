"""The values that the rest of singd is made of (words: docs/configuration.md).

Rules of this file: frozen, no behaviour beyond what a value can say of itself, instants are aware UTC
datetimes, spans are timedeltas. Data flows one way:

    Config -> Schedule -> Plan -> Recording -> Recorded -> Work -> Report -> Finish
    (operator) (core)     (core)  (to ledger)  (from it)  (runner) (executor) (to ledger)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from singd.core.cron import Cron

CLUSTER = "cluster"
"""The owner of every occurrence of a schedule with `scope = "cluster"`."""


class Verdict(StrEnum):
    """What became of an occurrence. An occurrence without one is still open (waiting or running)."""

    RAN = "ran"
    SKIPPED = "skipped"
    MISSED = "missed"
    SUPERSEDED = "superseded"


class State(StrEnum):
    """State of an attempt; the last five are terminal and are also its outcome."""

    CLAIMED = "claimed"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def terminal(self) -> bool:
        """Whether an attempt in this state is over."""
        return self not in (State.CLAIMED, State.RUNNING)


class Overlap(StrEnum):
    """What to do with an instant whose time comes while an earlier one still runs."""

    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"
    ALLOW = "allow"


class CatchUp(StrEnum):
    """What to do with instants older than the grace."""

    NONE = "none"
    LATEST = "latest"
    ALL = "all"


class Delivery(StrEnum):
    """What to do after an attempt whose outcome is unknown (`lost`)."""

    AT_MOST_ONCE = "at_most_once"
    AT_LEAST_ONCE = "at_least_once"


class Isolation(StrEnum):
    """Where an attempt's code lives: its own process, or inside the daemon."""

    PROCESS = "process"
    INLINE = "inline"


class Scope(StrEnum):
    """Who owns a schedule's occurrences: the whole cluster once, or each node for itself."""

    CLUSTER = "cluster"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between retries: `first`, doubled each time, never above `most`."""

    first: timedelta = timedelta(seconds=10)
    most: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Policy:
    """How a schedule is run; the defaults are the contract's (docs/configuration.md)."""

    timeout: timedelta = timedelta(hours=1)
    retries: int = 0
    backoff: Backoff = Backoff()
    overlap: Overlap = Overlap.SKIP
    grace: timedelta = timedelta(seconds=30)
    catch_up: CatchUp = CatchUp.LATEST
    catch_up_window: timedelta = timedelta(hours=1)
    catch_up_max: int = 100
    delivery: Delivery = Delivery.AT_MOST_ONCE
    isolation: Isolation = Isolation.PROCESS


@dataclass(frozen=True, slots=True)
class Every:
    """Whole multiples of `interval` since the Unix epoch."""

    interval: timedelta


@dataclass(frozen=True, slots=True)
class At:
    """One instant."""

    instant: datetime


@dataclass(frozen=True, slots=True)
class Startup:
    """The registration instant of the daemon that finds no live node."""


Trigger = Cron | Every | At | Startup


@dataclass(frozen=True, slots=True)
class TaskCall:
    """A task of a plugin with its arguments.

    Attributes:
        task: The task's name, which is its entry point's name in the group `singd.tasks`.
        args: Validated arguments, still as TOML values (strings with units stay strings; relative
            `Path` parameters were made absolute against the configuration's directory).
    """

    task: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CommandCall:
    """A plain program, no shell in between. `argv[0]` is looked up on the daemon's PATH."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SqlCall:
    """One SQL text on a named database."""

    sql: str
    database: str


Call = TaskCall | CommandCall | SqlCall


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a configuration file; `line` and `column` count from 1, `length` in characters."""

    file: str
    line: int = 1
    column: int = 1
    length: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A named table of the configuration: trigger + call + policies.

    Attributes:
        name: The table's name.
        task: The word shown as its task: the task's name, or "command" or "sql".
        role: Runs only where the node's role is this; "" = anywhere.
    """

    name: str
    task: str
    call: Call
    trigger: Trigger
    policy: Policy = Policy()
    scope: Scope = Scope.CLUSTER
    role: str = ""
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One due instant of one schedule; (schedule, owner, due_at, request) is its identity."""

    schedule: str
    due_at: datetime
    owner: str = CLUSTER
    request: str = ""


def run_id(owner: str, number: int) -> str:
    """The id an operator uses: the occurrence's number in the ledger, or `node:number` in that node's local journal."""
    return str(number) if owner == CLUSTER else f"{owner}:{number}"


@dataclass(frozen=True, slots=True)
class Recording:
    """A row that the planner asks the ledger to write, in one transaction with the cursor.

    Three shapes: an occurrence to run now (`verdict` RAN, `open_attempt` true), one that waits
    (`verdict` None), one that never runs (another verdict, with a reason; `due_until` and `count` when
    it stands for several consecutive instants).
    """

    occurrence: Occurrence
    task: str
    verdict: Verdict | None
    reason: str = ""
    open_attempt: bool = False
    due_until: datetime | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of an occurrence. `token` is its right to write."""

    occurrence_id: int
    occurrence: Occurrence
    number: int
    token: str
    epoch: int

    @property
    def run_id(self) -> str:
        """The id an operator uses, see `run_id`."""
        return run_id(self.occurrence.owner, self.occurrence_id)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The ledger's answer to one Recording; `attempt` only where it was asked for and granted.

    `occurrence_id` is None where the identity was there already and is not ours: somebody else has it.
    """

    occurrence_id: int | None
    attempt: Attempt | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """Everything an executor needs to run one started attempt.

    Attributes:
        call: What to run.
        timeout_s: Seconds from the body's begin to TERM; the kill grace follows.
        databases: Named databases the call may use: name -> conninfo with credentials. Never logged.
        go_at: Seconds on CLOCK_BOOTTIME at which the ledger's `running` was sent: an executor refuses
            to begin a body later than `go_at` + 5 s (a thawed daemon may have been written off).
        plugin: Distribution that offers the task ("" for commands); workers serve one plugin each.
        plugin_version: Its version: a worker that holds older code takes no new attempt.
        entry_point: `module:attribute` of the task.
        state_dir: Private directory that the call may keep things in.
    """

    attempt: Attempt
    schedule: str
    call: Call
    isolation: Isolation
    timeout_s: float
    node: str
    role: str
    idempotency_key: str
    databases: Mapping[str, str]
    go_at: float
    plugin: str = ""
    state_dir: Path = Path()
    plugin_version: str = ""
    entry_point: str = ""


@dataclass(frozen=True, slots=True)
class Log:
    """What is kept of an attempt's output: at most 1 MiB, head and tail, and how much fell between."""

    head: bytes = b""
    tail: bytes = b""
    dropped: int = 0


NO_LOG = Log()


@dataclass(frozen=True, slots=True)
class Report:
    """An executor's word on an attempt's end.

    Attributes:
        token: The attempt's.
        state: A terminal state (succeeded, failed, timed_out, cancelled; lost only if the keeper died under it).
        error: The cause for people, at most 8 kB; "" on success.
        result: What the task returned; a JSON object of at most 64 kB, or None.
        skipped: The task itself raised Skip: the reason. The verdict is then `skipped`.
        retry_after_s: The task raised RetryAfter: seconds.
        give_up: The task raised GiveUp: no retry.
        begun: False if the body never began (then `state` is cancelled, and another attempt follows
            unless `give_up` says that somebody wanted it so).
        started_at, finished_at: Seconds since the Unix epoch, on the executor's wall clock.
    """

    token: str
    state: State
    error: str = ""
    result: Mapping[str, Any] | None = None
    skipped: str | None = None
    retry_after_s: float | None = None
    give_up: bool = False
    begun: bool = True
    started_at: float = 0.0
    finished_at: float = 0.0
    log: Log = NO_LOG


@dataclass(frozen=True, slots=True)
class Finish:
    """What the ledger writes at an attempt's end, by its token.

    `retry_at` set: another attempt follows then. `skipped` set: the occurrence's verdict becomes
    `skipped` with that reason.
    """

    token: str
    state: State
    error: str = ""
    result: Mapping[str, Any] | None = None
    skipped: str | None = None
    retry_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    log: Log = NO_LOG


class Verb(StrEnum):
    """What an operator may ask of the cluster."""

    TRIGGER = "trigger"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    RESIGN = "resign"


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator asks for.

    Attributes:
        target: A schedule (trigger, pause, resume), a run id (cancel) or a node, "" = the leader (resign).
        request: The request's id: asked twice is asked once.
        actor: Who asked, for the audit: `uid 1000 on sing-1`.
        owner: Whose occurrences are meant: the cluster's, or those of one node.
        until: End of a pause; None = until it is resumed.
    """

    verb: Verb
    target: str
    request: str
    actor: str
    owner: str = CLUSTER
    until: datetime | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Override:
    """A wish that the ledger has.

    Attributes:
        asked_at: The instant of its acceptance, by the ledger's clock.
        run_id: Of the occurrence that the ledger has for it already: a trigger that was carried out, and not taken.
    """

    number: int
    wish: Wish
    asked_at: datetime
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """A schedule's instants from `since` on, and before `until`, are skipped."""

    since: datetime
    actor: str
    until: datetime | None = None
    note: str = ""

    def covers(self, instant: datetime) -> bool:
        """Whether an instant falls into it."""
        return self.since <= instant and (self.until is None or instant < self.until)

    @property
    def reason(self) -> str:
        """Why its instants are skipped: one text for all of them, so that they may share a range row."""
        until = f" until {self.until:%FT%TZ}" if self.until else ""
        return f"paused by {self.actor}{until}" + (f": {self.note}" if self.note else "")


@dataclass(frozen=True, slots=True)
class ShippedAttempt:
    """An attempt of a node's own occurrence, over, as its local journal has it."""

    number: int
    token: str
    process: str
    state: State
    claimed_at: datetime
    finished_at: datetime
    started_at: datetime | None = None
    error: str = ""
    result: Mapping[str, Any] | None = None
    log: Log = NO_LOG


@dataclass(frozen=True, slots=True)
class Shipment:
    """One row of a node's local journal on its way to the ledger: it has its verdict and nothing more will come.

    Attributes:
        number: Its number in the local journal (`run_id`).
        content_hash: Of the configuration it was planned under.
    """

    number: int
    recording: Recording
    verdict: Verdict
    reason: str
    content_hash: str
    recorded_at: datetime
    attempts: tuple[ShippedAttempt, ...] = ()
