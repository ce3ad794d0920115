"""The election and the node's name, with the locks and the lease of `MemoryDatabase`."""

from __future__ import annotations

import trio

from singd.edges.memory.database import Link, MemoryDatabase, Session
from singd.errors import EdgeError, NameTaken, TermLost
from singd.ports import NodeInfo, Registration, Term


class MemorySession:
    """One leased session, as `singd.edges.postgres.session`."""

    def __init__(self, database: MemoryDatabase, lease_s: float, link: Link) -> None:
        self.database = database
        self._lease_s = lease_s
        self._link = link
        self._session: Session | None = None

    async def open(self, node: NodeInfo) -> Session:
        """Connect."""
        self.drop()
        await self.database.reach(self._link)
        self._session = self.database.connect(node, self._lease_s)
        return self._session

    async def living(self) -> Session:
        """The session, heard once more; EdgeError where the server has ended it."""
        if self._session is None:
            raise EdgeError("the session is closed")
        await self.database.reach(self._link)
        if not self.database.alive(self._session):
            self.drop()
            raise EdgeError("the server ended the session")
        return self._session

    def drop(self) -> None:
        """Close it; through a partition the server hears nothing of that."""
        session, self._session = self._session, None
        if session is not None and self._link.up:
            self.database.end(session)


class MemoryPresence:
    """`ports.Presence` of one daemon."""

    def __init__(self, database: MemoryDatabase, lease_s: float = 5.0, link: Link | None = None) -> None:
        self._session = MemorySession(database, lease_s, link or Link())

    async def open(self, node: NodeInfo) -> Registration:
        """See `ports.Presence`."""
        session = await self._session.open(node)
        database = self._session.database
        if not database.take_name(session):
            self._session.drop()
            raise NameTaken(f"node {node.name!r} is already running")
        return Registration(database.register(node))

    async def keep(self, seconds: float) -> bool:
        """See `ports.Presence`."""
        session = await self._session.living()
        with trio.move_on_after(seconds):
            await session.word.wait()
        heard = session.word.is_set()
        session.word = trio.Event()
        return heard

    async def close(self) -> None:
        """See `ports.Presence`."""
        self._session.drop()


class MemoryElection:
    """`ports.Election` of one daemon."""

    def __init__(self, database: MemoryDatabase, lease_s: float = 5.0, link: Link | None = None) -> None:
        self._session = MemorySession(database, lease_s, link or Link())
        self._lease_s = lease_s
        self.skew_s = 0.0

    async def open(self, node: NodeInfo) -> None:
        """See `ports.Election`."""
        await self._session.open(node)

    async def campaign(self) -> Term:
        """See `ports.Election`."""
        database = self._session.database
        while True:
            session = await self._session.living()
            if database.leader is None:
                break
            session.waiting = True
            try:
                await database.wait_for_change()
            except trio.Cancelled:
                self._session.drop()  # as the real one: who is not waited for leaves the queue
                raise
            finally:
                session.waiting, session.heard = False, trio.current_time()
        database.leader, database.elected = session, session.node
        database.epoch += 1
        return Term(database.epoch, self._lease_s)

    async def beat(self, term: Term) -> None:
        """See `ports.Election`."""
        try:
            session = await self._session.living()
        except EdgeError as error:
            raise TermLost(f"epoch {term.epoch}: the lock session failed ({error})") from error
        database = self._session.database
        if database.leader is not session or database.epoch != term.epoch:
            self._session.drop()
            raise TermLost(f"epoch {term.epoch} is over: the server no longer grants its lock and epoch")

    async def close(self) -> None:
        """See `ports.Election`."""
        self._session.drop()
