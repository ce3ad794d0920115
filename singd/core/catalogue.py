"""What the installed plugins offer, as values; built by an edge in a child process, read by everyone.

`type` of a parameter is a small language, made from the task's annotations: `str`, `int`, `float`, `bool`,
`datetime`, `path`, `duration` (datetime.timedelta), `database` (singd.plugin.DatabaseName), `choice:a|b`
(typing.Literal of strings), `list[T]`, `table[T]` (dict[str, T]) and `any`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Param:
    """One keyword-only parameter of a task."""

    name: str
    type: str
    required: bool
    default: Any = None


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """What a plugin declares of one task (fields as in `singd.plugin.Task`).

    Attributes:
        plugin, plugin_version: The distribution that offers it.
        entry_point: `module:attribute`.
        is_async: Whether the function is an `async def` (only those may run inline).
        migrations: (database, absolute directory) or None.
    """

    name: str
    plugin: str
    plugin_version: str
    entry_point: str
    placement: tuple[str, ...]
    version: str = "1"
    params: tuple[Param, ...] = ()
    databases: tuple[str, ...] = ()
    database_role: str = "task"
    isolation: str = "process"
    is_async: bool = False
    timeout: str | None = None
    retries: int | None = None
    migrations: tuple[str, str] | None = None
    has_input: bool = False
    summary: str = ""


@dataclass(frozen=True, slots=True)
class BrokenTask:
    """An entry point that could not be loaded, and why."""

    name: str
    plugin: str
    reason: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every task that installed plugins offer; `broken` holds those that failed to load."""

    tasks: Mapping[str, TaskInfo] = field(default_factory=dict)
    broken: Mapping[str, BrokenTask] = field(default_factory=dict)
