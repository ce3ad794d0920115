"""Runs attempts in warm workers and as commands (`ports.Executor`).

    hand_over ──> pool (tasks, SQL) ──> a warm worker ──┐
        └───────> command ──> a process of its own ─────┴──> one report each

A worker is given several attempts of a short task at once (a hand), since a process switch for each would cost
more than the task; how many follows from how long the task took lately. Whatever in a hand has not begun when
the one before it takes longer than `RECALL_S` is taken back and runs elsewhere (see `wire` and `pool`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import trio

from singd.core.values import NO_LOG, CommandCall, Log, Report, State, Work
from singd.edges.worker.command import Command
from singd.edges.worker.entry import Entry
from singd.edges.worker.pool import ABANDON_S, STOPPING, Pool, Settings
from singd.errors import KeeperGone
from singd.ports import Keeper, ReportSink

TICK_S = 0.020
RECYCLE_S = 1.0
WORKER_LIMITS: Mapping[str, int] = {"RLIMIT_CORE": 0, "RLIMIT_NOFILE": 1024, "RLIMIT_AS": 4 << 30}
COMMAND_LIMITS: Mapping[str, int] = {"RLIMIT_CORE": 0}
"""A command is the operator's own: Java, Go and Node reserve far more address space than they use."""


class WorkerExecutor:
    """Worker processes and commands under one keeper.

    Args:
        keeper: Parents every process.
        max_processes: Workers and commands alive at the same time.
        recycle_after, recycle_age_s, recycle_rss: A worker is replaced after this many attempts, seconds, bytes.
        idle_s: An idle worker is retired after this long.
        kill_grace_s: TERM to KILL at a timeout or cancel.
        limits, command_limits: `resource.RLIMIT_*` name -> value, for workers and for commands.
        plugin_paths: Directories beside site-packages that workers import plugins from.
    """

    def __init__(
        self, keeper: Keeper, *, max_processes: int = 16, recycle_after: int = 1000, recycle_age_s: float = 3600.0,
        recycle_rss: int = 256 << 20, idle_s: float = 60.0, kill_grace_s: float = 5.0, limits: Mapping[str, int] = WORKER_LIMITS,
        command_limits: Mapping[str, int] = COMMAND_LIMITS, plugin_paths: Sequence[Path] = (),
    ) -> None:  # fmt: skip
        self._settings = Settings(
            max_processes, recycle_after, recycle_age_s, recycle_rss, idle_s, kill_grace_s, limits, command_limits,
            tuple(str(path) for path in plugin_paths),
        )  # fmt: skip
        self._keeper = keeper
        self._commands: dict[str, Command] = {}
        self._entries: dict[str, Entry] = {}
        self._report: ReportSink = lambda report: None
        self._room_changed: Callable[[], None] = lambda: None
        self._busy = trio.Event()
        self._pool = Pool(
            keeper, self._settings, self._finish, lambda: self._room_changed(), lambda: len(self._commands)
        )

    # ------------------------------------------------------------------ the port

    def room(self, work_kind: str) -> int:
        """How many more attempts of this kind it would take right now."""
        return self._pool.room(work_kind) if self._open() else 0

    def hand_over(self, works: Sequence[Work]) -> None:
        """Take started attempts; each is answered by exactly one report."""
        queued: list[Entry] = []
        for work in works:
            entry = self._entries[work.attempt.token] = Entry(work)
            if not self._open():
                self._finish(entry, entry.never_begun(STOPPING))
            elif isinstance(work.call, CommandCall):
                self._start_command(entry)
            else:
                queued.append(entry)
        self._pool.take(queued)
        self._busy.set()

    def cancel(self, token: str, reason: str) -> None:
        """End an attempt; one that is over or unknown is no error."""
        entry = self._entries.get(token)
        if entry is None:
            return
        if command := self._commands.get(token):
            command.end(State.CANCELLED, reason)
        else:
            self._pool.end(entry, State.CANCELLED, reason)

    def log(self, token: str) -> Log | None:
        """What a running attempt has written so far."""
        entry = self._entries.get(token)
        if entry is None:
            return None
        return entry.kept.log() if entry.kept is not None else NO_LOG

    def progress(self, token: str) -> tuple[int, int, str] | None:
        """The last (done, total, note) that a running attempt told."""
        entry = self._entries.get(token)
        return entry.progress if entry is not None else None

    async def serve(
        self, report: ReportSink, room_changed: Callable[[], None], *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:  # fmt: skip
        """Its life. On cancellation everything is ended (TERM, grace, KILL) and reported before it returns.

        Raises:
            KeeperGone: The keeper died. What ran was reported as lost, the rest as never begun.
        """
        self._report, self._room_changed = report, room_changed
        over = trio.Event()
        async with trio.open_nursery() as outer:
            await outer.start(self._sheltered, over)
            task_status.started()
            try:
                await self._pool.broken.wait()
            finally:
                with trio.CancelScope(shield=True):
                    await self._shut_down()
                over.set()
        raise KeeperGone("the keeper died; what it ran is lost")

    async def _sheltered(self, over: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        """Workers live here, where a cancellation of `serve` reaches them only through `_shut_down`."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                self._pool.nursery = nursery
                nursery.start_soon(self._watch)
                task_status.started()
                await over.wait()
                nursery.cancel_scope.cancel()

    async def _shut_down(self) -> None:
        self._pool.close()
        for command in list(self._commands.values()):
            command.end(State.CANCELLED, STOPPING)
        with trio.move_on_after(self._settings.kill_grace_s + ABANDON_S):
            while self._pool.workers or self._commands:
                self._pool.left = trio.Event()
                await self._pool.left.wait()

    def _open(self) -> bool:
        return self._pool.nursery is not None and not self._pool.closed

    def _start_command(self, entry: Entry) -> None:
        settings = self._settings
        command = self._commands[entry.token] = Command(entry, settings.kill_grace_s, settings.command_limits)
        assert self._pool.nursery is not None
        self._pool.nursery.start_soon(self._live_command, command)

    async def _live_command(self, command: Command) -> None:
        def done(entry: Entry, report: Report) -> None:
            self._commands.pop(entry.token, None)
            self._pool.left.set()
            self._finish(entry, report)

        try:
            await command.run(self._keeper, done)
        except KeeperGone:
            self._pool.broken.set()
        self._room_changed()

    def _finish(self, entry: Entry, report: Report) -> None:
        if self._entries.pop(entry.token, None) is not None:
            self._report(report)

    async def _watch(self) -> None:
        """Look often while something runs, seldom otherwise."""
        recycle_at = 0.0
        while True:
            if not self._entries:
                self._busy = trio.Event()
                seldom = max(0.05, min(self._settings.idle_s / 4, RECYCLE_S))
                with trio.move_on_after(seldom if self._pool.workers else math.inf):
                    await self._busy.wait()
            await trio.sleep(TICK_S)
            now = trio.current_time()
            self._pool.tick(now)
            for command in list(self._commands.values()):
                self._look_at_command(command, now)
            if now >= recycle_at:
                recycle_at = now + RECYCLE_S
                self._pool.recycle()

    def _look_at_command(self, command: Command, now: float) -> None:
        entry = command.entry
        if command.ended_at is not None and now - command.ended_at > self._settings.kill_grace_s + ABANDON_S:
            command.abandon()
        elif entry.begun_at is not None and now - entry.begun_at > entry.work.timeout_s:
            command.end(State.TIMED_OUT, f"timed out after {entry.work.timeout_s:g} s")
