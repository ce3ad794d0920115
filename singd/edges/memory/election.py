"""The election and the node's name, with the locks and the lease of `MemoryDatabase`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import TypeVar

import trio

from singd.core import skew
from singd.edges.memory.database import Link, MemoryDatabase, Session
from singd.edges.memory.wire import Call
from singd.errors import EdgeError, NameTaken, TermLost
from singd.ports import YIELD_S, Clock, NodeInfo, Registration, Term

T = TypeVar("T")
BEAT_S = 3.0
"""A beat that takes longer is lost: the lease runs from the moment it was sent."""


class MemorySession:
    """One leased session, as `singd.edges.postgres.session`."""

    def __init__(self, database: MemoryDatabase, lease_s: float, link: Link, purpose: str) -> None:
        self.database = database
        self._purpose = purpose
        self._lease_s = lease_s
        self._link = link
        self._session: Session | None = None

    async def open(self, node: NodeInfo) -> None:
        """Connect; one that the client gave up meanwhile is closed as soon as it is there."""
        self.drop()

        given_up = False

        def connect(call: Call) -> Session:
            self._session = self.database.connect(node, self._lease_s, self._purpose)
            if given_up:
                self.drop()
            return self._session

        try:
            await self.database.call(self._link, connect, "open")
        except BaseException:
            given_up = True
            self.drop()
            raise

    async def ask(self, act: Callable[[Session, Call], T], name: str = "") -> T:
        """Have `act` carried out in the session, which is heard once more.

        Raises:
            EdgeError: The server has ended the session, or does not answer.
        """
        session = self._session
        if session is None:
            raise EdgeError("the session is closed")

        def heard(call: Call) -> T:
            if not self.database.alive(session):
                raise EdgeError("the server ended the session")
            return act(session, call)

        try:
            return await self.database.call(self._link, heard, name)
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """Close it; through a partition the server hears of that only when it is over, if it is over soon."""
        session, self._session = self._session, None
        if session is not None:
            self._close(session)

    def _close(self, session: Session) -> None:
        self._link.pass_on(lambda: self.database.hang_up(session))


class MemoryPresence:
    """`ports.Presence` of one daemon."""

    def __init__(self, database: MemoryDatabase, lease_s: float = 5.0, link: Link | None = None) -> None:
        self._session = MemorySession(database, lease_s, link or Link(), "name")
        self._database = database
        self._word = trio.Event()

    async def open(self, node: NodeInfo) -> Registration:
        """See `ports.Presence`."""

        def register(session: Session, call: Call) -> Registration:
            if not self._database.take_name(session):
                raise NameTaken(f"node {node.name!r} is already running")
            session.word = self._word = trio.Event()
            return Registration(self._database.register(node))

        await self._session.open(node)
        return await self._session.ask(register, "register")

    async def keep(self, seconds: float) -> bool:
        """See `ports.Presence`."""
        await self._session.ask(lambda session, call: None, "keep")
        with trio.move_on_after(seconds):
            await self._word.wait()
        return self._word.is_set() and await self._hear()

    async def _hear(self) -> bool:
        def again(session: Session, call: Call) -> bool:
            session.word = self._word = trio.Event()
            return True

        return await self._session.ask(again)

    async def close(self) -> None:
        """See `ports.Presence`."""
        self._session.drop()


class MemoryElection:
    """`ports.Election` of one daemon.

    Args:
        clock: The node's, to be compared with the database's.
    """

    def __init__(
        self,
        database: MemoryDatabase,
        lease_s: float = 5.0,
        link: Link | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._session = MemorySession(database, lease_s, link or Link(), "lock")
        self._database = database
        self._lease_s = lease_s
        self._clock = clock or database.clock
        self.skew_s = 0.0

    async def open(self, node: NodeInfo) -> None:
        """See `ports.Election`."""
        await self._session.open(node)
        refusal = await self._compared(lambda session: True, "probe")
        if refusal:
            self._session.drop()
            raise EdgeError(refusal, cure=skew.CURE)

    async def campaign(self) -> Term:
        """See `ports.Election`."""
        epoch = await self._elected(may_yield=True)
        if epoch is None:
            await self._rest(YIELD_S)
            epoch = await self._elected(may_yield=False)
        assert isinstance(epoch, int)
        return Term(epoch, self._lease_s)

    async def _elected(self, *, may_yield: bool) -> object:
        database = self._database
        while not await self._session.ask(database.wait_for_leader, "wait"):
            pass  # a second at a time; each answer also renews the lease
        return await self._session.ask(partial(database.elect, may_yield), "elect")

    async def _rest(self, seconds: float) -> None:
        """Sleep, and keep the lease."""
        naps = math.ceil(seconds / (self._lease_s / 3))
        for _ in range(naps):
            await trio.sleep(seconds / naps)
            await self._session.ask(lambda session, call: None, "keep")

    async def beat(self, term: Term) -> None:
        """See `ports.Election`."""
        try:
            with trio.fail_after(min(BEAT_S, self._lease_s)):
                refusal = await self._compared(lambda session: self._prove(session, term), "prove")
        except (EdgeError, trio.TooSlowError) as error:
            raise TermLost(f"epoch {term.epoch}: the lock session failed ({error})") from error
        if refusal:
            self._session.drop()
            raise TermLost(f"epoch {term.epoch} is over: {refusal}")

    def _prove(self, session: Session, term: Term) -> bool:
        if self._database.leader is not session or self._database.epoch != term.epoch:
            return False
        self._database.seen_at = self._database.clock.now()
        return True

    async def _compared(self, proved: Callable[[Session], bool], name: str) -> str | None:
        """Ask, and with the answer compare the clocks; why this node may not lead, None if it may."""

        def answer(session: Session, call: Call) -> datetime | None:
            return self._database.clock.now() if proved(session) else None

        sent = self._clock.now()
        server = await self._session.ask(answer, name)
        if server is None:
            return "the server no longer grants its lock and epoch"
        ahead = skew.ahead(sent, self._clock.now(), server)
        self.skew_s = ahead.total_seconds()
        return skew.refusal(ahead, server)

    async def files(self) -> Mapping[str, str]:
        """See `ports.Election`."""
        return await self._session.ask(lambda session, call: self._database.files())

    async def close(self) -> None:
        """See `ports.Election`."""
        self._session.drop()
