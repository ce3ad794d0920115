"""The daemon's side of the keeper: start it, beat, ask for processes, learn how they ended (`ports.Keeper`).

Life: `start()` -> `serve()` in a nursery (beats and reads until cancelled, raises KeeperGone if the keeper dies)
-> `stop()`, which ends everything in order and returns once the keeper is gone. When the keeper dies instead, its
children die with it (PR_SET_PDEATHSIG) and their descendants come to the daemon, which is a subreaper for
that one case: `kill_orphans()` ends them, and a new KeeperClient may be started.

The keeper answers each beat. One that says nothing for `silence_s` (frozen, or stuck in the kernel) could end nothing
at its timeout either, so it is killed, and is dead like any other. What counts is beats sent without an answer, not
time: a daemon that was frozen itself sends none meanwhile, and blames nobody for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import trio

import singd
from singd.edges.worker import keeper_main, proctree
from singd.edges.worker.keeper_process import KeeperProcess
from singd.errors import EdgeError, KeeperGone, SingdError
from singd.ports import ProcessSpec

BEATS = 4
"""Beats within the silence; so many without an answer, each with its time to answer, and the keeper is dead."""
SILENCE_S = 8.0
"""A daemon that stands still may have renewed its attempts 5 s ago, with the next beat 5 s on its way; others take them
for lost, and may start them again, 20 s after the last one. So what it runs is ended, TERM and KILL, before that."""
"""The keeper ends everything after this long without a beat (on CLOCK_MONOTONIC: suspend does not count)."""
STOP_S = 40.0
"""Longest wait for an orderly stop; above the keeper's own limit, so it never cuts that short."""
ORPHANS_S = 5.0
FDS_MOST = 60
BACKLOG_MOST = 10_000

_START = "import sys; sys.path.append(sys.argv[1]); from singd.edges.worker.keeper_main import main; main(int(sys.argv[2]), float(sys.argv[3]))"


