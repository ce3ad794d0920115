"""The runner: the way of an attempt from its claim to its end. It lives through changes of leader.

      launch -> [to start] -> ledger.start -> executor -> report -> [to finish] -> ledger.finish -> on_end
                             durably running                        decide a retry   durably ended

Rules of this file:
- A body begins only after the ledger answered that the attempt is running, and not later than 5 s after it was asked.
- Starts and finishes go to the ledger in batches: whatever gathered while the last statement ran is the next one.
- A report is kept until the ledger took it; the number of attempts in progress bounds the buffers.
- The token fences each write, so nothing here asks who leads.
- An attempt that the cluster took for lost ends if another may follow (at_least_once); otherwise it goes on, and
  its end replaces `lost`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import trio

from singd.attempts import Ended, Run, ended_of, event_of, finish_of
from singd.core.units import counted
from singd.core.values import Finish, Log, Report, Schedule, State, Work
from singd.errors import EdgeError
from singd.events import Emit, Notice, ResultRefused
from singd.executing import Executing
from singd.ports import Clock, Ledger

BEAT_S = 5.0
RUN_TTL_S = 15.0
"""An attempt whose token was not renewed for so long may be taken for lost by others."""
START_PATIENCE_S = 10.0
"""Claimed but never started: settled by the leader after this long, so no start is asked for later."""
RETRY_FIRST_S = 0.1
RETRY_MOST_S = 5.0
BATCH = 5_000


class Provide(Protocol):
    """Makes the work of an attempt: resolves plugin, arguments, databases and directories."""

    def __call__(self, run: Run, go_at: float) -> Work:
        """Raises PluginError or EdgeError if the schedule cannot run now: the cause of a failed attempt."""
        ...


class Runner:
    """Starts attempts, keeps their tokens alive and records their ends."""

    def __init__(
        self,
        ledger: Ledger,
        executing: Executing,
        provide: Provide,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._executing = executing
        self._provide = provide
        self._clock = clock
        self._emit = emit
        self._runs: dict[str, Run] = {}
        self._to_start: list[Run] = []
        self._to_finish: list[Report] = []
        self._start_bell = trio.Event()
        self._finish_bell = trio.Event()
        self._idle = trio.Event()
        self._dropped = trio.Event()
        self.on_end: Callable[[Sequence[Ended]], None] = lambda ended: None
        self.on_room: Callable[[], None] = lambda: None
        executing.join(self)

    def running(self) -> Sequence[Run]:
        """The attempts in progress, oldest first."""
        return tuple(self._runs.values())

    def knows(self, token: str) -> bool:
        """Whether the attempt with this token is in progress here."""
        return token in self._runs

    def room(self, schedule: Schedule) -> int:
        """How many more attempts of this schedule's task could be started now."""
        return self._executing.room(schedule)

    def launch(self, runs: Iterable[Run]) -> None:
        """Take claimed attempts; never blocks."""
        for run in runs:
            self._runs[run.attempt.token] = run
            self._to_start.append(run)
            self._executing.reserve(run.schedule.policy.isolation, 1)
        self._start_bell.set()

    def runs(self, occurrence_id: int) -> bool:
        """Whether an attempt of the occurrence is in progress here."""
        return any(run.attempt.occurrence_id == occurrence_id for run in self._runs.values())

    def cancel(self, occurrence_id: int, reason: str) -> None:
        """End the attempt of an occurrence, if it is in progress here; none follows it."""
        for run in self._runs.values():
            if run.attempt.occurrence_id == occurrence_id and not run.unwanted:
                run.unwanted = reason
                self._cancel(run, reason)

    async def ended(self, occurrence_id: int) -> None:
        """Wait until no attempt of the occurrence is in progress here: its end is recorded."""
        while self.runs(occurrence_id):
            await self._dropped.wait()

    def log(self, occurrence_id: int) -> Log | None:
        """What a running attempt of the occurrence has written so far."""
        for token, run in self._runs.items():
            if run.attempt.occurrence_id == occurrence_id:
                return self._executing.log(run.schedule.policy.isolation, token)
        return None

    async def drained(self) -> None:
        """Wait until nothing is in progress."""
        while self._runs:
            self._idle = trio.Event()
            await self._idle.wait()

    async def record(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Its loops: only the scope that is given here ends them, so that ends are recorded to the last."""
        with trio.CancelScope(shield=True) as scope:
            async with trio.open_nursery() as nursery:
                for loop in (self._start_loop, self._finish_loop, self._beat_loop):
                    nursery.start_soon(loop)
                task_status.started(scope)

    # -- start ------------------------------------------------------------------------------------

    async def _start_loop(self) -> None:
        while True:
            await self._start_bell.wait()
            self._start_bell = trio.Event()
            while self._to_start:
                batch, self._to_start = self._to_start[:BATCH], self._to_start[BATCH:]
                await self._start(batch)

    async def _start(self, batch: Sequence[Run]) -> None:
        """Make the attempts durably running, then give them to their executors."""
        sent = self._clock.boot()
        live = await self._ask_start(batch)
        works: list[Work] = []
        for run in batch:
            token = run.attempt.token
            self._executing.reserve(run.schedule.policy.isolation, -1)
            if token not in live:
                self._drop(token)
                continue
            run.renewed = sent
            self._hand_to(works, run, sent)
        self._executing.hand_over(works)

    async def _ask_start(self, batch: Sequence[Run]) -> set[str]:
        """ledger.start, asked again while the claims are young; none live if the ledger stays away."""
        tokens = [run.attempt.token for run in batch]
        wait_s = RETRY_FIRST_S
        while self._clock.boot() - batch[0].claimed < START_PATIENCE_S:
            try:
                return await self._ledger.start(tokens)
            except EdgeError as error:
                self._emit(Notice("warning", f"cannot record starts: {error}; trying again"))
                await trio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_MOST_S)
        return set()

    def _hand_to(self, works: list[Work], run: Run, sent: float) -> None:
        if run.unwanted:
            self.report(Report(run.attempt.token, State.CANCELLED, run.unwanted, begun=False, give_up=True))
            return
        try:
            works.append(self._provide(run, sent))
        except (
            Exception
        ) as error:  # a schedule that cannot be resolved is one failed attempt, whatever the cause
            now = self._clock.now().timestamp()
            self.report(
                Report(
                    run.attempt.token,
                    State.FAILED,
                    str(error) or repr(error),
                    started_at=now,
                    finished_at=now,
                )
            )

    # -- finish -----------------------------------------------------------------------------------

    def report(self, report: Report) -> None:
        """An executor's word on the end of an attempt."""
        self._to_finish.append(report)
        self._finish_bell.set()

    def room_changed(self) -> None:
        """An executor could take more."""
        self.on_room()

    async def _finish_loop(self) -> None:
        while True:
            await self._finish_bell.wait()
            self._finish_bell = trio.Event()
            while self._to_finish:
                batch, self._to_finish = self._to_finish[:BATCH], self._to_finish[BATCH:]
                await self._finish(batch)

    async def _finish(self, reports: Sequence[Report]) -> None:
        now = self._clock.now()
        finishes = [
            finish_of(self._runs[report.token], report, now)
            for report in reports
            if report.token in self._runs
        ]
        accepted = await self._record(finishes)
        ended = [self._ended(finish, finish.token in accepted) for finish in finishes]
        self.on_end([end for end in ended if end is not None])

    async def _record(self, finishes: Sequence[Finish]) -> set[str]:
        """ledger.finish, asked until it answers: an end that happened must not be forgotten."""
        wait_s = RETRY_FIRST_S
        while True:
            try:
                return await self._ledger.finish(finishes)
            except EdgeError as error:
                self._emit(
                    Notice("warning", f"cannot record {counted(len(finishes), 'end')}: {error}; trying again")
                )
                await trio.sleep(wait_s)
                wait_s = min(wait_s * 2, RETRY_MOST_S)

    def _ended(self, finish: Finish, accepted: bool) -> Ended | None:
        run = self._runs[finish.token]
        self._drop(finish.token)
        if not accepted:
            self._emit(ResultRefused(run.attempt.run_id, run.schedule.name, run.attempt.number))
            return None
        self._emit(event_of(run, finish))
        return ended_of(run, finish)

    def _drop(self, token: str) -> None:
        del self._runs[token]
        self._dropped.set()
        self._dropped = trio.Event()
        if not self._runs:
            self._idle.set()

    # -- beat -------------------------------------------------------------------------------------

    async def _beat_loop(self) -> None:
        while True:
            await trio.sleep(self._patience_s())
            sent = self._clock.boot()
            self._end_unrenewed(sent)
            due = [run for run in self._runs.values() if run.renewed and sent - run.renewed >= BEAT_S * 0.9]
            if due:
                await self._beat(due, sent)

    async def _beat(self, runs: Sequence[Run], sent: float) -> None:
        try:
            with trio.fail_after(self._patience_s()):
                live = await self._ledger.beat([run.attempt.token for run in runs])
        except (EdgeError, trio.TooSlowError):
            return  # what that means for which attempt, only time tells
        for run in runs:
            if run.attempt.token in live:
                run.renewed = sent
            elif self.knows(run.attempt.token) and run.may_follow:
                self._cancel(run, "its token was taken: the cluster counts this attempt as lost")

    def _patience_s(self) -> float:
        """Until the next beat; less where an attempt that another may follow is about to be RUN_TTL_S without one."""
        followed = [run.renewed for run in self._runs.values() if run.renewed and run.may_follow]
        left_s = min(followed) + RUN_TTL_S - self._clock.boot() if followed else BEAT_S
        return min(max(left_s, BEAT_S / 10), BEAT_S)

    def _end_unrenewed(self, now: float) -> None:
        """Others start it again once it counts as lost: the kill grace later it must be over."""
        for run in self._runs.values():
            if run.renewed and run.may_follow and now - run.renewed >= RUN_TTL_S - BEAT_S / 100:
                self._cancel(
                    run, "its token could not be renewed: the ledger is away, and delivery = at_least_once"
                )

    def _cancel(self, run: Run, reason: str) -> None:
        if run.renewed:  # else it has no executor yet: it does not begin
            self._executing.cancel(run.schedule.policy.isolation, run.attempt.token, reason)
