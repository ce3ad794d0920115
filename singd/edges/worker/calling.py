"""From a work to a call: load the task, convert its arguments, build its context. Runs where the task's code runs."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from singd.edges.worker.params import Binder
from singd.plugin import Context, Database

KEPT_TASKS = 1000


class Loaded:
    """One task's function, ready to be called."""

    __slots__ = ("binder", "function", "is_async", "log")

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.function = function
        self.binder = Binder(function)
        self.is_async = inspect.iscoroutinefunction(function)
        self.log = logging.getLogger(f"singd.task.{name}")


class Tasks:
    """The tasks loaded so far, by entry point."""

    def __init__(self) -> None:
        self._loaded: dict[str, Loaded] = {}
        self._directories: dict[str, Path] = {}

    def known_async(self, entry_point: str) -> bool:
        """Whether the task is loaded and an `async def`."""
        return entry_point in self._loaded and self._loaded[entry_point].is_async

    def load(self, name: str, entry_point: str) -> Loaded:
        """Import a task once.

        Raises:
            Exception: Whatever its module raises.
        """
        found = self._loaded.get(entry_point)
        if found is None:
            found = Loaded(name, EntryPoint(name, entry_point, "singd.tasks").load())
            if len(self._loaded) < KEPT_TASKS:
                self._loaded[entry_point] = found
        return found

    def state_dir(self, text: str) -> Path:
        """The directory, made if need be, readable by this user only."""
        path = self._directories.get(text)
        if path is None:
            path = Path(text)
            if path.is_absolute():
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if len(self._directories) < KEPT_TASKS:
                self._directories[text] = path
        return path


def context(
    *, schedule: str, due_at: datetime, attempt: int, epoch: int, idempotency_key: str, timeout_s: float, node: str, role: str,
    state_dir: Path, databases: Mapping[str, str], log: logging.Logger, cancelled: Callable[[], bool],
    report_progress: Callable[[int, int, str], None],
) -> Context:  # fmt: skip
    """The context of an attempt that begins now."""
    deadline = datetime.fromtimestamp(time.time(), UTC) + timedelta(seconds=timeout_s)
    given = {name: Database(name, conninfo) for name, conninfo in databases.items()} if databases else {}
    return Context(
        schedule,
        due_at,
        attempt,
        epoch,
        idempotency_key,
        deadline,
        node,
        role,
        state_dir,
        given,
        log,
        cancelled,
        report_progress,
    )
