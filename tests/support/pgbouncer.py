"""A private pgbouncer before a private server: a socket of its own, no TCP, gone afterwards."""

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

import psycopg
import pytest
from support.postgres import Server, other_user

PGBOUNCER = Path("/usr/sbin/pgbouncer")
PORT = 6432


@dataclass(frozen=True)
class Pooler:
    """What stands between."""

    directory: Path
    role: str

    @property
    def conninfo(self) -> str:
        return f"host={self.directory} port={PORT} dbname=postgres user={self.role}"


@contextlib.contextmanager
def pooling(server: Server, role: str, mode: str, **settings: str) -> Iterator[Pooler]:
    """One in this `pool_mode`; every client is `role`. Skips the test where pgbouncer is not installed."""
    if not PGBOUNCER.exists():
        pytest.skip(f"no pgbouncer in {PGBOUNCER}")
    directory = Path(tempfile.mkdtemp(prefix="sgd-", dir="/tmp"))
    directory.chmod(0o755)
    user = other_user()
    if user:
        os.chown(directory, user["user"], user["group"])
    given = {
        "listen_addr": "", "listen_port": str(PORT), "unix_socket_dir": str(directory), "auth_type": "any",
        "pool_mode": mode, "ignore_startup_parameters": "extra_float_digits,options", **settings,
    }  # fmt: skip
    lines = "".join(f"{key} = {value}\n" for key, value in given.items())
    target = f"postgres = host={server.directory} dbname=postgres user={role}"
    (directory / "ini").write_text(f"[databases]\n{target}\n[pgbouncer]\n{lines}")
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [PGBOUNCER, directory / "ini"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **user
        )
    try:
        pooler = Pooler(directory, role)
        _await_answer(pooler, process)
        yield pooler
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _await_answer(pooler: Pooler, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            psycopg.connect(pooler.conninfo).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((pooler.directory / "log").read_text()) from None
            time.sleep(0.01)
