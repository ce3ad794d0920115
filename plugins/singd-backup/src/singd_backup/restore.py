"""Proves that a set restores: into a scratch database on the server it came from, and counts.

The scratch database is a copy of `template`, so extensions that only a superuser may create can stand ready there
(an embedded server's template1 has them). Where one is missing all the same, what depends on it cannot be restored:
those tables are reported as unverified, by number and by extension, never as verified; every other table must agree.

A connection to the scratch database is held as long as it is in use: one that nobody is connected to is the leftover
of a dead run, and is dropped by the next.
"""

from __future__ import annotations

import contextlib
import re
import secrets as random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from singd.plugin import Database
from singd_backup.counts import count_rows
from singd_backup.dump import listing, sha256_of
from singd_backup.errors import BackupFailed
from singd_backup.programs import environment, find, run
from singd_backup.sets import BackupSet, Dump

PREFIX = "singd_verify_"
OPTIONS = (
    "--no-owner", "--no-privileges", "--no-comments", "--no-publications", "--no-subscriptions",
    "--no-security-labels", "--no-tablespaces", "--no-password",
)  # fmt: skip
"""What concerns other roles, servers and disks than the scratch database's is left out."""
LEFT_OUT = re.compile(r"^\d+; \d+ \d+ EVENT TRIGGER ")
EXTENSION = re.compile(r"^\d+; \d+ \d+ EXTENSION - (\S+)")
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Verified:
    """What one database's restore proved.

    Attributes:
        tables, rows: Counted in the scratch database, equal to the manifest.
        unverified: Tables that could not be restored because of `extensions_missing`.
    """

    tables: int
    rows: int
    unverified: tuple[str, ...] = ()
    extensions_missing: tuple[str, ...] = ()


def verify_dump(database: Database, one: BackupSet, template: str, secrets: Path) -> Verified:
    """Restore one database of a set and compare it with the manifest.

    Args:
        database: Where it came from, as a role that may create databases.
        template: The database to make the scratch database from.
        secrets: Private directory for the passfile and pg_restore's list.

    Raises:
        BackupFailed: The file is damaged, does not restore, or counts differ.
    """
    dump = one.manifest.databases[database.name]
    file = one.path / dump.file
    if sha256_of(file) != dump.sha256:
        raise BackupFailed(f"{file} is not what was written: its SHA-256 differs from the manifest")
    with scratch(database, template) as (name, connection):
        problem, wanted = _restore(database, file, name, secrets, connection.info.server_version)
        missing = _missing(connection, wanted)
        if problem and not missing:
            raise BackupFailed(f"{file.name} does not restore: {problem}")
        return compare(dump, count_rows(connection), missing)


def compare(dump: Dump, found: Mapping[str, int], extensions_missing: tuple[str, ...]) -> Verified:
    """Judge counts against the manifest. Pure.

    Raises:
        BackupFailed: Counts differ; or tables are absent and no missing extension explains it; or nothing is verified.
    """
    absent = tuple(sorted(set(dump.rows) - set(found)))
    differ = [
        f"{table} {found[table]} of {rows}"
        for table, rows in dump.rows.items()
        if found.get(table, rows) != rows
    ]
    if differ or (absent and not extensions_missing):
        wrong = [*differ, *(f"{table} is absent" for table in absent)]
        raise BackupFailed(
            f"{dump.file}: {len(wrong)} tables differ from the manifest: {', '.join(wrong[:MOST_NAMED])}"
        )
    if absent and len(absent) == len(dump.rows):
        raise BackupFailed(f"{dump.file}: no table could be restored without {', '.join(extensions_missing)}")
    same = {table: rows for table, rows in dump.rows.items() if table not in absent}
    return Verified(len(same), sum(same.values()), absent, extensions_missing)


@contextlib.contextmanager
def scratch(database: Database, template: str) -> Iterator[tuple[str, Any]]:
    """A new database on the same server, and a connection to it; dropped afterwards."""
    name = PREFIX + random.token_hex(8)
    with database.connect(autocommit=True) as server:
        _drop_leftovers(server)
        _create(server, name, template)
        try:
            with psycopg.connect(
                make_conninfo(database.conninfo, dbname=name), autocommit=True
            ) as connection:
                yield name, connection
        finally:
            server.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def _create(server: Any, name: str, template: str) -> None:
    text = sql.SQL("create database {} template {}")
    try:
        server.execute(text.format(sql.Identifier(name), sql.Identifier(template)))
    except psycopg.errors.InsufficientPrivilege as error:
        raise BackupFailed(
            f"the backup role may not create a scratch database from {template}: {error}"
        ) from error


def _drop_leftovers(server: Any) -> None:
    mine = "select datname from pg_database where starts_with(datname, %s) and datdba = current_user::regrole"
    for [name] in server.execute(mine, (PREFIX,)).fetchall():
        with contextlib.suppress(psycopg.errors.ObjectInUse):  # a run that is alive
            server.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(name)))


def _restore(database: Database, file: Path, name: str, secrets: Path, version: int) -> tuple[str, set[str]]:
    """Restore all that may be; answers pg_restore's complaint ("" = none) and the extensions the dump wants."""
    reader, env = find("pg_restore", version), environment(database.environment(secrets))
    entries = listing(reader, file, env)
    chosen = secrets / f"{name}.list"
    chosen.write_text("\n".join(line for line in entries if not LEFT_OUT.match(line)) + "\n")
    wanted = {match[1] for line in entries if (match := EXTENSION.match(line))}
    try:
        run([reader, *OPTIONS, f"--use-list={chosen}", f"--dbname={name}", str(file)], env)
    except BackupFailed as failed:
        return str(failed), wanted
    return "", wanted


def _missing(connection: Any, wanted: set[str]) -> tuple[str, ...]:
    there = {name for [name] in connection.execute("select extname from pg_extension")}
    return tuple(sorted(wanted - there))
