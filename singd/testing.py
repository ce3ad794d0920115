"""What a plugin's tests may import: run a task as the worker would, against a private Postgres.

    from singd.testing import migrate, postgres, run_task

    def test_it_counts(tmp_path):
        with postgres() as server:
            database = server.create("singularity")
            migrate(my_task, {"singularity": database})
            result = run_task(my_task, {"path": tmp_path}, databases={"singularity": database})
        assert result["files"] == 0

The roles are those of an embedded database: the task changes rows as a role that owns nothing, migrations run as the
owner. So a task that would lack a right in production lacks it here. Needs the extra `singd[embedded]`.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import shutil
import subprocess
import tempfile
import time
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import trio

from singd.core.units import parse_duration
from singd.edges import plugin_migrations
from singd.edges.embedded.binaries import installed
from singd.errors import PluginError
from singd.plugin import Context, Database, DatabaseName, Task

__all__ = ["PostgresServer", "ScratchDatabase", "migrate", "postgres", "run_task"]

DUE_AT = datetime(2026, 1, 1, tzinfo=UTC)
START_TIMEOUT_S = 30.0
_ROLES = """
create role singd_migrator login;
create role singd_task login;
create role singd_backup login createdb in role pg_read_all_data;
"""
_RIGHTS = """
alter default privileges for role singd_migrator grant usage on schemas to singd_task;
alter default privileges for role singd_migrator grant select, insert, update, delete on tables to singd_task;
alter default privileges for role singd_migrator grant usage on sequences to singd_task;
"""


@dataclass(frozen=True, slots=True)
class ScratchDatabase:
    """A database of a test server, with one connection string for each role.

    Attributes:
        owner: May create; migrations run as this role.
        task: May change rows of what the owner creates.
        backup: May read everything and create databases.
    """

    name: str
    owner: str
    task: str
    backup: str

    def execute(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """One statement as the owner, committed; the rows it gives, if it gives rows."""
        with psycopg.connect(self.owner, autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), values or None)
            return cursor.fetchall() if cursor.description else []


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A private server of a test: a unix socket in `directory`, no TCP, nothing kept."""

    directory: Path
    bin_dir: Path

    def conninfo(self, database: str, role: str = "postgres") -> str:
        """Connection string; the role `postgres` is the superuser."""
        return psycopg.conninfo.make_conninfo(host=str(self.directory), dbname=database, user=role)

    def create(self, name: str) -> ScratchDatabase:
        """A new empty database."""
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            quoted = psycopg.sql.Identifier(name)
            connection.execute(
                psycopg.sql.SQL("create database {} owner singd_migrator template template0").format(quoted)
            )
        with psycopg.connect(self.conninfo(name)) as connection:
            connection.execute(_RIGHTS)
        roles = ("singd_migrator", "singd_task", "singd_backup")
        return ScratchDatabase(name, *(self.conninfo(name, role) for role in roles))


