"""One simulated machine, for tests of one daemon: a `SimulatedCluster` of one node, told in seconds after noon.

Bodies are scripts: `Body(seconds, state)` by schedule name; the witness notes each begin and end. Several worlds may share
a database: that is a partition test's cluster, each node with a link of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import trio

from singd.core.values import Schedule, Trigger
from singd.daemon import Daemon
from singd.edges.memory import Link, MemoryDatabase
from singd.events import Event
from singd.testing.cluster import SimulatedCluster
from singd.testing.cluster import schedule as simulated
from singd.testing.machine import START as NOON
from singd.testing.machine import Begun, Body, SimulatedClock

__all__ = ["NOON", "Begun", "Body", "SimulatedClock", "World", "named", "schedule"]


@dataclass
class World:
    """One ledger, one machine; daemons are started in it one after another."""

    schedules: Mapping[str, Schedule]
    bodies: Mapping[str, Body | Sequence[Body]] = field(default_factory=dict)
    room: int = 1000
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    witness: list[Begun] = field(default_factory=list)
    name: str = "sim"
    database: MemoryDatabase = None

    def __post_init__(self) -> None:
        self.database = self.database or MemoryDatabase(self.clock, latency_s=0.002)
        self.cluster = SimulatedCluster(
            [], self.bodies, names=[self.name], room=self.room, patience_s=0.0, database=self.database,
            seed=crc32(self.name.encode()),
        )  # fmt: skip
        self.cluster.witness = self.witness
        self.node = self.cluster.nodes[self.name]
        self.node.clock = self.clock

    @property
    def daemon(self) -> Daemon:
        return self.node.process.daemon

    @property
    def link(self) -> Link:
        return self.node.process.link

    @property
    def powered_off(self) -> bool:
        return self.node.process is not None and self.node.alive is None

    @property
    def events(self) -> list[Event]:
        return [told.event for told in self.cluster.told]

    async def boot(self, nursery: trio.Nursery) -> None:
        """Start a daemon."""
        self.cluster.nursery = nursery
        self.node.schedules = self.schedules
        await self.cluster.boot(self.node)

    async def kill(self) -> None:
        """kill -9: nothing is reported, nothing is recorded, the sessions close with the process."""
        self.cluster.kill(self.node)
        await self.node.process.over.wait()

    async def until(self, seconds: float) -> None:
        """Wait until so many seconds after noon."""
        await trio.sleep(NOON.timestamp() + seconds - self.clock.now().timestamp())

    def verdicts(self, schedule: str) -> dict[int, str]:
        """Seconds after noon of each instant that the ledger has -> verdict (or outcome of what ran), ranges expanded by the minute."""
        found: dict[int, str] = {}
        for row in self.database.rows.values():
            if row.occurrence.schedule == schedule:
                second = round((row.occurrence.due_at - NOON).total_seconds())
                outcome = row.attempts[-1].state if row.attempts else row.verdict or "open"
                assert second not in found, "one row an instant"
                found[second] = str(outcome)
        return dict(sorted(found.items()))

    def count(self) -> int:
        """Instants the ledger has, ranges counted out."""
        return sum(row.recording.count for row in self.database.rows.values())

    def begun(self, schedule: str) -> list[int]:
        """Seconds after noon of the due instants whose bodies began, in the order they began."""
        return [round((b.due_at - NOON).total_seconds()) for b in self.witness if b.schedule == schedule]


def schedule(name: str, trigger: Trigger, **policy) -> Schedule:
    return simulated(name, trigger, **policy)


def named(*schedules: Schedule) -> dict[str, Schedule]:
    return {item.name: item for item in schedules}
