"""Process trees as Linux shows them, and the few prctl calls that singd needs. Stdlib only: the keeper imports it.

A tree is found by parent links, not by sessions or groups: a child may leave its session, and may clear its
environment, but as long as its root (or a subreaper above it) lives it cannot leave its ancestors.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal

RLIMIT_LOCKS = 10
"""A resource limit that no kernel since 2.4.25 looks at (setrlimit(2)), in every architecture's numbering."""
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

SWEEPS = 50
"""Most rounds of `kill_tree`: each kills what it sees, and a dead parent forks no more."""


class Seen:
    """One process in a snapshot of /proc."""

    __slots__ = ("parent", "session", "state")

    def __init__(self, parent: int, session: int, state: str) -> None:
        self.parent, self.session, self.state = parent, session, state


def prctl(option: int, value: int) -> None:
    """Call prctl(2).

    Raises:
        OSError: The kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def mark(number: int) -> None:
    """Mark this process and whatever it will ever fork: unlike a variable, the mark survives a cleared environment.

    It is the soft value of `RLIMIT_LOCKS`: inherited through fork and exec, read by anyone, without effect. A program
    that sets it on purpose hides its descent. The hard value stays, so that a singd within a singd can mark too.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(RLIMIT_LOCKS, (number, resource.getrlimit(RLIMIT_LOCKS)[1]))


def mark_of(pid: int) -> int | None:
    """The mark that a process carries; None if it has none or is gone."""
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:  # prlimit(2) would need the same user
            line = next((line for line in file if line.startswith(b"Max file locks")), b"")
    except OSError:
        return None
    soft = line.split()[3:4]
    return int(soft[0]) if soft and soft[0].isdigit() else None


def look(pid: int) -> Seen | None:
    """What /proc says of one process; None once it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name stands in parentheses and may itself hold any byte: the last one closes it.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return Seen(int(fields[1]), int(fields[3]), fields[0].decode()) if len(fields) > 3 else None


def lives(pid: int) -> bool:
    """Whether a process is there and not dead; a dead one that nobody has reaped does not live."""
    return (seen := look(pid)) is not None and seen.state not in "ZX"


def snapshot() -> dict[int, Seen]:
    """Every process in sight."""
    found = ((int(name), look(int(name))) for name in os.listdir("/proc") if name.isdigit())
    return {pid: seen for pid, seen in found if seen is not None}


def rss(pid: int) -> int:
    """Bytes of memory that a process holds now; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def children(pid: int) -> list[int]:
    """Direct children of a single-threaded process, zombies included."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return [child for child, seen in snapshot().items() if seen.parent == pid]


def tree(roots: set[int], session: int = 0) -> set[int]:
    """The living processes among `roots`, all their descendants, and all of `session` (0: none)."""
    everyone = {pid: seen for pid, seen in snapshot().items() if seen.state not in "ZX"}
    found = {pid for pid in roots if pid in everyone}
    found |= {pid for pid, seen in everyone.items() if session and seen.session == session}
    grew = True
    while grew:
        more = {pid for pid, seen in everyone.items() if seen.parent in found and pid not in found}
        found |= more
        grew = bool(more)
    return found


def send(pid: int, number: int) -> None:
    """Signal one process; one that is gone, or has become somebody else's, is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill_tree(roots: set[int], session: int = 0) -> None:
    """SIGKILL a tree until nothing living is left of it, in at most `SWEEPS` rounds.

    The roots must be children of ours that are not reaped, so that their numbers are still theirs. They are hit
    before the slow look around: a process that forks and exits all the time would be gone after it.
    """
    for pid in roots:
        send(pid, signal.SIGKILL)
    for _ in range(SWEEPS):
        members = tree(roots, session)
        if not members:
            return
        for pid in members:
            send(pid, signal.SIGKILL)
        roots = roots | members
