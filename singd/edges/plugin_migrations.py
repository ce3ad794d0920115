"""Applies the numbered SQL files that a plugin declares for its own tables, as the role that owns them.

    0001_name.sql, 0002_name.sql … ──► one transaction ──► rows in singd_plugin.singd_migrations
                                       under one lock

All that is pending of one plugin is applied in one transaction, or nothing of it: a plugin is never left between two
versions of its tables. An applied file is part of history: it is recorded by its checksum, and a changed, renumbered
or missing one is refused by name, never run again and never passed over. A file therefore cannot hold what Postgres
refuses inside a transaction (CREATE INDEX CONCURRENTLY, VACUUM), nor COMMIT.

Runtime roles never come here. What they may do with the new tables is the owner's default privileges.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from singd.errors import EdgeError, PluginError

NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
MOST_FILES = 1000
MOST_BYTES = 4 * 1024 * 1024
LOCK_TIMEOUT = "30s"
"""How long to wait for another daemon that migrates, and for each table that others use."""

_LOCK = "select pg_advisory_xact_lock(hashtextextended('singd plugin migrations', 0))"
_EXISTS = "select to_regclass('singd_plugin.singd_migrations') is not null"
_CREATE = """
create schema if not exists singd_plugin;
create table if not exists singd_plugin.singd_migrations (
    plugin      text        not null,
    number      integer     not null,
    checksum    text        not null,
    applied_at  timestamptz not null default now(),
    primary key (plugin, number)
);
"""
_APPLIED = "select number, checksum from singd_plugin.singd_migrations where plugin = %s"
_RECORD = "insert into singd_plugin.singd_migrations (plugin, number, checksum) values (%s, %s, %s)"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, its text, and the SHA-256 of its bytes."""

    number: int
    file: str
    sql: str
    checksum: str


def read_migrations(directory: Path) -> tuple[Migration, ...]:
    """The numbered files of a directory, in order.

    Raises:
        PluginError: The directory or a file in it breaks the rules; the message names it.
    """
    paths = sorted(directory.glob("*.sql"))
    if not paths or len(paths) > MOST_FILES:
        raise PluginError(f"{directory} holds {len(paths)} .sql files, expected 1 to {MOST_FILES}")
    found = tuple(_read(path) for path in paths)
    for one, other in itertools.pairwise(found):
        if one.number == other.number:
            raise PluginError(f"{one.file} and {other.file} have the same number")
    return found


def pending(conninfo: str, plugin: str, directory: Path) -> tuple[int, ...]:
    """Numbers of the files that are not applied yet; needs no right but to read the record.

    Raises:
        PluginError: The files contradict what was applied.
        EdgeError: The database cannot be reached or read.
    """
    migrations = read_migrations(directory)
    with _connected(conninfo, plugin) as connection:
        return tuple(one.number for one in missing(plugin, migrations, _applied(connection, plugin)))


def apply(conninfo: str, plugin: str, directory: Path) -> tuple[int, ...]:
    """Apply what is missing; safe to call at every start, from any number of daemons.

    Args:
        conninfo: libpq connection string of the role that owns the plugin's tables.
        plugin: The distribution's name, under which files are recorded.
        directory: Holds the numbered files.

    Returns:
        The numbers applied now.

    Raises:
        PluginError: A file is wrong, or contradicts what was applied.
        EdgeError: The database cannot be reached, or the role may not create there.
    """
    migrations = read_migrations(directory)
    with _connected(conninfo, plugin) as connection, connection.transaction():
        connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'".encode())
        connection.execute(_LOCK)
        todo = missing(plugin, migrations, _applied(connection, plugin))
        if todo:
            connection.execute(_CREATE)
        for one in todo:
            _run(connection, plugin, one)
    return tuple(one.number for one in todo)


def missing(plugin: str, migrations: Sequence[Migration], applied: Mapping[int, str]) -> list[Migration]:
    """Which files are still to be applied. Pure.

    Args:
        applied: number -> checksum, as recorded.

    Raises:
        PluginError: An applied file changed or is gone, or a new one is numbered before an applied one.
    """
    todo = [one for one in migrations if one.number not in applied]
    for one in migrations:
        if applied.get(one.number, one.checksum) != one.checksum:
            raise PluginError(
                f"{plugin}: {one.file} was changed after it was applied", cure="put the change in a new file"
            )
    gone = sorted(set(applied) - {one.number for one in migrations})
    if gone:
        cure = f"install a version of {plugin} that has it"
        raise PluginError(
            f"{plugin}: the database has migration {gone[0]:04}, which this version lacks", cure=cure
        )
    if todo and applied and todo[0].number < max(applied):
        raise PluginError(f"{plugin}: {todo[0].file} is new, but {max(applied):04} was applied before it")
    return todo


def _read(path: Path) -> Migration:
    match = NAME.fullmatch(path.name)
    if match is None:
        raise PluginError(f"{path} is not named like 0001_what_it_makes.sql")
    data = path.read_bytes()
    if len(data) > MOST_BYTES:
        raise PluginError(f"{path} is bigger than {MOST_BYTES:,} bytes")
    try:
        return Migration(int(match[1]), path.name, data.decode("utf-8"), hashlib.sha256(data).hexdigest())
    except UnicodeDecodeError as error:
        raise PluginError(f"{path} is not UTF-8") from error


class _connected:
    """A connection whose database errors say whose tables were concerned."""

    def __init__(self, conninfo: str, plugin: str) -> None:
        self.conninfo, self.plugin = conninfo, plugin

    def __enter__(self) -> psycopg.Connection[Any]:
        try:
            self.connection = psycopg.connect(self.conninfo, connect_timeout=10, autocommit=True)
        except psycopg.Error as error:
            raise EdgeError(
                f"the database of {self.plugin} cannot be reached: {_first_line(error)}"
            ) from error
        return self.connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.connection.close()
        if isinstance(error, psycopg.Error):
            raise EdgeError(
                f"migrations of {self.plugin}: {_first_line(error)}",
                cure="run `singd db migrate` as the owner of its tables",
            ) from error


def _applied(connection: psycopg.Connection[Any], plugin: str) -> dict[int, str]:
    [exists] = connection.execute(_EXISTS).fetchone() or (False,)
    return dict(connection.execute(_APPLIED, (plugin,)).fetchall()) if exists else {}


def _run(connection: psycopg.Connection[Any], plugin: str, one: Migration) -> None:
    before = _transaction(connection)
    try:
        connection.execute(one.sql.encode())
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.LockNotAvailable, psycopg.OperationalError):
        raise
    except psycopg.Error as error:
        raise PluginError(f"{plugin}: {one.file}: {_first_line(error)}") from error
    if connection.info.transaction_status != TransactionStatus.INTRANS or _transaction(connection) != before:
        raise PluginError(f"{plugin}: {one.file} ends the transaction itself, which a migration must not")
    connection.execute(_RECORD, (plugin, one.number, one.checksum))


def _transaction(connection: psycopg.Connection[Any]) -> object:
    return connection.execute("select pg_current_xact_id()").fetchone()


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
