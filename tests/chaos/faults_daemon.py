"""Faults of one daemon: its processes, its directory, its configuration; and of all daemons at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from random import Random

from chaos.kinds import kind
from chaos.plan import LEASE_S
from chaos.world import NotNow, World
from support.cluster import Node


@kind("kill -9", "node", weight=5, probe=True)
def kill(w: World, rng: Random, node: Node) -> None:
    tree = node.tree()
    with w.fault("kill -9 NODE", "kill", node):
        node.kill()
        w.gone_within_5s(node, tree)
        w.hold(rng.uniform(0.0, 2.0))
    w.restart(node)


def _stop(leases: float, name: str) -> None:
    @kind(name, "node", probe=leases > 1.5)
    def stop(w: World, rng: Random, node: Node) -> None:
        family = "freeze" if leases > 1.5 else ""
        with w.fault(f"SIGSTOP NODE {leases:g} leases", family, node):
            node.signal(signal.SIGSTOP)
            w.hold(LEASE_S * leases)
            node.signal(signal.SIGCONT)


_stop(0.5, "SIGSTOP 0.5 leases")
_stop(1.0, "SIGSTOP 1 lease")
_stop(2.0, "SIGSTOP 2 leases")


@kind("freeze of daemon, keeper and workers", "node")
def freeze_group(w: World, rng: Random, node: Node) -> None:
    with w.fault("freeze of daemon, keeper and workers", "freeze all", node):
        pids = list(node.tree())
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number == signal.SIGSTOP:
                w.hold(rng.choice((2.0, 6.0, 9.0)))


@kind("SIGTERM", "node", weight=3, probe=True)
def term(w: World, rng: Random, node: Node) -> None:
    with w.fault("SIGTERM NODE", "stop", node):
        node.signal(signal.SIGTERM)
        w.ended(node, "SIGTERM")
        w.hold(rng.uniform(0.0, 1.0))
    w.restart(node)


@kind("SIGTERM twice", "node")
def term_twice(w: World, rng: Random, node: Node) -> None:
    with w.fault("SIGTERM twice", "", node):
        node.signal(signal.SIGTERM)
        w.hold(rng.uniform(0.05, 0.5))
        node.signal(signal.SIGTERM)
        w.ended(node, "the second SIGTERM", limit=5.0)
    w.restart(node)


@kind("SIGTERM at start", "node")
def term_at_start(w: World, rng: Random, node: Node) -> None:
    tree = node.tree()
    with w.fault("SIGTERM at start", "", node):
        node.kill()
        w.gone_within_5s(node, tree)
        node.start()
        w.hold(rng.uniform(0.0, 2.0))
        node.signal(signal.SIGTERM)
        w.ended(node, "SIGTERM at start")
    w.restart(node)


@kind("kill -9 keeper", "node")
def kill_keeper(w: World, rng: Random, node: Node) -> None:
    keeper = node.keeper()
    if keeper is None:
        raise NotNow("no keeper yet")
    with w.fault("kill -9 keeper", "", node):
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGKILL)
        w.hold(1.0)


@kind("SIGHUP storm", "quick")
def hup(w: World, rng: Random) -> None:
    node = rng.choice(w.cluster.nodes)
    if not _settled(node):
        raise NotNow("it has no handler yet")
    with w.fault("SIGHUP storm", "", node):
        for _ in range(200):
            node.signal(signal.SIGHUP)
            time.sleep(0.001)


def _settled(node: Node) -> bool:
    """Whether the daemon has been up for long enough to hear signals: its keeper is there."""
    return node.lives() and node.keeper() is not None


@kind("double start, one name", "node", weight=1)
def double_name(w: World, rng: Random, node: Node) -> None:
    state = node.home / "double"
    state.mkdir(exist_ok=True)
    with w.fault("double start, one name", "", node):
        double = node.spawn(state, node.home / "double.log")
        w.hold(rng.uniform(1.5, 4.0))
        _end(double)


@kind("double start, one state directory", "node", weight=1)
def double_state(w: World, rng: Random, node: Node) -> None:
    with w.fault("double start, one state directory", "", node):
        double = node.spawn(log=node.home / "double.log")
        try:
            code: int | None = double.wait(10)
        except subprocess.TimeoutExpired:
            code = None
        if code not in (69, 75) and node.lives():
            w.note(
                "gone",
                node=node.name,
                code=code,
                tail="a second daemon on one state directory: wanted 69 or 75",
            )
        _end(double)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(35)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@kind("state directory full", "node", needs="tmpfs")
def disk_full(w: World, rng: Random, node: Node) -> None:
    filler = node.state / "filler"
    with w.fault("state directory full", "", node):
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as out:
            while out.write(b"\0" * 65536):
                pass
        w.hold(rng.uniform(1.0, 4.0))
        filler.unlink(missing_ok=True)


GARBAGE = (
    "",
    "[[[[",
    "schedules = 3\n",
    "[database]\nurl = 7\n",
    "\0\0\0",
    "[schedules.x]\nevery = '1s'\ntask = 'no such'\n",
)


@kind("garbage configuration, then a restart", "node")
def garbage(w: World, rng: Random, node: Node) -> None:
    good = node.config
    tree = node.tree()
    with w.fault("garbage configuration, then a restart", "", node):
        node.configure(rng.choice(GARBAGE))
        node.kill()
        w.gone_within_5s(node, tree)
        node.start()
        w.hold(2.0)
        w.look_after(node)
        node.configure(good)


@kind("kill -9 all", "all")
def kill_all(w: World, rng: Random) -> None:
    with w.fault("kill -9 all"):
        for node in w.cluster.nodes:
            w.gone_within_5s(node, node.tree())
            node.signal(signal.SIGKILL)
        w.hold(rng.uniform(0.0, 3.0))
        for node in w.cluster.nodes:
            node.kill()
            node.start()
        w.hold(1.0)


@kind("SIGSTOP of all", "all")
def stop_all(w: World, rng: Random) -> None:
    with w.fault("SIGSTOP of all"):
        for node in w.cluster.nodes:
            node.signal(signal.SIGSTOP)
        w.hold(rng.choice((2.0, 8.0)))
        for node in rng.sample(w.cluster.nodes, len(w.cluster.nodes)):
            node.signal(signal.SIGCONT)


@kind("SIGTERM of all", "all")
def term_all(w: World, rng: Random) -> None:
    with w.fault("SIGTERM of all"):
        enders = [threading.Thread(target=_term_one, args=(w, node)) for node in w.cluster.nodes]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()
        for node in w.cluster.nodes:
            node.start()
        w.hold(1.0)


def _term_one(w: World, node: Node) -> None:
    node.signal(signal.SIGTERM)
    w.ended(node, "SIGTERM of all")


@kind("every link drops", "all")
def partition_all(w: World, rng: Random) -> None:
    with w.fault("every link drops"):
        for node in w.cluster.nodes:
            w.link(node, "set", stall=("up", "down"))
        w.hold(rng.choice((3.0, 8.0)))
        for node in w.cluster.nodes:
            w.link(node, "set")
