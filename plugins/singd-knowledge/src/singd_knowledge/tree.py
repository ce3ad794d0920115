"""Finds and reads the JSON files of a tree, and never leaves it.

Listing follows no link. Reading may follow one, but asks the kernel where the opened file really lies and refuses it
unless that is below the root; so a link swapped in between the two cannot lead out of the tree. The file is opened
with O_PATH first: a FIFO or a device is recognised without being touched.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

EXCLUDED = "learned"
"""Directories of this name hold what the platform learned itself; that is not loaded from files."""
MOST_FILES = 50_000
SUFFIX = ".json"


class Refused(Exception):
    """This file is not loaded; the text says why."""


def list_files(root: Path) -> list[PurePosixPath]:
    """Every JSON file below `root`, relative to it, in a stable order.

    Directories whose name begins with a dot, and those named `learned`, are left out. A linked directory is listed
    itself, with the suffix it has, so that it gets a verdict too.

    Raises:
        NotADirectoryError: There is no such directory.
        OSError: A directory cannot be read. A tree seen in part must not look like a tree with deletions.
        ValueError: More than MOST_FILES files.
    """
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a directory: nothing was loaded, nothing was removed")
    found: list[PurePosixPath] = []
    for path in _walk(root):
        found.append(path)
        if len(found) > MOST_FILES:
            raise ValueError(f"more than {MOST_FILES:,} JSON files below {root}")
    return sorted(found)


def _walk(root: Path) -> Iterator[PurePosixPath]:
    for directory, folders, files in os.walk(root, onerror=_raise):
        here = PurePosixPath(os.path.relpath(directory, root))
        linked = [name for name in folders if os.path.islink(os.path.join(directory, name))]
        folders[:] = [name for name in folders if not name.startswith(".") and name != EXCLUDED]
        yield from (here / name for name in files if name.lower().endswith(SUFFIX))
        yield from (here / name for name in linked if name in folders)


def _raise(error: OSError) -> None:
    raise error


def read_file(root: Path, path: PurePosixPath, most: int) -> bytes:
    """The content of one file of the tree.

    Args:
        root: The tree's root, links resolved.
        path: The file, relative to it.
        most: Bytes; a bigger file is refused unread.

    Raises:
        Refused: With the reason.
    """
    try:
        handle = os.open(root / path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"cannot be opened: {error.strerror}") from error
    try:
        _check(root, handle, most)
        return _read(handle, most)
    finally:
        os.close(handle)


def _check(root: Path, handle: int, most: int) -> None:
    real = Path(os.readlink(f"/proc/self/fd/{handle}"))
    if not real.is_relative_to(root):
        raise Refused("is a link out of the tree")
    found = os.fstat(handle)
    if stat.S_ISDIR(found.st_mode):
        raise Refused("is a link to a directory, which is not followed")
    if not stat.S_ISREG(found.st_mode):
        raise Refused("is not a regular file")
    if found.st_size > most:
        raise Refused(f"is {found.st_size:,} bytes, more than {most:,}")


def _read(handle: int, most: int) -> bytes:
    try:
        with open(f"/proc/self/fd/{handle}", "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise Refused(f"cannot be read: {error.strerror}") from error
    if len(data) > most:
        raise Refused(f"grew to more than {most:,} bytes while it was read")
    return data
