"""The daemon: what runs inside what. Scopes are states; there is no flag that a scope already says.

    daemon scope                     ends when asked to stop (signal) or when a part fails
    ├── control                      the socket that `singd status` and the other verbs talk to
    ├── runner                       attempts in progress; lives through changes of leader
    │   └── executors                warm workers and commands; inline tasks
    └── campaign … repeat            (singd.leadership)
        └── term scope (epoch 42)    cancelled when the session, the lock or the trust is lost
            ├── watch                keeps the term trusted
            └── cluster scheduling   plan -> record -> start (singd.scheduler)

Stopping: leadership is given back first (nothing new is planned), running attempts may finish for
`DRAIN_S`, then they are ended (TERM, kill grace, KILL) and their ends recorded; all within the shutdown deadline of 30 s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import trio

from singd.agenda import Line
from singd.core.trigger import identity
from singd.core.units import counted
from singd.core.values import Isolation, Schedule, Startup
from singd.events import Draining, Emit, Event, LedgerAway, Notice, TermBegan
from singd.leadership import Trust, lead
from singd.ports import Clock, Election, Executor, Ledger, NodeInfo, Term
from singd.runner import Provide, Runner
from singd.scheduler import Scheduler

DRAIN_S = 20.0
"""What is left of the shutdown deadline of 30 s after TERM, kill grace (5 s), KILL and the recording of ends."""

Serve = Callable[["Daemon", trio.TaskStatus[None]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a daemon is made of; the composition root (`singd.cli.run`) chooses the edges.

    Attributes:
        schedules: The generation in force, already bound to the catalogue; those of another role are left out.
        content_hash: Identity of that generation.
        prepare: Run before each campaign (migrations); raises EdgeError where cluster work has to wait.
        control: Serves the control socket until cancelled.
        started_at: When the process began; a new keeper is no new start.
    """

    node: NodeInfo
    clock: Clock
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


class Daemon:
    """One daemon process; `run` is its life."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.trust = Trust(parts.clock)
        self.runner = Runner(parts.ledger, parts.executors, parts.provide, parts.clock, parts.emit)
        self.started_at = parts.started_at
        self.generation: int | None = None
        self.trouble = ""
        self._scheduler: Scheduler | None = None
        self._stop = trio.Event()

    def stop(self) -> None:
        """Ask it to end; `run` returns when it has."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end."""
        return self._stop.is_set()

    def lines(self) -> Mapping[str, Line]:
        """Each schedule's standing in the present term; empty outside of one."""
        return self._scheduler.lines if self._scheduler else {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`, then drain and end."""
        async with trio.open_nursery() as daemon:
            await daemon.start(self.runner.serve)
            await daemon.start(self._serve_control)
            campaign = await daemon.start(self._campaign)
            task_status.started()
            await self._stop.wait()
            campaign.cancel()
            await self._drain()
            daemon.cancel_scope.cancel()

    async def _serve_control(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self.parts.control(self, task_status)

    async def _campaign(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        parts = self.parts
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await lead(
                parts.election,
                parts.node,
                parts.clock,
                self.trust,
                parts.prepare,
                self._serve_term,
                self._note,
            )

    async def _serve_term(self, term: Term) -> None:
        """Cluster scheduling, for as long as the term lasts."""
        parts = self.parts
        now, triggers = parts.clock.now(), _triggers(parts.schedules)
        self.generation = await parts.ledger.generation(term, parts.content_hash, triggers, now)
        self._scheduler = Scheduler(
            term,
            self.generation,
            parts.schedules.values(),
            parts.ledger,
            self.runner,
            parts.clock,
            parts.emit,
        )
        try:
            await self._scheduler.run()
        finally:
            self._scheduler = None

    def _note(self, event: Event) -> None:
        """Keep what keeps the cluster's work waiting, for status; pass everything on."""
        if isinstance(event, LedgerAway):
            self.trouble = event.reason
        elif isinstance(event, TermBegan):
            self.trouble = ""
        self.parts.emit(event)

    async def _drain(self) -> None:
        running = len(self.runner.running())
        if running:
            self.parts.emit(Draining(running, DRAIN_S))
        with trio.move_on_after(DRAIN_S) as patience:
            await self.runner.drained()
        if patience.cancelled_caught:
            self.parts.emit(
                Notice(
                    "warning", f"ending {counted(len(self.runner.running()), 'attempt')} that did not finish"
                )
            )


def _triggers(schedules: Mapping[str, Schedule]) -> Mapping[str, str]:
    """What a generation is known by in the ledger: each schedule's trigger, startups left out."""
    return {
        name: identity(schedule.trigger)
        for name, schedule in schedules.items()
        if not isinstance(schedule.trigger, Startup)
    }
