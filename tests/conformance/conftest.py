"""One world a test: a ledger with nothing in it, and as many daemons as the test opens.

Each test runs on the in-memory twin and on every Postgres at hand, there as the least role.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from support.postgres import RUNTIME, Server, pg15, pg18

from singd.core.cluster import TermRow
from singd.core.values import Occurrence, Recorded, Recording, Verdict
from singd.edges.memory import MemoryDatabase, MemoryElection, MemoryLedger, MemoryPresence, MemoryReader
from singd.edges.postgres.election import PostgresElection
from singd.edges.postgres.ledger import PostgresLedger
from singd.edges.postgres.migrate import migrate
from singd.edges.postgres.pool import Pool
from singd.edges.postgres.presence import PostgresPresence
from singd.edges.postgres.reader import LedgerReader
from singd.ports import Clock, Election, Ledger, NodeInfo, Presence, Registration, Term

__all__ = ["pg15", "pg18"]

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
_schemas = itertools.count()


@dataclass
class World:
    """What a test may touch. `terminate` ends a node's sessions ("lock", "name") as an administrator would."""

    ledger: Ledger
    reader: Any
    database: MemoryDatabase | None = None
    server: Server | None = None
    schema: str = ""
    elections: list[Election] = field(default_factory=list)
    presences: list[Presence] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)

    @property
    def conninfo(self) -> str:
        assert self.server is not None
        return self.server.conninfo(user=RUNTIME)

    def election(self, lease_s: float = 5.0, clock: Clock | None = None) -> Election:
        if self.database is not None:
            election: Election = MemoryElection(self.database, lease_s, clock=clock)
        else:
            election = PostgresElection(self.conninfo, self.schema, lease_s, clock)
        self.elections.append(election)
        return election

    def presence(self, lease_s: float = 5.0) -> Presence:
        if self.database is not None:
            presence: Presence = MemoryPresence(self.database, lease_s)
        else:
            presence = PostgresPresence(self.conninfo, self.schema, lease_s)
        self.presences.append(presence)
        return presence

    async def register(self, node: NodeInfo) -> Registration:
        """A new daemon under this name."""
        return await self.presence().open(node)

    async def close(self) -> None:
        for port in (*self.elections, *self.presences):
            await port.close()

    async def lead(self, name: str = "one") -> Term:
        """A new daemon of this name that leads."""
        election = self.election()
        await election.open(NodeInfo(name, uuid4()))
        return await election.campaign()

    async def depose(self) -> Term:
        """Whoever leads goes, another daemon leads."""
        for election in self.elections:
            await election.close()
        return await self.lead(f"after-{len(self.elections)}")

    def terminate(self, name: str, *purposes: str) -> None:
        purposes = purposes or ("lock", "name")
        if self.database is not None:
            self.database.terminate(name, *purposes)
        else:
            assert self.server is not None
            sessions = ", ".join(f"'singd {purpose} {name}'" for purpose in purposes)
            self.server.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                f"WHERE application_name IN ({sessions})"
            )

    async def terms(self) -> list[TermRow]:
        """What is kept of changes of leader, newest first."""
        if self.database is not None:
            return list(reversed(self.database.terms))
        assert self.server is not None
        statement = (
            f"SELECT epoch, node, elected_at, last_seen_at FROM {self.schema}.term ORDER BY epoch DESC"
        )
        return [TermRow(*row) for row in self.server.execute(statement)]

    def skip_epochs(self, count: int) -> None:
        """As if so many terms had passed."""
        if self.database is not None:
            self.database.epoch += count
        else:
            assert self.server is not None
            self.server.execute(f"UPDATE {self.schema}.leader SET epoch = epoch + {count}")

    async def record(self, term: Term, *recordings: Recording, **cursors: datetime) -> list[Recorded]:
        return list(await self.ledger.record(term, 1, recordings, cursors))

    async def run_one(self, term: Term, schedule: str = "s", due_at: datetime = NOON) -> Recorded:
        """An occurrence with its first attempt claimed."""
        return (await self.record(term, to_run(schedule, due_at)))[0]

    async def started(self, term: Term, schedule: str = "s", due_at: datetime = NOON) -> tuple[int, str]:
        """The number and token of an occurrence whose first attempt runs."""
        recorded = await self.run_one(term, schedule, due_at)
        assert recorded.attempt is not None
        assert recorded.occurrence_id is not None
        assert await self.ledger.start([recorded.attempt.token]) == {recorded.attempt.token}
        return recorded.occurrence_id, recorded.attempt.token


def to_run(schedule: str = "s", due_at: datetime = NOON, request: str = "") -> Recording:
    return Recording(Occurrence(schedule, due_at, request=request), "command", Verdict.RAN, open_attempt=True)


def to_wait(schedule: str = "s", due_at: datetime = NOON) -> Recording:
    return Recording(Occurrence(schedule, due_at), "command", None, "waits for needs")


def missed(schedule: str, due_at: datetime, due_until: datetime | None = None, count: int = 1) -> Recording:
    what = Occurrence(schedule, due_at)
    return Recording(what, "command", Verdict.MISSED, "nobody led", due_until=due_until, count=count)


@pytest.fixture(params=["memory", "pg18", "pg15"])
def place(request: pytest.FixtureRequest) -> Server | None:
    """Where the ledger is; None = in memory."""
    return None if request.param == "memory" else request.getfixturevalue(request.param)


@pytest.fixture
async def world(place: Server | None) -> AsyncIterator[World]:
    if place is None:
        database = MemoryDatabase()
        world = World(MemoryLedger(database), MemoryReader(database), database)
        yield world
    else:
        schema = f"s{next(_schemas)}"
        await migrate(place.conninfo(), schema, RUNTIME)
        async with Pool(place.conninfo(user=RUNTIME), schema) as pool:
            world = World(PostgresLedger(pool), LedgerReader(pool), server=place, schema=schema)
            yield world
    await world.close()
