"""The Protocols between the shell and the edges. Each has an in-memory twin in `singd.edges.memory` and
one conformance suite (`tests/conformance/`) that both pass.

Errors that cross a port carry blame in their type (`singd.errors`): `TermLost` (nobody: step down),
`EdgeError` (the environment: retry), anything else is our own bug.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import trio

from singd.core.values import (
    Attempt,
    Finish,
    Log,
    Occurrence,
    Override,
    Pause,
    Recorded,
    Recording,
    Report,
    Shipment,
    Wish,
    Work,
)


class Clock(Protocol):
    """The one door to time. Waiting goes through trio's clock; read `now` once per decision."""

    def now(self) -> datetime:
        """Wall time, aware UTC."""
        ...

    def boot(self) -> float:
        """Seconds on a clock that runs through suspend (CLOCK_BOOTTIME)."""
        ...


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """Who this daemon is. `process` is a uuid per process start: leadership and tokens know only it."""

    name: str
    process: uuid.UUID
    role: str = ""
    version: str = ""
    content_hash: str = ""
    """Of the configuration it would lead with: who has the cluster's newest generation is preferred."""


@dataclass(frozen=True, slots=True)
class Term:
    """One stretch of leadership. `lease_s` is what the server enforces on the lock session."""

    epoch: int
    lease_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Registration:
    """Answer to a node's registration.

    `startup_at` is the registration instant if no node of the cluster was live then, else None: it is
    the due_at of every startup schedule. A process that registers again is told the same again.
    """

    startup_at: datetime | None


class Presence(Protocol):
    """The session that holds a node's name: direct, never pooled, with the same lease as the leader's lock.

    Life: `open` (connects, takes the name lock, registers) -> `keep`, again and again -> `close`. A node is live
    while its name lock is held. After any error the session is closed and a new `open` starts over.
    """

    async def open(self, node: NodeInfo) -> Registration:
        """Raises NameTaken if a live node has this name, EdgeError if there is no database, or an unfit one."""
        ...

    async def keep(self, seconds: float) -> bool:
        """Renew the lease, then listen for at most `seconds`.

        Returns:
            True as soon as there is word that an operator asked for something (`Overrides`).

        Raises:
            EdgeError: The session is gone, and the name with it.
        """
        ...

    async def close(self) -> None:
        """Give the name back by closing the socket, at once. Never raises, never waits."""
        ...


YIELD_S = 2.0
"""How long a node leaves the lock to one that has a newer configuration; once a campaign."""


class Election(Protocol):
    """The lock session of one daemon: direct, never pooled, with a server-enforced lease.

    Life: `open` (connects, refuses what cannot elect) -> `campaign` (waits for the leader lock, raises the epoch
    by a write) -> `beat` each second -> `close` (the socket is closed: that is the release).
    After any error the session is closed and a new `open` starts over.
    """

    @property
    def skew_s(self) -> float:
        """Seconds by which this node's clock was ahead of the database's when last compared; 0.0 before."""
        ...

    async def open(self, node: NodeInfo) -> None:
        """Raises EdgeError if there is no database, or one that cannot elect, or the clocks differ too much."""
        ...

    async def campaign(self) -> Term:
        """Wait until this node leads; returns the new term.

        A node whose configuration is not the cluster's newest leaves the lock for `YIELD_S` to a live one that has it.
        """
        ...

    async def beat(self, term: Term) -> None:
        """Prove the term: raises TermLost unless the server still grants lock and epoch, and the clocks agree."""
        ...

    async def files(self) -> Mapping[str, str]:
        """Live node -> content hash of the configuration it would lead with. EdgeError ends the session."""
        ...

    async def close(self) -> None:
        """Give everything back by closing the socket, at once. Never raises, never waits."""
        ...


