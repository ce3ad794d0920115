"""Who may do what on an embedded Postgres: one server, asked as each role."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import psycopg.conninfo
import pytest
from support.embedded_postgres import DATABASES, Daemon, query
from support.local_keeper import passable_directory

from singd.edges.embedded import binaries
from singd.plugin import Database


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    """One server for tests that only ask; what they make has names of its own."""
    with passable_directory() as path:
        daemon = Daemon(path / "state")
        yield daemon
        daemon.quit()


def test_named_databases_have_vector_and_postgres_fdw_and_the_ledger_has_neither(shared: Daemon) -> None:
    for name in DATABASES:
        distance = query(shared, name, "task", "SELECT '[1,2,3]'::vector <-> '[1,2,5]'::vector")
        assert distance == [(2.0,)]
        extensions = query(shared, name, "task", "SELECT extname FROM pg_extension")
        assert {("vector",), ("postgres_fdw",)} <= set(extensions)
    assert query(shared, "singd", "runtime", "SELECT extname FROM pg_extension") == [("plpgsql",)]


def test_one_named_database_reads_another_through_postgres_fdw(shared: Daemon) -> None:
    query(shared, "alpha", "migrator", "CREATE TABLE far (n int)", "INSERT INTO far VALUES (7)")
    there = psycopg.conninfo.conninfo_to_dict(shared.conninfo("alpha", "migrator"))
    rows = query(
        shared, "beta", "migrator",
        f"CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{there['host']}', "
        f"port '{there['port']}', dbname 'alpha')",
        f"CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (user '{there['user']}', "
        f"password '{there['password']}')",
        "CREATE FOREIGN TABLE far (n int) SERVER other",
        "SELECT n FROM far",
    )  # fmt: skip
    assert rows == [(7,)]


def test_the_cluster_is_utf8_in_utc_and_every_promise_of_durability_is_on(shared: Daemon) -> None:
    wanted = {
        "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "data_checksums": "on",
        "server_encoding": "UTF8", "TimeZone": "UTC", "password_encryption": "scram-sha-256",
    }  # fmt: skip
    assert {name: query(shared, "alpha", "task", f"SHOW {name}")[0][0] for name in wanted} == wanted
    assert query(shared, "alpha", "task", "SELECT upper('ärger')") == [("ÄRGER",)]


def test_the_task_role_changes_rows_of_what_the_migrator_makes(shared: Daemon) -> None:
    query(
        shared, "alpha", "migrator",
        "CREATE SCHEMA rows", "CREATE TABLE rows.t (id serial, n int)",
        "CREATE FUNCTION rows.two() RETURNS int LANGUAGE sql AS 'SELECT 2'",
    )  # fmt: skip
    changed = query(
        shared, "alpha", "task", "INSERT INTO rows.t (n) VALUES (1), (5)",
        "UPDATE rows.t SET n = rows.two() WHERE n = 1", "DELETE FROM rows.t WHERE n = 5",
        "SELECT id, n FROM rows.t",
    )  # fmt: skip
    assert changed == [(1, 2)]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE x (n int)", "CREATE SCHEMA x", "CREATE TEMPORARY TABLE x (n int)", "CREATE DATABASE x",
        "CREATE ROLE x", "CREATE EXTENSION pg_trgm", "DROP TABLE theirs", "TRUNCATE theirs", "ALTER TABLE theirs ADD m int",
        "SET ROLE singd_admin", "SET ROLE singd_migrator", "COPY theirs TO PROGRAM 'true'", "SELECT rolpassword FROM pg_authid",
    ],
)  # fmt: skip
def test_the_task_role_makes_nothing_and_becomes_nobody(shared: Daemon, statement: str) -> None:
    query(shared, "alpha", "migrator", "CREATE TABLE IF NOT EXISTS theirs (n int)")
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidParameterValue)):
        query(shared, "alpha", "task", statement)


def test_each_role_enters_only_its_databases(shared: Daemon) -> None:
    for role, database in (
        ("task", "singd"),
        ("runtime", "alpha"),
        ("task", "postgres"),
        ("runtime", "template1"),
    ):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            query(shared, database, role, "SELECT 1")


def test_the_runtime_role_has_no_ddl_in_the_ledger(shared: Daemon) -> None:
    for statement in ("CREATE TABLE x (n int)", "CREATE SCHEMA x", "CREATE TEMPORARY TABLE x (n int)"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            query(shared, "singd", "runtime", statement)
    query(shared, "singd", "migrator", "CREATE SCHEMA ledger", "CREATE TABLE ledger.t (n int)")


def test_only_the_admin_is_a_superuser(shared: Daemon) -> None:
    rows = query(
        shared,
        "alpha",
        "task",
        "SELECT rolname FROM pg_roles WHERE rolsuper OR rolcreaterole OR rolbypassrls",
    )
    assert rows == [("singd_admin",)]


def test_the_backup_role_dumps_a_database_and_restores_it_into_a_scratch_one(
    shared: Daemon, tmp_path: Path
) -> None:
    query(
        shared, "alpha", "migrator", "CREATE SCHEMA kept",
        "CREATE TABLE kept.t (n int, v vector(2))", "INSERT INTO kept.t VALUES (1, '[1,2]')",
    )  # fmt: skip
    bin_dir = binaries.installed().bin_dir
    env = Database("alpha", shared.conninfo("alpha", "backup")).environment(tmp_path)
    dump = tmp_path / "alpha.dump"
    subprocess.run([bin_dir / "pg_dump", "-Fc", "-f", dump], env=env, check=True)
    with psycopg.connect(shared.conninfo("alpha", "backup"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE scratch")
    restore = [
        str(bin_dir / "pg_restore"),
        "--exit-on-error",
        "--no-owner",
        "--no-acl",
        "--no-comments",
    ]
    subprocess.run([*restore, "-d", "scratch", str(dump)], env=env, check=True)
    assert query(shared, "scratch", "backup", "SELECT n, v::text FROM kept.t") == [(1, "[1,2]")]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        query(shared, "alpha", "backup", "DELETE FROM kept.t")


def test_the_private_socket_asks_everyone_for_a_password_and_there_is_no_tcp(shared: Daemon) -> None:
    assert query(shared, "alpha", "task", "SHOW listen_addresses") == [("",)]
    run = shared.state / "postgres" / "run"
    assert run.stat().st_mode & 0o777 == 0o700
    for password in ("", "wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host=str(run), user="singd_admin", dbname="singd", password=password)
