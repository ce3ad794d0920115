"""Which worker runs which attempt: queues by plugin and version, hands, starting, recycling and retiring workers.

pending ──> a ready worker with room ──> finished
   ^    └── none? start one (a few at a time, `max_processes` in all)
   └── returned: a task before it in the same hand takes long, or its worker died
"""

from __future__ import annotations

import collections
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import trio

from singd.core.values import Report, State
from singd.edges.worker import environment
from singd.edges.worker.entry import Entry, Key
from singd.edges.worker.warm import RECALL_S, Warm
from singd.errors import EdgeError, KeeperGone
from singd.ports import Keeper, ProcessSpec

HAND_S = 0.020
"""A hand is about this much work."""
HAND_MOST = 64
STARTS_AT_ONCE = 4
"""Workers of one plugin that are being started at the same time."""
STUCK_S = 2.0
"""A worker that has held an attempt this long beyond its latest begin, without beginning anything, is broken."""
ABANDON_S = 5.0
"""After the kill grace a process is given this long to be gone."""
RETIRE_GRACE_S = 1.0
EWMA = 0.2
STOPPING = "the daemon is stopping"


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of `WorkerExecutor`, where they are explained."""

    max_processes: int
    recycle_after: int
    recycle_age_s: float
    recycle_rss: int
    idle_s: float
    kill_grace_s: float
    limits: Mapping[str, int]
    command_limits: Mapping[str, int]
    plugin_paths: tuple[str, ...]


class Pool:
    """The workers of one executor, and what waits for them (`warm.Owner`).

    Attributes:
        others: How many processes beside the workers count against `max_processes`.
        broken: Set when the keeper is gone.
        left: Set whenever a worker is gone.
    """

    def __init__(
        self, keeper: Keeper, settings: Settings, finish: Callable[[Entry, Report], None], room_changed: Callable[[], None],
        others: Callable[[], int],
    ) -> None:  # fmt: skip
        self.keeper, self.settings = keeper, settings
        self.finish, self.room_changed, self.others = finish, room_changed, others
        self.workers: list[Warm] = []
        self.nursery: trio.Nursery | None = None
        self.broken, self.left = trio.Event(), trio.Event()
        self.closed = False
        self._pending: dict[Key, collections.deque[Entry]] = {}
        self._seconds: dict[str, float] = {}
        self._keys: dict[str, Key] = {}

    # ------------------------------------------------------------------ taking and ending

    def room(self, kind: str) -> int:
        """How many more attempts of this task it would take; of "command": how many processes are free."""
        key = self._keys.get(kind)
        free = max(0, self.settings.max_processes - self._in_use() - self._promised(key))
        if kind == "command":
            return free
        hand = self._hand(kind)
        mine = [worker for worker in self.workers if worker.key == key and not worker.retiring]
        open_ = sum(worker.room(hand) if worker.ready else hand for worker in mine)
        idle = sum(1 for worker in mine if worker.ready and not worker.outstanding)  # counted as free above
        return max(0, open_ + (free - idle) * hand - len(self._pending.get(key, ()) if key else ()))

    def take(self, entries: Sequence[Entry]) -> None:
        """Queue and hand out."""
        for entry in entries:
            self._keys[entry.kind] = entry.key
            self._pending.setdefault(entry.key, collections.deque()).append(entry)
        for key in dict.fromkeys(entry.key for entry in entries):
            self._dispatch(key)

    def end(self, entry: Entry, state: State, reason: str) -> None:
        """End one attempt, wherever it is."""
        for worker in self.workers:
            if entry in worker.outstanding.values():
                worker.end_attempt(entry, state, reason)
                return
        self._pending[entry.key].remove(entry)
        self.finish(entry, entry.never_begun(reason, wanted=True))

    def close(self) -> None:
        """Take nothing more, end everything."""
        self.closed = True
        for queue in self._pending.values():
            while queue:
                entry = queue.popleft()
                self.finish(entry, entry.never_begun(STOPPING))
        for worker in list(self.workers):
            self.returned(worker.recall())
            for entry in list(worker.outstanding.values()):
                worker.end_attempt(entry, State.CANCELLED, STOPPING)
            worker.end(self.settings.kill_grace_s)

    # ------------------------------------------------------------------ who runs what

    def _hand(self, kind: str) -> int:
        seconds = self._seconds.get(kind)
        return 1 if seconds is None else max(1, min(HAND_MOST, int(HAND_S / max(seconds, 1e-6))))

    def _in_use(self) -> int:
        """Processes that cannot make place for another right now."""
        return self.others() + sum(1 for worker in self.workers if worker.outstanding or not worker.ready)

    def _promised(self, but: Key | None) -> int:
        """Processes that attempts already taken, of other plugins, still need."""
        return sum(self._wanted(key) for key in self._pending if key != but)

    def _wanted(self, key: Key) -> int:
        queue = self._pending.get(key)
        if not queue:
            return 0
        starting = sum(
            1 for worker in self.workers if worker.key == key and not worker.ready and not worker.retiring
        )
        return max(0, math.ceil(len(queue) / self._hand(queue[0].kind)) - starting)

    def _dispatch(self, key: Key) -> None:
        """Give what waits to the workers with the least to do; start workers for the rest."""
        queue = self._pending.get(key)
        if not queue:
            return
        ready = [
            worker for worker in self.workers if worker.key == key and worker.ready and not worker.retiring
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
            1 for worker in self.workers if worker.key == key and not worker.ready and not worker.retiring
        )
        for _ in range(min(self._wanted(key), STARTS_AT_ONCE - starting)):
            if len(self.workers) + self.others() >= self.settings.max_processes and not self._make_place(key):
                return
            worker = Warm(self, key, self.settings.kill_grace_s)
            self.workers.append(worker)
            assert self.nursery is not None
            self.nursery.start_soon(self._live, worker)

    def _make_place(self, key: Key) -> bool:
        """Retire the idle worker of another plugin that was idle longest; the place is free once it is gone."""
        if any(worker.ended_at is not None for worker in self.workers):
            return False  # one is on its way out already
        idle = [w for w in self.workers if w.ready and not w.outstanding and not w.retiring and w.key != key]
        if idle:
            min(idle, key=lambda worker: worker.idle_since).end(RETIRE_GRACE_S)
        return False

    async def _live(self, worker: Warm) -> None:
        try:
            await worker.live(self.keeper, self._spec, self.settings.plugin_paths)
        except KeeperGone:
            self.broken.set()
        except EdgeError as error:
            worker.fault = str(error)
        finally:
            self.workers.remove(worker)
            self.left.set()
        if not worker.given and not self.broken.is_set():
            self._blame_start(worker)
        if not self.broken.is_set():
            for key in list(self._pending):
                self._dispatch(key)
            self.room_changed()

    def _blame_start(self, worker: Warm) -> None:
        """A worker that died before it was given anything: one waiting attempt failed by it, or none would ever end."""
        queue = self._pending.get(worker.key)
        if queue and worker.fault and not worker.was_ready:
            entry = queue.popleft()
            entry.begin()
            self.finish(entry, entry.report(State.FAILED, f"no worker could be started: {worker.fault}"))

    def _spec(self, fds: dict[int, int], title: str) -> ProcessSpec:
        argv, env = environment.worker_argv(title), environment.allowed(os.environ)
        return ProcessSpec(argv=argv, env=env, fds=fds, limits=self.settings.limits, stop_s=RETIRE_GRACE_S)

    # ------------------------------------------------------------------ what workers tell

    def finished(self, entry: Entry, report: Report, seconds: float | None) -> None:
        """One attempt is over."""
        if seconds is not None:
            before = self._seconds.get(entry.kind, seconds)
            self._seconds[entry.kind] = before + EWMA * (seconds - before)
        self.finish(entry, report)

    def returned(self, entries: Sequence[Entry]) -> None:
        """These have not begun: to the front of the queue, in their order."""
        if not entries:
            return
        if self.closed:
            for entry in entries:
                self.finish(entry, entry.never_begun(STOPPING))
            return
        for entry in reversed(entries):
            self._pending.setdefault(entry.key, collections.deque()).appendleft(entry)
        self._dispatch(entries[0].key)

    def changed(self, worker: Warm) -> None:
        """It has room again."""
        if worker.given >= self.settings.recycle_after:
            worker.retiring = True
        self._retire_if_due(worker)
        self._dispatch(worker.key)
        self.room_changed()

    # ------------------------------------------------------------------ time

    def tick(self, now: float) -> None:
        """Deadlines, slow hands, workers that do not answer, attempts that waited too long."""
        for worker in list(self.workers):
            self._look_at(worker, now)
        self._sweep()

    def _look_at(self, worker: Warm, now: float) -> None:
        entry = worker.current
        if worker.ended_at is not None and now - worker.ended_at > self.settings.kill_grace_s + ABANDON_S:
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

    def _sweep(self) -> None:
        """Give up what waited too long, and try the rest again."""
        for key, queue in list(self._pending.items()):
            while queue and queue[0].overdue(0):
                entry = queue.popleft()
                self.finish(entry, entry.never_begun("begun too late: no worker was free in time"))
            if queue:
                self._dispatch(key)
            else:
                del self._pending[key]

    def recycle(self) -> None:
        """Retire what is old, large or idle."""
        now = trio.current_time()
        for worker in self.workers:
            if worker.ready and not worker.retiring:
                old = (
                    now - worker.born > self.settings.recycle_age_s
                    or worker.rss() > self.settings.recycle_rss
                )
                idle = not worker.outstanding and now - worker.idle_since > self.settings.idle_s
                worker.retiring = old or idle
            self._retire_if_due(worker)

    def _retire_if_due(self, worker: Warm) -> None:
        if worker.retiring and not worker.outstanding and worker.ended_at is None:
            worker.end(RETIRE_GRACE_S)
