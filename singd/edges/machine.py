"""Whether this machine can be what singd needs: `singd doctor`'s questions to the operating system. Nothing is written."""

from __future__ import annotations

import ctypes
import os
import resource
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from singd.core import health
from singd.core.health import Finding, ok, warning, wrong
from singd.errors import EdgeError

SOCKET_BYTES = 107
"""Of a unix socket's address; clients that do not go through its directory can use no longer one."""
_TIME_ERROR = 5
"""adjtimex: nothing keeps the clock in step."""
_TIMEX_BYTES = 512
"""More than `struct timex` has on any machine."""


def examine(state: Path, socket: Path) -> Iterator[Finding]:
    """Every finding about the state directory, the socket's place, limits and clocks."""
    yield from _state(state)
    yield _socket(socket)
    yield health.descriptors(_soft_limit())
    yield _boot_clock()
    yield _synchronised()


def _state(state: Path) -> Iterator[Finding]:
    """The directory, or the nearest one above it that is there: in that one it will be made."""
    there = next(
        path for path in (state, *state.parents) if os.path.exists(path)
    )  # a path that may not be seen is not there
    yield _usable(state, there)
    if there == state:
        yield from _private(state)
    yield health.file_system(_file_system(there), str(state))
    left = os.statvfs(there)
    yield health.space(left.f_bavail * left.f_frsize, str(state))


def _usable(state: Path, there: Path) -> Finding:
    cure = "run as the account whose daemon this is, or give --state a directory that it may write to"
    if not there.is_dir():
        return wrong("state", f"{there} is no directory", "give --state another path")
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        return wrong(
            "state",
            f"{there} is on a read-only file system",
            "mount it for writing, or give --state another path",
        )
    if not os.access(there, os.W_OK | os.X_OK):
        return wrong("state", f"{there} may not be written to by uid {os.geteuid()}", cure)
    if there != state:
        return ok("state", f"{state} is not there yet: the daemon makes it")
    return ok("state", f"{state} is there, and may be written to")


def _private(state: Path) -> Iterator[Finding]:
    found = state.stat()
    if os.geteuid() != 0 and found.st_uid not in (0, os.geteuid()):
        yield warning("state", f"{state} belongs to uid {found.st_uid}, not to uid {os.geteuid()}",
                      f"run singd as that account, or chown it: {state}")  # fmt: skip
    mode = f"{stat.S_IMODE(found.st_mode):o}"
    if found.st_mode & stat.S_IWOTH:
        yield wrong("state", f"anybody may write to {state} (mode {mode})", f"chmod o-w {state}")
    elif found.st_mode & stat.S_IWGRP:
        yield warning("state", f"its group may write to {state} (mode {mode})", f"chmod g-w {state}")


def _file_system(path: Path) -> str:
    """The type of the mount that a path is on; "" where the kernel does not say."""
    wanted, best, kind = os.path.realpath(path), "", ""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        front, _, back = line.partition(" - ")
        mount = front.split(" ")[4].encode().decode("unicode_escape", "replace")
        inside = wanted == mount or wanted.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, back.split(" ")[0]
    return kind


def _socket(path: Path) -> Finding:
    length = len(os.fsencode(path))
    if length > SOCKET_BYTES:
        return warning("socket", f"{path} has {length} bytes: other programs cannot reach it by name (singd can)",
                       "give --state a shorter path")  # fmt: skip
    return ok("socket", f"{path}: {length} of {SOCKET_BYTES} bytes")


def _soft_limit() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def _boot_clock() -> Finding:
    try:
        time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, AttributeError):
        return wrong("boot clock", "the kernel has no clock that runs through suspend (CLOCK_BOOTTIME)",
                     "run on Linux 2.6.39 or newer: leadership is trusted by that clock")  # fmt: skip
    return ok("boot clock", "there is a clock that runs through suspend")


def _synchronised() -> Finding:
    """Asked of the kernel, which every time daemon tells."""
    answer = _adjtimex()
    if answer is None:
        return ok("time", "the kernel does not tell here whether the clock is synchronised; see clock skew")
    if answer == _TIME_ERROR:
        return warning(
            "time",
            "nothing synchronises this machine's clock",
            "start chrony or systemd-timesyncd: `timedatectl`",
        )
    return ok("time", "the clock is synchronised")


def _adjtimex() -> int | None:
    """Reads only: all zeros ask for no change."""
    try:
        return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    except (OSError, AttributeError):
        return None


def embedded() -> Finding:
    """Whether the embedded server's programs are there."""
    from singd.edges.embedded.binaries import installed

    try:
        found = installed()
    except EdgeError as error:
        return wrong("embedded", str(error), error.cure)
    return ok("embedded", f"PostgreSQL {found.version} in {found.bin_dir}")
