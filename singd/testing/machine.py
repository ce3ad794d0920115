"""What a simulated node has beside its daemon: a clock that may be wrong, and processes that run scripted bodies.

A body is a script, `Body(seconds, state)`. It runs on the timeline, not in the daemon: as a worker process does, it
goes on while the daemon stands still, and it ends when the keeper finds the daemon dead or silent. Each begin and end
is noted by the witness, which is outside of every fault.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import trio

from singd.core.values import CLUSTER, Log, Report, State, Work
from singd.edges.memory.wire import Timeline
from singd.ports import ReportSink

LATEST_BEGIN_S = 5.0
"""A body does not begin later than this after its start was asked for."""
TERM_S = 2.0
"""From TERM to KILL, where the daemon is gone."""
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class SimulatedClock:
    """Wall time = `start` + trio's time + `skew`; the boot clock is trio's.

    Attributes:
        skew: How far it is ahead of the true time. Add to it, and it steps.
    """

    def __init__(self, start: datetime = START) -> None:
        self.start = start
        self.skew = timedelta()

    def now(self) -> datetime:
        """See `ports.Clock`."""
        return self.start + timedelta(seconds=trio.current_time()) + self.skew

    def boot(self) -> float:
        """See `ports.Clock`."""
        return trio.current_time()


@dataclass(frozen=True, slots=True)
class Body:
    """What a run of a schedule does.

    Attributes:
        seconds: How long it takes; `math.inf` hangs until its timeout.
        state: How it ends.
        retry_after_s: As a task that raises `RetryAfter`.
        skipped: As a task that raises `Skip` with this reason.
        stubborn_s: How long it goes on after TERM, at most until it is killed.
    """

    seconds: float = 0.0
    state: State = State.SUCCEEDED
    error: str = ""
    give_up: bool = False
    retry_after_s: float | None = None
    skipped: str | None = None
    stubborn_s: float = 0.0


HANGS = Body(math.inf)


@dataclass(slots=True)
class Begun:
    """What the witness saw of one body.

    Attributes:
        node: The machine it ran on: two may have one name.
        owner: Whose occurrence it is: the cluster's, or that machine's.
        at, ended: By the clock of its node.
        began_s, ended_s: By trio's clock, which is true.
        state: How it ended; None while it runs.
    """

    schedule: str
    due_at: datetime
    attempt: int
    at: datetime
    node: str = ""
    owner: str = ""
    epoch: int = 0
    token: str = ""
    began_s: float = 0.0
    ended: datetime | None = None
    ended_s: float | None = None
    state: State | None = None


@dataclass(slots=True, eq=False)
class _Running:
    """One body, and what was decided about its end."""

    work: Work
    body: Body
    begun: Begun
    state: State | None = None
    reason: str = ""


class ScriptedExecutor:
    """An executor (`ports.Executor`) whose bodies are scripts.

    Args:
        timeline: Where bodies run.
        clock: The node's.
        node: The machine's name, which no other has.
        script: The body of a work.
        witness: Told of each begin; the same object is told of its end.
        most: Bodies at a time.
    """

    def __init__(
        self,
        timeline: Timeline,
        clock: SimulatedClock,
        node: str,
        script: Callable[[Work], Body],
        witness: Callable[[Begun], None],
        most: int = 1000,
    ) -> None:
        self._timeline = timeline
        self._clock = clock
        self._node = node
        self._script = script
        self._witness = witness
        self._most = most
        self._running: dict[str, _Running] = {}
        self._dead = False
        self._empty = trio.Event()
        self._report: ReportSink = lambda report: None
        self._room_changed: Callable[[], None] = lambda: None

    def room(self, work_kind: str) -> int:
        """See `ports.Executor`."""
        return self._most - len(self._running)

    def hand_over(self, works: Sequence[Work]) -> None:
        """See `ports.Executor`."""
        for work in works:
            if not self._dead:
                self._begin(work)

    def _begin(self, work: Work) -> None:
        token, now = work.attempt.token, self._clock.now()
        if self._clock.boot() > work.go_at + LATEST_BEGIN_S:
            reason = "begun too late: the daemon was stopped or overloaded"
            self._report(Report(token, State.CANCELLED, reason, begun=False, finished_at=now.timestamp()))
            return
        what = work.attempt.occurrence
        owner = CLUSTER if what.owner == CLUSTER else self._node
        begun = Begun(
            work.schedule, what.due_at, work.attempt.number, now, self._node, owner, work.attempt.epoch, token,
            trio.current_time(),
        )  # fmt: skip
        self._witness(begun)
        running = self._running[token] = _Running(work, self._script(work), begun)
        late = running.body.seconds > work.timeout_s
        seconds = work.timeout_s if late else running.body.seconds
        then = partial(
            self._end, running, State.TIMED_OUT if late else running.body.state, running.body.error
        )
        self._timeline.at(begun.began_s + seconds, then)

    def cancel(self, token: str, reason: str) -> None:
        """See `ports.Executor`."""
        running = self._running.get(token)
        if running is not None and running.state is None:
            self._stop(running, State.CANCELLED, reason, math.inf)

    def _stop(self, running: _Running, state: State, reason: str, most_s: float) -> None:
        running.state, running.reason = state, reason
        after_s = min(running.body.stubborn_s, most_s)
        self._timeline.at(trio.current_time() + after_s, partial(self._end, running, state, reason))

    def log(self, token: str) -> Log | None:
        """See `ports.Executor`."""
        return Log()

    def die(self) -> None:
        """The daemon was killed: the keeper ends every body, and nobody is told."""
        self._dead = True
        for running in list(self._running.values()):
            self._stop(running, State.LOST, "killed", TERM_S)

    def fall_silent(self) -> None:
        """The daemon stands still: the keeper ends every body; the daemon will hear of it when it wakes."""
        for running in list(self._running.values()):
            self._stop(running, State.LOST, "the keeper ended it: the daemon was silent", TERM_S)

    async def serve(
        self, report: ReportSink, room_changed: Callable[[], None], *, task_status: trio.TaskStatus[None]
    ) -> None:
        """See `ports.Executor`."""
        self._report, self._room_changed = report, room_changed
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            for token in list(self._running):
                self.cancel(token, "the daemon is stopping")
            with trio.CancelScope(shield=True):
                while self._running and not self._dead:
                    self._empty = trio.Event()
                    await self._empty.wait()

    def _end(self, running: _Running, state: State, error: str) -> None:
        begun, body = running.begun, running.body
        if self._running.pop(begun.token, None) is not running:
            return
        ended = begun.ended = self._clock.now()
        begun.ended_s, begun.state = trio.current_time(), state
        own = running.state is None  # it ended by itself
        if not self._dead:
            self._report(
                Report(
                    begun.token, state, error, give_up=body.give_up, skipped=body.skipped if own else None,
                    retry_after_s=body.retry_after_s if own else None, started_at=begun.at.timestamp(),
                    finished_at=ended.timestamp(),
                )
            )  # fmt: skip
            self._room_changed()
        self._empty.set()
