"""A keeper made of plain subprocesses: `singd.ports.Keeper` without a process of its own.

For tests of what lives on a keeper. It reaps nothing but its own children, supports descriptors 0-2
only, and ends everything it started when its block ends.
"""

from __future__ import annotations

import functools
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio

from singd.errors import EdgeError, KeeperGone
from singd.ports import Exit, Process, ProcessSpec


class LocalProcess:
    """One child; `singd.ports.Process`."""

    def __init__(self, child: trio.Process, spec: ProcessSpec) -> None:
        self._child, self._spec = child, spec

    @property
    def pid(self) -> int:
        return self._child.pid

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def end(self, grace_s: float) -> None:
        trio.lowlevel.spawn_system_task(self._end, grace_s)

    async def _end(self, grace_s: float) -> None:
        self.signal(self._spec.stop_signal)
        with trio.move_on_after(grace_s):
            await self._child.wait()
            return
        self.signal(signal.SIGKILL)

    async def wait(self) -> Exit:
        status = await self._child.wait()
        return Exit(status=status, max_rss_bytes=0)


class LocalKeeper:
    """`singd.ports.Keeper`. `gone = True` makes it behave like one whose process is dead."""

    def __init__(self) -> None:
        self.gone = False
        self.specs: list[ProcessSpec] = []
        self.children: list[trio.Process] = []

    async def spawn(self, spec: ProcessSpec) -> Process:
        if self.gone:
            raise KeeperGone("the keeper is dead")
        fds = spec.fds or {}
        identity: dict[str, Any] = {"preexec_fn": functools.partial(_limit, spec.limits or {})}
        if spec.user:
            identity |= {"user": spec.user[0], "group": spec.user[1], "extra_groups": []}
        try:
            child = await trio.lowlevel.open_process(
                spec.argv, env=dict(spec.env), cwd=spec.cwd, start_new_session=True,
                stdin=fds.get(0, subprocess.DEVNULL), stdout=fds.get(1, subprocess.DEVNULL),
                stderr=fds.get(2, subprocess.DEVNULL), **identity,
            )  # fmt: skip
        except OSError as error:
            raise EdgeError(f"{spec.argv[0]} cannot be started: {error}") from error
        self.specs.append(spec)
        self.children.append(child)
        return LocalProcess(child, spec)

    async def close(self) -> None:
        """Kill what still runs."""
        with trio.CancelScope(shield=True):
            for child in self.children:
                if child.poll() is None:
                    child.kill()
                await child.wait()


def _limit(limits: Mapping[str, int]) -> None:
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))


@asynccontextmanager
async def local_keeper() -> AsyncIterator[LocalKeeper]:
    """A keeper for the length of the block."""
    keeper = LocalKeeper()
    try:
        yield keeper
    finally:
        await keeper.close()


@contextmanager
def passable_directory() -> Iterator[Path]:
    """A directory that other accounts may pass through, removed afterwards.

    pytest's `tmp_path` is closed to them (0700), so a server that root lends an account cannot live there.
    """
    path = Path(tempfile.mkdtemp(prefix="singd-", dir="/tmp"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)