@contextlib.contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A private Postgres from the installed wheel, gone afterwards. Starting it takes half a second.

    Raises:
        EdgeError: The wheel is not installed.
    """
    bin_dir = installed().bin_dir
    # A unix socket's path has at most 107 bytes, and the server's account must be able to reach it.
    directory = Path(tempfile.mkdtemp(prefix="singd-test-", dir="/tmp"))
    process = None
    try:
        process = _start(bin_dir, directory)
        server = PostgresServer(directory, bin_dir)
        _wait(process, server)
        yield server
    finally:
        if process is not None:
            process.terminate()
            process.wait(START_TIMEOUT_S)
        shutil.rmtree(directory, ignore_errors=True)


def _start(bin_dir: Path, directory: Path) -> subprocess.Popen[bytes]:
    # Postgres refuses to run as root.
    account: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    if account:
        os.chown(directory, 65534, 65534)
    data = str(directory / "data")
    common: dict[str, Any] = {"cwd": "/", "stdin": subprocess.DEVNULL, **account}
    initdb = [
        str(bin_dir / "initdb"),
        "-D",
        data,
        "-U",
        "postgres",
        "-A",
        "trust",
        "-N",
        "-E",
        "UTF8",
        "--locale=C",
    ]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **common)
    options = (
        "listen_addresses=",
        f"unix_socket_directories={directory}",
        "fsync=off",
        "shared_buffers=16MB",
    )
    with (directory / "log").open("wb") as log:
        argv = [str(bin_dir / "postgres"), "-D", data, *(f"-c{option}" for option in options)]
        return subprocess.Popen(argv, stdout=log, stderr=log, **common)


def _wait(process: subprocess.Popen[bytes], server: PostgresServer) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with psycopg.connect(server.conninfo("postgres"), connect_timeout=5) as connection:
                connection.execute(_ROLES)
            return
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((server.directory / "log").read_text()) from error
            time.sleep(0.01)


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
        state_dir: Kept by the caller; left out, a directory that is gone afterwards.
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
        ctx = Context(
            schedule=name, due_at=due_at, state_dir=state, databases=_given(function, call, databases or {}),
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
    """Settings as the task's own types.

    Raises:
        PluginError: One is missing, unknown or of the wrong type.
    """
    hints = typing.get_type_hints(function)
    takes = {
        name: one
        for name, one in inspect.signature(function).parameters.items()
        if one.kind is one.KEYWORD_ONLY
    }
    unknown = sorted(set(settings) - set(takes))
    missing = sorted(name for name, one in takes.items() if one.default is one.empty and name not in settings)
    if unknown or missing:
        raise PluginError(f"{function.__name__}: unknown settings {unknown}, missing settings {missing}")
    return {
        name: _typed(f"{function.__name__}: {name}", hints[name], value) for name, value in settings.items()
    }


def _typed(what: str, hint: Any, value: Any) -> Any:
    parts = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _typed_union(what, parts, value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is timedelta and isinstance(value, str):
        return parse_duration(value)
    if origin is list and isinstance(value, list):
        return [_typed(what, parts[0], one) for one in value]
    if not _fits(hint, origin, parts, value):
        raise PluginError(f"{what} = {value!r} is not {hint}")
    return value


def _typed_union(what: str, hints: tuple[Any, ...], value: Any) -> Any:
    for hint in hints:
        with contextlib.suppress(PluginError):
            return _typed(what, hint, value)
    raise PluginError(f"{what} = {value!r} is none of {hints}")


def _fits(hint: Any, origin: Any, parts: tuple[Any, ...], value: Any) -> bool:
    if origin is typing.Literal:
        return value in parts
    plain = str if hint is DatabaseName else origin or hint
    if plain is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return (
        plain is Any
        or not isinstance(plain, type)
        or (isinstance(value, plain) and (plain is bool) == isinstance(value, bool))
    )


def _given(
    function: Callable[..., Any], call: Mapping[str, Any], databases: Mapping[str, ScratchDatabase | str]
) -> dict[str, Database]:
    declared = declaration(function)
    hints = typing.get_type_hints(function)
    named = list(declared.databases)
    for name, value in call.items():
        named += (
            [value] if hints[name] is DatabaseName else value if hints[name] == list[DatabaseName] else []
        )
    absent = sorted(set(named) - set(databases))
    if absent:
        raise PluginError(f"{function.__name__} declares databases that were not given: {absent}")
    return {name: Database(name, _conninfo(databases[name], declared.database_role)) for name in named}


def _conninfo(database: ScratchDatabase | str, role: str) -> str:
    if isinstance(database, str):
        return database
    return database.backup if role == "backup" else database.task


def _checked(function: Callable[..., Any], result: Any) -> Mapping[str, Any] | None:
    if result is None:
        return None
    if not isinstance(result, Mapping):
        raise PluginError(f"{function.__name__} returned {type(result).__name__}, not a mapping")
    try:
        json.dumps(result, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PluginError(f"{function.__name__} returned what JSON cannot hold: {error}") from error
    return result
