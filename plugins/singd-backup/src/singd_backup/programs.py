"""pg_dump and pg_restore: found, checked, run without a shell, ended with us.

The environment is made here and nothing is inherited but PATH and HOME: a stray PGOPTIONS or PGSERVICE of the daemon
must not decide what is dumped. The password goes by a passfile, never by argv or the environment.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from singd_backup.errors import BackupFailed

LAST_WORDS = 2000
"""Bytes of a program's complaint that are kept for the error."""


def find(name: str, server_version: int) -> str:
    """The program on PATH, as new as the server or newer.

    Args:
        name: "pg_dump" or "pg_restore".
        server_version: As libpq tells it: 150004 is 15.4.

    Raises:
        BackupFailed: It is missing, or older than the server, which pg_dump refuses to serve.
    """
    path = shutil.which(name)
    if path is None:
        raise BackupFailed(f"{name} is not on PATH: install the PostgreSQL client programs")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    match = re.search(r"\(PostgreSQL\) (\d+)", said)
    if match is None:
        raise BackupFailed(f"{path} --version says {said[:100]!r}")
    if int(match[1]) < server_version // 10_000:
        raise BackupFailed(
            f"{path} is version {match[1]}, the server is version {server_version // 10_000}: "
            "install client programs at least as new as the server"
        )
    return path


def environment(database: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a program: what libpq needs, PATH and HOME."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "LC_ALL": "C", "PGAPPNAME": "singd-backup", "PGCONNECT_TIMEOUT": "10", **database}


@contextlib.contextmanager
def streaming(argv: Sequence[str], env: Mapping[str, str]) -> Iterator[IO[bytes]]:
    """What a program writes, as it writes it.

    Raises:
        BackupFailed: At the end, if the program failed; with its last words.
    """
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints
        )  # fmt: skip
        assert process.stdout is not None
        try:
            with process.stdout:
                yield process.stdout
            status = process.wait()
        finally:
            process.kill()  # no effect where it is gone already
            process.wait()
        if status != 0:
            raise BackupFailed(f"{os.path.basename(argv[0])} {_ended(status)}: {_tail(complaints)}")


def run(argv: Sequence[str], env: Mapping[str, str]) -> bytes:
    """What a program wrote, in full.

    Raises:
        BackupFailed: The program failed.
    """
    with streaming(argv, env) as output:
        return output.read()


def _ended(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"failed with status {status}"


def _tail(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - LAST_WORDS))
    return file.read().decode("utf-8", "replace").strip() or "it said nothing"
