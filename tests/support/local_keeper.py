"""A keeper made of plain subprocesses: `singd.ports.Keeper` without a process of its own.

For tests of what lives on a keeper. It reaps nothing but its own children, supports descriptors 0-2
only, and ends everything it started when its block ends.
"""

from __future__ import annotations

import functools
import resource
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from singd.errors import EdgeError, KeeperGone
from singd.ports import Exit, Process, ProcessSpec


class LocalProcess:
    """One child; `singd.ports.Process`."""

    def __init__(self, child: trio.Process, spec: ProcessSpec, nursery: trio.Nursery) -> None:
        self._child, self._spec, self._nursery = child, spec, nursery

    @property
    def pid(self) -> int:
        return self._child.pid

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def end(self, grace_s: float) -> None:
        self._nursery.start_soon(self._end, grace_s)

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

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
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
        return LocalProcess(child, spec, self._nursery)


def _limit(limits: Mapping[str, int]) -> None:
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))


@asynccontextmanager
async def local_keeper() -> AsyncIterator[LocalKeeper]:
    """A keeper for the length of the block."""
    async with trio.open_nursery() as nursery:
        keeper = LocalKeeper(nursery)
        try:
            yield keeper
        finally:
            with trio.CancelScope(shield=True):
                for child in keeper.children:
                    if child.poll() is None:
                        child.kill()
                    await child.wait()
            nursery.cancel_scope.cancel()