class KeeperClient:
    """Starts and speaks to one keeper process (`ports.Keeper`).

    Args:
        silence_s: Seconds without a beat after which the keeper ends everything, and without an answer after which
            the keeper is killed.
    """

    def __init__(self, *, silence_s: float = SILENCE_S) -> None:
        self.silence_s = silence_s
        self._popen: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._known: dict[int, KeeperProcess] = {}
        self._next = 0
        self._gone = False
        self._unanswered = 0
        self._end = "died"
        self._backlog: list[tuple[bytes, list[int]]] = []
        self._room = trio.Event()

    @property
    def pid(self) -> int:
        """The keeper's own process id; 0 before `start`."""
        return self._popen.pid if self._popen else 0

    def start(self) -> None:
        """Start the keeper process and become a subreaper. Call once, before `serve`.

        Raises:
            EdgeError: It could not be started.
        """
        proctree.prctl(proctree.PR_SET_CHILD_SUBREAPER, 1)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        root = str(Path(singd.__file__).parent.parent)
        with theirs:
            try:
                self._popen = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _START, root, str(theirs.fileno()), str(self.silence_s)],
                    pass_fds=[theirs.fileno()], start_new_session=True, env={}, cwd="/",
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                )  # fmt: skip
            except OSError as error:
                ours.close()
                raise EdgeError(f"the keeper could not be started: {error}") from error
        self._sock = ours

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Beat and listen until cancelled.

        Raises:
            KeeperGone: The keeper died. Every `wait` has been told.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat)
            nursery.start_soon(self._write)
            task_status.started()
            await self._listen()
            nursery.cancel_scope.cancel()
        await self._lose_all()
        raise KeeperGone(f"the keeper (pid {self.pid}) {self._end}")

    async def spawn(self, spec: ProcessSpec) -> KeeperProcess:
        """Start a process under the keeper.

        Raises:
            EdgeError: The program cannot be started.
            KeeperGone: The keeper is dead.
        """
        self._next += 1
        number = self._next
        process = self._known[number] = KeeperProcess(self._say, number)
        fds = dict(spec.fds or {})
        if len(fds) > FDS_MOST or any(number >= 100 for number in fds):
            raise ValueError(f"at most {FDS_MOST} descriptors below 100: {sorted(fds)}")
        order = {
            "op": "spawn", "id": number, "argv": list(spec.argv), "env": dict(spec.env), "cwd": str(spec.cwd),
            "fds": list(fds), "user": spec.user, "limits": dict(spec.limits or {}), "server": spec.server,
            "stop_signal": spec.stop_signal, "stop_s": spec.stop_s,
        }  # fmt: skip
        try:
            self._say(order, list(fds.values()))
            await process.started.wait()
        except SingdError:
            self._known.pop(number, None)
            raise
        except BaseException:
            process.unwanted = True  # cancelled while it was being born: end it when we hear of it
            if process.pid:
                process.end(0)
            raise
        if self._gone:
            raise KeeperGone("the keeper is dead")
        if process.error is not None:
            raise EdgeError(f"{spec.argv[0]} could not be started: {process.error}")
        return process

    async def stop(self) -> None:
        """End everything in order (servers last) and wait until the keeper is gone. Not while `serve` runs."""
        if self._sock is None:
            return
        self._say({"op": "stop"})
        with trio.move_on_after(STOP_S, shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._beat)
                nursery.start_soon(self._write)
                await self._listen()
                nursery.cancel_scope.cancel()
        await self._lose_all()
        if self._popen is not None and self._popen.returncode:  # it did not end what it should have
            with trio.CancelScope(shield=True):
                await self.kill_orphans()

    async def kill_orphans(self) -> int:
        """End what the dead keeper left to us, within 5 s: every child of ours that is in another session.

        Whatever the daemon starts itself must therefore stay in the daemon's session. Call it before the next
        keeper is started. Servers were sent SIGQUIT by the kernel and get a second for it.

        Returns:
            How many processes there were.
        """
        ended: set[int] = set()
        begun = trio.current_time()
        while (orphans := _orphans()) and (waited := trio.current_time() - begun) < ORPHANS_S:
            for pid in orphans - ended:
                proctree.send(pid, signal.SIGTERM)
            ended |= orphans
            if waited > keeper_main.SERVER_S:
                proctree.kill_tree(orphans)
            for pid in orphans:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - does not wait
            await trio.sleep(0.02)
        return len(ended)

    # ------------------------------------------------------------------ the socket

    def _say(self, word: dict[str, Any], fds: list[int] | None = None) -> None:
        if self._gone or self._sock is None:
            if word["op"] == "spawn":
                raise KeeperGone("the keeper is dead")
            return
        if len(self._backlog) > BACKLOG_MOST and word["op"] == "spawn":
            raise EdgeError(f"the keeper (pid {self.pid}) does not answer")
        data = json.dumps(word).encode()
        if len(data) > keeper_main.FRAME // 2:
            raise EdgeError("arguments and environment are too large for the keeper (128 KiB)")
        # What cannot be sent now waits with its own copies of the descriptors: the caller may close his.
        self._backlog.append((data, [os.dup(fd) for fd in fds or ()]))
        self._flush()

    def _flush(self) -> None:
        assert self._sock is not None
        while self._backlog:
            data, fds = self._backlog[0]
            try:
                socket.send_fds(self._sock, [data], fds)
            except BlockingIOError:
                self._room.set()
                return
            except OSError:
                pass  # the keeper is gone: `_listen` sees it too, and says so
            del self._backlog[0]
            for fd in fds:
                os.close(fd)

    async def _write(self) -> None:
        """Send what did not fit at once."""
        assert self._sock is not None
        while True:
            await self._room.wait()
            self._room = trio.Event()
            await trio.lowlevel.wait_writable(self._sock)
            self._flush()

    async def _beat(self) -> None:
        self._unanswered = 0
        while self._unanswered < BEATS:
            if not self._backlog:
                self._say({"op": "beat"})
            self._unanswered += 1
            await trio.sleep(self.silence_s / BEATS)
        self._end = f"did not answer for {self.silence_s:g} s and was killed"
        if self._popen is not None:
            self._popen.kill()  # `_listen` finds the end of the file

    async def _listen(self) -> None:
        """Read words until the end of the file."""
        assert self._sock is not None
        while True:
            try:
                data = self._sock.recv(keeper_main.FRAME)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._sock)
                continue
            except OSError:
                return
            if not data:
                return
            self._unanswered = 0
            word = json.loads(data)
            process = self._known.get(word.get("id", 0))
            if process is not None:
                process.hear(word)
                if word["op"] != "spawned":
                    del self._known[word["id"]]

    async def _lose_all(self) -> None:
        self._gone = True
        for process in self._known.values():
            process.lose()
        self._known.clear()
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        for _, fds in self._backlog:
            for fd in fds:
                os.close(fd)
        self._backlog.clear()
        with trio.CancelScope(shield=True):
            await self._reap()

    async def _reap(self) -> None:
        """It closed its socket, so it is ending everything and then exits; one that does not is ended."""
        if self._popen is None:
            return
        give_up = trio.current_time() + ORPHANS_S + 1
        while self._popen.poll() is None:
            if trio.current_time() > give_up:
                self._popen.kill()
            await trio.sleep(0.01)


def _orphans() -> set[int]:
    """Our children in sessions of their own."""
    me, session = os.getpid(), os.getsid(0)
    return {pid for pid, seen in proctree.snapshot().items() if seen.parent == me and seen.session != session}