@dataclass(frozen=True, slots=True)
class OpenOccurrence:
    """An occurrence that a term finds unfinished.

    Attributes:
        occurrence_id: Its number.
        attempts: How many attempts it has so far.
        retries_used: How many of its attempts failed or timed out.
        retry_at: When the next attempt is due; None = it waits for a slot or for admission.
    """

    occurrence_id: int
    occurrence: Occurrence
    attempts: int
    retries_used: int
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LiveAttempt:
    """An attempt that the ledger says is claimed or running. `age_s`: seconds since its last beat
    (or since its claim, if it never started), by the database's clock; infinite where its owner is known to be gone."""

    attempt: Attempt
    started: bool
    process: uuid.UUID
    retries_used: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Adoption:
    """What a new term takes over.

    `cursors`: schedule -> last instant dealt with (owner cluster). `unfinished`: occurrences with no live attempt that still
    wait. `live`: attempts claimed or running, of whatever epoch and process. `startup_at`: the cluster's last startup,
    whoever registered it: the node that did may not be the one that leads.
    """

    cursors: Mapping[str, datetime]
    unfinished: Sequence[OpenOccurrence]
    live: Sequence[LiveAttempt]
    startup_at: datetime | None = None


class Ledger(Protocol):
    """The tables that hold occurrences and attempts, written in batches.

    Writes that take a term are fenced: they raise TermLost if its epoch is not the current one. Writes that
    take tokens answer which tokens were live. Each write is safe to repeat: after a lost connection the edge
    reconnects and looks up by token what became of the commit, so the caller sees a plain answer or EdgeError.
    """

    async def adopt(self, term: Term) -> Adoption: ...

    async def generation(
        self, term: Term, content_hash: str, triggers: Mapping[str, str], now: datetime
    ) -> int:
        """Accept a configuration: the number of the one with this content hash, a new one if it is new.

        A schedule that the generation in force before did not have, or had with another trigger, begins at `now`:
        in the same transaction its cursor moves there, so no change makes a past instant due.

        Args:
            triggers: Schedule -> identity of its trigger (`core.trigger.identity`); startup schedules, whose
                instants are the cluster's, are left out.
        """
        ...

    async def record(
        self, term: Term, generation: int, recordings: Sequence[Recording], cursors: Mapping[str, datetime]
    ) -> Sequence[Recorded]:
        """Write occurrences (and open their attempts) and move the cursors, in one transaction.

        Cursors never move back. The answers stand in the order of `recordings`.
        """
        ...

    async def open_attempts(self, term: Term, occurrence_ids: Sequence[int]) -> Sequence[Attempt | None]:
        """Open the next attempt (state claimed, verdict ran) of occurrences that wait; None where one is live."""
        ...

    async def decide(self, term: Term, verdicts: Mapping[int, tuple[str, str]]) -> None:
        """Give waiting occurrences a verdict that is not `ran`: occurrence id -> (verdict, reason)."""
        ...

    async def start(self, tokens: Sequence[str]) -> set[str]:
        """claimed -> running, durably; the answer holds the tokens that may begin."""
        ...

    async def beat(self, tokens: Sequence[str]) -> set[str]:
        """Renew running attempts; the answer holds those still ours (rows locked by others count as ours)."""
        ...

    async def finish(self, finishes: Sequence[Finish]) -> set[str]:
        """running (or claimed, or our own lost under at_most_once) -> terminal. Answer: the tokens accepted."""
        ...

    async def settle(self, term: Term, finishes: Sequence[Finish]) -> set[str]:
        """Fenced end of attempts whose owner is gone: claimed -> cancelled (never started), running -> lost."""
        ...


class Overrides(Protocol):
    """What operators ask of the cluster, as rows that any node may write and the right one takes.

    Each call raises EdgeError where the ledger cannot be reached; each may be repeated.
    """

    async def ask(self, wish: Wish) -> Override:
        """Write the wish, tell every node, and leave a trace in the audit. The same `request` again is the same row."""
        ...

    async def open(self) -> Sequence[Override]:
        """What nobody has taken yet, oldest first; a trigger that the ledger has a run for comes with that (`Override.run_id`)."""
        ...

    async def take(self, number: int, answer: Mapping[str, Any]) -> None:
        """It is done, or cannot be: the answer is for the one who asked. The first answer stays."""
        ...

    async def answer(self, number: int) -> Mapping[str, Any] | None:
        """What became of it; None while nobody has taken it."""
        ...

    async def pauses(self) -> Mapping[str, Pause]:
        """Schedule -> its newest pause, also one that is over: a resume is its end.

        What is planned late is judged by the pause that its instant fell into.
        """
        ...


