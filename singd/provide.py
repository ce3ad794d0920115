"""Makes the work of an attempt from its schedule: where the task's code is, its databases, its directory.

What does not change between attempts of a schedule is resolved once; credentials are asked for each time
the provider is made, and are never kept anywhere but in the work itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from singd.attempts import Run
from singd.core.catalogue import TaskInfo
from singd.core.values import Occurrence, Schedule, SqlCall, TaskCall, Work
from singd.errors import PluginError
from singd.ports import NodeInfo

Conninfo = Callable[[str, str], str]
"""(database, role) -> conninfo with credentials; raises EdgeError where they cannot be had."""


@dataclass(frozen=True, slots=True)
class _Template:
    """The part of a work that all attempts of a schedule share."""

    plugin: str
    plugin_version: str
    entry_point: str
    databases: Mapping[str, str]
    state_dir: Path


class Provider:
    """A `runner.Provide`.

    Args:
        node: Who runs it.
        tasks: The catalogue's.
        conninfo: Resolves databases.
        state_dir: The daemon's; a task's own directory is `tasks/<task>` in it.
    """

    def __init__(
        self, node: NodeInfo, tasks: Mapping[str, TaskInfo], conninfo: Conninfo, state_dir: Path
    ) -> None:
        self._node = node
        self._tasks = tasks
        self._conninfo = conninfo
        self._directory = cache(
            lambda task: state_dir / "tasks" / task
        )  # one path a task, not one a schedule
        self._templates: dict[str, _Template] = {}

    def __call__(self, run: Run, go_at: float) -> Work:
        """The work of one attempt.

        Raises:
            PluginError: The task is not installed (any more).
            EdgeError: A database's credentials cannot be had.
        """
        schedule = run.schedule
        template = self._templates.get(schedule.name)
        if template is None:
            template = self._templates[schedule.name] = self._template(schedule)
        return Work(
            attempt=run.attempt,
            schedule=schedule.name,
            call=schedule.call,
            isolation=schedule.policy.isolation,
            timeout_s=schedule.policy.timeout.total_seconds(),
            node=self._node.name,
            role=self._node.role,
            idempotency_key=idempotency_key(run.attempt.occurrence),
            databases=template.databases,
            go_at=go_at,
            plugin=template.plugin,
            plugin_version=template.plugin_version,
            entry_point=template.entry_point,
            state_dir=template.state_dir,
        )

    def _template(self, schedule: Schedule) -> _Template:
        call, state_dir = schedule.call, self._directory(schedule.task)
        if isinstance(call, SqlCall):
            return _Template("", "", "", {call.database: self._conninfo(call.database, "task")}, state_dir)
        if not isinstance(call, TaskCall):
            return _Template("", "", "", {}, state_dir)
        info = self._tasks.get(call.task)
        if info is None:
            raise PluginError(f"no installed plugin offers the task {call.task!r}", cure="singd plugins")
        databases = {
            name: self._conninfo(name, info.database_role) for name in sorted({*database_names(info, call)})
        }
        return _Template(info.plugin, info.plugin_version, info.entry_point, databases, state_dir)


def database_names(info: TaskInfo, call: TaskCall) -> Iterator[str]:
    """The databases a call is given: those its task declares, and those its arguments name."""
    yield from info.databases
    for param in info.params:
        value = call.args.get(param.name, param.default)
        if param.type == "database" and value is not None:
            yield str(value)
        elif param.type == "list[database]":
            yield from map(str, value or ())


def idempotency_key(occurrence: Occurrence) -> str:
    """The same for every attempt of one occurrence, different for any other: 32 hex digits of a sha256."""
    due = occurrence.due_at.isoformat()
    identity = f"{occurrence.schedule}\0{occurrence.owner}\0{due}\0{occurrence.request}"
    return hashlib.sha256(identity.encode()).hexdigest()[:32]
