"""Locks of the twin: sessions with a lease, the nodes' names, the leader's lock with its queue, and the epoch.

    connect ──▶ take_name, register                          a node's presence
       └──────▶ wait_for_leader ──granted──▶ elect            the epoch rises, once nobody holds the leader's row
                     └─ not within LOCK_WAIT_S: ask again

A session ends by its lease, by an administrator, with the server, or when its client hangs up; its locks are free then.
One that waits for the lock is inside a statement: the lease does not run, and that its client is gone is seen when
the statement is over. So the lock may be granted to a client that will never say `elect`, and is free after the lease.
"""

from __future__ import annotations

import math
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import outcome
import trio

from singd.core.cluster import TermRow
from singd.edges.memory.rows import Change
from singd.edges.memory.wire import PENDING, Call, Timeline
from singd.errors import EdgeError
from singd.ports import Clock, NodeInfo

LOCK_WAIT_S = 1.0
"""How long one request waits for the leader's lock, as `singd.wait_for_lock` under its lock_timeout."""

TERMS_KEPT = 1_000


@dataclass(slots=True, eq=False)
class Session:
    """A lock session: the server ends it after `lease_s` of silence, unless it waits inside a statement.

    Attributes:
        purpose: "lock" (the leader's) or "name" (the node's).
        name: The node's name, where this session holds its lock.
        waiting: The request that waits for the leader's lock in it.
        word: Set when an operator asks for something.
        hung_up: The client has closed its end; the server sees that when the statement is over.
    """

    node: NodeInfo
    lease_s: float
    heard: float
    purpose: str = "lock"
    name: str = ""
    waiting: Call | None = None
    word: trio.Event = field(default_factory=trio.Event)
    hung_up: bool = False


class Locks:
    """The part of `MemoryDatabase` that sessions use."""

    def __init__(self, clock: Clock, timeline: Timeline) -> None:
        self.clock = clock
        self.timeline = timeline
        self.watcher: Callable[[Change], None] | None = None
        self.epoch = 0
        self.leader: Session | None = None
        self.elected: NodeInfo | None = None
        self.newest = ""
        self.startup_at: datetime | None = None
        self.startups: dict[uuid.UUID, datetime | None] = {}
        self.registered: dict[str, tuple[NodeInfo, datetime]] = {}
        self.sessions: list[Session] = []
        self.terms: list[TermRow] = []
        self.seen_at: datetime | None = None
        self._queue: deque[Session] = deque()
        self._electing: deque[Callable[[], None]] = deque()

    def note(self, what: str, epoch: int | None, *about: object) -> None:
        """Tell the watcher."""
        if self.watcher is not None:
            self.watcher(Change(trio.current_time(), what, epoch, self.epoch, about))

    def held(self) -> bool:
        """Whether the leader's row is held in share mode: its update waits."""
        return False

    def connect(self, node: NodeInfo, lease_s: float, purpose: str) -> Session:
        """A session without any lock yet."""
        self.expire()
        session = Session(node, lease_s, trio.current_time(), purpose)
        self.sessions.append(session)
        return session

    def take_name(self, session: Session) -> bool:
        """Whether the node's name was free, or held by a session that this very process lost; it is ours then."""
        self.expire()
        for one in [one for one in self.sessions if one.name == session.node.name]:
            if one.node.process != session.node.process:
                return False
            self.end(one)
        session.name = session.node.name
        return True

    def register(self, node: NodeInfo) -> datetime | None:
        """The instant of the cluster's startup, if this registration is one; the same process is told the same again."""
        self.registered[node.name] = node, self.clock.now()
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

    def hang_up(self, session: Session) -> None:
        """The client closed its end; a statement that waits for the lock is not disturbed by that."""
        session.hung_up = True
        if session.waiting is None:
            self.end(session)

    def end(self, session: Session) -> None:
        """Let its locks go."""
        if session not in self.sessions:
            return
        self.sessions.remove(session)
        self.note("closed", None, session.node, session.purpose)
        if session.waiting is not None:
            waiting, session.waiting = session.waiting, None
            if session in self._queue:
                self._queue.remove(session)
            waiting.refuse(EdgeError("the server ended the session"))
        if self.leader is session:
            self.leader = None
            self._grant()

    def expire(self) -> None:
        """End sessions that said nothing for their lease."""
        now = trio.current_time()
        for session in list(self.sessions):
            if session.waiting is None and now - session.heard > session.lease_s:
                self.note("expired", None, session.node, session.purpose, self.leader is session)
                self.end(session)

    def wait_for_leader(self, session: Session, call: Call) -> object:
        """True: the lock is this session's. False: `LOCK_WAIT_S` went by. Until then PENDING."""
        self.expire()
        if self.leader is None:
            self.leader = session
            return True
        session.waiting = call
        self._queue.append(session)
        now = trio.current_time()
        until = self.leader.heard + self.leader.lease_s
        if now < until < now + LOCK_WAIT_S:
            self.timeline.at(math.nextafter(until, math.inf), self.expire)
        self.timeline.at(now + LOCK_WAIT_S, partial(self._stop_waiting, session, call))
        return PENDING

    def _stop_waiting(self, session: Session, call: Call) -> None:
        if session.waiting is call:
            self.expire()
        if session.waiting is call:
            self._queue.remove(session)
            self._waited(session, granted=False)

    def _grant(self) -> None:
        while self.leader is None and self._queue:
            self.leader = self._queue.popleft()
            self._waited(self.leader, granted=True)

    def _waited(self, session: Session, *, granted: bool) -> None:
        call, session.waiting, session.heard = session.waiting, None, trio.current_time()
        if session.hung_up:
            self.end(session)
        elif call is not None:
            call.answer(outcome.Value(granted))

    def elect(self, may_yield: bool, session: Session, call: Call) -> object:
        """Raise the epoch for who holds the lock, once nobody holds the row; PENDING until then, None = yielded."""
        session.waiting = None
        if self.held():
            session.waiting = call
            self._electing.append(lambda: call.answer(outcome.capture(self.elect, may_yield, session, call)))
            return PENDING
        if self.leader is not session:
            raise EdgeError("the lock was granted to another session than this one")
        if (
            may_yield
            and self.newest not in ("", session.node.content_hash)
            and self.newest in self.files().values()
        ):
            self.leader = None
            self._grant()
            return None
        self.epoch += 1
        self.elected = session.node
        self.terms.append(TermRow(self.epoch, session.node.name, self.clock.now(), self.seen_at))
        self.terms = [term for term in self.terms if term.epoch > self.epoch - TERMS_KEPT]
        self.seen_at = self.clock.now()
        session.heard = trio.current_time()
        self.note("elected", self.epoch, session.node)
        return self.epoch

    def notify(self) -> None:
        """Tell every node that listens."""
        for session in self.sessions:
            session.word.set()

    def files(self) -> dict[str, str]:
        """Live node -> content hash of the configuration it would lead with."""
        self.expire()
        return {one.name: one.node.content_hash for one in self.sessions if one.name}

    def elect_waiting(self) -> None:
        """Elections that waited for the leader's row, as far as it is free."""
        while self._electing and not self.held():
            self._electing.popleft()()
