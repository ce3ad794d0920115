"""The keeper: the process that parents every worker, command and embedded server, and outlives the daemon by seconds.

    daemon ──SOCK_SEQPACKET, JSON, descriptors by SCM_RIGHTS──> keeper ──fork──> worker, command, server (own sessions)
      │ beat every 4 s                                            │
      └─ end of file, or 15 s without a word ────────────────────> TERM 2 s, KILL, servers, exit

Why a process of its own: whatever ends the daemon (kill -9, the OOM killer, a freeze) ends nothing else by itself,
and a trio program cannot use PR_SET_PDEATHSIG (trio forks in threads that end after 10 s). The keeper has one
thread, imports the standard library only and ignores polite signals: systemd's KillMode=mixed and a Ctrl-C in
the terminal mean the daemon, which then stops us in order.

Every child but a server is a subreaper of its own tree (set before exec), so what forks away from it stays
below it while it lives, and becomes ours when it dies: an unknown child of ours is a stray of one that died. Of which
one cannot be read from parent links, which change at a death and not when we reap it; it is told by the session, or by
the mark that every child hands down to its descendants. A stray that hides both is told of all that ended with it.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any

from singd.edges.worker import keeper_child, proctree

FRAME = 1 << 18
GRACE_S = 2.0
"""TERM to KILL once the daemon is dead."""
SERVER_S = 1.0
"""Polite stop of a server to SIGQUIT once the daemon is dead, and SIGQUIT to KILL always."""
STRAY_S = 0.1
"""What a dead process leaves behind may end by itself for this long before it counts as left behind."""
POLL_S = 0.02
"""Look again this soon while something is being ended."""
GIVE_UP_S = 30.0
"""Exit this long after the last order even if something (in state D) cannot die."""


class Child:
    """One process that the daemon asked for, and what is left of its tree after it died."""

    def __init__(self, number: int, pid: int, spec: dict[str, Any]) -> None:
        self.number, self.pid = number, pid
        self.stop_signal: int = spec["stop_signal"]
        self.server: bool = spec["server"]
        self.stop_s: float = spec["stop_s"]
        self.status: int | None = None
        self.rss = 0
        self.left: set[int] = set()
        self.strays = 0
        self.quit_at: float | None = None
        self.kill_at: float | None = None

    def end(self, grace: float, now: float) -> None:
        """The polite signal now, the harsher ones after `grace`; a second call can only shorten it."""
        kill_at = now + grace + (SERVER_S if self.server else 0.0)
        if self.kill_at is None:
            for pid in [self.pid] if self.server else proctree.tree({self.pid, *self.left}, self.pid):
                proctree.send(pid, self.stop_signal)
        self.kill_at = min(kill_at, self.kill_at or kill_at)
        if self.server:
            self.quit_at = self.kill_at - SERVER_S

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.quit_at is not None and now >= self.quit_at and self.status is None:
            proctree.send(self.pid, signal.SIGQUIT)
            self.quit_at = None
        if self.kill_at is not None and now >= self.kill_at:
            proctree.kill_tree({*self.left} if self.status is not None else {self.pid, *self.left}, self.pid)


class Keeper:
    """The loop: words from the daemon, deaths of children, deadlines."""

    def __init__(self, sock: socket.socket, silence_s: float) -> None:
        self.sock, self.silence_s = sock, silence_s
        self.children: dict[int, Child] = {}
        self.outbox: collections.deque[bytes] = collections.deque(maxlen=100_000)
        self.heard = time.monotonic()
        self.stopping = False
        self.give_up_at = float("inf")
        self.daemon = True
        self.wake, wakeup = os.pipe()
        for end in (self.wake, wakeup):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, lambda _number, _frame: None)

    def run(self) -> None:
        """Until told to stop, or the daemon is dead or silent, and everything is ended."""
        self.sock.setblocking(False)
        while not (self.stopping and (not self.children or time.monotonic() > self.give_up_at)):
            self._wait()
            self._receive()
            self._reap()
            self._tick()
        self._say({"op": "stopped"})
        self._flush()

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self.wake, select.POLLIN)
        if self.daemon:
            poller.register(self.sock, select.POLLIN | (select.POLLOUT if self.outbox else 0))
        busy = any(child.kill_at is not None for child in self.children.values())
        poller.poll((POLL_S if busy else min(1.0, self.silence_s / 4)) * 1000)
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, 4096)

    # ------------------------------------------------------------------ words from the daemon

    def _receive(self) -> None:
        self._flush()
        while self.daemon:
            try:
                data, fds, _, _ = socket.recv_fds(self.sock, FRAME, 64)
            except BlockingIOError:
                break
            except OSError:
                data, fds = b"", []
            if not data:
                self._daemon_gone("the daemon is gone")
                return
            self.heard = time.monotonic()
            self._obey(json.loads(data), fds)
        if self.daemon and not self.stopping and time.monotonic() - self.heard > self.silence_s:
            self._daemon_gone(f"the daemon was silent for {self.silence_s:g} s")

    def _obey(self, order: dict[str, Any], fds: list[int]) -> None:
        child = self.children.get(order.get("id", -1))
        if order["op"] == "spawn":
            self._spawn(order, fds)
        elif order["op"] == "signal" and child is not None and child.status is None:
            proctree.send(child.pid, order["number"])
        elif order["op"] == "end" and child is not None:
            child.end(order["grace"], time.monotonic())
        elif order["op"] == "beat":
            self._say({"op": "beat"})
        elif order["op"] == "stop":
            self._stop(None)

    def _spawn(self, order: dict[str, Any], fds: list[int]) -> None:
        try:
            if self.stopping:
                raise OSError(0, "the keeper is stopping")
            if len(fds) != len(order["fds"]):
                raise OSError(0, "out of file descriptors")
            pid = keeper_child.start(order, fds)
        except OSError as error:
            self._say({"op": "failed", "id": order["id"], "error": error.strerror or str(error)})
        else:
            self.children[order["id"]] = Child(order["id"], pid, order)
            self._say({"op": "spawned", "id": order["id"], "pid": pid})
        finally:
            for fd in fds:
                os.close(fd)

    def _say(self, word: dict[str, Any]) -> None:
        self.outbox.append(json.dumps(word).encode())
        self._flush()

    def _flush(self) -> None:
        while self.outbox and self.daemon:
            try:
                self.sock.send(self.outbox[0])
            except BlockingIOError:
                return
            except OSError:
                self.outbox.clear()
                return
            self.outbox.popleft()

    # ------------------------------------------------------------------ the end

    def _daemon_gone(self, why: str) -> None:
        self.daemon = False
        self.sock.close()
        if self.children:
            with contextlib.suppress(OSError):
                print(
                    f"singd keeper: {why}: ending {len(self.children)} processes", file=sys.stderr, flush=True
                )
        self._stop(GRACE_S)

    def _stop(self, grace: float | None) -> None:
        now = time.monotonic()
        self.stopping = True
        self.give_up_at = now + GIVE_UP_S
        for child in self._mortals():
            child.end(child.stop_s if grace is None else grace, now)

    def _mortals(self) -> list[Child]:
        return [child for child in self.children.values() if not child.server]

    def _stop_servers(self, now: float) -> None:
        for child in self.children.values():
            if child.kill_at is None:
                child.end(child.stop_s if self.daemon else min(child.stop_s, SERVER_S), now)

    # ------------------------------------------------------------------ deaths

    def _reap(self) -> None:
        by_pid = {child.pid: child for child in self.children.values() if child.status is None}
        ended: list[Child] = []
        with contextlib.suppress(ChildProcessError):
            while (dead := os.wait4(-1, os.WNOHANG))[0]:
                pid, status, usage = dead
                ended += [child for child in self.children.values() if pid in {child.pid, *child.left}]
                if child := by_pid.pop(pid, None):
                    child.status, child.rss = os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024
                for other in self.children.values():
                    other.left.discard(pid)
        self._adopt(set(by_pid), ended)
        now = time.monotonic()
        for child in self.children.values():
            if child.status is not None and child.left and child.kill_at is None:
                child.kill_at = now + STRAY_S

    def _adopt(self, known: set[int], ended: list[Child]) -> None:
        """Give each stray to whom it came from."""
        known = known.union(*(child.left for child in self.children.values()))
        for pid in set(proctree.children(os.getpid())) - known:
            if not proctree.lives(pid):
                continue
            owners = self._origin(pid) or self._suspects(ended)
            for owner in owners:
                owner.left.add(pid)
            if not owners:
                proctree.kill_tree({pid})

    def _origin(self, pid: int) -> list[Child]:
        """Whom a stray certainly comes from: dead, reaped or not, or a living server."""
        mark, keeper, seen = proctree.mark_of(pid), os.getpid(), proctree.look(pid)
        return [
            child
            for child in self.children.values()
            if (seen and seen.session == child.pid) or mark == keeper_child.mark_for(keeper, child.number)
        ]

    def _suspects(self, ended: list[Child]) -> list[Child]:
        """Whom a stray of unclear descent may come from: all that ended, reaped or not."""
        return [
            child
            for child in self.children.values()
            if child in ended or (child.status is None and not proctree.lives(child.pid))
        ]

    def _count(self, now: float) -> None:
        """What is still there when its time is up was left behind: tell all that share it, before anyone kills it."""
        for child in self.children.values():
            if child.status is None or child.strays or child.kill_at is None or now < child.kill_at:
                continue
            for other in self.children.values():
                if shared := child.left & other.left:
                    other.strays = max(other.strays, len(proctree.tree(shared)))

    def _tick(self) -> None:
        now = time.monotonic()
        self._count(now)
        for child in list(self.children.values()):
            child.tick(now)
            if child.status is not None and not child.left:
                del self.children[child.number]
                self._say({"op": "exited", "id": child.number, "status": child.status, "rss": child.rss,
                           "strays": child.strays})  # fmt: skip
        if self.stopping and not self._mortals():
            self._stop_servers(now)


def main(fd: int, silence_s: float) -> None:
    """Run the keeper on socket `fd`, which the daemon holds the other end of."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    proctree.prctl(proctree.PR_SET_CHILD_SUBREAPER, 1)
    Keeper(socket.socket(fileno=fd), silence_s).run()
