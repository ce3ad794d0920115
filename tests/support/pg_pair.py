"""A Postgres primary with a streaming standby that can take its place, on TCP; and pgbouncer before it.

    Pair ── primary ──WAL──▶ standby         promote(): the old primary is stopped for good, the standby takes over,
                                             and a new standby is copied from it

Nothing that was committed is lost by a promotion here: the standby has caught up before (an asynchronous replica that
loses committed rows is what singd does *not* promise to survive).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from support.postgres import BINARIES, Server, other_user, reachable

SETTINGS = {
    "wal_level": "replica", "max_wal_senders": "5", "hot_standby": "on", "track_commit_timestamp": "on",
    "max_connections": "80", "checkpoint_timeout": "30min", "wal_keep_size": "512MB", "log_min_messages": "warning",
    "autovacuum_naptime": "10s", "wal_retrieve_retry_interval": "200ms",
}  # fmt: skip
PGBOUNCER = Path("/usr/sbin/pgbouncer")


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as asking:
        asking.bind(("127.0.0.1", 0))
        return int(asking.getsockname()[1])


class TcpServer(Server):
    """A private server that also listens on TCP."""

    port = 0

    def conninfo(self, database: str = "postgres", user: str = "postgres") -> str:
        """Through its socket: the harness's own way, which no fault touches."""
        return f"{super().conninfo(database, user)} port={self.port} connect_timeout=5"

    def prepare(self, port: int, settings: dict[str, str]) -> None:
        """Where it listens, from the next start on."""
        self.port = port
        self.settings = {**settings, "port": str(port), "listen_addresses": "127.0.0.1"}

    def signal_all(self, number: int) -> None:
        """To every process of the server."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def processes(self) -> list[int]:
        """The postmaster first."""
        assert self.process is not None
        found = [self.process.pid]
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
            found += [int(word) for word in children.split()]
        return found


@dataclass
class Pair:
    """Primary and standby; `standby` is None while a new one is made."""

    binaries: Path
    directory: Path
    settings: dict[str, str] = field(default_factory=dict)
    with_standby: bool = True
    primary: TcpServer = field(init=False)
    standby: TcpServer | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def start(self) -> None:
        """Both."""
        self.primary = self._server()
        self.primary.initialise()
        hba = self.primary.directory / "data" / "pg_hba.conf"
        hba.write_text("local all all trust\nhost all all 127.0.0.1/32 trust\nlocal replication all trust\n")
        self.primary.start()
        if self.with_standby:
            self.make_standby()

    def _server(self) -> TcpServer:
        directory = self.directory / f"pg{next(self._numbers)}"
        directory.mkdir(mode=0o755)
        user = other_user()
        if user:
            os.chown(directory, user["user"], user["group"])
        server = TcpServer(self.binaries, directory)
        server.prepare(free_port(), {**SETTINGS, **self.settings})
        return server

    def make_standby(self) -> None:
        """Copy the primary and let the copy follow it."""
        made = self._server()
        source = f"host={self.primary.directory} port={self.primary.port} user=postgres"
        subprocess.run(
            [self.binaries / "pg_basebackup", "-d", source, "-D", made.directory / "data", "-X", "stream", "-R", "-c", "fast"],
            check=True, capture_output=True, cwd="/", **other_user(),
        )  # fmt: skip
        made.start()
        self.standby = made

    def wait_caught_up(self, patience_s: float = 10.0) -> None:
        """Until the standby has everything that the primary has now."""
        assert self.standby is not None
        until = time.monotonic() + patience_s
        (goal,) = self.primary.execute("SELECT pg_current_wal_flush_lsn()::text")[0]
        while time.monotonic() < until:
            sql = f"SELECT pg_last_wal_replay_lsn() >= '{goal}'::pg_lsn"
            if self.standby.execute(sql)[0][0]:
                return
            time.sleep(0.02)
        raise RuntimeError("the standby does not catch up")

    def promote(self) -> None:
        """The standby takes over; the caller has fenced the old primary's clients off, and repoints them afterwards."""
        assert self.standby is not None
        self.wait_caught_up()
        old, new = self.primary, self.standby
        old.stop(signal.SIGQUIT)
        new.execute("SELECT pg_promote(true, 30)")
        self.primary, self.standby = new, None
        shutil.rmtree(old.directory, ignore_errors=True)

    def stop(self) -> None:
        """Both, at once."""
        for server in (self.standby, getattr(self, "primary", None)):
            if server is not None:
                with contextlib.suppress(ProcessLookupError):
                    server.signal_all(signal.SIGCONT)
                server.stop(signal.SIGQUIT)


def binaries_for_pairs(copies: Path) -> Path:
    """Of a Postgres that can make standbys, where its user may go."""
    return reachable(BINARIES["pg18"], copies)


@contextlib.contextmanager
def pgbouncer(directory: Path, server: TcpServer, database: str, role: str) -> Iterator[int]:
    """A transaction pooler before `server`: its port."""
    port, home = free_port(), directory / "pgbouncer"
    home.mkdir(exist_ok=True)
    user = other_user()
    if user:
        os.chown(home, user["user"], user["group"])
    (home / "ini").write_text(
        f"[databases]\n{database} = host={server.directory} port={server.port} dbname={database} user={role}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\nignore_startup_parameters = extra_float_digits,options\n"
        "max_client_conn = 100\ndefault_pool_size = 4\n"
    )
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(
            [PGBOUNCER, home / "ini"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **user
        )
    try:
        until = time.monotonic() + 5
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


__all__ = ["PGBOUNCER", "Pair", "TcpServer", "binaries_for_pairs", "free_port", "pgbouncer", "psycopg"]
