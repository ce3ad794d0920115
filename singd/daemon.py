"""The daemon: what runs inside what. Scopes are states; there is no flag that a scope already says.

    daemon scope                     ends when asked to stop (signal) or when a part fails
    ├── control                      the socket that `singd status` and the other verbs talk to
    ├── executing                    the executors, and two runners: the cluster's attempts, the node's own
    │                                attempts live through changes of leader
    ├── shipping                     what the local journal has and the ledger has not
    └── presence                     the node's name (singd.presence); while nobody else has it:
        ├── desk                     what operators ask (singd.overrides)
        ├── node scheduling          plan -> local journal -> start, whether or not the ledger is there
        └── campaign … repeat        (singd.leadership)
            └── term (epoch 42)      cancelled when the session, the lock or the trust is lost
                ├── watch            keeps the term trusted
                └── cluster scheduling   plan -> ledger -> start (singd.scheduler)

Stopping: leadership is given back first (nothing new is planned), running attempts may finish for
`DRAIN_S`, then they are ended (TERM, kill grace, KILL) and their ends recorded; all within the shutdown deadline of 30 s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from math import inf

import trio

from singd.agenda import Line
from singd.attempts import Run
from singd.core.trigger import identity
from singd.core.units import counted
from singd.core.values import CLUSTER, Isolation, Schedule, Scope, Startup
from singd.errors import EdgeError
from singd.events import (
    Campaigning,
    Draining,
    Emit,
    Event,
    LedgerAway,
    NameInUse,
    Notice,
    Registered,
    TermBegan,
)
from singd.executing import Executing
from singd.leadership import Trust, lead, leaves
from singd.overrides import Desk
from singd.ports import (
    Clock,
    Election,
    Executor,
    Intake,
    Ledger,
    NodeInfo,
    Outbox,
    Overrides,
    Presence,
    Term,
)
from singd.presence import Attendance
from singd.runner import Provide, Runner
from singd.scheduler import NodeScope, Scheduler
from singd.shipping import ship, ship_all

DRAIN_S = 20.0
"""What is left of the shutdown deadline of 30 s after TERM, kill grace (5 s), KILL and the recording of ends."""

Serve = Callable[["Daemon", trio.TaskStatus[None]], Awaitable[None]]


NODE_TERM = Term(0)
"""Of a node's own schedules there is one planner, the daemon that holds the state directory: no epoch to compare."""
JOURNAL_RETRY_S = 5.0
BRIEF_S = 2.0
"""Node schedules wait no longer for the ledger to say what is paused."""
SHIP_REST_S = 2.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a daemon is made of; the composition root (`singd.cli.run`) chooses the edges.

    Attributes:
        presence, election: The sessions that hold the node's name and the leader's lock.
        ledger: The cluster's.
        local: The node's own, the local journal.
        outbox, intake: What ships the one to the other.
        overrides: What operators ask of the cluster.
        schedules: The generation in force, already bound to the catalogue; those of another role are left out.
        content_hash: Identity of that generation.
        prepare: Run before each registration (migrations); raises EdgeError where cluster work has to wait.
        control: Serves the control socket until cancelled.
        started_at: When the process began; a new keeper is no new start.
    """

    node: NodeInfo
    clock: Clock
    presence: Presence
    election: Election
    ledger: Ledger
    executors: Mapping[Isolation, Executor]
    provide: Provide
    schedules: Mapping[str, Schedule]
    content_hash: str
    emit: Emit
    prepare: Callable[[], Awaitable[None]]
    control: Serve
    started_at: datetime
    overrides: Overrides
    local: Ledger | None = None
    outbox: Outbox | None = None
    intake: Intake | None = None


class Daemon:
    """One daemon process; `run` is its life."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.trust = Trust(parts.clock)
        self.executing = Executing(parts.executors)
        self.runner = self._runner(parts.ledger)
        self.node_runner = self._runner(parts.local or parts.ledger)
        self.attendance = Attendance(
            parts.presence, parts.node, parts.prepare, self._serve_scopes, self._heard, self._note
        )
        self.desk = Desk(parts.node.name, parts.overrides, self, parts.clock, parts.emit)
        self.started_at = parts.started_at
        self.generation: int | None = None
        self.trouble: LedgerAway | NameInUse | None = None
        self.node_trouble: EdgeError | None = None
        self.campaigned = False
        self._schedulers: dict[Scope, Scheduler] = {}
        self._stop = trio.Event()

    def _runner(self, ledger: Ledger) -> Runner:
        parts = self.parts
        return Runner(ledger, self.executing, parts.provide, parts.clock, parts.emit)

    def stop(self) -> None:
        """Ask it to end; `run` returns when it has."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end."""
        return self._stop.is_set()

    def lines(self) -> Mapping[str, Line]:
        """Each schedule's standing, as far as it is planned here: the cluster's in a term, the node's own."""
        return {
            name: line for scheduler in self._schedulers.values() for name, line in scheduler.lines.items()
        }

    def running(self) -> Sequence[Run]:
        """The attempts in progress on this node."""
        return (*self.runner.running(), *self.node_runner.running())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`, then drain and end."""
        async with trio.open_nursery() as daemon:
            await daemon.start(self.executing.serve)
            await daemon.start(self._serve_control)
            daemon.start_soon(self._ship)
            working = await daemon.start(self._attend)
            task_status.started()
            await self._stop.wait()
            working.cancel()
            await self._drain()
            await self._ship_rest()
            daemon.cancel_scope.cancel()

    async def _serve_control(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self.parts.control(self, task_status)

    async def _ship(self) -> None:
        parts = self.parts
        if parts.outbox is None or parts.intake is None:
            return
        await ship(parts.outbox, parts.intake, parts.node, self.attendance.registered, parts.emit)

    async def _ship_rest(self) -> None:
        """Once more before the end: this node may not come back for a while."""
        parts = self.parts
        if parts.outbox is not None and parts.intake is not None and self.attendance.is_registered:
            with trio.move_on_after(SHIP_REST_S), suppress(EdgeError):
                await ship_all(parts.outbox, parts.intake, parts.node, parts.emit)

    async def _attend(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await self.attendance.attend()

    def _heard(self) -> None:
        """An operator may have asked for something."""
        self.desk.ring()

    def scheduler_of(self, owner: str) -> Scheduler | None:
        """Who plans an owner's occurrences here; None = nobody, at present."""
        scope = {CLUSTER: Scope.CLUSTER, self.parts.node.name: Scope.NODE}.get(owner)
        return self._schedulers.get(scope) if scope else None

    def runner_of(self, owner: str) -> Runner | None:
        """Who runs an owner's attempts here; None = nobody ever does."""
        return {CLUSTER: self.runner, self.parts.node.name: self.node_runner}.get(owner)

    async def _serve_scopes(self) -> None:
        """What a node does under its name: its own schedules, and the campaign for the cluster's."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.desk.serve)
            nursery.start_soon(self._schedule_node)
            nursery.start_soon(self._campaign)

    async def _campaign(self) -> None:
        parts = self.parts
        await lead(
            parts.election,
            parts.node,
            parts.clock,
            self.trust,
            self.attendance.registered,
            self._serve_term,
            self._note,
        )

    async def _serve_term(self, term: Term) -> None:
        """Cluster scheduling, for as long as the term lasts."""
        parts = self.parts
        schedules = _of(Scope.CLUSTER, parts.schedules)
        self.generation = await parts.ledger.generation(
            term, parts.content_hash, _triggers(schedules), parts.clock.now()
        )
        await self._schedule(Scope.CLUSTER, term, self.generation, schedules)

    async def _schedule_node(self) -> None:
        """The node's own schedules; a disk that is full is waited for."""
        parts = self.parts
        schedules = _of(Scope.NODE, parts.schedules)
        if not schedules or parts.local is None:
            return
        with trio.move_on_after(BRIEF_S):
            await self.desk.looked.wait()
        while True:
            try:
                number = await parts.local.generation(
                    NODE_TERM, parts.content_hash, _triggers(schedules), parts.clock.now()
                )
                self.node_trouble = None
                await self._schedule(Scope.NODE, NODE_TERM, number, schedules)
            except* EdgeError as group:
                error = next(one for one in leaves(group) if isinstance(one, EdgeError))
                self.node_trouble = error
                cure = f" ({error.cure})" if error.cure else ""
                parts.emit(Notice("error", f"node schedules wait: {error}{cure}"))
            await trio.sleep(JOURNAL_RETRY_S)

    async def _schedule(
        self, scope: Scope, term: Term, generation: int, schedules: Mapping[str, Schedule]
    ) -> None:
        parts = self.parts
        ledger, runner, node = parts.ledger, self.runner, None
        if scope is Scope.NODE and parts.local is not None:
            ledger, runner = parts.local, self.node_runner
            node = NodeScope(parts.node.name, parts.started_at)
        in_touch_s = self.attendance.in_touch_s if node is None else _always
        scheduler = self._schedulers[scope] = Scheduler(
            term, generation, schedules.values(), ledger, runner, parts.clock, parts.emit, in_touch_s, node
        )
        scheduler.pauses = self.desk.pauses
        try:
            if scope is Scope.CLUSTER:
                await self.desk.brief(scheduler)
            await scheduler.run()
        finally:
            del self._schedulers[scope]

    def _note(self, event: Event) -> None:
        """Keep what keeps the cluster's work waiting, for status; pass everything on."""
        if isinstance(event, LedgerAway | NameInUse):
            self.trouble = event
        elif isinstance(event, Registered | Campaigning | TermBegan):
            self.trouble = None
        self.campaigned |= isinstance(event, Campaigning)
        self.parts.emit(event)

    async def _drain(self) -> None:
        running = len(self.running())
        if running:
            self.parts.emit(Draining(running, DRAIN_S))
        with trio.move_on_after(DRAIN_S) as patience:
            await self.runner.drained()
            await self.node_runner.drained()
        if patience.cancelled_caught:
            self.parts.emit(
                Notice("warning", f"ending {counted(len(self.running()), 'attempt')} that did not finish")
            )


def _always() -> float:
    """For how long the local journal has been in reach: it is this process's own."""
    return inf


def _of(scope: Scope, schedules: Mapping[str, Schedule]) -> Mapping[str, Schedule]:
    return {name: schedule for name, schedule in schedules.items() if schedule.scope is scope}


def _triggers(schedules: Mapping[str, Schedule]) -> Mapping[str, str]:
    """What a generation is known by in the ledger: each schedule's trigger, startups left out."""
    return {
        name: identity(schedule.trigger)
        for name, schedule in schedules.items()
        if not isinstance(schedule.trigger, Startup)
    }
