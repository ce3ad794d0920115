"""Starting one child of the keeper: fork, make the child safe, exec. Stdlib only; runs in the keeper.

The keeper has one thread, so Python may run between fork and exec, and PR_SET_PDEATHSIG (which is tied to the
parent *thread*) is sound. Order matters: limits and subreaper before the change of user, no_new_privs and
PDEATHSIG after it (a change of credentials clears PDEATHSIG), then exec.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from singd.edges.worker import proctree


def mark_for(keeper: int, number: int) -> int:
    """The mark of process `number` of a keeper and of all that comes of it (a pid has at most 22 bits)."""
    return keeper << 32 | number


HIGH = 100
"""Descriptors are first moved above this, so that no move overwrites one that is still to be moved."""
MIDDLING_OOM_SCORE = b"500"
"""Workers and commands go before the daemon and its servers when memory runs out."""


def start(spec: Mapping[str, Any], fds: Sequence[int]) -> int:
    """Fork and exec what `spec` describes (fields as in `ports.ProcessSpec`); `fds` belong to `spec["fds"]`, in order.

    Returns:
        Its pid, once the exec has happened.

    Raises:
        OSError: It could not be started; nothing is left of it.
    """
    reader, writer = os.pipe()
    keeper = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(spec, fds, writer, keeper)
    os.close(writer)
    with open(reader, "rb") as file:
        problem = file.read(4096)  # ends at the exec, which closes the other side
    if problem:
        os.waitpid(pid, 0)
        number, _, text = problem.decode(errors="replace").partition(" ")
        raise OSError(int(number), text)
    return pid


def _become(spec: Mapping[str, Any], fds: Sequence[int], writer: int, keeper: int) -> None:
    try:
        os.setsid()
        _default_signals()
        writer = _place_descriptors({int(n): fd for n, fd in zip(spec["fds"], fds, strict=True)}, writer)
        _limit(spec["limits"])
        proctree.mark(mark_for(keeper, spec["id"]))
        if not spec["server"]:
            proctree.prctl(proctree.PR_SET_CHILD_SUBREAPER, 1)
            with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as file:
                file.write(MIDDLING_OOM_SCORE)
        _change_user(spec["user"])
        _die_with_keeper(signal.SIGQUIT if spec["server"] else signal.SIGKILL, keeper)
        os.chdir(spec["cwd"])
        os.execve(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606 - no shell is wanted
    except BaseException as error:  # we are a fork of the keeper: nothing may climb out of here
        number = (error.errno or 0) if isinstance(error, OSError) else 0
        where = getattr(error, "filename", None) or spec["argv"][0]
        text = f"{os.strerror(number)}: {where}" if number else repr(error)
        os.write(writer, f"{number} {text}".encode()[:4000])
    finally:
        os._exit(127)


def _default_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _place_descriptors(wanted: Mapping[int, int], writer: int) -> int:
    """Put each descriptor where the child expects it and close everything else; returns where `writer` is now."""
    null = os.open("/dev/null", os.O_RDWR)
    sources = {number: wanted.get(number, null) for number in {0, 1, 2, *wanted}}
    lifted = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH) for number, fd in sources.items()}
    writer = fcntl.fcntl(writer, fcntl.F_DUPFD_CLOEXEC, HIGH)
    for number, fd in lifted.items():
        os.dup2(fd, number, inheritable=True)
    kept = sorted({*lifted, writer})
    for low, high in zip(kept, [*kept[1:], 1 << 20], strict=True):
        os.closerange(low + 1, high)
    return writer


def _limit(limits: Mapping[str, int]) -> None:
    for name, value in limits.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _change_user(user: Sequence[int] | None) -> None:
    if user:
        os.setgroups([])
        os.setgid(user[1])
        os.setuid(user[0])


def _die_with_keeper(number: int, keeper: int) -> None:
    proctree.prctl(proctree.PR_SET_NO_NEW_PRIVS, 1)
    proctree.prctl(proctree.PR_SET_PDEATHSIG, number)
    if os.getppid() != keeper:
        os._exit(127)  # it died before the call above
