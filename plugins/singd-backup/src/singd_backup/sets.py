"""Sets on disk: one directory each, which is complete and verified from the instant it has its name.

    <directory>/hourly/
        .lock                              held for moments: making and sweeping directories take turns
        .partial-20260101T000000Z-1f0c-…/  being made by a live process, which holds a lock on the directory itself
        .trash-…/                          being removed
        20260101T000000Z-1f0c9d2e/         a set
            singularity.dump
            manifest.json                  written last: what is in the set, and that it was verified

One rename makes a set, one rename unmakes it, so no crash leaves something that looks like a set and is none. A
process that dies leaves a `.partial-` whose lock is gone with it: the next run of either kind of attempt sweeps it,
while a stopped, still living process keeps its own. Only whole sets count for retention, so a failure can never push
out a good one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
MOST_MANIFEST = 16 * 1024 * 1024
SET_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Dump:
    """One database in a set.

    Attributes:
        file: Its name in the set's directory.
        size: Bytes of the file.
        sha256: Of the file, computed as it was written.
        server_version: Such as "18.0".
        database_bytes: What the database took on the server.
        rows: Rows of each table, `schema.table`, at the very snapshot that was dumped.
    """

    file: str
    size: int
    sha256: str
    server_version: str
    database_bytes: int
    rows: dict[str, int]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a set says of itself.

    Attributes:
        due_at: The nominal instant of the occurrence, RFC 3339.
        run: The idempotency key of that occurrence.
        made_at: When the set was complete.
    """

    kind: str
    due_at: str
    run: str
    node: str
    made_at: str
    databases: dict[str, Dump]


@dataclass(frozen=True, slots=True)
class BackupSet:
    """A complete set: its directory and its manifest."""

    path: Path
    manifest: Manifest


def set_name(due_at: datetime, run: str) -> str:
    """The name that every attempt of one occurrence gives its set; names sort by due_at."""
    return f"{due_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{hashlib.sha256(run.encode()).hexdigest()[:8]}"


def complete_sets(folder: Path) -> list[BackupSet]:
    """The complete sets of one kind, newest first. Anything else in the folder is passed over."""
    names = sorted(os.listdir(folder), reverse=True) if folder.is_dir() else []
    found = (read_set(folder / name) for name in names if SET_NAME.fullmatch(name))
    return [one for one in found if one is not None]


def read_set(path: Path) -> BackupSet | None:
    """The set in a directory; None unless its manifest is whole and every dump has the size it names."""
    try:
        with (path / MANIFEST).open("rb") as file:
            manifest = parse(json.loads(file.read(MOST_MANIFEST)))
        sound = all((path / one.file).stat().st_size == one.size for one in manifest.databases.values())
    except (OSError, ValueError, KeyError, TypeError):
        return None  # half of a set that somebody else put there: never counted, never removed
    return BackupSet(path, manifest) if sound else None


def parse(data: dict[str, Any]) -> Manifest:
    """A manifest from its JSON.

    Raises:
        ValueError, KeyError, TypeError: It is none that this version can read.
    """
    fields = dict(data)
    if (fields.pop("format"), fields.pop("verified")) != (FORMAT, True):
        raise ValueError("not the manifest of a verified set of this format")
    databases = {name: Dump(**one) for name, one in fields.pop("databases").items()}
    if not databases or any("/" in one.file or one.file.startswith(".") for one in databases.values()):
        raise ValueError("a set names at least one file, all of them in its own directory")
    return Manifest(**fields, databases=databases)


def render(manifest: Manifest) -> bytes:
    """The JSON of a manifest."""
    return json.dumps({"format": FORMAT, "verified": True, **asdict(manifest)}, indent=1).encode() + b"\n"


@contextlib.contextmanager
def claimed(parent: Path, name: str) -> Iterator[Path]:
    """A new private directory `.partial-<name>` in `parent`, ours while this process lives.

    What dead processes left in `parent` is swept first. At the end the directory is removed, unless it was renamed.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = parent / f".partial-{name}"
    with _turn(parent):
        sweep(parent)
        path.mkdir(mode=0o700)
        handle = _lock(path)
    if handle is None:
        raise BlockingIOError(f"{path} is in use")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


def sweep(parent: Path) -> None:
    """Remove what no living process holds: half-made and half-removed sets."""
    for leftover in [*parent.glob(".partial-*"), *parent.glob(".trash-*")]:
        handle = _lock(leftover)
        if handle is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(handle)


def publish(partial: Path, target: Path, manifest: Manifest) -> None:
    """Make a finished directory a set: manifest, then everything to disk, then the name.

    Raises:
        OSError: The name is taken by another attempt's set, or the disk is full.
    """
    write_durably(partial / MANIFEST, render(manifest))
    sync(partial)
    partial.rename(target)
    sync(target.parent)


def remove(one: BackupSet) -> bool:
    """Take a set's name away, then its files: half of it never looks like a set.

    Returns:
        Whether it is gone; one that is being read stays until the next retention.
    """
    handle = _lock(one.path)
    if handle is None:
        return False
    trash = one.path.with_name(f".trash-{one.path.name}")
    one.path.rename(trash)
    sync(one.path.parent)
    shutil.rmtree(trash, ignore_errors=True)
    os.close(handle)
    return True


@contextlib.contextmanager
def reading(one: BackupSet) -> Iterator[None]:
    """Keep retention from a set while it is read.

    Raises:
        OSError: It is gone already.
    """
    handle = os.open(one.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def expendable(sets: list[BackupSet], keep: int, just_made: Path) -> list[BackupSet]:
    """Which complete sets may go: all but the newest `keep` and the one just made. Pure.

    Args:
        sets: Newest first.
        keep: At least 1.
    """
    return [one for one in sets[max(1, keep) :] if one.path != just_made]


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and wait until the disk has it."""
    with open(path, "xb", opener=private) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def private(path: str, flags: int) -> int:
    """An opener for files that only this user reads; never through a link."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def sync(directory: Path) -> None:
    """Wait until the disk has the directory's entries."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _turn(parent: Path) -> Iterator[None]:
    handle = os.open(parent / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # held by others for a sweep at most
        yield
    finally:
        os.close(handle)


def _lock(directory: Path) -> int | None:
    """A descriptor that holds the directory's lock, or None where a living process has it."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
