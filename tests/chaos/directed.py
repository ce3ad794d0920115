"""Short scripts of faults, each aimed at one planted bug: few schedules, a handful of faults, the same checker."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from chaos.plan import ALO, LEASE_S, Line
from chaos.world import NotNow, World
from support.cluster import Node

Act = Callable[[World], None]

TICKS = (Line("tick", 500, "inline", 0.05), Line("work", 1000, "worker", 0.1, policy={"overlap": "queue"}))
SLOW_TICK = (Line("tick", 2000, "inline", 0.05),)
NAP = """
CREATE FUNCTION chaos.nap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(5); RETURN NULL; END $$;
CREATE TRIGGER nap AFTER INSERT ON singd.occurrence FOR EACH ROW WHEN (NEW.epoch = {epoch}) EXECUTE FUNCTION chaos.nap();
"""


@dataclass(frozen=True)
class Directed:
    """A script.

    Attributes:
        invariant: What the checker has to name.
    """

    invariant: str
    act: Act
    lines: tuple[Line, ...] = TICKS


def leader(w: World) -> tuple[int, Node]:
    """Epoch and node of whoever leads, once somebody does."""
    until = time.monotonic() + 15
    while (found := w.cluster.leader()) is None:
        if time.monotonic() > until:
            raise AssertionError("nobody leads")
        time.sleep(0.02)
    return found[0], w.cluster.node(found[1])


def election_beside_a_write(w: World) -> None:
    """The leader is frozen in the middle of a fenced write, and its lock is taken away."""
    epoch, node = leader(w)
    w.sql(NAP.format(epoch=epoch))
    _until(w, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    with w.fault("SIGSTOP leader in a write", "", node):
        node.signal(signal.SIGSTOP)
        w.sql(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'singd lock {node.name}'"
        )
        w.hold(6.0)
        node.signal(signal.SIGCONT)
    w.sql("DROP TRIGGER nap ON singd.occurrence")
    w.hold(2.0)


def _until(w: World, question: str) -> None:
    until = time.monotonic() + 15
    while not w.sql(question):
        if time.monotonic() > until:
            raise AssertionError(f"never: {question}")
        time.sleep(0.01)


def slow_answer_then_silence(w: World) -> None:
    """An answer arrives late, and then the link is cut."""
    _, node = leader(w)
    w.hold(1.0)
    with w.fault("slow link, then cut", "partition", node):
        w.link(node, "set", stall=("down",))
        w.hold(2.8)
        w.link(node, "set")
        w.hold(0.1)
        w.link(node, "set", stall=("up", "down"))
        w.hold(LEASE_S + 3.0)
        w.link(node, "set")
    w.hold(2.0)


def frozen_leader(w: World) -> None:
    """Three leases of standing still."""
    _, node = leader(w)
    w.hold(2.0)
    with w.fault("SIGSTOP leader 3 leases", "freeze", node):
        node.signal(signal.SIGSTOP)
        w.hold(3 * LEASE_S)
        node.signal(signal.SIGCONT)
    w.hold(4.0)


def lost_lock_with_nothing_to_do(w: World) -> None:
    """The lock session is ended while no instant is near: only the heartbeat can tell."""
    leader(w)
    time.sleep(20.5 - time.time() % 20)
    with w.fault("lock sessions terminated"):
        w.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'singd lock%'"
        )
    w.hold(12.0)


def two_of_one_name(w: World) -> None:
    """A second daemon under a living node's name, with a state directory of its own."""
    _, node = leader(w)
    state = node.home / "double"
    state.mkdir(exist_ok=True)
    with w.fault("double start, one name", "", node):
        double = node.spawn(state, node.home / "double.log")
        w.hold(8.0)
        double.terminate()
        double.wait(35)


def calm(w: World) -> None:
    """Nothing at all."""
    leader(w)
    w.hold(3.0)
    begin = time.time()
    w.hold(10.0)
    w.note("calm", begin=begin, end=time.time() - 0.5)


def lost_answers(w: World) -> None:
    """Answers to writes are lost, again and again; then a calm in which everything has to run."""
    _, node = leader(w)
    for skip in (0, 1, 2, 0, 1, 2, 3, 0, 1, 2):
        with w.fault("answer to a write lost", "", node):
            before = w.link(node, "cuts")
            w.link(node, "cut", skip=skip)
            until = time.monotonic() + 3
            while w.link(node, "cuts") == before and time.monotonic() < until:
                time.sleep(0.02)
        w.hold(0.7)
    calm(w)


def killed_with_an_orphan(w: World) -> None:
    """A task has left a process behind when its daemon is killed."""
    _, node = leader(w)
    orders = w.cluster.directory / "orders" / node.name
    orders.write_text("orphan")
    until = time.monotonic() + 10
    while not any("sleep 300" in words for words in node.tree().values()):
        if time.monotonic() > until:
            raise NotNow("no orphan was made")
        time.sleep(0.05)
    orders.unlink()
    tree = node.tree()
    with w.fault("kill -9 leader", "kill", node):
        node.kill()
        w.gone_within_5s(node, tree)
        w.hold(7.0)


DIRECTED = {
    "fence_removed": Directed("I4", election_beside_a_write, SLOW_TICK),
    "key_share": Directed("I4", election_beside_a_write, SLOW_TICK),
    "trust_from_the_answer": Directed("I4", slow_answer_then_silence),
    "no_lease": Directed("I17", frozen_leader),
    "kept_on_error": Directed("I4", lost_lock_with_nothing_to_do, (Line("tick", 20_000, "inline", 0.05),)),
    "identity_by_name": Directed("I2", two_of_one_name, (*TICKS, Line("own", 1000, "inline", 0.05, scope="node"))),
    "lock_from_a_pool": Directed("I17", calm),
    "due_at_is_now": Directed("I1", calm),
    "cursor_in_memory": Directed("I1", frozen_leader),
    "new_schedule_looks_back": Directed("I1", calm),
    "no_look_up": Directed("I22", lost_answers, (*TICKS, Line("again", 500, "worker", 0.05, policy={**ALO, "overlap": "queue"}))),
    "direct_child_only": Directed("I14", killed_with_an_orphan, (Line("wild", 1000, "worker", 0.1, obeys=True),)),
}  # fmt: skip
"""Planted bug -> the script that brings it out, and the invariant it breaks."""
