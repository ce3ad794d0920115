"""A private Postgres for a test, with the roles of an embedded one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from singd.edges.embedded.binaries import installed

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
