"""A plain program as an attempt: one process of the keeper's, its output, its exit status."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import trio

from singd.core.values import CommandCall, Report, State
from singd.edges.worker import environment
from singd.edges.worker.answers import killed_by
from singd.edges.worker.channel import output_pipe
from singd.edges.worker.entry import Entry
from singd.edges.worker.output import OUTPUT_MOST, drain
from singd.edges.worker.warm import OUTPUT_PAUSE_S
from singd.errors import EdgeError, KeeperGone
from singd.ports import Exit, Keeper, Process, ProcessSpec


class Command:
    """One attempt of a `command = […]`."""

    def __init__(self, entry: Entry, grace_s: float, limits: Mapping[str, int]) -> None:
        self.entry, self.grace_s, self.limits = entry, grace_s, limits
        self.process: Process | None = None
        self.ended_at: float | None = None
        self._scope = trio.CancelScope()
        self._reader = -1

    async def run(self, keeper: Keeper, done: Callable[[Entry, Report], None]) -> None:
        """From the start to its one report.

        Raises:
            KeeperGone: The keeper died; the attempt has been reported.
        """
        entry = self.entry
        if entry.overdue(0):
            return done(entry, entry.never_begun("begun too late: the daemon was stopped or overloaded"))
        report = entry.ended("the executor was stopped")
        try:
            report = await self._run(keeper)
        except KeeperGone as error:
            report = entry.ended(str(error), unknown=True)
            raise
        except (EdgeError, OSError) as error:
            entry.begin()
            report = entry.report(State.FAILED, str(error))
        finally:
            done(entry, report)

    async def _run(self, keeper: Keeper) -> Report:
        entry = self.entry
        self._reader, writer = output_pipe()
        try:
            self.process = await self._spawn(keeper, writer)
            entry.begin()
            if entry.ending is not None:
                self.process.end(self.grace_s)
            ended = await self._until_over(self.process)
            self._read()
            return self._verdict(ended)
        finally:
            os.close(self._reader)

    async def _spawn(self, keeper: Keeper, writer: int) -> Process:
        try:
            return await keeper.spawn(self._spec(writer))
        finally:
            os.close(writer)

    def _spec(self, writer: int) -> ProcessSpec:
        work = self.entry.work
        assert isinstance(work.call, CommandCall)
        env = environment.of_command(work, os.environ)
        program = _find(work.call.argv[0], env["PATH"])
        cwd = work.state_dir if work.state_dir.is_absolute() and work.state_dir.is_dir() else Path("/")
        argv = (program, *work.call.argv[1:])
        return ProcessSpec(argv=argv, env=env, cwd=cwd, fds={1: writer, 2: writer}, limits=self.limits)

    async def _until_over(self, process: Process) -> Exit | None:
        ended: Exit | None = None
        gone: KeeperGone | None = None
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            nursery.start_soon(self._read_all)
            try:
                ended = await process.wait()
            except KeeperGone as error:
                gone = error
            nursery.cancel_scope.cancel()
        if gone is not None:
            raise gone
        return ended

    def _verdict(self, ended: Exit | None) -> Report:
        entry = self.entry
        if entry.ending is not None:
            return entry.report(entry.ending, entry.reason)
        if ended is None:
            return entry.report(State.FAILED, "the process could not be killed")
        if ended.status < 0:
            return entry.report(State.FAILED, killed_by(-ended.status))
        if ended.status > 0:
            return entry.report(State.FAILED, f"exit status {ended.status}")
        if ended.strays:
            return entry.report(
                State.FAILED, f"left {ended.strays} process{'es' * (ended.strays > 1)} behind"
            )
        return entry.report(State.SUCCEEDED)

    def end(self, state: State, reason: str) -> None:
        """End it, tree and all."""
        if self.entry.ending is None:
            self.entry.ending, self.entry.reason = state, reason
            self.ended_at = trio.current_time()
            if self.process is not None:
                self.process.end(self.grace_s)

    def abandon(self) -> None:
        """It does not die (state D): report without it."""
        self._scope.cancel()

    async def _read_all(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._reader)
            if not self._read():
                return
            await trio.sleep(OUTPUT_PAUSE_S)

    def _read(self) -> bool:
        for data in drain(self._reader):
            if not data:
                return False
            if self.entry.write(data) > OUTPUT_MOST:
                self.end(State.FAILED, f"wrote more than {OUTPUT_MOST >> 20} MiB of output")
        return True


def _find(name: str, path: str) -> str:
    """The program's absolute path. Says what the system would: after the exec it would not know a directory.

    Raises:
        EdgeError: There is none, or it cannot be executed.
    """
    if os.sep not in name:
        if (found := shutil.which(name, path=path)) is None:
            raise EdgeError(f"{name} could not be started: no program {name!r} on PATH")
        return os.path.abspath(found)
    try:
        if os.path.isdir(name):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.stat(name)
        if not os.access(name, os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise EdgeError(f"{name} could not be started: {error.strerror}") from error
    return os.path.abspath(name)
