"""Failover: how long nobody leads after `kill -9`, a freeze, a partition, a clean stop, a resignation: by `singd drill`.

    bench_failover.py [--kills 200] [--others 10] [--only kill,freeze,partition,stop,resign] [--raised]

A private Postgres 18 with `fsync` on, three real daemons. One JSON line a kind of fault: every gap in seconds, from
the fault to the successor's first claim in the ledger. The drill accounts for every instant meanwhile; one that does
not pass is told in the line, and its figure counts for nothing. A partition is the drill's freeze with another hand: each
daemon reaches Postgres through a link of a TCP proxy, and the leader's holds back every byte in both directions.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import procs
import trio

sys.path.insert(0, str(Path(__file__).parents[1]))

from report import figure, percentile, say
from support.postgres import Server, running, wheel_binaries
from support.tcp_proxy import Proxy

from singd.drill.faults import Hand
from singd.drill.gaps import Fault
from singd.drill.nodes import Node
from singd.drill.rounds import Drill, Plan
from singd.drill.scratch import Login
from singd.drill.words import as_json

SETTINGS = {"fsync": "on", "synchronous_commit": "on", "shared_buffers": "128MB", "max_connections": "100"}
PROGRAM = "import sys; from singd.cli.main import main; sys.exit(main())"
TREE = Path(__file__).parents[2]
MEDIAN_S, P99_S, LONGEST_S = 0.1, 0.5, 6.0
NODES = 3
FAULTS = ("kill", "freeze", "partition", "stop", "resign")


def drill(server: Server, fault: str, rounds: int) -> dict[str, Any]:
    """The drill's own account.

    Raises:
        RuntimeError: It gave none.
    """
    words = ["--url", server.conninfo(server.new_database()), "--rounds", str(rounds), "--faults", fault]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "drill", *words, "--json"], cwd=TREE, capture_output=True, text=True
    )
    if not done.stdout:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)["drill"]
    return found


class Cutter(Hand):
    """A hand whose freezes are partitions: each daemon is led through a link of its own."""

    def __init__(self, drill: Drill, proxy: Proxy, port: int) -> None:
        super().__init__(drill.cluster, drill.scratch)
        self.proxy = proxy
        for name, node in self.cluster.nodes.items():
            there = proxy.tell(name, "listen", host="127.0.0.1", upstream=["127.0.0.1", port])
            node.ledger = f"{node.ledger} host=127.0.0.1 port={there}"

    async def inflict(self, fault: Fault, leader: Node) -> float:
        at = time.time()
        self.proxy.tell(leader.name, "set", stall=["up", "down"])
        return at

    async def heal(self, fault: Fault, leader: Node) -> None:
        self.proxy.tell(leader.name, "set")


def partitions(server: Server, rounds: int) -> dict[str, Any]:
    """The account of a drill of partitions."""
    conninfo, proxy = server.conninfo(server.new_database()), Proxy()
    try:
        with tempfile.TemporaryDirectory(prefix="sf-", dir="/tmp") as directory:
            plan, login = Plan(NODES, [Fault.FREEZE] * rounds), Login(conninfo, conninfo, "a proxy a daemon")
            drill = Drill(plan, login, Path(directory), lambda done: None, say)
            drill.hand = Cutter(drill, proxy, int(server.settings["port"]))
            found: dict[str, Any] = json.loads(json.dumps(as_json(trio.run(drill.run)), default=str))
    finally:
        proxy.close()
    return found


def tell(fault: str, found: dict[str, Any]) -> bool:
    """One line; whether the drill passed."""
    gaps = [item["gap_s"] for item in found["rounds"]]
    instants = found["instants"]
    counts = {name: instants[name] for name in ("expected", "recorded", "started", "cut_off")}
    counts |= {name: len(instants[name]) for name in ("lost", "doubled")}
    more = {"p95": percentile(gaps, 0.95), "p99": percentile(gaps, 0.99), "max": max(gaps)} if gaps else {}
    if fault in ("freeze", "partition"):
        reached = {"target_max": f"<= {LONGEST_S:g}", "reached_max": bool(gaps) and more["max"] <= LONGEST_S}
    else:
        reached = {"target_p99": f"<= {P99_S:g}", "reached_p99": bool(gaps) and more["p99"] <= P99_S}
    wrong = {} if found["passed"] else {"DRILL_FAILED": found["verdict"], "violations": found["violations"]}
    most = LONGEST_S if fault in ("freeze", "partition") else MEDIAN_S
    figure(
        f"f6_failover_{fault}", "s", gaps, at_most=most, **more, **reached, instants=counts, nodes=found["nodes"], **wrong
    )  # fmt: skip
    return bool(found["passed"])


def free_port() -> int:
    """One that nobody listens on at present."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def measure(server: Server, fault: str, kills: int, others: int) -> bool:
    """One kind; whether its drill passed."""
    say(f"failover: {fault}")
    if fault == "partition":
        return tell(fault, partitions(server, others))
    return tell(fault, drill(server, fault, kills if fault == "kill" else others))


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """All sessions below this process are put before the neighbours' (Linux's autogroups; needs root).

    On a machine that others use at the same time the figures are else about them.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for pid in procs.tree(os.getpid()):
                with contextlib.suppress(OSError):
                    Path(f"/proc/{pid}/autogroup").write_text("-15")

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def main(words: Sequence[str] | None = None) -> int:
    """All kinds; 1 if a drill did not pass."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--others", type=int, default=10)
    parser.add_argument("--only", default=",".join(FAULTS))
    parser.add_argument("--raised", action="store_true", help="before the neighbours; needs root")
    told = parser.parse_args(words)
    port = os.environ["PGPORT"] = str(
        free_port()
    )  # of the private server, for everything that is started here
    settings = {**SETTINGS, "listen_addresses": "127.0.0.1", "port": port}
    first = raised() if told.raised else contextlib.nullcontext()
    with first, running(wheel_binaries(), **settings) as server:
        done = [measure(server, fault, told.kills, told.others) for fault in told.only.split(",")]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
