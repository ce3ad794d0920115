"""Standing still: one simulated node stops, as a process does at SIGSTOP, while the rest of the world goes on.

A node's tasks are those that inherit its place in their context. While the place stands still, nothing runs them:
trio's queue of runnable tasks is replaced by one that puts theirs aside. What happens to them meanwhile is what happens
to a stopped process: answers arrive and wait, deadlines pass unseen. At the thaw answers come first and passed
deadlines second, as in trio's own loop, which looks at the sockets before it looks at the clock; so a beat that was
answered in time counts as answered, though its patience is long over.

This uses names of trio's that are not public; the dependency is pinned to the versions it was written for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import outcome
import trio
from trio._core._run import GLOBAL_RUN_CONTEXT

PLACE: ContextVar[object | None] = ContextVar("singd_place", default=None)
"""Where the present task belongs; set in the first task of a simulated process."""


class _Queue(deque[Any]):
    """Trio's runnable tasks, but for those of places that stand still."""

    def __init__(self, tasks: Any, still: dict[object, list[Any]]) -> None:
        super().__init__(tasks)
        self._still = still

    def append(self, task: Any) -> None:
        aside = self._still.get(task.context.get(PLACE))
        if aside is None:
            super().append(task)
        else:
            aside.append(task)


class Standstill:
    """Which places of one trio run stand still."""

    def __init__(self) -> None:
        self._still: dict[object, list[Any]] = {}
        self._passed: dict[object, list[tuple[Any, Callable[[Any], Any], Any]]] = {}

    def freeze(self, place: object, root: trio.lowlevel.Task) -> None:
        """Stop the tasks at `place`, which are among the descendants of `root`."""
        runner = GLOBAL_RUN_CONTEXT.runner
        self._still[place], self._passed[place] = [], []
        if not isinstance(runner.runq, _Queue):
            runner.runq = _Queue(runner.runq, self._still)
        for task in _tree(root):
            if task.context.get(PLACE) is place and task._abort_func is not None:
                task._abort_func = self._deferred(place, task, task._abort_func)

    def _deferred(self, place: object, task: Any, abort: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def later(raise_cancel: Any) -> trio.lowlevel.Abort:
            if place not in self._still:
                return abort(raise_cancel)  # type: ignore[no-any-return]
            self._passed[place].append((task, abort, raise_cancel))
            return trio.lowlevel.Abort.FAILED

        return later

    def thaw(self, place: object) -> None:
        """Let them run: first what was answered, then what should have been cancelled and still waits."""
        answered, passed = self._still.pop(place), self._passed.pop(place)
        runner = GLOBAL_RUN_CONTEXT.runner
        for task in answered:
            runner.runq.append(task)
        for task, abort, raise_cancel in passed:
            if task._next_send_fn is None and abort(raise_cancel) is trio.lowlevel.Abort.SUCCEEDED:
                trio.lowlevel.reschedule(task, outcome.capture(raise_cancel))
        if not self._still:
            runner.runq = deque(runner.runq)


def _tree(task: Any) -> Iterator[Any]:
    """A task and all its descendants."""
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _tree(child)
