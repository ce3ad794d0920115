"""The warm worker: takes tickets, runs one attempt after another, sends results. One plugin each.

    take a ticket ── its work (from the stream) ── too late? ── mark in the output ── body ── result on the stream
          ^                                                                                     │
          └─────────────────────────────────────────────────────────────────────────────────────┘

One thread, so that plugins may fork. `def` tasks run in it directly; for an `async def` the loop moves into
trio and stays there while async tasks come, because starting trio costs more than a short task. SIGTERM ends an
idle worker at once, raises `Ended` in a `def` body, cancels the scope of an `async def` body, and lets a
worker that is between a body and its result send that result first.

The keeper made this process a subreaper: whatever a task forks away is a child of ours afterwards, so "left processes
behind" is one waitpid away, and the daemon then has the keeper end us and the rest.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from datetime import datetime
from types import FrameType
from typing import Any

from singd.edges.worker import wire
from singd.edges.worker.calling import Loaded, Tasks, context
from singd.edges.worker.outcome import Ended, check_result, describe, fields_of, print_traceback
from singd.edges.worker.surroundings import Orders, Surroundings, left_behind
from singd.edges.worker.wire import Ordered
from singd.plugin import Context

IDLE, BUSY, BODY = "idle", "busy", "body"
PROGRESS_S = 0.1
"""At most one progress frame in this time."""


class Worker:
    """The loop and its state."""

    def __init__(self, orders: Orders, around: Surroundings) -> None:
        self.orders, self.around = orders, around
        self.send = orders.send
        self.tasks = Tasks()
        self.phase = IDLE
        self.ending = False
        self.cancel_body: Any = None
        self.progress_at = 0.0
        hello = orders.read_line()
        self.nonce = str(hello["nonce"]).encode()
        sys.path.extend(hello["paths"])

    def run(self) -> None:
        """Until told to end, or the daemon closes the stream."""
        self.send({"ready": os.getpid()})
        ordered = self.take()
        while True:
            loaded = self.begin(ordered)
            if loaded is not None and loaded.is_async:
                ordered = self.run_in_trio(ordered, loaded)
                continue
            if loaded is not None:
                self.attempt(ordered, loaded)
            ordered = self.take()

    def take(self) -> Ordered:
        """The next attempt that is ours; from here on nobody else runs it."""
        while True:
            self.phase = IDLE
            if self.ending:
                raise SystemExit(0)
            try:
                ticket = self.orders.ticket()
            except BlockingIOError:
                self.orders.wait()
                continue
            self.phase = BUSY
            return self.orders.work(ticket)

    # ------------------------------------------------------------------ one attempt

    def begin(self, ordered: Ordered) -> Loaded | None:
        """Mark the begin and load the task; None if it is too late or there is no such task (then it is answered)."""
        if time.clock_gettime(time.CLOCK_BOOTTIME) > ordered.go_at + wire.LATEST_BEGIN_S:
            now = time.time()
            self.send({"index": ordered.index, "state": "cancelled", "begun": False, "from": now, "to": now,
                       "error": "begun too late: the daemon was stopped or overloaded"})  # fmt: skip
            return None
        self.around.restore(self.on_term)
        self.around.write(wire.mark(self.nonce, ordered.index))
        began = time.time()
        try:
            self.phase = BODY
            loaded = self.tasks.load(ordered.task, ordered.entry_point)
            self.phase = BUSY
            return loaded
        except BaseException as error:
            self.phase = BUSY
            fields = self.failure(error)
            fields["error"] = fields["error"] and f"the task could not be loaded: {fields['error']}"
            self.answer(ordered, began, fields)
            return None

    def attempt(self, ordered: Ordered, loaded: Loaded) -> None:
        """Run a `def` body."""
        began = time.time()
        try:
            args = loaded.binder.bind(ordered.args)
            ctx = self.context(ordered, loaded)
            self.phase = BODY
            if self.ending:
                raise Ended
            value = loaded.function(ctx, **args)
            self.phase = BUSY
            fields: dict[str, Any] = {"state": "succeeded", "result": check_result(value)}
        except BaseException as error:
            self.phase = BUSY
            fields = self.failure(error)
        self.answer(ordered, began, fields)

    def failure(self, error: BaseException) -> dict[str, Any]:
        """The report's fields for what a body raised; its traceback goes to the log."""
        self.around.restore(self.on_term)
        if isinstance(error, MemoryError):
            traceback.clear_frames(error.__traceback__)  # what filled the memory hangs there
        print_traceback(error)
        return fields_of(error)

    def answer(self, ordered: Ordered, began: float, fields: dict[str, Any]) -> None:
        """Send the result; a task that leaves processes behind has failed, whatever it says."""
        ended = time.time()
        self.around.flush()
        if left := left_behind():
            fields |= {
                "state": "failed",
                "error": f"left {left} process{'es' * (left > 1)} behind",
                "left": left,
            }
        self.send({"index": ordered.index, "from": began, "to": ended, **fields})

    def context(self, ordered: Ordered, loaded: Loaded) -> Context:
        def progress(done: int, total: int, note: str) -> None:
            now = time.monotonic()
            if now >= self.progress_at or done >= total:
                self.progress_at = now + PROGRESS_S
                self.send(
                    {"index": ordered.index, "progress": [int(done), int(total), wire.clip(str(note), 1000)]}
                )

        return context(
            schedule=ordered.schedule, due_at=datetime.fromisoformat(ordered.due_at), attempt=ordered.attempt, epoch=ordered.epoch,
            idempotency_key=ordered.idempotency_key, timeout_s=ordered.timeout_s, node=ordered.node, role=ordered.role,
            state_dir=self.tasks.state_dir(ordered.state_dir), databases=ordered.databases, log=loaded.log,
            cancelled=lambda: self.ending, report_progress=progress,
        )  # fmt: skip

    # ------------------------------------------------------------------ async tasks

    def run_in_trio(self, first: Ordered, loaded: Loaded) -> Ordered:
        """Run this and the following async attempts in one trio loop; answers the first work that is not one."""
        import trio

        async def loop(ordered: Ordered, loaded: Loaded | None) -> Ordered:
            while True:
                if loaded is not None:
                    await self.attempt_async(ordered, loaded)
                await trio.lowlevel.checkpoint()
                ordered = self.take()
                if not self.tasks.known_async(ordered.entry_point):
                    return ordered
                loaded = self.begin(ordered)

        return trio.run(loop, first, loaded)

    async def attempt_async(self, ordered: Ordered, loaded: Loaded) -> None:
        import trio

        token = trio.lowlevel.current_trio_token()
        began = time.time()
        try:
            args = loaded.binder.bind(ordered.args)
            ctx = self.context(ordered, loaded)
            value = None
            with trio.CancelScope() as scope:
                self.cancel_body = lambda: token.run_sync_soon(scope.cancel)
                self.phase = BODY
                if self.ending:
                    scope.cancel()
                value = await loaded.function(ctx, **args)
            self.phase = BUSY
            if scope.cancelled_caught:
                raise Ended
            fields: dict[str, Any] = {"state": "succeeded", "result": check_result(value)}
        except BaseException as error:
            self.phase = BUSY
            fields = self.failure(error)
        finally:
            self.cancel_body = None
        self.answer(ordered, began, fields)

    # ------------------------------------------------------------------ the process around the body

    def on_term(self, _number: int, _frame: FrameType | None) -> None:
        """SIGTERM."""
        first, self.ending = not self.ending, True
        if self.phase is IDLE:
            raise SystemExit(0)
        if self.phase is BODY and self.cancel_body is not None:
            self.cancel_body()
        elif self.phase is BODY and first:
            raise Ended


def main() -> None:
    """Run a worker on the descriptors that the daemon gave it."""
    around = Surroundings()
    try:
        worker = Worker(Orders(), around)
        signal.signal(signal.SIGTERM, worker.on_term)
        worker.run()
    except SystemExit:
        os._exit(0)  # no atexit handlers of plugins: nothing waits for them
    except BaseException as error:
        print(f"singd worker: {describe(error)}", file=sys.stderr, flush=True)
        os._exit(70)
