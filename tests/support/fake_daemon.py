"""A daemon's control socket without a daemon: real socket, real handlers, views that a test fills in."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trio

from singd.control import ControlHandlers, Handler, RunningAttempt, ScheduleView, Setting, Snapshot
from singd.control_verbs import OperatorHandlers
from singd.core.cluster import Cluster, LeaderRow, NodeRow, TermRow
from singd.core.cron import Cron
from singd.core.history import AttemptRow, Known, OccurrenceRow
from singd.core.values import CommandCall, Log, Override, Schedule, State, Trigger, Wish
from singd.edges.control import serve_control
from singd.edges.memory import MemoryDatabase
from singd.edges.memory.overrides import MemoryOverrides
from singd.errors import EdgeError

T = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
"""A Sunday, three o'clock."""
MINUTE = timedelta(minutes=1)


def schedule(name: str, trigger: Trigger | str = "*/5 * * * *", **more: object) -> Schedule:
    """One that runs a command."""
    made = Cron.parse(trigger) if isinstance(trigger, str) else trigger
    return Schedule(name, "command", CommandCall(("true",)), made, **more)  # type: ignore[arg-type]


def attempt(number: int = 1, state: State = State.SUCCEEDED, **more: object) -> AttemptRow:
    """One that began a second after it was due and took three."""
    begin = T + timedelta(seconds=1)
    end = begin + timedelta(seconds=3) if state.terminal else None
    return AttemptRow(number, state, 42, "sing-1", begin, end, **more)  # type: ignore[arg-type]


def ran(
    number: int = 4711, name: str = "daily", due_at: datetime = T, *attempts: AttemptRow, **more: object
) -> OccurrenceRow:
    """A row that ran; with one attempt that succeeded unless told otherwise."""
    values = {"verdict": "ran"} | more
    return OccurrenceRow(number, name, due_at, "command", 3, attempts=attempts or (attempt(),), **values)  # type: ignore[arg-type]


LED = Cluster(
    LeaderRow(42, "sing-1", "p1", T, 0.4, True), [NodeRow("sing-1", "singularity", "0.1.0", "p1", T, True, "c" * 64)],
    [TermRow(42, "sing-1", T, T - timedelta(seconds=1))], 3, "c" * 64,
)  # fmt: skip
"""One node, which leads."""


@dataclass
class FakeDaemon:
    """A `DaemonView`."""

    schedules: Sequence[ScheduleView] = ()
    now: datetime = T + MINUTE
    live: Mapping[int, Log] = field(default_factory=dict)
    changes: Mapping[str, object] = field(default_factory=dict)
    running: Sequence[RunningAttempt] = ()

    def snapshot(self) -> Snapshot:
        found = Snapshot(
            "sing-1", "singularity", "0.1.0", "leading", "embedded PostgreSQL", T - 60 * MINUTE, self.now, "/etc/singd/singd.toml",
            3, 42, 4.25, "sing-1", self.schedules, self.running,
        )  # fmt: skip
        return replace(found, **self.changes)  # type: ignore[arg-type]

    def settings(self, name: str) -> Sequence[Setting]:
        return [
            Setting("cron", "*/5 * * * *", "/etc/singd/singd.toml:3:8"),
            Setting("timeout", "1h", "default"),
        ]

    def live_log(self, occurrence_id: int) -> Log | None:
        return self.live.get(occurrence_id)


@dataclass
class FakeLedger:
    """A `LedgerView` over rows; `away` makes every answer an EdgeError."""

    rows: Sequence[OccurrenceRow] = ()
    cursor: datetime | None = T + MINUTE
    kept_from: datetime | None = None
    logs: Mapping[tuple[int, int], Log] = field(default_factory=dict)
    away: bool = False
    nodes: Cluster = LED

    async def runs(self, schedule: str | None, since: datetime | None, limit: int) -> Sequence[OccurrenceRow]:
        await self._reach()
        rows = [row for row in self.rows if schedule in (None, row.schedule)]
        rows = [row for row in rows if since is None or (row.due_until or row.due_at) >= since]
        return sorted(rows, key=lambda row: row.due_at, reverse=True)[:limit]

    async def latest(self) -> Mapping[str, OccurrenceRow]:
        await self._reach()
        over = [
            row for row in sorted(self.rows, key=lambda row: row.due_at) if row.verdict and not row.retry_at
        ]
        return {row.schedule: row for row in over}

    async def known(self, schedule: str, at: datetime, owner: str | None) -> Known:
        await self._reach()
        rows = [row for row in self.rows if row.schedule == schedule and owner in (None, row.owner)]
        found = [row for row in rows if row.due_at <= at <= (row.due_until or row.due_at)]
        oldest = min((row.due_at for row in rows), default=None)
        return Known(found[0] if found else None, self.cursor if rows else None, oldest, self.kept_from)

    async def run(self, occurrence_id: int) -> OccurrenceRow | None:
        await self._reach()
        return next((row for row in self.rows if row.occurrence_id == occurrence_id), None)

    async def begun(self, schedule: str, owner: str | None) -> OccurrenceRow | None:
        await self._reach()
        rows = [row for row in self.rows if row.schedule == schedule and row.attempts]
        rows = [row for row in rows if owner in (None, row.owner)]
        return max(rows, key=lambda row: row.due_at, default=None)

    async def log(self, occurrence_id: int, number: int) -> Log | None:
        await self._reach()
        return self.logs.get((occurrence_id, number))

    async def running(self, limit: int) -> Sequence[OccurrenceRow]:
        await self._reach()
        return [row for row in self.rows if row.attempts and not row.attempts[-1].state.terminal][:limit]

    async def cluster(self) -> Cluster:
        await self._reach()
        return self.nodes

    async def _reach(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise EdgeError("connection refused", cure="start Postgres")


class PromptOverrides(MemoryOverrides):
    """What is asked is done at once: a trigger becomes run 4711, whoever leads resigns."""

    async def ask(self, wish: Wish) -> Override:
        asked = await super().ask(wish)
        done = {"trigger": {"run_id": "4711"}, "resign": {"node": "sing-1", "epoch": 41}}
        await self.take(asked.number, {"by": "sing-1", **done.get(wish.verb, {})})
        return asked


def handlers(daemon: FakeDaemon, ledger: FakeLedger) -> Mapping[str, Handler]:
    """Every verb of the socket."""
    operator = OperatorHandlers(daemon, ledger, PromptOverrides(MemoryDatabase()))
    return {**ControlHandlers(daemon, ledger).table(), **operator.table()}


@contextlib.asynccontextmanager
async def serving(state: Path, daemon: FakeDaemon, ledger: FakeLedger) -> AsyncIterator[None]:
    """Serve the views where a client with `--state STATE` looks."""
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_control, state / "run" / "singd.sock", handlers(daemon, ledger))
        yield
        nursery.cancel_scope.cancel()
