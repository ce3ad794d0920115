"""A simulated cluster: real daemons on a mock clock over one database in memory.

    from singd.testing import Body, Faults, SimulatedCluster, schedule
    from singd.core.cron import Cron

    report = schedule("report", Cron.parse("0 * * * *"), grace=timedelta(minutes=5))
    cluster = SimulatedCluster([report], {"report": Body(90)}, nodes=3, seed=7)
    history = cluster.run(days=2, faults=Faults(per_day=20))
    print(history.verdicts("report"), history.violations())

What is real: the scheduler, leadership, presence, runner, shipping: everything between the edges. What is simulated:

    database    `singd.edges.memory`, which passes the same conformance suite as Postgres
    node        its clock, its disk (the local journal), its link to the database, its daemon process
    bodies      scripts; the witness notes each begin and end, and no fault reaches it
    time        trio's mock clock: a day of an idle cluster takes seconds

The same seed gives the same history: it decides the faults, the delays and the order in which trio runs its tasks.
A frozen daemon really stands still (`standstill`); a killed one reports nothing, its sessions close at once and its
bodies end within two seconds; a node that starts again finds its disk as it was.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

import trio

from singd.core.values import Isolation, Schedule, Work
from singd.daemon import Daemon, Parts
from singd.edges.memory import Link, MemoryDatabase, MemoryElection, MemoryLedger, MemoryPresence
from singd.edges.memory.intake import MemoryIntake
from singd.edges.memory.outbox import MemoryOutbox
from singd.edges.memory.overrides import MemoryOverrides
from singd.edges.memory.rows import Change
from singd.edges.memory.wire import Timeline
from singd.edges.worker.keeper import SILENCE_S
from singd.events import Event
from singd.ports import NodeInfo
from singd.testing.machine import START, Begun, Body, ScriptedExecutor, SimulatedClock
from singd.testing.node import Node, Process, Provide, Told, no_control, nothing, schedule
from singd.testing.standstill import PLACE, Standstill

__all__ = ["LEASE_S", "PATIENCE_S", "STOP_S", "Node", "Process", "SimulatedCluster", "Told", "schedule"]

LEASE_S = 5.0
STOP_S = 31.0
"""Within which a daemon ends that was asked to; one that has not in twice the time never will."""
STOPS = 20
PATIENCE_S = 12.0
"""How long a client waits for an answer through a cut link."""

Script = Body | Sequence[Body] | Callable[[Work], Body]
"""What runs of a schedule do: all the same, one after another (the last for the rest), or as a function says."""


class SimulatedCluster:
    """See the head of this module.

    Args:
        schedules: What every node is configured with.
        bodies: Schedule name -> what its runs do; by default they succeed at once.
        nodes: How many; they are called `n1`, `n2`, … unless `names` says otherwise.
        seed: Decides everything that is left to chance.
        start: True time at the beginning.
        room: Bodies a node runs at a time.
        latency_s: How long the database's answers are on their way.
        patience_s: How long a client waits for an answer through a cut link.
        database: Shared with another cluster object, if given.
    """

    def __init__(
        self,
        schedules: Iterable[Schedule],
        bodies: Mapping[str, Script] | None = None,
        *,
        nodes: int = 3,
        names: Sequence[str] = (),
        seed: int = 0,
        start: datetime = START,
        room: int = 1000,
        latency_s: float = 0.0,
        patience_s: float | None = None,
        database: MemoryDatabase | None = None,
    ) -> None:
        self.schedules = {item.name: item for item in schedules}
        self.bodies = dict(bodies or {})
        self.seed, self.room, self.start = seed, room, start
        self.patience_s = PATIENCE_S if patience_s is None else patience_s
        self.chance = random.Random(seed)  # noqa: S311 - a seed that can be told again is the point
        self.clock = SimulatedClock(start)
        self.timeline = database.timeline if database else Timeline()
        self.database = database or MemoryDatabase(self.clock, latency_s, self.timeline)
        self.witness: list[Begun] = []
        self.told: list[Told] = []
        self.changes: list[Change] = []
        self.overdrawn: list[Change] = []
        self.stuck: list[str] = []
        self.standstill = Standstill()
        self.database.watcher = self._watch
        self.database.new_token = lambda: str(self._uuid())
        self.nodes: dict[str, Node] = {}
        self.nursery: trio.Nursery | None = None
        self._tries: dict[str, int] = {}
        for name in names or [f"n{number + 1}" for number in range(nodes)]:
            self.add(name)

    def _watch(self, change: Change) -> None:
        self.changes.append(change)
        if change.what == "expired" and change.about[1:] == ("lock", True):
            process = self.process_of(change.about[0])
            if process is not None and process.daemon.trust.until > change.at:
                self.overdrawn.append(change)

    def process_of(self, info: object) -> Process | None:
        """The daemon that this identity belongs to, if it lives."""
        alive = (node.alive for node in self.nodes.values())
        return next((one for one in alive if one is not None and one.info == info), None)

    @property
    def leader(self) -> Node | None:
        """The node that the database says leads."""
        session = self.database.leader
        return next(
            (one for one in self.nodes.values() if session and one.alive and one.alive.info == session.node),
            None,
        )

    def add(self, name: str, clock: SimulatedClock | None = None) -> Node:
        """A machine more, with an empty disk."""
        clock = clock or SimulatedClock(self.start)
        disk = MemoryDatabase(clock, 0.0, self.timeline)
        machine = name if name not in self.nodes else f"{name}'{len(self.nodes)}"
        node = Node(name, machine, clock, self._uuid(), disk, self.schedules, "first")
        disk.new_token = self.database.new_token
        disk.watcher = node.changes.append
        self.nodes[machine] = node
        return node

    def delay(self) -> float:
        """Of an answer, where nothing is wrong: most come at once, so that a simulated day stays short."""
        return self.chance.uniform(0, 0.01) if self.chance.random() < 0.1 else 0.0

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self.chance.getrandbits(128), version=4)

    # -- daemons ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """While it is open, daemons may live; at the end those that still do are killed."""
        async with trio.open_nursery() as self.nursery:
            yield
            for node in self.nodes.values():
                self.kill(node)
            for node in self.nodes.values():
                if node.process is not None:
                    await node.process.over.wait()

    async def boot(self, node: Node) -> Process:
        """Start a daemon; returns when its parts stand, long before it leads."""
        assert self.nursery is not None, "the cluster is not open"
        process = node.process = self._process(node)
        await self.nursery.start(self._live, node, process)
        return process

    async def _live(self, node: Node, process: Process, *, task_status: trio.TaskStatus[None]) -> None:
        PLACE.set(process)
        process.task = trio.lowlevel.current_task()
        try:
            with process.scope:
                await process.daemon.run(task_status=task_status)
        except Exception as error:  # our own bug, whatever it is: told at the end, with the seed
            self.stuck.append(f"{node.machine} fell over: {error!r}")
        finally:
            process.dead = process.link.dead = process.disk.dead = True
            process.over.set()

    def _process(self, node: Node) -> Process:
        info = NodeInfo(node.name, self._uuid(), version="sim", content_hash=node.content_hash)
        link, disk = Link(patience_s=self.patience_s, back=self.delay), Link()
        node.disk.elected = info
        executor = ScriptedExecutor(
            self.timeline, node.clock, node.machine, self._script, self.witness.append, self.room
        )
        database = self.database

        def emit(event: Event) -> None:
            if not process.dead:
                self.told.append(Told(trio.current_time(), node.name, event))

        daemon = Daemon(
            Parts(
                node=info,
                clock=node.clock,
                presence=MemoryPresence(database, LEASE_S, link),
                election=MemoryElection(database, LEASE_S, link, node.clock),
                ledger=MemoryLedger(database, link),
                local=MemoryLedger(node.disk, disk),
                outbox=MemoryOutbox(node.disk, node.origin, disk, node.content_hash),
                intake=MemoryIntake(database, link),
                overrides=MemoryOverrides(database, link),
                executors={Isolation.PROCESS: executor},
                provide=Provide(node.name),
                schedules=node.schedules,
                content_hash=node.content_hash,
                emit=emit,
                prepare=nothing,
                control=no_control,
                started_at=node.clock.now(),
            )
        )
        process = Process(info, link, disk, executor, daemon, trio.current_time())
        return process

    def _script(self, work: Work) -> Body:
        script = self.bodies.get(work.schedule, Body())
        if isinstance(script, Body):
            return script
        if not isinstance(script, Sequence):
            return script(work)
        number = self._tries.get(work.schedule, 0)
        self._tries[work.schedule] = number + 1
        return script[min(number, len(script) - 1)]

    # -- faults -----------------------------------------------------------------------------------

    def kill(self, node: Node) -> None:
        """As kill -9: nothing is reported, nothing is recorded, the sessions close with the process."""
        process = node.alive
        if process is None:
            return
        process.dead = process.link.dead = process.disk.dead = True
        for session in list(self.database.sessions):
            if session.node.process == process.info.process:
                process.link.pass_on(partial(self.database.hang_up, session))
        process.executor.die()
        process.scope.cancel()
        self.thaw(process)

    def freeze(self, node: Node) -> Process | None:
        """As SIGSTOP: the daemon stands still; its bodies go on until the keeper takes it for dead."""
        process = node.alive
        if process is None or process.frozen_s is not None or process.task is None:
            return None
        process.frozen_s = since = trio.current_time()
        self.standstill.freeze(process, process.task)

        def silent() -> None:
            if process.frozen_s == since:
                process.executor.fall_silent()

        self.timeline.at(since + SILENCE_S, silent)
        return process

    def thaw(self, process: Process) -> None:
        """As SIGCONT."""
        if process.frozen_s is not None:
            process.stood_s += trio.current_time() - process.frozen_s
            process.frozen_s = None
            self.standstill.thaw(process)

    async def stop(self, node: Node) -> float:
        """As SIGTERM, and wait for the end; how many seconds that took."""
        process, began = node.alive, trio.current_time()
        if process is not None:
            process.daemon.stop()
            for _ in range(STOPS):  # time that it stands still is not its own
                stood_s = process.stood_s
                with trio.move_on_after(2 * STOP_S):
                    await process.over.wait()
                if process.over.is_set() or (process.frozen_s is None and process.stood_s == stood_s):
                    break
            if not process.over.is_set():
                self.stuck.append(f"{node.machine} was asked to stop and did not")
                self.kill(node)
        return trio.current_time() - began
