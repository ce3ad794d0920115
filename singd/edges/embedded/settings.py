"""The embedded server's settings, as text. Pure: no file is read or written here.

Idle cost decides most of them (a whole idle singd may use 0.15 CPU seconds a minute): no helper process
that is not needed, no timer that wakes for nothing. What keeps data safe is left at Postgres's own
defaults: fsync, full_page_writes and synchronous_commit are on, checksums too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LONGEST_SOCKET_PATH = 107
"""Bytes of `sun_path` on Linux, without the closing NUL (unix(7))."""

SOCKET_PORT = 5432
"""Only a part of the socket's file name: nothing listens on it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where clients connect: a socket directory, or a loopback port."""

    host: str
    port: int

    @property
    def tcp(self) -> bool:
        return not self.host.startswith("/")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.tcp else f"socket {self.host}"


def socket_endpoint(run: Path) -> Endpoint | None:
    """The private socket in `run`, or None where no client could name it.

    A path may be too long for the kernel, and libpq reads a comma in a host as a list of hosts.
    """
    name = os.fsencode(run / f".s.PGSQL.{SOCKET_PORT}")
    usable = len(name) <= LONGEST_SOCKET_PATH and b"," not in name
    return Endpoint(str(run), SOCKET_PORT) if usable else None


def cluster_name(data: Path) -> str:
    """What stands in the title of each of the server's processes: how leftovers are told from strangers."""
    return "singd-" + hashlib.sha256(os.fsencode(data)).hexdigest()[:16]


BASE: Mapping[str, str] = {
    # Connections: workers, the daemon's few, and pg_dump; three are reserved for the admin.
    "max_connections": "60",
    "shared_buffers": "128MB",
    "password_encryption": "scram-sha-256",
    # The passwords are 256 random bits, so stretching them buys nothing and would cost each connect.
    "scram_iterations": "1",
    # One machine's own server: no replicas, hence no WAL senders; pg_dump needs neither.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_replication_slots": "0",
    "min_wal_size": "80MB",
    "max_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    # Helper processes and timers: none for I/O or logical replication, rare wake-ups for the rest.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "max_worker_processes": "4",
    "autovacuum_naptime": "2min",
    "autovacuum_max_workers": "2",
    "bgwriter_delay": "1s",
    "wal_writer_delay": "1s",
    "huge_pages": "off",
    # Small statements: compiling them costs more than it saves. Parallel index builds need more
    # /dev/shm than a container has (64 MB).
    "jit": "off",
    "max_parallel_maintenance_workers": "0",
    # A client that is gone must not hold locks: a blocked waiter is noticed within a second.
    "client_connection_check_interval": "1s",
    # The log is the server's standard error. Statements are left out: they may carry what tasks hold secret.
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %u@%d ",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "default_text_search_config": "pg_catalog.english",
    # This file is the only place of settings.
    "allow_alter_system": "off",
    "unix_socket_permissions": "0700",
}


def render(data: Path, hba: Path, endpoint: Endpoint) -> str:
    """The text of postgresql.conf."""
    places = {
        "data_directory": str(data),
        "hba_file": str(hba),
        "cluster_name": cluster_name(data),
        "port": str(endpoint.port),
        "listen_addresses": endpoint.host if endpoint.tcp else "",
        "unix_socket_directories": "" if endpoint.tcp else _listed(endpoint.host),
    }
    lines = [f"{name} = {_quoted(value)}" for name, value in {**BASE, **places}.items()]
    return "# Written by singd at each start; changes here are lost.\n" + "\n".join(lines) + "\n"


def render_hba(endpoint: Endpoint) -> str:
    """The text of pg_hba.conf: a password from everyone, on whatever door there is.

    Not `peer`, not `trust`: workers share the daemon's account, and would come in as any role.
    """
    door = "host all all 127.0.0.1/32" if endpoint.tcp else "local all all"
    return f"{door} scram-sha-256\n"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    return f"'{escaped}'"


def _listed(path: str) -> str:
    doubled = path.replace('"', '""')
    return f'"{doubled}"'
