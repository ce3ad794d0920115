"""Migrations of a plugin's own tables against a real server: once, in order, all or nothing, history does not change."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import psycopg
import pytest

from singd.edges.plugin_migrations import apply, pending, read_migrations
from singd.errors import EdgeError, PluginError
from singd.testing import PostgresServer, ScratchDatabase, postgres

NAMES = count()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres() as found:
        yield found


@pytest.fixture
def database(server: PostgresServer) -> ScratchDatabase:
    return server.create(f"migrated{next(NAMES)}")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_things.sql").write_text(
        "create schema thing; create table thing.one (id int primary key);"
    )
    (folder / "0002_more.sql").write_text("-- 100% sure\nalter table thing.one add note text;")
    return folder


def tables(database: ScratchDatabase) -> list[str]:
    query = "select schemaname || '.' || tablename from pg_tables where schemaname !~ '^(pg_|information_)' order by 1"
    return [name for [name] in database.execute(query)]


def test_missing_files_are_applied_in_order_once(database: ScratchDatabase, files: Path) -> None:
    assert pending(database.owner, "thing", files) == (1, 2)
    assert apply(database.owner, "thing", files) == (1, 2)
    assert apply(database.owner, "thing", files) == ()
    (files / "0003_index.sql").write_text("create index on thing.one (note);")
    assert pending(database.owner, "thing", files) == (3,)
    assert apply(database.owner, "thing", files) == (3,)
    record = "select plugin, number, checksum ~ '^[0-9a-f]{64}$' from singd_plugin.singd_migrations order by number"
    assert database.execute(record) == [("thing", number, True) for number in (1, 2, 3)]


def test_two_plugins_have_numbers_of_their_own(
    database: ScratchDatabase, files: Path, tmp_path: Path
) -> None:
    apply(database.owner, "thing", files)
    other = tmp_path / "other"
    other.mkdir()
    (other / "0001_other.sql").write_text("create schema other;")
    assert apply(database.owner, "other", other) == (1,)


def test_many_daemons_at_once_apply_each_file_once(database: ScratchDatabase, files: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: apply(database.owner, "thing", files), range(6)))
    assert sorted(done) == [()] * 5 + [(1, 2)]


def test_a_failing_file_takes_all_of_this_start_back(database: ScratchDatabase, files: Path) -> None:
    (files / "0003_broken.sql").write_text("create table thing.two (id int); select * from nowhere;")
    with pytest.raises(PluginError, match=r"thing: 0003_broken\.sql: relation \"nowhere\" does not exist"):
        apply(database.owner, "thing", files)
    assert tables(database) == []


def test_a_changed_file_is_refused_by_name_and_nothing_else_is_applied(
    database: ScratchDatabase, files: Path
) -> None:
    apply(database.owner, "thing", files)
    (files / "0001_things.sql").write_text("create schema thing;")
    (files / "0003_new.sql").write_text("create table thing.three ();")
    for check in (apply, pending):
        with pytest.raises(PluginError, match=r"0001_things\.sql was changed after it was applied"):
            check(database.owner, "thing", files)
    assert tables(database) == ["singd_plugin.singd_migrations", "thing.one"]


def test_an_older_plugin_is_refused_by_a_newer_database(database: ScratchDatabase, files: Path) -> None:
    apply(database.owner, "thing", files)
    (files / "0002_more.sql").unlink()
    with pytest.raises(PluginError, match="the database has migration 0002, which this version lacks"):
        apply(database.owner, "thing", files)


def test_a_new_file_before_an_applied_one_is_refused(database: ScratchDatabase, files: Path) -> None:
    (files / "0002_more.sql").rename(files / "0003_more.sql")
    apply(database.owner, "thing", files)
    (files / "0002_late.sql").write_text("select 1;")
    with pytest.raises(PluginError, match=r"0002_late\.sql is new, but 0003 was applied"):
        apply(database.owner, "thing", files)


@pytest.mark.parametrize(
    "text", ["create table late (); commit;", "commit; begin; create table late ();", "rollback;"]
)
def test_a_file_that_ends_the_transaction_itself_is_refused(
    database: ScratchDatabase, files: Path, text: str
) -> None:
    (files / "0003_own.sql").write_text(text)
    with pytest.raises(PluginError, match=r"0003_own\.sql ends the transaction itself"):
        apply(database.owner, "thing", files)


@pytest.mark.parametrize("name", ["1_short.sql", "0003-dash.sql", "0003_Upper.sql", "notes.sql"])
def test_a_file_that_is_not_numbered_is_refused(files: Path, name: str) -> None:
    (files / name).write_text("select 1;")
    with pytest.raises(PluginError, match=r"is not named like 0001_what_it_makes\.sql"):
        read_migrations(files)


def test_two_files_with_one_number_and_an_empty_directory_are_refused(files: Path, tmp_path: Path) -> None:
    (files / "0002_twice.sql").write_text("select 1;")
    with pytest.raises(PluginError, match="have the same number"):
        read_migrations(files)
    with pytest.raises(PluginError, match=r"holds 0 \.sql files"):
        read_migrations(tmp_path / "nowhere")


def test_the_tasks_role_may_change_rows_and_cannot_migrate(database: ScratchDatabase, files: Path) -> None:
    with pytest.raises(EdgeError, match="permission denied") as caught:
        apply(database.task, "thing", files)
    assert "singd db migrate" in caught.value.cure
    apply(database.owner, "thing", files)
    with psycopg.connect(database.task) as connection:
        connection.execute("insert into thing.one values (1, 'x')")


def test_a_database_that_is_away_is_the_environments_fault(files: Path) -> None:
    with pytest.raises(EdgeError, match="the database of thing cannot be reached"):
        apply("host=/nonexistent dbname=x", "thing", files)
