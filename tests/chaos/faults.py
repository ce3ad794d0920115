"""The kinds of faults: each a function from begin to heal, found by name in `KINDS`.

node    kinds that hurt one daemon, its link, its clock, its disk      one lane a node: never two at once on one
server  kinds that hurt Postgres                                       one lane
quick   kinds that are over in a moment                                one lane, beside all others
all     kinds that hurt every daemon at once                           alone, after a calm
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import psycopg
from chaos.plan import LEASE_S
from chaos.world import NotNow, World
from support.cluster import DATABASE, ROLE, Node
from support.pg_pair import pgbouncer

NodeFault = Callable[[World, Random, Node], None]
Fault = Callable[[World, Random], None]


@dataclass(frozen=True)
class Kind:
    """A fault and when it may be drawn.

    Attributes:
        needs: Parts of the machine it cannot do without (`Cluster.missing`).
        probe: Made alone after a calm, to measure how long nobody leads.
    """

    name: str
    lane: str
    make: Callable[..., None]
    weight: int
    needs: str
    probe: bool


KINDS: list[Kind] = []


def kind(
    name: str, lane: str, weight: int = 2, needs: str = "", probe: bool = False
) -> Callable[[NodeFault | Fault], NodeFault | Fault]:
    """Declare a kind of fault."""

    def declare(make: NodeFault | Fault) -> NodeFault | Fault:
        KINDS.append(Kind(name, lane, make, weight, needs, probe))
        return make

    return declare


# -- one daemon -------------------------------------------------------------------------------------------


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


# -- its link -----------------------------------------------------------------------------------------------


def _stalled(name: str, stall: tuple[str, ...], family: str = "") -> None:
    @kind(name, "node", weight=3, probe=bool(family))
    def stalled(w: World, rng: Random, node: Node) -> None:
        with w.fault(name, family, node):
            w.link(node, "set", stall=stall)
            w.hold(rng.choice((2.0, 7.5)) if not family else 7.5)
            if rng.random() < 0.5:
                w.link(node, "reset")
            w.link(node, "set")


_stalled("link drops both ways", ("up", "down"), "partition")
_stalled("link drops what is sent", ("up",))
_stalled("link drops what is answered", ("down",))


@kind("flapping link", "node")
def flapping(w: World, rng: Random, node: Node) -> None:
    with w.fault("flapping link", "", node):
        for _ in range(rng.randint(4, 10)):
            w.link(node, "set", stall=("up", "down"))
            w.hold(rng.uniform(0.05, 1.0))
            w.link(node, "set")
            w.hold(rng.uniform(0.05, 0.5))


def _slow(seconds: float) -> None:
    @kind(f"slow link, {seconds:g} s", "node", weight=1)
    def slow(w: World, rng: Random, node: Node) -> None:
        with w.fault(f"slow link, {seconds:g} s", "", node):
            w.link(node, "set", delay_s=seconds)
            w.hold(seconds + rng.uniform(1.0, 3.0))
            w.link(node, "set")


_slow(0.5)
_slow(3.0)
_slow(10.0)


@kind("half-open connections", "node")
def half_open(w: World, rng: Random, node: Node) -> None:
    with w.fault("half-open connections", "", node):
        w.link(node, "half_open")
        w.hold(rng.uniform(1.0, 6.0))
        w.link(node, "reset")


@kind("connections reset", "quick", weight=3)
def reset(w: World, rng: Random) -> None:
    node = rng.choice(w.cluster.nodes)
    with w.fault("connections reset", "", node):
        w.link(node, "reset")


@kind("answer to a write lost", "quick", weight=6)
def cut(w: World, rng: Random) -> None:
    leader = w.cluster.leader()
    if leader is None:
        raise NotNow("nobody leads")
    node = w.cluster.node(leader[1])
    before = w.link(node, "cuts")
    w.link(node, "cut", skip=rng.randint(0, 6))
    until = time.monotonic() + 3
    while w.link(node, "cuts") == before:
        if time.monotonic() > until:
            raise NotNow("nothing was sent")
        time.sleep(0.02)
    with w.fault("answer to a write lost", "", node):
        pass


def _packets(name: str, *rules: str) -> None:
    @kind(name, "node", needs="netns")
    def packets(w: World, rng: Random, node: Node) -> None:
        assert node.namespace is not None
        family = "partition" if len(rules) > 1 else ""
        with w.fault(name, family, node):
            for rule in rules:
                node.namespace.rule(*rule.split())
            w.hold(rng.choice((2.0, 7.5)) if not family else 7.5)
            node.namespace.heal()


_packets("packets dropped both ways", "OUTPUT -p tcp -j DROP", "INPUT -p tcp -j DROP")
_packets("packets out dropped", "OUTPUT -p tcp -j DROP")
_packets("packets in dropped", "INPUT -p tcp -j DROP")
_packets("30 % of packets lost", "OUTPUT -p tcp -m statistic --mode random --probability 0.3 -j DROP")
_packets("packets refused with RST", "OUTPUT -p tcp -j REJECT --reject-with tcp-reset")


# -- where it is pointed at, what time it thinks it is --------------------------------------------------------


def _away(w: World, node: Node, port: int, seconds: float) -> None:
    w.cluster.point(port, [node])
    w.link(node, "reset")
    w.hold(seconds)
    w.cluster.point(w.cluster.pair.primary.port, [node])
    w.link(node, "reset")


@kind("pointed at a read-only standby", "node")
def at_standby(w: World, rng: Random, node: Node) -> None:
    standby = w.cluster.pair.standby
    if standby is None:
        raise NotNow("no standby now")
    with w.fault("pointed at a read-only standby", "", node):
        _away(w, node, standby.port, rng.uniform(1.0, 4.0))


@kind("pointed at a transaction pooler", "node", needs="pgbouncer")
def at_pooler(w: World, rng: Random, node: Node) -> None:
    with (
        w.fault("pointed at a transaction pooler", "", node),
        pgbouncer(node.home, w.cluster.pair.primary, DATABASE, ROLE) as port,
    ):
        _away(w, node, port, rng.uniform(1.0, 4.0))


def _clock(seconds: int, words: str) -> None:
    @kind(f"clock {words}", "node", needs="faketime")
    def clock(w: World, rng: Random, node: Node) -> None:
        if not node.faked:
            raise NotNow("its clock is true")
        with w.fault(f"clock {words}", "clock", node):
            node.step_clock(seconds)
            w.hold(rng.uniform(1.0, 6.0))
            node.step_clock(0)


_clock(3600, "+1 h")
_clock(-3600, "-1 h")
_clock(40, "+40 s")
_clock(-5, "-5 s")


# -- Postgres -------------------------------------------------------------------------------------------------


def _restart(name: str, how: signal.Signals) -> None:
    @kind(name, "server")
    def restart(w: World, rng: Random) -> None:
        with w.fault(name):
            w.cluster.pair.primary.stop(how)
            w.hold(rng.choice((0.0, 0.0, 1.0, 4.0)))
            w.cluster.pair.primary.start()


_restart("Postgres restarted (fast)", signal.SIGINT)
_restart("Postgres restarted (immediate)", signal.SIGQUIT)


@kind("kill -9 of a backend", "server")
def kill_backend(w: World, rng: Random) -> None:
    rows = w.sql(f"SELECT pid FROM pg_stat_activity WHERE usename = '{ROLE}' ORDER BY random() LIMIT 1")
    if not rows:
        raise NotNow("no backend")
    with w.fault("kill -9 of a backend"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(rows[0][0], signal.SIGKILL)
        _await_server(w)


def _await_server(w: World) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        time.sleep(0.1)
        with contextlib.suppress(NotNow):
            w.sql("SELECT 1")
            return


def _stopped(seconds: float) -> None:
    @kind(f"SIGSTOP of Postgres, {seconds:g} s", "server", weight=1)
    def stopped(w: World, rng: Random) -> None:
        server = w.cluster.pair.primary
        with w.fault(f"SIGSTOP of Postgres, {seconds:g} s"):
            server.signal_all(signal.SIGSTOP)
            w.hold(seconds)
            server.signal_all(signal.SIGCONT)


_stopped(3.0)
_stopped(8.0)


def _terminated(what: str, pattern: str) -> None:
    @kind(f"{what} terminated", "quick", weight=3)
    def terminated(w: World, rng: Random) -> None:
        with w.fault(f"{what} terminated"):
            w.sql(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '{pattern}'"
            )


_terminated("lock sessions", "singd lock%")
_terminated("name sessions", "singd name%")
_terminated("pools", "singd ledger%")


def _locked(table: str, seconds: float) -> None:
    @kind(f"{table} locked, {seconds:g} s", "server", weight=1)
    def locked(w: World, rng: Random) -> None:
        statement = f"SET lock_timeout = '5s'; LOCK TABLE singd.{table} IN ACCESS EXCLUSIVE MODE"
        with w.fault(f"{table} locked, {seconds:g} s"):
            try:
                with psycopg.connect(w.cluster.pair.primary.conninfo(DATABASE)) as holder:
                    holder.execute(statement.encode())
                    w.hold(seconds)
            except psycopg.Error as error:
                raise NotNow(str(error)) from error


_locked("occurrence", 10.0)
_locked("leader", 2.0)
_locked("attempt", 4.0)


@kind("connection limit of the role", "server", weight=1)
def connection_limit(w: World, rng: Random) -> None:
    with w.fault("connection limit of the role"):
        w.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT {rng.randint(1, 5)}")
        for node in w.cluster.nodes:
            if rng.random() < 0.5:
                w.link(node, "reset")
        w.hold(rng.uniform(2.0, 5.0))
        _insist(w, f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")


def _insist(w: World, text: str) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            w.sql(text)
            return
        except NotNow:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


@kind("standby promoted", "server", weight=2)
def promote(w: World, rng: Random) -> None:
    """With synchronous replication on, the primary is killed at any moment, and nothing acknowledged is lost."""
    pair = w.cluster.pair
    if pair.standby is None:
        raise NotNow("no standby")
    try:
        w.sql("ALTER SYSTEM SET synchronous_standby_names = '*'", "postgres")
        w.sql("SELECT pg_reload_conf()")
        _await_step(w)
        w.hold(0.5)
        with w.fault("standby promoted"):
            pair.promote()
            w.cluster.point(pair.primary.port)
    finally:
        _insist(w, "ALTER SYSTEM RESET synchronous_standby_names")
        _insist(w, "SELECT pg_reload_conf()")
    pair.make_standby()


def _await_step(w: World) -> None:
    until = time.monotonic() + 5
    while not w.sql("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"):
        if time.monotonic() > until:
            raise NotNow("the standby is not in step")
        time.sleep(0.05)


# -- plugins ----------------------------------------------------------------------------------------------------


def _ordered(order: str, name: str) -> None:
    @kind(name, "quick")
    def ordered(w: World, rng: Random) -> None:
        leader = w.cluster.leader()
        if leader is None:
            raise NotNow("nobody leads")
        file = w.cluster.directory / "orders" / leader[1]
        with w.fault(name, "", w.cluster.node(leader[1])):
            file.write_text(order)
            w.hold(rng.uniform(1.5, 2.5))
            file.unlink(missing_ok=True)


_ordered("segfault", "plugin: segmentation fault")
_ordered("exit", "plugin: os._exit(0)")
_ordered("hang", "plugin: hangs")
_ordered("orphan", "plugin: leaves an orphan")
_ordered("flood", "plugin: floods its output")


# -- everybody ----------------------------------------------------------------------------------------------------


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
