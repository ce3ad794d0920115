"""What a simulated cluster is made of: machines, the daemons that live in them, what these say; and schedules for them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import trio

from singd.attempts import Run
from singd.core.values import Policy, Schedule, Scope, TaskCall, Trigger, Work
from singd.daemon import Daemon
from singd.edges.memory import Link, MemoryDatabase
from singd.edges.memory.rows import Change
from singd.events import Event
from singd.ports import NodeInfo
from singd.provide import idempotency_key
from singd.testing.machine import ScriptedExecutor, SimulatedClock


def schedule(
    name: str, trigger: Trigger, *, scope: Scope = Scope.CLUSTER, enabled: bool = True, **policy: object
) -> Schedule:
    """A schedule for a simulation; `policy` are fields of `singd.core.values.Policy`."""
    values = Policy(**policy)  # type: ignore[arg-type]
    return Schedule(name, name, TaskCall(name), trigger, values, scope, enabled=enabled)


@dataclass(frozen=True, slots=True)
class Told:
    """An event of one daemon; `at_s` by trio's clock."""

    at_s: float
    node: str
    event: Event


@dataclass(slots=True, eq=False)
class Process:
    """One life of a daemon."""

    info: NodeInfo
    link: Link
    disk: Link
    executor: ScriptedExecutor
    daemon: Daemon
    started_s: float
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    task: trio.lowlevel.Task | None = None
    dead: bool = False
    frozen_s: float | None = None
    stood_s: float = 0.0
    over: trio.Event = field(default_factory=trio.Event)


@dataclass(slots=True, eq=False)
class Node:
    """A machine of the cluster; daemons live in it one after another.

    Attributes:
        name: Of the node; `machine`: of this machine, should another one have the node's name too.
        disk: The local journal, which outlives them.
        schedules, content_hash: The configuration that the next daemon starts with.
    """

    name: str
    machine: str
    clock: SimulatedClock
    origin: uuid.UUID
    disk: MemoryDatabase
    schedules: Mapping[str, Schedule]
    content_hash: str
    process: Process | None = None
    changes: list[Change] = field(default_factory=list)

    @property
    def alive(self) -> Process | None:
        """Its daemon, unless there is none."""
        return self.process if self.process is not None and not self.process.dead else None


class Provide:
    """What a body needs to know of its attempt."""

    def __init__(self, node: str) -> None:
        self._node = node

    def __call__(self, run: Run, go_at: float) -> Work:
        item = run.schedule
        return Work(
            run.attempt, item.name, item.call, item.policy.isolation, item.policy.timeout / timedelta(seconds=1),
            self._node, "", idempotency_key(run.attempt.occurrence), {}, go_at,
        )  # fmt: skip


async def nothing() -> None:
    pass


async def no_control(daemon: Daemon, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()
