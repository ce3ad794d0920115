"""The election, with the locks and the lease of `MemoryDatabase`."""

from __future__ import annotations

import trio

from singd.edges.memory.database import Link, MemoryDatabase, Session
from singd.errors import EdgeError, NameTaken, TermLost
from singd.ports import NodeInfo, Registration, Term


class MemoryElection:
    """`ports.Election` of one daemon."""

    def __init__(self, database: MemoryDatabase, lease_s: float = 5.0, link: Link | None = None) -> None:
        self._database = database
        self._lease_s = lease_s
        self._link = link or Link()
        self._session: Session | None = None

    async def open(self, node: NodeInfo) -> Registration:
        """See `ports.Election`."""
        await self.close()
        database = self._database
        await database.reach(self._link)
        self._session = database.connect(node, self._lease_s)
        if self._session is None:
            raise NameTaken(f"node {node.name!r} is already running")
        if node.process not in database.startups:
            alone = len(database.sessions) == 1
            database.startups[node.process] = database.clock.now() if alone else None
            database.startup_at = database.startups[node.process] or database.startup_at
        return Registration(database.startups[node.process])

    async def campaign(self) -> Term:
        """See `ports.Election`."""
        database = self._database
        while True:
            session = await self._living()
            if database.leader is None:
                break
            session.waiting = True
            try:
                await database.wait_for_change()
            except trio.Cancelled:
                self._drop()  # as the real one: who is not waited for leaves the queue
                raise
            finally:
                session.waiting, session.heard = False, trio.current_time()
        database.leader, database.elected = session, session.node
        database.epoch += 1
        return Term(database.epoch, self._lease_s)

    async def beat(self, term: Term) -> None:
        """See `ports.Election`."""
        try:
            session = await self._living()
        except EdgeError as error:
            self._drop()
            raise TermLost(f"epoch {term.epoch}: the lock session failed ({error})") from error
        if self._database.leader is not session or self._database.epoch != term.epoch:
            self._drop()
            raise TermLost(f"epoch {term.epoch} is over: the server no longer grants its lock and epoch")

    async def keep(self) -> None:
        """Renew the lease while not campaigning; EdgeError if the session is gone."""
        await self._living()

    async def close(self) -> None:
        """See `ports.Election`."""
        self._drop()

    async def _living(self) -> Session:
        if self._session is None:
            raise EdgeError("the lock session is closed")
        await self._database.reach(self._link)
        if not self._database.alive(self._session):
            self._drop()
            raise EdgeError("the server ended the lock session")
        return self._session

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None and self._link.up:  # through a partition the server hears nothing of it
            self._database.end(session)
