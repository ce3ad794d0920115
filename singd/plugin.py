"""All that a plugin may import. This module is a leaf: it imports nothing of singd.

A task is a function, `def` or `async def` (then trio runs it), whose keyword-only annotated parameters are its settings:

    from singd.plugin import Context, task

    @task(placement="instance", summary="Say hello.")
    def hello(ctx: Context, *, name: str = "world") -> dict[str, int]:
        ctx.log.info("hello %s", name)
        return {"greetings": 1}

and one entry point in the group `singd.tasks` of its distribution names it. See docs/plugins.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NewType, TypeVar

__all__ = ["Context", "Database", "DatabaseName", "GiveUp", "RetryAfter", "Skip", "Task", "task"]

Placement = Literal["node", "instance", "central", "database"]
Result = Mapping[str, Any]
F = TypeVar("F", bound=Callable[..., Any])

DatabaseName = NewType("DatabaseName", str)
"""Type of a parameter that names one of the configuration's databases: the task is given that database
(`list[DatabaseName]`: all of them). The name `ledger` is granted only to tasks with `database_role="backup"`."""


class Skip(Exception):
    """Nothing to do this time: the occurrence's verdict becomes `skipped` with this reason."""


class RetryAfter(Exception):
    """Failed, and another attempt makes sense only after `seconds` (still bounded by `retries`)."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        super().__init__(reason or f"asked for a retry after {seconds:g} s")
        self.seconds = float(seconds)


class GiveUp(Exception):
    """Failed, and no retry can help."""


@dataclass(frozen=True, slots=True)
class Task:
    """What `@task` declares about a function.

    Attributes:
        placement: Where the task may rightly run, the first preferred: "node", "instance", "central", "database".
        version: Raise it when the meaning of the task changes; `once` then runs it again.
        databases: Names of the configuration's databases the task is given.
        database_role: As whom it logs in to embedded databases: "task" (may change rows) or "backup" (reads everything,
            may create scratch databases).
        isolation: "process" (its own process) or "inline" (inside the daemon; for cheap, trusted async tasks).
        timeout, retries: Defaults that a schedule may override ("4m"; None = singd's own default).
        migrations: Directory of numbered `.sql` files for the task's own tables, as (database, path).
        input: Called with the task's keyword settings, answers what fingerprints its input, for `once`.
        summary: One line for people.
    """

    placement: tuple[Placement, ...]
    version: str = "1"
    databases: tuple[str, ...] = ()
    database_role: Literal["task", "backup"] = "task"
    isolation: Literal["process", "inline"] = "process"
    timeout: str | None = None
    retries: int | None = None
    migrations: tuple[str, Path] | None = None
    input: Callable[..., str] | None = None
    summary: str = ""


def task(
    *,
    placement: Placement | Sequence[Placement],
    version: str | int = "1",
    databases: Sequence[str] = (),
    database_role: Literal["task", "backup"] = "task",
    isolation: Literal["process", "inline"] = "process",
    timeout: str | None = None,
    retries: int | None = None,
    migrations: tuple[str, Path] | None = None,
    input: Callable[..., str] | None = None,
    summary: str = "",
) -> Callable[[F], F]:
    """Declare a function as a task; the meaning of each argument stands at `Task`.

    Returns:
        The function itself, with its declaration in the attribute `singd_task`.
    """
    places = (placement,) if isinstance(placement, str) else tuple(placement)

    def declare(function: F) -> F:
        text = summary or (function.__doc__ or "").strip().split("\n")[0]
        function.singd_task = Task(  # type: ignore[attr-defined]
            placement=places, version=str(version), databases=tuple(databases), database_role=database_role, isolation=isolation,
            timeout=timeout, retries=retries, migrations=migrations, input=input, summary=text,
        )  # fmt: skip
        return function

    return declare


@dataclass(frozen=True, slots=True)
class Database:
    """A named database that the task was given.

    Attributes:
        name: Its name in the configuration.
        conninfo: libpq connection string, credentials included. Do not log it.
    """

    name: str
    conninfo: str = field(repr=False)

    @contextlib.contextmanager
    def connect(self, **options: Any) -> Iterator[Any]:
        """A psycopg (sync) connection in a transaction: committed at the end, rolled back on error.

        Args:
            options: Passed to `psycopg.connect`, e.g. `autocommit=True`.

        Yields:
            psycopg.Connection: closed afterwards.
        """
        import psycopg

        with psycopg.connect(self.conninfo, **options) as connection:
            yield connection

    def environment(self, private_dir: Path) -> dict[str, str]:
        """Environment for libpq programs (pg_dump, psql), the password in a 0600 passfile, never in argv.

        Whatever the connection string says has its libpq variable here, so a program connects as `connect` does.

        Args:
            private_dir: Existing directory that only this user can read; the passfile is written there.

        Returns:
            PGHOST, PGPORT, PGUSER, PGDATABASE and so on, as far as given, and PGPASSFILE where there is a password.
        """
        from psycopg import pq

        options = {one.keyword.decode(): one for one in pq.Conninfo.parse(self.conninfo.encode()) if one.val}
        password = options.pop("password", None)
        env = {one.envvar.decode(): (one.val or b"").decode() for one in options.values() if one.envvar}
        if password is not None:
            env["PGPASSFILE"] = str(
                _passfile(private_dir / f"pgpass-{self.name}", (password.val or b"").decode())
            )
        return env


def _passfile(path: Path, password: str) -> Path:
    """A new file that only this user reads; what is there is replaced, a link is not followed."""
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(handle, "w", encoding="utf-8") as file:
        file.write(f"*:*:*:*:{escaped}\n")
    return path


@dataclass(frozen=True, slots=True)
class Context:
    """What a task knows about its attempt.

    Attributes:
        schedule: The schedule's name.
        due_at: The nominal instant, aware UTC; never adjusted.
        attempt: Number of this attempt, from 1.
        epoch: The term's number, to carry into outside effects as a fence.
        idempotency_key: The same for every attempt of one occurrence, different for any other.
        deadline: When the attempt will be ended, aware UTC.
        node, role: Where it runs.
        databases: The named databases the task declared.
        state_dir: A directory that the task may keep things in, kept between runs.
        log: Structured logger; its lines are kept with the attempt.
    """

    schedule: str
    due_at: datetime
    attempt: int
    epoch: int
    idempotency_key: str
    deadline: datetime
    node: str
    role: str
    state_dir: Path
    databases: Mapping[str, Database] = field(default_factory=dict)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("singd.task"))
    cancelled: Callable[[], bool] = lambda: False
    """Cooperative cancellation: true once the attempt was asked to end (a `def` task may poll it)."""
    report_progress: Callable[[int, int, str], None] = lambda done, total, note: None

    def database(self, name: str) -> Database:
        """The named database.

        Raises:
            KeyError: The task did not declare it, or the configuration does not have it.
        """
        try:
            return self.databases[name]
        except KeyError:
            raise KeyError(
                f"database {name!r} was not given to this task: declare it in @task(databases=…)"
            ) from None

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Tell how far the attempt is: `done` of `total` units."""
        self.report_progress(done, total, note)
