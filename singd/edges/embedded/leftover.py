"""Servers that a dead daemon left behind.

A daemon killed with its keeper leaves a live postmaster; a killed postmaster leaves backends that take a
moment to notice. Whoever holds the home's lock owns the data, so these are ended before a server starts.

They are told from strangers by their command line: the postmaster names our data directory, each of its
children carries our cluster name as title. (Not by /proc/PID/cwd: reading that of another account
needs CAP_SYS_PTRACE, which root in a container lacks.)
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import trio

from singd.edges.embedded.home import Home, read_planted
from singd.edges.embedded.settings import cluster_name
from singd.errors import EdgeError

STEPS = ((signal.SIGINT, 5.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 3.0))
"""Fast stop, immediate stop, kill; seconds to wait after each."""


async def clear(home: Home, uid: int) -> int:
    """End every process of a server on this home's data, and remove what would mislead the next one.

    Returns:
        How many postmasters were alive.

    Raises:
        EdgeError: A process does not end even by SIGKILL.
    """
    alive = len(list(postmasters(home.data, uid)))
    for number, seconds in STEPS:
        _signal(postmasters(home.data, uid) if number == signal.SIGINT else members(home.data, uid), number)
        if await _gone(home.data, uid, seconds):
            break
    else:
        pids = ", ".join(map(str, members(home.data, uid)))
        raise EdgeError(f"processes of an older server on {home.data} do not end: pid {pids}")
    _forget_stale(home)
    return alive


def postmasters(data: Path, uid: int) -> Iterator[int]:
    """Pids of live postmasters on `data`."""
    wanted = os.fsencode(data)
    return _matching(uid, lambda argv: os.path.basename(argv[0]) == b"postgres" and wanted in argv)


def members(data: Path, uid: int) -> list[int]:
    """Pids of every live process of a server on `data`."""
    title = f"postgres: {cluster_name(data)}: ".encode()
    return [*postmasters(data, uid), *_matching(uid, lambda argv: argv[0].startswith(title))]


def _matching(uid: int, wanted: Callable[[list[bytes]], bool]) -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if entry.stat().st_uid == uid and wanted(Path(entry.path, "cmdline").read_bytes().split(b"\0")):
                yield int(entry.name)


async def _gone(data: Path, uid: int, seconds: float) -> bool:
    with trio.move_on_after(seconds):
        while members(data, uid):  # noqa: ASYNC110 - not our children: there is no event to wait for
            await trio.sleep(0.02)
        return True
    return False


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in list(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _forget_stale(home: Home) -> None:
    """Remove lock files whose pid is somebody else's by now.

    Postgres sees through a dead pid by itself (and then checks the shared memory too, so that file
    stays); a pid that was given out anew, the rule in containers, would make it refuse to start.
    """
    pidfile = home.data / "postmaster.pid"
    recorded = (read_planted(pidfile) or "").partition("\n")[0].strip()
    if recorded.isdecimal() and Path("/proc", recorded).exists():
        pidfile.unlink(missing_ok=True)
    for name in home.run.glob(".s.PGSQL.*"):
        name.unlink(missing_ok=True)
