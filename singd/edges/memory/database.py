"""What one Postgres holds and grants: rows, locks with a lease, the epoch; and the faults a test asks for.

Time here is the server's: `trio.current_time()` for leases and ages, so that a mock clock drives both, and
the injected clock for what is written down.
"""

from __future__ import annotations

import uuid
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import trio

from singd.core.values import NO_LOG, Attempt, Finish, Log, Occurrence, Recording, State, Verdict
from singd.edges.clock import SystemClock
from singd.errors import EdgeError, TermLost
from singd.ports import Clock, NodeInfo, Term


@dataclass(slots=True)
class Try:
    """One attempt, as its table row."""

    attempt: Attempt
    node: str
    process: uuid.UUID
    claimed_at: datetime
    renewed: float
    state: State = State.CLAIMED
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str = ""
    finish: Finish | None = None

    @property
    def log(self) -> Log:
        return self.finish.log if self.finish else NO_LOG


@dataclass(slots=True)
class Row:
    """One occurrence, as its table row, with its attempts."""

    number: int
    recording: Recording
    generation: int
    verdict: Verdict | None
    reason: str
    retry_at: datetime | None = None
    attempts: list[Try] = field(default_factory=list)

    @property
    def occurrence(self) -> Occurrence:
        return self.recording.occurrence

    @property
    def live(self) -> Try | None:
        """The attempt that is claimed or running."""
        last = self.attempts[-1] if self.attempts else None
        return last if last and not last.state.terminal else None

    @property
    def waits(self) -> bool:
        """Whether an attempt of it is still to come, and none is alive."""
        return self.live is None and (self.verdict is None or self.retry_at is not None)


@dataclass(slots=True, eq=False)
class Session:
    """A lock session: the server ends it after `lease_s` of silence, unless it waits inside a statement."""

    node: NodeInfo
    lease_s: float
    heard: float
    waiting: bool = False
    name: str = ""
    """The node's name, where this session holds its lock."""
    word: trio.Event = field(default_factory=trio.Event)
    """Set when an operator asks for something."""


@dataclass(slots=True)
class Link:
    """The way from one daemon to the server; `up = False` is a partition: its sessions live on till their lease."""

    up: bool = True


class MemoryDatabase:
    """One server with one ledger; any number of daemons share the object.

    Args:
        clock: Says what time is written into rows.
        latency_s: How long each call takes.
    """

    def __init__(self, clock: Clock | None = None, latency_s: float = 0.0) -> None:
        self.clock: Clock = clock or SystemClock()
        self.latency_s = latency_s
        self.up = True
        self.epoch = 0
        self.leader: Session | None = None
        self.startup_at: datetime | None = None
        self.elected: NodeInfo | None = None
        self.generations: dict[str, int] = {}
        self.triggers: dict[str, str] = {}
        self.cursors: dict[str, datetime] = {}
        self.rows: dict[int, Row] = {}
        self.by_identity: dict[Occurrence, Row] = {}
        self.by_token: dict[str, tuple[Row, Try]] = {}
        self.unfinished: dict[int, Row] = {}
        self.next_number = 1
        self.sessions: list[Session] = []
        self.startups: dict[uuid.UUID, datetime | None] = {}
        self._changed = trio.Event()
        self._cuts: defaultdict[str, deque[str]] = defaultdict(deque)

    # -- faults -----------------------------------------------------------------------------------

    def stop(self) -> None:
        """The server goes down: every session ends, every call fails until `start`."""
        self.up = False
        for session in list(self.sessions):
            self.end(session)

    def start(self) -> None:
        """The server is back, with all that was committed."""
        self.up = True

    def terminate(self, node: str) -> None:
        """End the sessions of a node, as an administrator may, or the kernel when its process dies."""
        for session in [one for one in self.sessions if one.node.name == node]:
            self.end(session)

    def cut(self, operation: str, at: Literal["request", "reply"], times: int = 1) -> None:
        """Break the connection of the next calls of `operation`, before their statement arrives or after COMMIT."""
        self._cuts[operation].extend([at] * times)

    def take_cut(self, operation: str) -> str | None:
        """The fault to play in this call, once."""
        cuts = self._cuts[operation]
        return cuts.popleft() if cuts else None

    async def reach(self, link: Link) -> None:
        """Be on the way to the server.

        Raises:
            EdgeError: It does not answer.
        """
        await trio.sleep(self.latency_s)
        if not (self.up and link.up):
            raise EdgeError("the database does not answer")

    # -- locks ------------------------------------------------------------------------------------

    def connect(self, node: NodeInfo, lease_s: float) -> Session:
        """A session without any lock yet."""
        self.expire()
        session = Session(node, lease_s, trio.current_time())
        self.sessions.append(session)
        return session

    def take_name(self, session: Session) -> bool:
        """Whether the node's name was free; the session holds it then."""
        self.expire()
        if any(one.name == session.node.name for one in self.sessions):
            return False
        session.name = session.node.name
        return True

    def register(self, node: NodeInfo) -> datetime | None:
        """The instant of the cluster's startup, if this registration is one; the same process is told the same again."""
        if node.process not in self.startups:
            alone = sum(bool(one.name) for one in self.sessions) == 1
            self.startups[node.process] = self.clock.now() if alone else None
            self.startup_at = self.startups[node.process] or self.startup_at
        return self.startups[node.process]

    def alive(self, session: Session) -> bool:
        """Whether the server still knows the session; hearing it renews its lease."""
        self.expire()
        if session not in self.sessions:
            return False
        session.heard = trio.current_time()
        return True

    def end(self, session: Session) -> None:
        """Let its locks go."""
        if session in self.sessions:
            self.sessions.remove(session)
        if self.leader is session:
            self.leader = None
        self._changed.set()
        self._changed = trio.Event()

    def notify(self) -> None:
        """Tell every node that listens."""
        for session in self.sessions:
            session.word.set()

    def expire(self) -> None:
        """End sessions that said nothing for their lease."""
        now = trio.current_time()
        for session in list(self.sessions):
            if not session.waiting and now - session.heard > session.lease_s:
                self.end(session)

    async def wait_for_change(self) -> None:
        """Until a lock may be free: a session ended, or the leader's lease did."""
        leader = self.leader
        lease = leader.heard + leader.lease_s - trio.current_time() if leader else 0.0
        with trio.move_on_after(min(1.0, max(lease, 0.0) + 0.001)):
            await self._changed.wait()

    def fence(self, term: Term) -> NodeInfo:
        """Who leads in this term.

        Raises:
            TermLost: Nobody does: there is a newer epoch.
        """
        if term.epoch != self.epoch or self.elected is None:
            raise TermLost(f"epoch {term.epoch} is over: the ledger has another leader")
        return self.elected

    # -- rows -------------------------------------------------------------------------------------

    def numbers(self, count: int) -> list[int]:
        """Numbers for rows to come."""
        first, self.next_number = self.next_number, self.next_number + count
        return list(range(first, first + count))

    def keep(self, row: Row) -> None:
        """Remember whether the row still has something to come."""
        if row.waits or row.live:
            self.unfinished[row.number] = row
        else:
            self.unfinished.pop(row.number, None)

    def found(self, tokens: Iterator[str]) -> Iterator[tuple[Row, Try]]:
        """Rows and attempts of the tokens that the ledger knows."""
        return (self.by_token[token] for token in tokens if token in self.by_token)
