"""Runs attempts of cheap, trusted async tasks in the daemon's own trio loop (`isolation = "inline"`).

One trio task and one cancel scope an attempt, nothing else: no process, no thread, no queue. What an attempt logs
through its `ctx.log`, or any logger, is kept with it: a handler on the root logger looks up whose context it is in.
A body can block the loop and can swallow its cancellation; that is what "trusted" means, and why it is not the default.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any

import trio

from singd.core.values import NO_LOG, Log, Report, State, TaskCall, Work
from singd.edges.worker.calling import Loaded, Tasks, context
from singd.edges.worker.entry import Entry
from singd.edges.worker.outcome import check_result, fields_of
from singd.errors import PluginError
from singd.ports import ReportSink

Loader = Callable[[Work], Callable[..., Coroutine[Any, Any, Any]]]
STOPPING = "the daemon is stopping"
_current: ContextVar[Entry | None] = ContextVar("singd_inline_attempt", default=None)


class InlineExecutor:
    """Async tasks in this process (`ports.Executor`).

    Args:
        loader: Answers the function of a work; the default imports its entry point.
        max_attempts: Attempts running at the same time.
    """

    def __init__(self, loader: Loader | None = None, *, max_attempts: int = 10_000) -> None:
        self.max_attempts = max_attempts
        self._loader = loader
        self._tasks = Tasks()
        self._loaded: dict[tuple[str, str], Loaded] = {}
        self._entries: dict[str, Entry] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._report: ReportSink = lambda report: None
        self._room_changed: Callable[[], None] = lambda: None
        self._full = self._closed = False

    # ------------------------------------------------------------------ the port

    def room(self, work_kind: str) -> int:
        """How many more attempts it would take."""
        if self._closed or self._nursery is None:
            return 0
        left = max(0, self.max_attempts - len(self._entries))
        self._full = left == 0
        return left

    def hand_over(self, works: Sequence[Work]) -> None:
        """Take started attempts; each is answered by exactly one report."""
        for work in works:
            entry = Entry(work)
            if self._closed or self._nursery is None:
                self._report(entry.never_begun(STOPPING))
            else:
                self._entries[entry.token] = entry
                self._nursery.start_soon(self._attempt, entry)

    def cancel(self, token: str, reason: str) -> None:
        """End an attempt by cancelling its scope."""
        entry, scope = self._entries.get(token), self._scopes.get(token)
        if entry is not None and entry.ending is None:
            entry.ending, entry.reason = State.CANCELLED, reason
            if scope is not None:
                scope.cancel()

    def log(self, token: str) -> Log | None:
        """What a running attempt has logged so far."""
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
        """Its life. On cancellation every attempt is cancelled and reported before it returns."""
        self._report, self._room_changed = report, room_changed
        handler = _AttemptHandler()
        logging.getLogger().addHandler(handler)
        logging.getLogger("singd.task").setLevel(logging.INFO)
        try:
            async with trio.open_nursery() as outer:
                over = trio.Event()
                await outer.start(self._sheltered, over)
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    self._closed = True
                    for token in list(self._entries):
                        self.cancel(token, STOPPING)
                    over.set()
        finally:
            logging.getLogger().removeHandler(handler)

    async def _sheltered(self, over: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        """Attempts live here, where only their own scopes cancel them, so that each is told why."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await over.wait()

    # ------------------------------------------------------------------ one attempt

    async def _attempt(self, entry: Entry) -> None:
        token, timeout = entry.token, entry.work.timeout_s
        if entry.ending is not None or entry.overdue(0):
            reason = entry.reason or "begun too late: the daemon was stopped or overloaded"
            self._finish(
                entry, entry.never_begun(reason, wanted=entry.ending is not None and not self._closed)
            )
            return
        entry.begin()
        assert entry.begun_at is not None
        fields: dict[str, Any] = {"state": "cancelled"}
        _current.set(entry)
        try:
            loaded = self._load(entry.work)
            args = loaded.binder.bind(entry.work.call.args) if isinstance(entry.work.call, TaskCall) else {}
            ctx = self._context(entry, loaded)
            with trio.CancelScope(deadline=entry.begun_at + timeout) as scope:
                self._scopes[token] = scope
                value = await loaded.function(ctx, **args)
                fields = {"state": "succeeded", "result": check_result(value)}
        except (
            BaseException
        ) as error:  # SystemExit and groups of it too: a task's failure never leaves its attempt
            fields = fields_of(error)
        self._finish(entry, self._judge(entry, fields, trio.current_time() - entry.begun_at))

    def _judge(self, entry: Entry, fields: dict[str, Any], seconds: float) -> Report:
        state = State(fields.pop("state"))
        if entry.ending is None and (seconds > entry.work.timeout_s or state is State.CANCELLED):
            return entry.report(State.TIMED_OUT, f"timed out after {entry.work.timeout_s:g} s")
        if entry.ending is not None and state is not State.SUCCEEDED:
            return entry.report(State.CANCELLED, entry.reason)
        return entry.report(state, **fields)

    def _finish(self, entry: Entry, report: Report) -> None:
        del self._entries[entry.token]
        self._scopes.pop(entry.token, None)
        self._report(report)
        if self._full:
            self._full = False
            self._room_changed()

    def _load(self, work: Work) -> Loaded:
        key = (work.entry_point, work.plugin_version)
        found = self._loaded.get(key)
        if found is None:
            name = work.call.task if isinstance(work.call, TaskCall) else ""
            found = (
                Loaded(name, self._loader(work)) if self._loader else self._tasks.load(name, work.entry_point)
            )
            if not found.is_async:
                raise PluginError(f"{name} is no async def: only those may run inline")
            if len(self._loaded) < 1000:
                self._loaded[key] = found
        return found

    def _context(self, entry: Entry, loaded: Loaded) -> Any:
        work, attempt = entry.work, entry.work.attempt

        def progress(done: int, total: int, note: str) -> None:
            entry.progress = (int(done), int(total), str(note)[:1000])

        return context(
            schedule=work.schedule, due_at=attempt.occurrence.due_at, attempt=attempt.number, epoch=attempt.epoch,
            idempotency_key=work.idempotency_key, timeout_s=work.timeout_s, node=work.node, role=work.role,
            state_dir=self._tasks.state_dir(str(work.state_dir)), databases=work.databases, log=loaded.log,
            cancelled=lambda: entry.ending is not None, report_progress=progress,
        )  # fmt: skip


class _AttemptHandler(logging.Handler):
    """Keeps what is logged inside an attempt's context; everything else passes by."""

    def emit(self, record: logging.LogRecord) -> None:
        """Append the line to the attempt's log."""
        entry = _current.get()
        if entry is None:
            return
        try:
            line = f"{record.levelname} {record.getMessage()}\n"
            if record.exc_info:
                line += logging.Formatter().formatException(record.exc_info) + "\n"
        except Exception as error:  # a format that does not fit its arguments is the task's own affair
            line = f"{record.levelname} a line that could not be formatted: {type(error).__name__}\n"
        entry.write(line.encode("utf-8", "backslashreplace"))
