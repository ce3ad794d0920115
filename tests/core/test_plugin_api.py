"""`singd.plugin` and `singd.testing.run_task`: what a plugin's author relies on."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
import trio

from singd.errors import PluginError
from singd.plugin import Context, Database, DatabaseName, GiveUp, RetryAfter, Skip, task
from singd.testing import run_task


@task(placement="instance", version=2, summary="Adds.")
def add(ctx: Context, *, left: int, right: int = 1) -> dict[str, int]:
    return {"sum": left + right}


@task(placement=("instance", "central"))
def show(
    ctx: Context, *, path: Path | None = None, wait: timedelta = timedelta(0), kind: Literal["a", "b"] = "a",
    share: float = 0.5, names: list[str] | None = None, table: dict[str, int] | None = None,
) -> dict[str, str]:  # fmt: skip
    """First line.

    More.
    """
    return {"path": repr(path), "wait": str(wait), "share": str(share), "kind": kind}


@task(placement="instance", databases=["fixed"], database_role="backup")
def databases_given(ctx: Context, *, one: DatabaseName, more: list[DatabaseName]) -> dict[str, str]:
    return {name: ctx.database(name).conninfo for name in ctx.databases}


def test_importing_the_plugin_api_loads_nothing_but_itself_and_the_standard_library() -> None:
    program = "import sys; import singd.plugin; print(*[n for n in sys.modules if n.split('.')[0] in ('singd', 'trio', 'psycopg')])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert set(said.split()) == {"singd", "singd.plugin"}


def test_a_declared_function_stays_the_function_and_tells_what_was_declared() -> None:
    assert add(None, left=1) == {"sum": 2}  # type: ignore[arg-type]
    assert add.singd_task.placement == ("instance",)  # type: ignore[attr-defined]
    assert (add.singd_task.version, add.singd_task.summary) == ("2", "Adds.")  # type: ignore[attr-defined]
    assert show.singd_task.summary == "First line."  # type: ignore[attr-defined]


def test_settings_arrive_as_the_types_the_task_names() -> None:
    settings = {
        "path": "/var/log",
        "wait": "1h 30m",
        "share": 1,
        "kind": "b",
        "names": ["x"],
        "table": {"x": 1},
    }
    assert run_task(show, settings) == {
        "path": "PosixPath('/var/log')",
        "wait": "1:30:00",
        "share": "1.0",
        "kind": "b",
    }
    assert run_task(show) == {"path": "None", "wait": "0:00:00", "share": "0.5", "kind": "a"}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "add: missing parameter: left"),
        ({"left": 1, "letf": 1}, "add: unknown parameter: letf"),
        ({"left": "1"}, "left: expected int, got '1'"),
        ({"left": True}, "left: expected int, got True"),
    ],
)
def test_settings_that_the_configuration_would_refuse_are_refused_here(
    settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(PluginError, match=problem):
        run_task(add, settings)


@pytest.mark.parametrize(
    "settings", [{"kind": "c"}, {"share": "0.5"}, {"path": 5}, {"names": [1]}, {"table": {"x": "1"}}]
)
def test_a_setting_of_the_wrong_type_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(PluginError):
        run_task(show, settings)


def test_an_async_task_is_run_by_trio() -> None:
    @task(placement="instance")
    async def wait(ctx: Context) -> dict[str, int]:
        await trio.lowlevel.checkpoint()
        return {"done": 1}

    assert run_task(wait) == {"done": 1}


def test_a_task_is_given_the_databases_it_names_and_no_others() -> None:
    given = {name: f"dbname={name}" for name in ("fixed", "a", "b", "c", "secret")}
    settings = {"one": "a", "more": ["b", "c"]}
    assert run_task(databases_given, settings, databases=given) == {
        name: given[name] for name in ("fixed", "a", "b", "c")
    }
    with pytest.raises(PluginError, match=r"were not given: \['b'\]"):
        run_task(databases_given, settings, databases={name: given[name] for name in ("fixed", "a", "c")})


def test_asking_for_a_database_that_was_not_declared_says_so() -> None:
    @task(placement="instance")
    def nosy(ctx: Context) -> None:
        ctx.database("singularity")

    with pytest.raises(KeyError, match="was not given to this task: declare it"):
        run_task(nosy, databases={"singularity": "dbname=x"})


@pytest.mark.parametrize("result", [7, {"x": object()}, {"x": float("nan")}, [1]])
def test_a_result_the_ledger_could_not_keep_is_refused(result: Any) -> None:
    @task(placement="instance")
    def odd(ctx: Context) -> Any:
        return result

    with pytest.raises(PluginError, match="odd returned"):
        run_task(odd)


@pytest.mark.parametrize("error", [Skip("nothing"), RetryAfter(5, "busy"), GiveUp("no"), ValueError("bug")])
def test_what_a_task_raises_reaches_its_test(error: Exception) -> None:
    @task(placement="instance")
    def raising(ctx: Context) -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        run_task(raising)


def test_the_context_can_be_set_and_the_state_directory_is_the_tasks_own(tmp_path: Path) -> None:
    seen: list[Context] = []

    @task(placement="instance")
    def look(ctx: Context) -> None:
        assert ctx.state_dir.is_dir()
        seen.append(ctx)

    due_at = datetime(2026, 3, 29, 1, tzinfo=UTC)
    run_task(look, state_dir=tmp_path, due_at=due_at, attempt=3, role="central", cancelled=lambda: True)
    run_task(look)
    [first, second] = seen
    assert (first.due_at, first.attempt, first.role, first.cancelled()) == (due_at, 3, "central", True)
    assert first.state_dir == tmp_path / "tasks" / "look"
    assert not second.state_dir.exists(), "a directory nobody asked for is gone afterwards"


def test_a_function_that_is_no_task_is_refused() -> None:
    with pytest.raises(PluginError, match="is not declared with @task"):
        run_task(lambda ctx: None)


def test_programs_get_the_whole_connection_and_the_password_only_by_a_private_file(tmp_path: Path) -> None:
    password = r"p:a\ss word"
    conninfo = r"host=db.example port=6000 user=me dbname=d sslmode=verify-full sslrootcert=/ca password='p:a\\ss word'"
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "pgpass-one").symlink_to(tmp_path / "victim")
    database = Database("one", conninfo)
    for _ in range(2):
        env = database.environment(tmp_path)
    assert env == {
        "PGHOST": "db.example", "PGPORT": "6000", "PGUSER": "me", "PGDATABASE": "d", "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/ca", "PGPASSFILE": str(tmp_path / "pgpass-one"),
    }  # fmt: skip
    assert (
        Path(env["PGPASSFILE"]).read_text()
        == "*:*:*:*:" + password.replace("\\", "\\\\").replace(":", "\\:") + "\n"
    )
    assert os.lstat(env["PGPASSFILE"]).st_mode & 0o777 == 0o600
    assert (tmp_path / "victim").read_text() == "untouched"
    assert "p:a" not in repr(database)


def test_a_connection_without_a_password_gets_no_passfile(tmp_path: Path) -> None:
    assert Database("one", "host=/run/pg dbname=d").environment(tmp_path) == {
        "PGHOST": "/run/pg",
        "PGDATABASE": "d",
    }
    assert list(tmp_path.iterdir()) == []
