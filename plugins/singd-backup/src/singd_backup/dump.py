"""One database into one file: streamed, hashed as it streams, and read back before it counts.

A listing alone is no proof: the table of contents stands at the head of a custom-format archive, so a file cut
short still lists. `pg_restore --file=/dev/null` reads and unpacks every block.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from singd.plugin import Database
from singd_backup.counts import count_rows, database_bytes, snapshot
from singd_backup.errors import BackupFailed
from singd_backup.programs import environment, find, run, streaming
from singd_backup.sets import Dump, private

CHUNK = 1 << 20
LOCK_WAIT = "60s"
"""How long pg_dump waits for a table that somebody changes the shape of."""


def dump(database: Database, target: Path, secrets: Path) -> Dump:
    """Dump a database into a new file, and verify the file.

    Args:
        database: As a role that may read everything.
        target: The file to make.
        secrets: Private directory for the passfile.

    Raises:
        BackupFailed: pg_dump failed, or what it left is not a whole archive of this database.
        OSError: The disk is full or gone.
    """
    env = environment(database.environment(secrets))
    with snapshot(database) as (connection, name):
        program = find("pg_dump", connection.info.server_version)
        size, sha256 = _stream([program, *_options(name)], env, target)
        rows, on_server = count_rows(connection), database_bytes(connection)
        version = connection.info.parameter_status("server_version").split()[0]
        reader = find("pg_restore", connection.info.server_version)
    verify(reader, target, size, len(rows), env)
    return Dump(target.name, size, sha256, version, on_server, rows)


def _options(snapshot_name: str) -> list[str]:
    return [
        "--format=custom",
        "--no-password",
        f"--snapshot={snapshot_name}",
        f"--lock-wait-timeout={LOCK_WAIT}",
    ]


def _stream(argv: list[str], env: Mapping[str, str], target: Path) -> tuple[int, str]:
    seen, size = hashlib.sha256(), 0
    with open(target, "xb", buffering=0, opener=private) as file:
        with streaming(argv, env) as output:
            while chunk := output.read(CHUNK):
                seen.update(chunk)
                size += _write(file.fileno(), chunk)
        os.fsync(file.fileno())
    return size, seen.hexdigest()


def _write(handle: int, chunk: bytes) -> int:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(handle, rest) :]
    return len(chunk)


def verify(reader: str, file: Path, size: int, tables: int, env: Mapping[str, str]) -> None:
    """Prove that a file is a whole archive.

    Args:
        reader: pg_restore.
        size: Bytes that were written.
        tables: How many tables had rows counted: each has an entry in the archive.

    Raises:
        BackupFailed: It is not.
    """
    found = file.stat().st_size
    if found != size or not size:
        raise BackupFailed(f"{file.name} has {found} bytes on disk, {size} were written")
    entries = listing(reader, file, env)
    data = sum(bool(re.search(r"^\d+; \d+ \d+ TABLE DATA ", line)) for line in entries)
    if data < tables:
        raise BackupFailed(f"{file.name} has the data of {data} tables, the database has {tables}")
    run([reader, "--file=/dev/null", str(file)], env)


def listing(reader: str, file: Path, env: Mapping[str, str]) -> list[str]:
    """The archive's table of contents, a line an entry."""
    return run([reader, "--list", str(file)], env).decode("utf-8", "replace").splitlines()


def sha256_of(file: Path) -> str:
    """The hash of a file, read again from the disk."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
