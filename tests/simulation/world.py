"""A simulated machine: the real scheduler, runner, leadership and daemon on trio's MockClock, over in-memory edges.

Bodies are scripts: `Body(seconds, state)` by schedule name; the witness notes each begin and end.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import trio

from singd.attempts import Run
from singd.core.values import Isolation, Log, Policy, Report, Schedule, State, TaskCall, Trigger, Work
from singd.daemon import Daemon, Parts
from singd.edges.memory import Link, MemoryDatabase, MemoryElection, MemoryLedger, MemoryPresence
from singd.edges.memory.overrides import MemoryOverrides
from singd.events import Event
from singd.ports import NodeInfo, ReportSink
from singd.provide import idempotency_key

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class SimulatedClock:
    """Wall time = NOON + trio time + skew; the boot clock is trio's."""

    def __init__(self) -> None:
        self.skew = timedelta()

    def now(self) -> datetime:
        return NOON + timedelta(seconds=trio.current_time()) + self.skew

    def boot(self) -> float:
        return trio.current_time()


@dataclass(frozen=True)
class Body:
    """What a run of a schedule does."""

    seconds: float = 0.0
    state: State = State.SUCCEEDED
    error: str = ""
    give_up: bool = False


@dataclass
class Begun:
    """What the witness saw of one body."""

    schedule: str
    due_at: datetime
    attempt: int
    at: datetime
    ended: datetime | None = None
    state: State | None = None


class ScriptedExecutor:
    """An executor whose bodies are scripts."""

    def __init__(self, world: World, most: int) -> None:
        self.world = world
        self.most = most
        self.scopes: dict[str, trio.CancelScope] = {}
        self.reasons: dict[str, str] = {}
        self.nursery: trio.Nursery | None = None
        self.report: ReportSink | None = None
        self.room_changed: Callable[[], None] = lambda: None

    def room(self, work_kind: str) -> int:
        return self.most - len(self.scopes)

    def hand_over(self, works: Sequence[Work]) -> None:
        assert self.nursery is not None
        for work in works:
            self.scopes[work.attempt.token] = trio.CancelScope()
            self.nursery.start_soon(self.body, work)

    def cancel(self, token: str, reason: str) -> None:
        if token in self.scopes:
            self.reasons[token] = reason
            self.scopes[token].cancel()

    def log(self, token: str) -> Log | None:
        return Log()

    async def serve(self, report: ReportSink, room_changed: Callable[[], None], *, task_status) -> None:
        self.report, self.room_changed = report, room_changed
        async with trio.open_nursery() as self.nursery:
            task_status.started()
            await trio.sleep_forever()

    async def body(self, work: Work) -> None:
        clock, token = self.world.clock, work.attempt.token
        script = self.world.script(work)
        begun = Begun(work.schedule, work.attempt.occurrence.due_at, work.attempt.number, clock.now())
        self.world.witness.append(begun)
        cancelled = True
        try:
            with self.scopes[token]:
                await trio.sleep(script.seconds)
                cancelled = False
        finally:
            del self.scopes[token]
            begun.ended = clock.now()
            begun.state = State.CANCELLED if cancelled else script.state
            error = self.reasons.pop(token, "") if cancelled else script.error
            if not self.world.powered_off:
                self.report(
                    Report(
                        token, begun.state, error, give_up=script.give_up,
                        started_at=begun.at.timestamp(), finished_at=begun.ended.timestamp(),
                    )
                )  # fmt: skip
                self.room_changed()


@dataclass
class World:
    """One ledger, one machine; daemons are started in it one after another."""

    schedules: Mapping[str, Schedule]
    bodies: Mapping[str, Body | Sequence[Body]] = field(default_factory=dict)
    room: int = 1000
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    witness: list[Begun] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    powered_off: bool = False
    name: str = "sim"
    database: MemoryDatabase = None

    def __post_init__(self) -> None:
        self.database = self.database or MemoryDatabase(self.clock, latency_s=0.002)
        self.link = Link()
        self.tries: defaultdict[str, int] = defaultdict(int)
        self.daemon: Daemon | None = None
        self.life: trio.CancelScope | None = None

    def script(self, work: Work) -> Body:
        body = self.bodies.get(work.schedule, Body())
        if isinstance(body, Body):
            return body
        number = self.tries[work.schedule]
        self.tries[work.schedule] += 1
        return body[min(number, len(body) - 1)]

    def make(self) -> Daemon:
        executor = ScriptedExecutor(self, self.room)
        node = NodeInfo(self.name, uuid.uuid4())
        self.daemon = Daemon(
            Parts(
                node=node,
                clock=self.clock,
                presence=MemoryPresence(self.database, link=self.link),
                election=MemoryElection(self.database, link=self.link),
                ledger=MemoryLedger(self.database, self.link),
                executors={Isolation.PROCESS: executor},
                provide=provide,
                schedules=self.schedules,
                content_hash="simulated",
                emit=self.events.append,
                prepare=_nothing,
                control=_no_control,
                started_at=self.clock.now(),
                overrides=MemoryOverrides(self.database, self.link),
            )
        )
        return self.daemon

    async def boot(self, nursery: trio.Nursery) -> None:
        """Start a daemon."""
        self.powered_off = False
        await nursery.start(self._live)

    async def _live(self, *, task_status) -> None:
        with trio.CancelScope() as self.life:
            await self.make().run(task_status=task_status)

    async def kill(self) -> None:
        """kill -9: nothing is reported, nothing is recorded, the lock session closes with the process."""
        self.powered_off = True
        self.link.up = False
        self.life.cancel()
        self.database.terminate(self.name)
        await trio.sleep(6)
        self.link = Link()

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


def provide(run: Run, go_at: float) -> Work:
    schedule = run.schedule
    return Work(
        run.attempt, schedule.name, schedule.call, schedule.policy.isolation, schedule.policy.timeout.total_seconds(),
        "sim", "", idempotency_key(run.attempt.occurrence), {}, go_at,
    )  # fmt: skip


def schedule(name: str, trigger: Trigger, **policy) -> Schedule:
    enabled = policy.pop("enabled", True)
    return Schedule(name, name, TaskCall(name), trigger, Policy(**policy), enabled=enabled)


def named(*schedules: Schedule) -> dict[str, Schedule]:
    return {item.name: item for item in schedules}


def seconds(*values: float) -> Iterable[datetime]:
    return [NOON + timedelta(seconds=value) for value in values]


async def _nothing() -> None:
    pass


async def _no_control(daemon: Daemon, task_status) -> None:
    task_status.started()
    await trio.sleep_forever()
