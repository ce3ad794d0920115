"""Failover: how long nobody leads after `kill -9`, a freeze, a clean stop and a resignation, by `singd drill` itself.

    bench_failover.py [--kills 200] [--others 10]

A private Postgres 18 with `fsync` on, three real daemons. One JSON line a kind of fault: every gap in seconds, from
the fault to the successor's first claim in the ledger. The drill accounts for every instant meanwhile; one that does
not pass is told in the line, and its figure counts for nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from report import figure, percentile, say
from support.postgres import Server, running, wheel_binaries

SETTINGS = {"fsync": "on", "synchronous_commit": "on", "shared_buffers": "128MB", "max_connections": "100"}
PROGRAM = "import sys; from singd.cli.main import main; sys.exit(main())"
TREE = Path(__file__).parents[2]
MEDIAN_S, P99_S, LONGEST_S = 0.1, 0.5, 6.0


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


def tell(fault: str, found: dict[str, Any]) -> bool:
    """One line; whether the drill passed."""
    gaps = found["gaps"].get(fault, {}).get("values", [])
    instants = found["instants"]
    counts = {name: instants[name] for name in ("expected", "recorded", "started", "cut_off")}
    counts |= {name: len(instants[name]) for name in ("lost", "doubled")}
    more = {"p95": percentile(gaps, 0.95), "p99": percentile(gaps, 0.99), "max": max(gaps)} if gaps else {}
    if fault == "freeze":
        reached = {"target_max": f"<= {LONGEST_S:g}", "reached_max": bool(gaps) and more["max"] <= LONGEST_S}
    else:
        reached = {"target_p99": f"<= {P99_S:g}", "reached_p99": bool(gaps) and more["p99"] <= P99_S}
    wrong = {} if found["passed"] else {"DRILL_FAILED": found["verdict"], "violations": found["violations"]}
    most = LONGEST_S if fault == "freeze" else MEDIAN_S
    figure(
        f"f6_failover_{fault}", "s", gaps, at_most=most, **more, **reached, instants=counts, nodes=found["nodes"], **wrong
    )  # fmt: skip
    return bool(found["passed"])


def main() -> int:
    """All kinds; 1 if a drill did not pass."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--others", type=int, default=10)
    told = parser.parse_args()
    good = True
    with running(wheel_binaries(), **SETTINGS) as server:
        for fault in ("kill", "freeze", "stop", "resign"):
            say(f"failover: {fault}")
            good &= tell(fault, drill(server, fault, told.kills if fault == "kill" else told.others))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
