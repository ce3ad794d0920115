"""Faults between a daemon and Postgres: its link, its packets, where it is pointed at, what time it thinks it is."""

from __future__ import annotations

import time
from random import Random

from chaos.kinds import kind
from chaos.world import NotNow, World
from support.cluster import DATABASE, ROLE, Node
from support.pg_pair import pgbouncer


def _stalled(name: str, stall: tuple[str, ...], family: str = "link") -> None:
    @kind(name, "node", weight=3, probe=family == "partition")
    def stalled(w: World, rng: Random, node: Node) -> None:
        with w.fault(name, family, node):
            w.link(node, "set", stall=stall)
            w.hold(7.5 if family == "partition" else rng.choice((2.0, 7.5)))
            if rng.random() < 0.5:
                w.link(node, "reset")
            w.link(node, "set")


_stalled("link drops both ways", ("up", "down"), "partition")
_stalled("link drops what is sent", ("up",))
_stalled("link drops what is answered", ("down",))


@kind("flapping link", "node")
def flapping(w: World, rng: Random, node: Node) -> None:
    with w.fault("flapping link", "link", node):
        for _ in range(rng.randint(4, 10)):
            w.link(node, "set", stall=("up", "down"))
            w.hold(rng.uniform(0.05, 1.0))
            w.link(node, "set")
            w.hold(rng.uniform(0.05, 0.5))


def _slow(seconds: float) -> None:
    @kind(f"slow link, {seconds:g} s", "node", weight=1)
    def slow(w: World, rng: Random, node: Node) -> None:
        with w.fault(f"slow link, {seconds:g} s", "link", node):
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
        family = "partition" if len(rules) > 1 else "link"
        with w.fault(name, family, node):
            for rule in rules:
                node.namespace.rule(*rule.split())
            w.hold(7.5 if family == "partition" else rng.choice((2.0, 7.5)))
            node.namespace.heal()


_packets("packets dropped both ways", "OUTPUT -p tcp -j DROP", "INPUT -p tcp -j DROP")
_packets("packets out dropped", "OUTPUT -p tcp -j DROP")
_packets("packets in dropped", "INPUT -p tcp -j DROP")
_packets("30 % of packets lost", "OUTPUT -p tcp -m statistic --mode random --probability 0.3 -j DROP")
_packets("packets refused with RST", "OUTPUT -p tcp -j REJECT --reject-with tcp-reset")


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
    @kind(f"clock {words}", "node", weight=4)
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
