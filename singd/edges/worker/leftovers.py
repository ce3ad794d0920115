"""What is left when daemon and keeper were killed together: nobody was there to end their grandchildren.

The kernel ends a dead keeper's own children (PR_SET_PDEATHSIG), but not what those had started. Every worker and command
carries a mark in its environment, which its descendants inherit; the next daemon on the same state directory, which holds
its lock, looks for the mark before it leads, so nothing of an old attempt runs beside a new one. A
process that cleared its environment is not found: the one exception, and it takes a double kill.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

from singd.edges.worker import proctree

VARIABLE = "SINGD_DAEMON"
"""In the environment of every worker and command: whose it is."""
TERM_S = 2.0
"""From TERM to KILL, as the keeper gives."""


def mark_of(state_dir: Path) -> str:
    """What the children of a daemon on this state directory carry."""
    return hashlib.sha256(os.fsencode(os.path.realpath(state_dir))).hexdigest()[:24]


def end_leftovers(mark: str) -> int:
    """End every process with the mark, and its tree. Call it with the state directory's lock, before the first child.

    Returns:
        How many there were.
    """
    found = _marked(mark)
    for pid in found:
        proctree.send(pid, signal.SIGTERM)
    deadline = time.monotonic() + TERM_S
    while _marked(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    for _ in range(proctree.SWEEPS):
        if not (left := _marked(mark)):
            break
        for pid in proctree.tree(left):
            proctree.send(pid, signal.SIGKILL)
        time.sleep(0.01)
    return len(found)


def _marked(mark: str) -> set[int]:
    word = f"{VARIABLE}={mark}".encode()
    family = _ancestors()
    return {
        int(name)
        for name in os.listdir("/proc")
        if name.isdigit() and int(name) not in family and word in _environ(int(name))
    }


def _environ(pid: int) -> list[bytes]:
    """A process's first environment; empty if it is gone, a zombie, or not ours to read."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _ancestors() -> set[int]:
    """This process and those above it: a daemon that a command started does not end its own starter."""
    found, pid = set(), os.getpid()
    while pid > 1 and pid not in found:
        found.add(pid)
        seen = proctree.look(pid)
        pid = seen.parent if seen else 0
    return found
