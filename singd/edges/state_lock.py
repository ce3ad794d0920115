"""One daemon a state directory: an flock that is held for the process's life and names its holder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from singd.errors import EdgeError


class Lock:
    """Held until `release` or the process's end, whatever ends it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """Give it back; once is enough, twice is no harm."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def take_lock(file: Path, state_dir: Path) -> Lock:
    """Take a state directory for this process.

    Args:
        file: The lock file; made if missing, never removed (that would let two hold it).
        state_dir: What it stands for, in the message.

    Raises:
        EdgeError: Another daemon has it, and its pid is named; or the file cannot be used.
    """
    try:
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise EdgeError(
            f"cannot lock {file}: {error.strerror}",
            cure="run singd as the user who owns that directory, or give it one of its own (--state)",
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise EdgeError(
            f"state directory {state_dir} is in use by daemon pid {holder}",
            cure="stop that daemon, or give this one a state directory of its own (--state)",
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return Lock(fd)
