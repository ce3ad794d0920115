"""`make bench`: the figures of docs/benchmarks.md, one JSON line each on stdout, what goes on on stderr.

    run.py [--only f1_throughput,cli] [--peer pgqueuer,apscheduler] [--quick]

`--only` takes the names of FIGURES and PARTS; everything by default. The peers run right after singd in each
figure they have, on the same server. `--quick` is a smoke test: fewer schedules, runs and seconds.
The benches that have a program of their own (PARTS) are started as they are.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))  # for support.postgres

import figures  # noqa: E402
import peer_figures  # noqa: E402
import peers  # noqa: E402
import store  # noqa: E402
from report import say  # noqa: E402

FIGURES = {
    "f1_throughput": figures.f1_throughput,
    "f2_lateness": figures.f2_lateness,
    "f3_idle": figures.f3_idle,
    "f5_cold_start": figures.f5_cold_start,
}
PARTS = {
    "cli": "bench_cli.py",
    "cron": "bench_cron.py",
    "failover": "bench_failover.py",
    "failover_peer": "failover_peer.py",
    "ledger": "bench_ledger.py",
    "workers": "bench_workers.py",
}


def names(known: dict[str, object]) -> object:
    def read(text: str) -> list[str]:
        found = [name for name in text.split(",") if name]
        if wrong := set(found) - set(known):
            raise argparse.ArgumentTypeError(
                f"no such name: {', '.join(sorted(wrong))} (there are {', '.join(known)})"
            )
        return found

    return read


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument(
        "--only", type=names({**FIGURES, **PARTS}), default=[*FIGURES, *PARTS], metavar="NAME,…"
    )
    parser.add_argument("--peer", type=names(dict(peers.PEERS)), default=list(peers.PEERS), metavar="NAME,…",
                        help='"" = none')  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    return parser.parse_args()


def main() -> int:
    told = arguments()
    failed = []
    if any(name in FIGURES for name in told.only):
        with store.running() as server:
            say(f"PostgreSQL {server.version}, fsync and synchronous_commit on, in {server.server.directory}")
            failed = [name for name in told.only if name in FIGURES and not measure(server, name, told)]
    failed += [name for name in told.only if name in PARTS and not part(PARTS[name])]
    for name in failed:
        say(f"{name}: could not be measured")
    return 1 if failed else 0


def measure(server: store.Store, name: str, told: argparse.Namespace) -> bool:
    """One figure of singd, then the peers'; what cannot be measured does not keep the others from it."""
    good = True
    for what, run in (("singd", lambda: FIGURES[name](server, told.quick)),
                      ("peers", lambda: peer_figures.FIGURES[name](server, told.peer, told.quick))):  # fmt: skip
        say(f"{name}: {what}")
        try:
            run()
        except (RuntimeError, OSError) as error:
            say(f"{name}: {what}: {error}")
            good = False
    return good


def part(program: str) -> bool:
    """A bench of its own."""
    say(program)
    if not (HERE / program).exists():
        say(f"{program} is not here")
        return False
    return subprocess.run([sys.executable, HERE / program], check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
