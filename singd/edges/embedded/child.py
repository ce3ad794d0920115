"""One short child of the keeper, run to its end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import trio

from singd.errors import EdgeError
from singd.ports import Exit, Keeper, Process, ProcessSpec

ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/bin:/bin", "LANG": "C", "LC_ALL": "C", "TZ": "UTC"}
"""All that a server or a helper of it gets to see."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended, and the last 2 kB of what it wrote."""

    status: int
    output: str


async def run(
    keeper: Keeper,
    argv: tuple[str, ...],
    user: tuple[int, int] | None,
    *,
    log: Path | None = None,
    limit_s: float = 30.0,
) -> Ended:
    """Run `argv` as `user`; what it writes goes to `log`, anew, if one is given.

    Raises:
        EdgeError: It cannot be started, or did not end within `limit_s`.
        KeeperGone: The keeper is dead.
    """
    fd = os.open(log or os.devnull, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        spec = ProcessSpec(argv=argv, env=ENVIRONMENT, fds={1: fd, 2: fd}, user=user)
        process = await keeper.spawn(spec)
        ended = await _wait(process, Path(argv[0]).name, limit_s)
        return Ended(ended.status, tail(fd) if log else "")
    finally:
        os.close(fd)


async def _wait(process: Process, name: str, limit_s: float) -> Exit:
    try:
        with trio.fail_after(limit_s):
            return await process.wait()
    except BaseException as error:
        process.end(0.0)
        with trio.move_on_after(2.0, shield=True):
            await process.wait()
        if isinstance(error, trio.TooSlowError):
            raise EdgeError(f"{name} did not end within {limit_s:g} s") from None
        raise


def tail(fd: int, size: int = 2048) -> str:
    """The last `size` bytes of a file, for an error message."""
    end = os.fstat(fd).st_size
    return os.pread(fd, size, max(0, end - size)).decode(errors="replace").strip()
