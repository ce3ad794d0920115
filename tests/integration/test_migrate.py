"""Migrations: once, together, under a lock, and refused where they cannot be right."""

from __future__ import annotations

import subprocess

import psycopg
import pytest
import trio
from support.postgres import RUNTIME, Server, pg15, pg18

from singd.edges.postgres import migrate as module
from singd.edges.postgres.election import PostgresElection
from singd.edges.postgres.migrate import Migration, migrate, migrations, sql
from singd.errors import EdgeError
from singd.ports import NodeInfo

__all__ = ["pg15", "pg18"]

from uuid import uuid4


@pytest.fixture(params=["pg18", "pg15"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def database(server: Server) -> str:
    return server.new_database()


def shape(server: Server, database: str, schema: str) -> list[tuple[object, ...]]:
    """Every table, column, type, default and constraint of a schema."""
    columns = server.execute(
        "SELECT table_name, column_name, data_type, is_nullable, replace(column_default, table_schema || '.', '') "
        f"FROM information_schema.columns WHERE table_schema = '{schema}' ORDER BY 1, 2",
        database,
    )
    rules = server.execute(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        f"WHERE connamespace = '{schema}'::regnamespace ORDER BY 1, 2",
        database,
    )
    return [tuple(str(cell).replace(f"{schema}.", "") for cell in row) for row in columns + rules]


async def test_migrating_twice_applies_once(server: Server, database: str) -> None:
    assert await migrate(server.conninfo(database)) == [m.name for m in migrations()]
    assert await migrate(server.conninfo(database)) == []


async def test_daemons_that_start_together_apply_once(server: Server, database: str) -> None:
    answers: list[object] = []

    async def start() -> None:
        answers.append(await migrate(server.conninfo(database), "singd", RUNTIME))

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(start)
    assert answers.count([m.name for m in migrations()]) == 1
    assert answers.count([]) == 5


async def test_the_printed_sql_makes_what_migrating_makes(server: Server, database: str) -> None:
    await migrate(server.conninfo(database), "by_singd", RUNTIME)
    with psycopg.connect(server.conninfo(database), autocommit=True) as connection:
        connection.execute(sql("by_hand", RUNTIME).encode())
    assert shape(server, database, "by_singd") == shape(server, database, "by_hand")
    assert len(shape(server, database, "by_hand")) > 80
    assert await migrate(server.conninfo(database), "by_hand", RUNTIME) == []


async def test_the_printed_sql_runs_in_psql(server: Server, database: str) -> None:
    command = [server.binaries / "psql", "-X", "-v", "ON_ERROR_STOP=1", "-q", "-d", server.conninfo(database)]
    done = subprocess.run(command, input=sql("s").encode(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert await migrate(server.conninfo(database), "s") == []


async def test_a_newer_schema_is_refused_by_both_versions(server: Server, database: str) -> None:
    await migrate(server.conninfo(database), runtime_role=RUNTIME)
    server.execute("INSERT INTO singd.schema_version VALUES (99, 'later', 'x')", database)
    known = len(migrations())
    with pytest.raises(EdgeError, match=f"version 99.*versions up to {known}"):
        await migrate(server.conninfo(database))
    with pytest.raises(EdgeError, match=f"version 99.*versions up to {known}"):
        await PostgresElection(server.conninfo(database, RUNTIME)).open(NodeInfo("a", uuid4()))


async def test_an_empty_database_names_the_verb_that_helps(server: Server, database: str) -> None:
    with pytest.raises(EdgeError, match="holds no ledger") as caught:
        await PostgresElection(server.conninfo(database, RUNTIME)).open(NodeInfo("a", uuid4()))
    assert "singd db migrate" in caught.value.cure


async def test_a_changed_migration_is_refused(server: Server, database: str) -> None:
    await migrate(server.conninfo(database))
    server.execute("UPDATE singd.schema_version SET checksum = 'x'", database)
    with pytest.raises(EdgeError, match="changed after"):
        await migrate(server.conninfo(database))


async def test_a_failing_migration_leaves_nothing(
    server: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [
        *migrations(),
        Migration(len(migrations()) + 1, "broken", "CREATE TABLE half (); SELECT 1 / 0;"),
    ]
    monkeypatch.setattr(module, "migrations", lambda: broken)
    with pytest.raises(psycopg.errors.DivisionByZero):
        await migrate(server.conninfo(database))
    assert server.execute("SELECT nspname FROM pg_namespace WHERE nspname = 'singd'", database) == []


async def test_a_later_migration_is_added_to_what_is_there(
    server: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(server.conninfo(database))
    more = [*migrations(), Migration(len(migrations()) + 1, "more", "CREATE TABLE @schema@.more ();")]
    monkeypatch.setattr(module, "migrations", lambda: more)
    with pytest.raises(EdgeError, match="lacks migrations: more"):
        await PostgresElection(server.conninfo(database)).open(NodeInfo("a", uuid4()))
    assert await migrate(server.conninfo(database)) == ["more"]


async def test_the_owner_of_a_schema_needs_no_right_on_the_database(server: Server, database: str) -> None:
    role = f"owner_{database}"
    server.execute(f"CREATE ROLE {role} LOGIN")
    server.execute(f"CREATE SCHEMA singd AUTHORIZATION {role}", database)
    assert await migrate(server.conninfo(database, role)) == [m.name for m in migrations()]


async def test_the_runtime_role_may_not_migrate_and_is_told_the_cure(server: Server, database: str) -> None:
    with pytest.raises(EdgeError, match="permission denied") as caught:
        await migrate(server.conninfo(database, RUNTIME))
    assert caught.value.cure


@pytest.mark.parametrize("schema", ['x"; DROP TABLE t; --', "Upper", ""])
async def test_a_schema_that_could_be_sql_is_never_sent(server: Server, database: str, schema: str) -> None:
    with pytest.raises(ValueError, match="schema"):
        await migrate(server.conninfo(database), schema)
    with pytest.raises(ValueError, match="schema"):
        sql(schema)


def test_a_role_is_quoted() -> None:
    assert '"odd""role"' in sql("s", 'odd"role')
