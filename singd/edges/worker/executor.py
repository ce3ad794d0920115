"""Runs attempts in warm workers and commands (`ports.Executor`).

    hand_over ──> pending, by plugin and version ──> a ready worker with room ──> report
                       ^         └── none? start one (a few at a time, `max_processes` in all)
                       └── recalled: a task before it in the same hand takes long, or its worker died

A worker is given several attempts of a short task at once (a hand), since a process switch for each would cost
more than the task; how many follows from how long the task took lately. Whatever in a hand has not begun when
the one before it takes longer than `RECALL_S` is taken back and runs elsewhere (see `wire`).
"""

from __future__ import annotations

import collections
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import trio

from singd.core.values import NO_LOG, CommandCall, Log, Report, SqlCall, State, Work
from singd.edges.worker import environment, wire
from singd.edges.worker.command import Command
from singd.edges.worker.entry import Entry
from singd.edges.worker.warm import RECALL_S, Warm, worker_argv
from singd.errors import EdgeError, KeeperGone
from singd.ports import Keeper, ProcessSpec, ReportSink

Key = tuple[str, str]
HAND_S = 0.020
"""A hand is about this much work."""
HAND_MOST = 64
TICK_S = 0.020
STARTS_AT_ONCE = 4
"""Workers of one plugin that are being started at the same time."""
STUCK_S = 2.0
"""A worker that has held an attempt this long beyond its latest begin, without beginning anything, is broken."""
ABANDON_S = 5.0
"""After the kill grace a process is given this long to be gone."""
RETIRE_GRACE_S = 1.0
STOPPING = "the daemon is stopping"
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
        self.keeper, self.max_processes = keeper, max_processes
        self.recycle_after, self.recycle_age_s, self.recycle_rss = recycle_after, recycle_age_s, recycle_rss
        self.idle_s, self.kill_grace_s = idle_s, kill_grace_s
        self.limits, self.command_limits = limits, command_limits
        self.plugin_paths = [str(path) for path in plugin_paths]
        self._pending: dict[Key, collections.deque[Entry]] = {}
        self._workers: list[Warm] = []
        self._commands: dict[str, Command] = {}
        self._entries: dict[str, Entry] = {}
        self._seconds: dict[str, float] = {}
        self._keys: dict[str, Key] = {}
        self._nursery: trio.Nursery | None = None
        self._report: ReportSink = lambda report: None
        self._room_changed: Callable[[], None] = lambda: None
        self._busy = trio.Event()
        self._broken = trio.Event()
        self._left = trio.Event()
        self._closed = False

    # ------------------------------------------------------------------ the port

    def room(self, work_kind: str) -> int:
        """How many more attempts of this kind it would take right now."""
        if self._closed or self._nursery is None:
            return 0
        key = self._keys.get(work_kind)
        free = max(0, self.max_processes - self._in_use() - self._promised(key))
        if work_kind == "command":
            return free
        hand = self._hand(work_kind)
        mine = [worker for worker in self._workers if worker.key == key and not worker.retiring]
        open_ = sum(worker.room(hand) if worker.ready else hand for worker in mine)
        idle = sum(1 for worker in mine if not worker.outstanding)  # counted as free slots above
        return max(0, open_ + (free - idle) * hand - len(self._pending.get(key, ()) if key else ()))

    def hand_over(self, works: Sequence[Work]) -> None:
        """Take started attempts; each is answered by exactly one report."""
        touched: dict[Key, None] = {}
        for work in works:
            entry = Entry(work)
            self._entries[work.attempt.token] = entry
            if self._closed or self._nursery is None:
                self._finish(entry, entry.never_begun(STOPPING))
            elif isinstance(work.call, CommandCall):
                self._start_command(entry)
            else:
                key = (
                    (wire.BUILT_IN, "")
                    if isinstance(work.call, SqlCall)
                    else (work.plugin, work.plugin_version)
                )
                self._keys[entry.kind] = key
                self._pending.setdefault(key, collections.deque()).append(entry)
                touched[key] = None
        for key in touched:
            self._dispatch(key)
        self._busy.set()

    def cancel(self, token: str, reason: str) -> None:
        """End an attempt; one that is over or unknown is no error."""
        entry = self._entries.get(token)
        if entry is not None:
            self._end(entry, State.CANCELLED, reason)

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
                await self._broken.wait()
            finally:
                with trio.CancelScope(shield=True):
                    await self._shut_down()
                over.set()
        raise KeeperGone("the keeper died; what it ran is lost")

    async def _sheltered(self, over: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        """Workers live here, where a cancellation of `serve` reaches them only through `_shut_down`."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._watch)
                task_status.started()
                await over.wait()
                nursery.cancel_scope.cancel()

    async def _shut_down(self) -> None:
        self._closed = True
        for queue in self._pending.values():
            while queue:
                entry = queue.popleft()
                self._finish(entry, entry.never_begun(STOPPING))
        for worker in list(self._workers):
            self.returned(worker.recall() if worker.ready else [])
            for entry in list(worker.outstanding.values()):
                worker.end_attempt(entry, State.CANCELLED, STOPPING)
            worker.end(self.kill_grace_s)
        for command in list(self._commands.values()):
            command.end(State.CANCELLED, STOPPING)
        with trio.move_on_after(self.kill_grace_s + ABANDON_S):
            while self._workers or self._commands:
                self._left = trio.Event()
                await self._left.wait()

    # ------------------------------------------------------------------ who runs what

    def _hand(self, kind: str) -> int:
        seconds = self._seconds.get(kind)
        return 1 if seconds is None else max(1, min(HAND_MOST, int(HAND_S / max(seconds, 1e-6))))

    def _in_use(self) -> int:
        """Processes that cannot make place for another right now."""
        return len(self._commands) + sum(
            1 for worker in self._workers if worker.outstanding or not worker.ready
        )

    def _promised(self, but: Key | None) -> int:
        """Processes that attempts already taken, of other plugins, still need."""
        return sum(self._wanted(key) for key in self._pending if key != but)

    def _wanted(self, key: Key) -> int:
        queue = self._pending.get(key)
        if not queue:
            return 0
        starting = sum(
            1 for worker in self._workers if worker.key == key and not worker.ready and not worker.retiring
        )
        return max(0, math.ceil(len(queue) / self._hand(queue[0].kind)) - starting)

    def _dispatch(self, key: Key) -> None:
        """Give what waits to the workers with the least to do; start workers for the rest."""
        queue = self._pending.get(key)
        if not queue:
            return
        ready = [
            worker for worker in self._workers if worker.key == key and worker.ready and not worker.retiring
        ]
        for worker in sorted(ready, key=lambda worker: len(worker.outstanding)):
            self._give(worker, queue)
        if queue:
            self._start_workers(key)

    def _give(self, worker: Warm, queue: collections.deque[Entry]) -> None:
        hand: list[Entry] = []
        while queue:
            entry = queue[0]
            entry.hand = self._hand(entry.kind)
            if worker.room(min([entry.hand, *(other.hand for other in hand[:1])])) <= len(hand):
                break
            hand.append(queue.popleft())
        if hand:
            worker.give(hand)

    def _start_workers(self, key: Key) -> None:
        starting = sum(
            1 for worker in self._workers if worker.key == key and not worker.ready and not worker.retiring
        )
        for _ in range(min(self._wanted(key), STARTS_AT_ONCE - starting)):
            if len(self._workers) + len(self._commands) >= self.max_processes and not self._make_place(key):
                return
            worker = Warm(self, key, self.kill_grace_s)
            self._workers.append(worker)
            assert self._nursery is not None
            self._nursery.start_soon(self._live, worker)

    def _make_place(self, key: Key) -> bool:
        """Retire the idle worker of another plugin that was idle longest; the place is free once it is gone."""
        idle = [w for w in self._workers if w.ready and not w.outstanding and not w.retiring and w.key != key]
        if idle:
            min(idle, key=lambda worker: worker.idle_since).end(RETIRE_GRACE_S)
        return False

    async def _live(self, worker: Warm) -> None:
        try:
            await worker.live(self.keeper, self._spec, self.plugin_paths)
        except KeeperGone:
            self._broken.set()
        except EdgeError as error:
            worker.fault = str(error)
        finally:
            self._workers.remove(worker)
            self._left.set()
        if not worker.given and not self._broken.is_set():
            self._blame_start(worker)
        if not self._broken.is_set():
            for key in list(self._pending):
                self._dispatch(key)
            self._room_changed()

    def _blame_start(self, worker: Warm) -> None:
        """A worker that died before it was given anything: one waiting attempt failed by it, or none would ever end."""
        queue = self._pending.get(worker.key)
        if queue and worker.fault and not worker.was_ready:
            entry = queue.popleft()
            entry.begin()
            self._finish(entry, entry.report(State.FAILED, f"no worker could be started: {worker.fault}"))

    def _spec(self, fds: dict[int, int], title: str) -> ProcessSpec:
        return ProcessSpec(
            argv=worker_argv(title),
            env=environment.allowed(os.environ),
            fds=fds,
            limits=self.limits,
            stop_s=RETIRE_GRACE_S,
        )

    def _start_command(self, entry: Entry) -> None:
        command = self._commands[entry.token] = Command(entry, self.kill_grace_s, self.command_limits)
        assert self._nursery is not None
        self._nursery.start_soon(self._live_command, command)

    async def _live_command(self, command: Command) -> None:
        def done(entry: Entry, report: Report) -> None:
            self._commands.pop(entry.token, None)
            self._left.set()
            self._finish(entry, report)

        try:
            await command.run(self.keeper, done)
        except KeeperGone:
            self._broken.set()
        self._room_changed()

    # ------------------------------------------------------------------ what workers tell

    def finished(self, entry: Entry, report: Report, seconds: float | None) -> None:
        """One attempt is over."""
        if seconds is not None:
            before = self._seconds.get(entry.kind, seconds)
            self._seconds[entry.kind] = before + 0.2 * (seconds - before)
        self._finish(entry, report)

    def returned(self, entries: Sequence[Entry]) -> None:
        """These have not begun: to the front of the queue, in their order."""
        if not entries:
            return
        if self._closed:
            for entry in entries:
                self._finish(entry, entry.never_begun(STOPPING))
            return
        for entry in reversed(entries):
            self._pending[self._keys[entry.kind]].appendleft(entry)
        self._dispatch(self._keys[entries[0].kind])

    def changed(self, worker: Warm) -> None:
        """It has room again."""
        if worker.given >= self.recycle_after:
            worker.retiring = True
        self._retire_if_due(worker)
        self._dispatch(worker.key)
        self._room_changed()

    def _finish(self, entry: Entry, report: Report) -> None:
        if self._entries.pop(entry.token, None) is not None:
            self._report(report)

    # ------------------------------------------------------------------ time

    async def _watch(self) -> None:
        """Deadlines, slow hands and idle workers: looked at often while something runs, seldom otherwise."""
        slow = 0.0
        while True:
            if not self._entries:
                self._busy = trio.Event()
                with trio.move_on_after(max(0.05, min(self.idle_s / 4, 1.0)) if self._workers else math.inf):
                    await self._busy.wait()
            await trio.sleep(TICK_S)
            now = trio.current_time()
            for worker in list(self._workers):
                self._look_at(worker, now)
            for command in list(self._commands.values()):
                self._look_at_command(command, now)
            self._sweep_pending()
            if now >= slow:
                slow = now + 1.0
                self._recycle()

    def _look_at(self, worker: Warm, now: float) -> None:
        entry = worker.current
        if worker.ended_at is not None and now - worker.ended_at > self.kill_grace_s + ABANDON_S:
            worker.abandon()
        elif entry is not None and entry.begun_at is not None:
            age = now - entry.begun_at
            if age > entry.work.timeout_s:
                worker.end_attempt(entry, State.TIMED_OUT, f"timed out after {entry.work.timeout_s:g} s")
            elif age > RECALL_S and len(worker.outstanding) > 1:
                self.returned(worker.recall())
        elif worker.outstanding and worker.ended_at is None:
            first = next(iter(worker.outstanding.values()))
            if first.begun_at is None and first.overdue(STUCK_S):
                worker.fault = "the worker did not begin what it was given"
                worker.end(0)

    def _look_at_command(self, command: Command, now: float) -> None:
        entry = command.entry
        if command.ended_at is not None and now - command.ended_at > self.kill_grace_s + ABANDON_S:
            command.abandon()
        elif entry.begun_at is not None and now - entry.begun_at > entry.work.timeout_s:
            command.end(State.TIMED_OUT, f"timed out after {entry.work.timeout_s:g} s")

    def _sweep_pending(self) -> None:
        for queue in self._pending.values():
            while queue and queue[0].overdue(0):
                entry = queue.popleft()
                self._finish(entry, entry.never_begun("begun too late: no worker was free in time"))

    def _recycle(self) -> None:
        now = trio.current_time()
        for worker in self._workers:
            if worker.ready and not worker.retiring:
                old = now - worker.born > self.recycle_age_s or worker.rss() > self.recycle_rss
                idle = not worker.outstanding and now - worker.idle_since > self.idle_s
                worker.retiring = old or idle
            self._retire_if_due(worker)

    def _retire_if_due(self, worker: Warm) -> None:
        if worker.retiring and not worker.outstanding and worker.ended_at is None:
            worker.end(RETIRE_GRACE_S)

    def _end(self, entry: Entry, state: State, reason: str) -> None:
        if command := self._commands.get(entry.token):
            command.end(state, reason)
            return
        for worker in self._workers:
            if entry in worker.outstanding.values():
                worker.end_attempt(entry, state, reason)
                return
        self._pending[self._keys[entry.kind]].remove(entry)
        self._finish(entry, entry.never_begun(reason, wanted=True))
