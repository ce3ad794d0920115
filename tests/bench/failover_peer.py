"""The peer's failover: how long nobody leads among nodes of Oban for Python 0.7.0, its settings the default ones.

    failover_peer.py [--rounds 5] [--nodes 3] [--stop | --freeze]

Each round has a database of its own on a private Postgres with `fsync` on, and new nodes: its own program, `oban start`, with
one schedule of every minute, the finest it has. The leader is killed (`kill -9`; `--stop`: TERM, `--freeze`: SIGSTOP). The gap is from
the blow to the `elected_at` of another node's row in `oban_leaders`, both by this machine's clock. That flatters the peer:
its first insert waits for the next minute besides, while singd's gap ends with the successor's first claim.

A node that does not lead looks every 30 s, so the gap depends on the moment of the blow. The blows of a run are spread evenly over these
30 s, so that few rounds tell nearly what many would. The nodes start at the same time. Further apart, two of
them can lead: 0.7.0 writes a lease of 3 s where 30 are meant (`interval '%(ttl)s seconds'` in elect_leader.sql, which
reaches Postgres as '$3 seconds'). What the intended lease would cost is not measured here.

Oban needs Python 3.12, so it has a virtual environment of its own in the user's cache. Without such a Python, or without a
package index, the bench is skipped, and says so.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import store
from report import figure, say

VERSION = "0.7.0"
PACKAGES = (f"oban=={VERSION}", "psycopg[binary,pool]")
INTERVAL_S = 30.0
"""Between two looks of a node that does not lead, the default."""
SETTLE_S = 2.0
LONGEST_S = 120.0
TICKS = 'from oban import job\n\n\n@job(queue="default", cron="* * * * *")\nasync def tick(): ...\n'
BLOWS = {"kill": signal.SIGKILL, "stop": signal.SIGTERM, "freeze": signal.SIGSTOP}

LEADER = "SELECT node FROM oban_leaders"
SUCCESSOR = (
    "SELECT extract(epoch FROM elected_at AT TIME ZONE 'UTC')::float8 FROM oban_leaders WHERE node <> %s"
)
ARMED = "SELECT count(DISTINCT node) FROM oban_producers"
INSERTED = "SELECT extract(epoch FROM (meta->>'cron_at')::timestamptz)::int FROM oban_jobs"


class Skipped(Exception):
    """The peer cannot be had on this machine."""


def pythons() -> Iterator[Path]:
    """Interpreters that may be new enough: on the path, and those of pyenv, whose shims may not be."""
    for name in ("python3.12", "python3.13", "python3.14", "python3"):
        if found := shutil.which(name):
            yield Path(found)
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from sorted(versions.glob("3.1[2-9]*/bin/python"))


def new_enough(python: Path) -> bool:
    code = "import sys, venv; sys.exit(sys.version_info < (3, 12))"
    return subprocess.run([python, "-c", code], capture_output=True).returncode == 0


def installed() -> Path:
    """The `oban` program in an environment of its own, made the first time.

    Raises:
        Skipped: No Python 3.12, or the packages cannot be fetched.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    there = cache / "singd-bench" / f"oban-{VERSION}"
    if (there / "complete").exists():
        return there / "bin" / "oban"
    python = next(filter(new_enough, pythons()), None)
    if python is None:
        raise Skipped(f"Oban for Python {VERSION} needs Python 3.12 or newer, and none was found")
    say(f"installing {' '.join(PACKAGES)} into {there}")
    pip = there / "bin" / "pip"
    make: list[str | Path] = [python, "-m", "venv", "--clear", there]
    fetch: list[str | Path] = [pip, "install", "-q", "--retries", "1", "--timeout", "20", *PACKAGES]
    for command in (make, fetch):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            told = (done.stderr.strip() or "no reason was told").splitlines()[-1]
            raise Skipped(f"Oban for Python {VERSION} cannot be installed: {told}")
    (there / "complete").touch()
    return there / "bin" / "oban"


@contextlib.contextmanager
def nodes(oban: Path, url: str, count: int) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Name -> process; all gone afterwards."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    options = {"OBAN_DSN": url, "OBAN_QUEUES": "default:10", "OBAN_CRON_MODULES": "ticks"}
    with tempfile.TemporaryDirectory(prefix="oban-") as directory, Path(directory, "log").open("wb") as log:
        Path(directory, "ticks.py").write_text(TICKS)
        try:
            for name in (f"node{number}" for number in range(count)):
                running[name] = subprocess.Popen(
                    [oban, "start", "--node", name], env={**os.environ, **options, "PYTHONPATH": directory},
                    cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            yield running
        finally:
            for process in running.values():
                process.kill()
                process.wait()


def awaited(connection: Any, sql: str, words: Sequence[object], good: Callable[[Any], bool]) -> Any:
    """The one value of `sql` once it is good; asked ten times a second.

    Raises:
        RuntimeError: It was not in time.
    """
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        row = connection.execute(sql, words).fetchone()
        if row is not None and good(row[0]):
            return row[0]
        time.sleep(0.1)
    raise RuntimeError(f"Oban did not come so far within {LONGEST_S:g} s: {sql}")


def minutes(began: float, ended: float, inserted: Sequence[int]) -> Counter[str]:
    """What became of the full minutes in between: how many there were, without an insert, with more than one."""
    due = range((int(began) // 60 + 1) * 60, int(ended) + 1, 60)
    times = Counter(inserted)
    lost, doubled = sum(times[at] == 0 for at in due), sum(times[at] > 1 for at in due)
    return Counter(expected=len(due), lost=lost, doubled=doubled)


def measured(
    oban: Path, server: store.Store, count: int, blow: str, share: float
) -> tuple[float, Counter[str]]:
    """The gap of one round, and what became of its minutes; `share` of the interval has passed at the blow."""
    with server.database() as database, server.connect(database) as connection:
        url = server.url(database)
        subprocess.run([oban, "install", "--dsn", url], check=True, capture_output=True)
        with nodes(oban, url, count) as running:
            awaited(connection, ARMED, (), lambda armed: armed == count)
            began = time.time()
            time.sleep(SETTLE_S + share * INTERVAL_S)
            leader = awaited(connection, LEADER, (), lambda name: name in running)
            struck = time.time()
            running[leader].send_signal(BLOWS[blow])
            elected = awaited(connection, SUCCESSOR, (leader,), lambda at: at is not None)
            time.sleep(1)
            inserted = [row[0] for row in connection.execute(INSERTED).fetchall()]
    gap = elected - struck
    say(f"  {share:.2f} of the interval: {gap:.2f} s")
    return gap, minutes(began, elected, inserted)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=3)
    which = parser.add_mutually_exclusive_group()
    for blow in ("stop", "freeze"):
        which.add_argument(f"--{blow}", dest="blow", action="store_const", const=blow, default="kill")
    told = parser.parse_args(words)
    try:
        oban = installed()
    except Skipped as why:
        say(f"failover_peer: skipped: {why}")
        return 0
    with store.running() as server:
        shares = [(number + 0.5) / told.rounds for number in range(told.rounds)]
        done = [measured(oban, server, told.nodes, told.blow, share) for share in shares]
    gaps = [gap for gap, _ in done]
    account = {name: sum(counted[name] for _, counted in done) for name in ("expected", "lost", "doubled")}
    figure(
        f"f6_failover_{told.blow}", "s", gaps, system="oban-py", version=VERSION, nodes=told.nodes,
        min=min(gaps), max=max(gaps), minutes=account,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