class Outbox(Protocol):
    """The side of the local journal that shipping reads."""

    @property
    def origin(self) -> uuid.UUID:
        """The identity of the state directory, made once: two machines with one node name are told apart by it."""
        ...

    async def changed(self) -> None:
        """Until there may be more to ship than when `unshipped` was last asked."""
        ...

    async def unshipped(self, limit: int) -> Sequence[Shipment]:
        """The oldest rows that are over and that the ledger does not have, at most so many."""
        ...

    async def shipped(self, numbers: Sequence[int]) -> None:
        """The ledger has them, durably."""
        ...


class Intake(Protocol):
    """The side of the ledger that takes in what nodes recorded for themselves."""

    async def take_in(self, node: NodeInfo, origin: uuid.UUID, shipments: Sequence[Shipment]) -> set[int]:
        """Write the rows; what is there already from the same `origin` stays as it is, so repeating is safe.

        Returns:
            Numbers of those whose identity another origin had reported: they are kept as an audit event, not as
            a row.
        """
        ...


ReportSink = Callable[[Report], None]


class Executor(Protocol):
    """Runs started attempts. One for worker processes and commands, one for inline tasks."""

    def room(self, work_kind: str) -> int:
        """How many more attempts of this kind (the task's name, or "command") it would take right now."""
        ...

    def hand_over(self, works: Sequence[Work]) -> None:
        """Take started attempts; never blocks. Each is answered by exactly one Report, whatever happens."""
        ...

    def cancel(self, token: str, reason: str) -> None:
        """End an attempt: TERM, kill grace, KILL, the whole tree. Its report says cancelled with `reason`."""
        ...

    def log(self, token: str) -> Log | None:
        """What a running attempt has written so far."""
        ...

    async def serve(
        self, report: ReportSink, room_changed: Callable[[], None], *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Its life. On cancellation everything it runs is ended and reported before it returns."""
        ...


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process for the keeper to parent.

    Attributes:
        argv: Absolute program and arguments.
        env: The whole environment (nothing is inherited).
        cwd: Working directory.
        fds: child's descriptor -> descriptor of the daemon (sent over the socket). 0, 1, 2 default to /dev/null.
        user: (uid, gid) to become, or None.
        limits: name of a `resource.RLIMIT_*` constant -> value, e.g. {"RLIMIT_CORE": 0}.
        stop_signal: What ends it politely (SIGTERM; SIGINT for a Postgres fast stop).
        server: True for embedded servers: ended last, after every other process, and given `stop_s`.
        stop_s: Seconds from the polite signal to the next harsher one.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path = Path("/")
    fds: Mapping[int, int] | None = None
    user: tuple[int, int] | None = None
    limits: Mapping[str, int] | None = None
    stop_signal: int = 15
    server: bool = False
    stop_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: `status` as in `subprocess` (negative = signal), and its peak memory."""

    status: int
    max_rss_bytes: int
    strays: int = 0
    """Processes it left behind, which were killed."""


class Process(Protocol):
    """A child of the keeper, seen from the daemon."""

    @property
    def pid(self) -> int: ...

    def signal(self, number: int) -> None:
        """To the process alone; a process that is gone is no error."""
        ...

    def end(self, grace_s: float) -> None:
        """The whole tree: polite signal, `grace_s`, KILL. Returns at once; `wait` tells."""
        ...

    async def wait(self) -> Exit:
        """Until it and its whole tree are gone."""
        ...


class Keeper(Protocol):
    """The small process that parents workers and servers and ends them when the daemon dies."""

    async def spawn(self, spec: ProcessSpec) -> Process:
        """Raises EdgeError if the program cannot be started, KeeperGone if the keeper is dead."""
        ...


class Databases(Protocol):
    """Resolves the configuration's named databases to conninfo strings."""

    def conninfo(self, names: Iterable[str]) -> Mapping[str, str]: ...
