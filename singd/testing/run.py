"""Runs a task in this process as a worker would: typed settings in, its own databases, a checked result out."""

from __future__ import annotations

import contextlib
import inspect
import logging
import tempfile
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trio

from singd.edges import plugin_migrations
from singd.edges.worker.outcome import Unacceptable, check_result
from singd.edges.worker.params import Binder
from singd.errors import PluginError
from singd.plugin import Context, Database, DatabaseName, Task
from singd.testing.server import ScratchDatabase

DUE_AT = datetime(2026, 1, 1, tzinfo=UTC)


def migrate(function: Callable[..., Any], databases: Mapping[str, ScratchDatabase]) -> tuple[int, ...]:
    """Apply the migrations that a task declares, as the owner; answers their numbers."""
    declared = declaration(function).migrations
    if declared is None:
        return ()
    database, directory = declared
    return plugin_migrations.apply(
        databases[database].owner, function.__module__.partition(".")[0], directory
    )


def declaration(function: Callable[..., Any]) -> Task:
    """What `@task` declared.

    Raises:
        PluginError: The function is no task.
    """
    found = getattr(function, "singd_task", None)
    if not isinstance(found, Task):
        raise PluginError(f"{function.__qualname__} is not declared with @task")
    return found


def run_task(
    function: Callable[..., Any],
    settings: Mapping[str, Any] | None = None,
    *,
    databases: Mapping[str, ScratchDatabase | str] | None = None,
    state_dir: Path | None = None,
    due_at: datetime = DUE_AT,
    schedule: str = "",
    **context: Any,
) -> Mapping[str, Any] | None:
    """Run a task in this process as a worker would, and check both sides of its contract.

    Args:
        function: Declared with `@task`; an `async def` is run by trio.
        settings: Its parameters, as the configuration's `args` say them or already as the task's own types.
        databases: The named databases there are. The task is given only those that it declares, as its role.
        state_dir: Of a daemon: the task's own directory is `tasks/<task>` in it. Left out, one that is gone afterwards.
        due_at: Aware UTC.
        schedule: Left out, the task's name.
        context: Further fields of `Context`, e.g. `attempt=2`, `role="singularity"`, `cancelled=lambda: True`.

    Returns:
        The task's result.

    Raises:
        PluginError: A setting is missing, unknown or of the wrong type; a declared database was not given; or the
            result is not what the ledger keeps.
        Exception: Whatever the task raises, `Skip`, `RetryAfter` and `GiveUp` among them.
    """
    call = bind(function, settings or {})
    with contextlib.ExitStack() as stack:
        state = state_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="singd-test-")))
        name = schedule or function.__name__
        own = state / "tasks" / function.__name__
        own.mkdir(parents=True, exist_ok=True)
        ctx = Context(
            schedule=name, due_at=due_at, state_dir=own, databases=_given(function, call, databases or {}),
            **{**_defaults(name, due_at), **context},
        )  # fmt: skip
        if inspect.iscoroutinefunction(function):
            return _checked(function, trio.run(lambda: function(ctx, **call)))
        return _checked(function, function(ctx, **call))


def _defaults(name: str, due_at: datetime) -> dict[str, Any]:
    return {
        "attempt": 1, "epoch": 1, "idempotency_key": f"{name}/cluster/{due_at.isoformat()}", "node": "test", "role": "",
        "deadline": datetime.now(UTC) + timedelta(hours=1), "log": logging.getLogger(f"singd.task.{name}"),
    }  # fmt: skip


def bind(function: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as the task's own types, by the code that does it in a worker.

    Raises:
        PluginError: One is missing, unknown or of the wrong type.
    """
    try:
        return Binder(function).bind(settings)
    except ValueError as error:
        raise PluginError(f"{function.__name__}: {error}") from error


def _given(
    function: Callable[..., Any], call: Mapping[str, Any], databases: Mapping[str, ScratchDatabase | str]
) -> dict[str, Database]:
    declared = declaration(function)
    hints = typing.get_type_hints(function)
    named = list(declared.databases)
    for name, one in inspect.signature(function).parameters.items():
        value = call.get(name, one.default)
        named += [value] if hints.get(name) is DatabaseName and isinstance(value, str) else []
        named += value if hints.get(name) == list[DatabaseName] and isinstance(value, list) else []
    absent = sorted(set(named) - set(databases))
    if absent:
        raise PluginError(f"{function.__name__} declares databases that were not given: {absent}")
    return {name: Database(name, _conninfo(databases[name], declared.database_role)) for name in named}


def _conninfo(database: ScratchDatabase | str, role: str) -> str:
    if isinstance(database, str):
        return database
    return database.backup if role == "backup" else database.task


def _checked(function: Callable[..., Any], result: Any) -> Mapping[str, Any] | None:
    try:
        return check_result(result)
    except Unacceptable as error:
        raise PluginError(f"{function.__name__} {error}") from error
