"""The executors, shared by the runners: who has room, who gets the work, and whose report it is.

The cluster's attempts and the node's own have a runner each, because each writes to a ledger of its own and one that is
away must not hold up the other. They share the machine, so the room is counted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import trio

from singd.core.values import Isolation, Log, Report, Schedule, Work
from singd.ports import Executor

RECORD_S = 5.0
"""For recording the last ends, once everything was ended: a ledger that is away is not waited for longer."""


class Recorder(Protocol):
    """A runner, as the executors see it."""

    def knows(self, token: str) -> bool: ...

    def report(self, report: Report) -> None: ...

    def room_changed(self) -> None: ...

    async def record(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Its loops; only the scope that it gives ends them."""
        ...

    async def drained(self) -> None: ...


class Executing:
    """Owns the executors; `serve` is their life, and that of the runners."""

    def __init__(self, executors: Mapping[Isolation, Executor]) -> None:
        self._executors = executors
        self._pending = dict.fromkeys(executors, 0)
        self._runners: list[Recorder] = []

    def join(self, runner: Recorder) -> None:
        """From now on the runner is told of the ends of its attempts."""
        self._runners.append(runner)

    def room(self, schedule: Schedule) -> int:
        """How many more attempts of this schedule's task could be started now."""
        isolation = schedule.policy.isolation
        return self._executors[isolation].room(schedule.task) - self._pending[isolation]

    def reserve(self, isolation: Isolation, count: int) -> None:
        """Attempts are on their way (or, negative, arrived): their room is taken."""
        self._pending[isolation] += count

    def hand_over(self, works: Iterable[Work]) -> None:
        """Give started attempts to their executors; never blocks."""
        sorted_out: dict[Isolation, list[Work]] = {}
        for work in works:
            sorted_out.setdefault(work.isolation, []).append(work)
        for isolation, ready in sorted_out.items():
            self._executors[isolation].hand_over(ready)

    def cancel(self, isolation: Isolation, token: str, reason: str) -> None:
        """End an attempt; its report says why."""
        self._executors[isolation].cancel(token, reason)

    def log(self, isolation: Isolation, token: str) -> Log | None:
        """What a running attempt has written so far."""
        return self._executors[isolation].log(token)

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Until cancelled: then the executors end what runs, and the ends are recorded where the ledger is there."""
        async with trio.open_nursery() as nursery:
            recording = [await nursery.start(runner.record) for runner in self._runners]
            try:
                async with trio.open_nursery() as executing:
                    for executor in self._executors.values():
                        await executing.start(executor.serve, self._report, self._room_changed)
                    task_status.started()
                    await trio.sleep_forever()
            finally:
                with trio.move_on_after(RECORD_S, shield=True):
                    await _all_drained(self._runners)
                for scope in recording:
                    scope.cancel()

    def _report(self, report: Report) -> None:
        for runner in self._runners:
            if runner.knows(report.token):
                runner.report(report)

    def _room_changed(self) -> None:
        for runner in self._runners:
            runner.room_changed()


async def _all_drained(runners: Sequence[Recorder]) -> None:
    async with trio.open_nursery() as nursery:
        for runner in runners:
            nursery.start_soon(runner.drained)
