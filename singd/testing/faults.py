"""Faults for a simulated cluster, by kind; the seed says which, when, where and for how long.

Every fault is over after a while and leaves the node as it should be: healed, thawed, started again, its clock right.
They overlap. Durations are in units of `unit_s`, which is a second unless the machine is scaled.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Literal

import trio

from singd.core.values import Schedule, Verb, Wish
from singd.edges.memory import Link
from singd.edges.memory.overrides import MemoryOverrides
from singd.errors import EdgeError
from singd.testing.cluster import Node, Process, SimulatedCluster

OPERATIONS = (
    "record",
    "start",
    "finish",
    "open_attempts",
    "beat",
    "settle",
    "decide",
    "generation",
    "take_in",
)


@dataclass(slots=True)
class Fault:
    """What was done: `led` says that it struck the leader. `until_s` is inf while it lasts."""

    kind: str
    at_s: float
    until_s: float
    node: str
    led: bool


@dataclass(frozen=True, slots=True)
class Faults:
    """Which faults a simulation has.

    Attributes:
        per_day: How many in 24 hours, at random times.
        kinds: Which; by default every kind there is.
        configurations: What the kind "configuration" may change to: content hash -> schedules.
        unit_s: What a second is, for how long faults last.
    """

    per_day: float = 50.0
    kinds: tuple[str, ...] = ()
    configurations: Mapping[str, Mapping[str, Schedule]] | None = None
    unit_s: float = 1.0


class Trouble:
    """Plays faults on a cluster; `play` is its life, `quiet` ends them all.

    Attributes:
        log: What was done, oldest first.
    """

    def __init__(self, cluster: SimulatedCluster, faults: Faults) -> None:
        self.cluster = cluster
        self.faults = faults
        self.chance = random.Random(cluster.chance.random())  # noqa: S311
        self.log: list[Fault] = []
        self.kinds = faults.kinds or tuple(KINDS)

    async def play(self) -> None:
        """Strike again and again; ends by cancellation, with every fault in progress undone."""
        gap_s = 86_400 / self.faults.per_day
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(self.chance.uniform(0.1, 1.9) * gap_s)
                nursery.start_soon(self.strike, self.chance.choice(self.kinds))

    async def strike(self, kind: str) -> None:
        """One fault, from its begin to its end."""
        node = self._victim()
        fault = Fault(kind, trio.current_time(), float("inf"), node.machine, node is self.cluster.leader)
        self.log.append(fault)
        await KINDS[kind](self, node)
        fault.until_s = trio.current_time()

    def _victim(self) -> Node:
        """The leader half of the time: that is where it hurts."""
        leader = self.cluster.leader
        if leader is not None and self.chance.random() < 0.5:
            return leader
        return self.chance.choice(list(self.cluster.nodes.values()))

    async def rest(self, least_s: float, most_s: float) -> None:
        """Sleep for a while."""
        await trio.sleep(self.chance.uniform(least_s, most_s) * self.faults.unit_s)

    async def revive(self, node: Node) -> None:
        """Start a daemon on the node if there is none; a second machine with its name is not started again."""
        if node.alive is None and node.machine == node.name:
            if node.process is not None:
                await node.process.over.wait()
            if node.alive is None:
                await self.cluster.boot(node)

    def mend(self, process: Process) -> None:
        """The way to the database is as it should be."""
        process.link.there = process.link.takes = lambda: 0.0
        process.link.back = self.cluster.delay
        process.link.heal()

    async def quiet(self) -> None:
        """Everything as it should be."""
        database = self.cluster.database
        database.start()
        database.mend()
        for node in list(self.cluster.nodes.values()):
            node.clock.skew = timedelta()
            node.disk.start()
            if node.alive is not None:
                self.cluster.thaw(node.alive)
                self.mend(node.alive)
        for node in list(self.cluster.nodes.values()):
            if node.machine != node.name or (node.alive is not None and node.alive.daemon.stopping):
                await self.cluster.stop(node)
            if node.machine == node.name:
                await self.revive(node)


async def _kill(trouble: Trouble, node: Node) -> None:
    trouble.cluster.kill(node)
    await trouble.rest(0, 20)
    await trouble.revive(node)


async def _kill_all(trouble: Trouble, _: Node) -> None:
    nodes = list(trouble.cluster.nodes.values())
    for node in nodes:
        trouble.cluster.kill(node)
    for node in nodes:
        await trouble.rest(0, 20)
        await trouble.revive(node)


async def _down(trouble: Trouble, node: Node) -> None:
    trouble.cluster.kill(node)
    await trouble.rest(60, 1800)
    await trouble.revive(node)


async def _freeze(trouble: Trouble, node: Node) -> None:
    process = trouble.cluster.freeze(node)
    if process is not None:
        await trio.sleep(5.0 * trouble.faults.unit_s * trouble.chance.choice([0.5, 0.9, 1.1, 2, 3.5, 10]))
        trouble.cluster.thaw(process)


async def _freeze_all(trouble: Trouble, _: Node) -> None:
    stopped = [trouble.cluster.freeze(node) for node in trouble.cluster.nodes.values()]
    await trouble.rest(1, 40)
    for process in stopped:
        if process is not None:
            trouble.cluster.thaw(process)


async def _partition(trouble: Trouble, node: Node, *, deaf: bool = False) -> None:
    process = node.alive
    if process is not None:
        process.link.hears = False
        process.link.up = deaf
        await trouble.rest(0.5, 40)
        process.link.heal()


async def _flap(trouble: Trouble, node: Node) -> None:
    for _ in range(trouble.chance.randint(2, 8)):
        if (process := node.alive) is not None:
            process.link.up = False
            await trouble.rest(0.1, 3)
            process.link.heal()
        await trouble.rest(0, 2)


async def _slow(trouble: Trouble, node: Node) -> None:
    process, chance = node.alive, trouble.chance
    if process is None:
        return
    most_s = chance.choice([0.2, 1.0, 4.0, 9.0]) * trouble.faults.unit_s
    link = process.link
    delays = [lambda: chance.uniform(0, most_s), lambda: 0.0]
    link.there, link.back = chance.choice(delays), chance.choice(delays)
    link.takes = delays[0]
    await trouble.rest(2, 30)
    trouble.mend(process)


async def _server(trouble: Trouble, _: Node, *, times: int = 1) -> None:
    for _turn in range(times):
        trouble.cluster.database.stop()
        await trouble.rest(0.2, 40 / times)
        trouble.cluster.database.start()
        await trouble.rest(0, 2)


async def _terminate(trouble: Trouble, node: Node) -> None:
    purposes = trouble.chance.choice([("lock",), ("name",), ("lock", "name")])
    trouble.cluster.database.terminate(node.name, *purposes)


async def _unknown(trouble: Trouble, _: Node) -> None:
    at: Literal["request", "reply"] = trouble.chance.choice(["request", "reply"])
    trouble.cluster.database.cut(trouble.chance.choice(OPERATIONS), at, trouble.chance.randint(1, 3))


async def _step(trouble: Trouble, node: Node) -> None:
    """The clock is set, and after a while set right: the time between may have been lived twice, or never."""
    size_s = trouble.chance.choice([1, 20, 60, 600, 7200]) * trouble.faults.unit_s
    node.clock.skew += timedelta(seconds=trouble.chance.choice([-1, 1]) * size_s)
    await trouble.rest(1, 60)
    node.clock.skew = timedelta()


async def _skew(trouble: Trouble, node: Node) -> None:
    """The clock goes wrong by degrees."""
    degree = timedelta(seconds=trouble.chance.uniform(-8, 8) * trouble.faults.unit_s)
    for _ in range(trouble.chance.randint(2, 6)):
        node.clock.skew += degree
        await trouble.rest(1, 10)
    node.clock.skew = timedelta()


async def _restart(trouble: Trouble, node: Node) -> None:
    await trouble.cluster.stop(node)
    await trouble.rest(0, 10)
    await trouble.revive(node)


async def _configuration(trouble: Trouble, node: Node) -> None:
    choices = trouble.faults.configurations
    if choices:
        node.content_hash = trouble.chance.choice(list(choices))
        node.schedules = choices[node.content_hash]
    await _restart(trouble, node)


async def _double(trouble: Trouble, node: Node) -> None:
    """A second machine has this node's name."""
    second = trouble.cluster.add(node.name)
    second.schedules, second.content_hash = node.schedules, node.content_hash
    await trouble.cluster.boot(second)
    await trouble.rest(1, 60)
    await trouble.cluster.stop(second)


async def _disk(trouble: Trouble, node: Node) -> None:
    node.disk.stop()
    await trouble.rest(0.5, 30)
    node.disk.start()


async def _resign(trouble: Trouble, node: Node) -> None:
    request = f"resign {len(trouble.log)}"
    wish = Wish(Verb.RESIGN, node.name, request, "the simulation")
    with suppress(EdgeError):
        await MemoryOverrides(trouble.cluster.database, Link()).ask(wish)


KINDS: Mapping[str, Callable[[Trouble, Node], Awaitable[None]]] = {
    "kill": _kill,
    "kill all": _kill_all,
    "down": _down,
    "freeze": _freeze,
    "freeze all": _freeze_all,
    "partition": _partition,
    "deaf": partial(_partition, deaf=True),
    "flap": _flap,
    "slow": _slow,
    "server stop": _server,
    "server flap": partial(_server, times=5),
    "terminate": _terminate,
    "unknown commit": _unknown,
    "clock step": _step,
    "skew": _skew,
    "restart": _restart,
    "resign": _resign,
    "configuration": _configuration,
    "double start": _double,
    "disk": _disk,
}
"""Every kind of fault: name -> what it does to a node."""
