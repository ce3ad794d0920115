"""The peers in the same run: pgqueuer (1.6, asyncpg) and APScheduler 3 (memory store), as their users would run them.

What they keep differs, and that is most of the ranking: a pgqueuer *queue* logs `picked` and the end of each entry in
batches, its *schedules* leave no run record at all, only the next and last time. APScheduler records nothing; its jobs
are in memory here (its database store needs SQLAlchemy, which is not in our lock), so it has nothing to write; for f1 the
body records start and end itself, two commits a run, as a user would add it.

As a program, `peers.py <peer> <n> <when> <dsn>` is the daemon: it writes READY and each run into $BENCH_SINK.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

BATCH = 200
THREADS = 20

# -- the daemons ------------------------------------------------------------------------------------------


def sink(name: object) -> None:
    """One line, in one write."""
    line = f"{name} {time.time():.6f} {os.getpid()}\n"
    os.write(_sink(), line.encode())


_opened: list[int] = []


def _sink() -> int:
    if not _opened:
        _opened.append(os.open(os.environ["BENCH_SINK"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    return _opened[0]


async def pgqueuer_daemon(count: int, when: str, dsn: str) -> None:
    """`when`: a period in seconds, or "never"; without schedules it works off the queue."""
    import asyncpg
    from pgqueuer import PgQueuer

    pool = await asyncpg.create_pool(dsn, min_size=2, max_size=10)
    queuer = PgQueuer.from_asyncpg_pool(pool)

    @queuer.entrypoint("noop")
    async def noop(job: Any) -> None:
        sink(job.id)

    expression = "0 0 1 1 *" if when == "never" else f"* * * * * */{when}"
    for number in range(count):

        async def scheduled(schedule: Any, number: int = number) -> None:
            sink(number)

        queuer.schedule(f"s{number}", expression, accepts_context=False)(scheduled)
    ready = asyncio.create_task(_pgqueuer_ready(pool, count))
    await queuer.run(batch_size=BATCH, dequeue_timeout=timedelta(seconds=30))
    await ready


async def _pgqueuer_ready(pool: Any, count: int) -> None:
    """Armed: every schedule is in its table."""
    while count and await pool.fetchval("SELECT count(*) FROM pgqueuer_schedules") < count:
        await asyncio.sleep(0.02)
    sink("READY")


def apscheduler_daemon(count: int, when: str, dsn: str) -> None:
    """`when`: a period in seconds, "never", or "record": all at one instant with a record of each run."""
    from apscheduler.events import EVENT_SCHEDULER_STARTED
    from apscheduler.executors.pool import ThreadPoolExecutor
    from apscheduler.schedulers.blocking import BlockingScheduler
    from apscheduler.triggers.cron import CronTrigger
    from apscheduler.triggers.date import DateTrigger

    scheduler = BlockingScheduler(
        executors={"default": ThreadPoolExecutor(THREADS)}, timezone=UTC, job_defaults={"misfire_grace_time": None}
    )  # fmt: skip
    scheduler.add_listener(lambda event: sink("READY"), EVENT_SCHEDULER_STARTED)
    for number in range(count):
        if when == "record":
            trigger, body, arguments = DateTrigger(datetime.now(UTC)), recorded, [number, dsn]
        elif when == "never":
            trigger, body, arguments = CronTrigger(month=1, day=1, timezone=UTC), sink, [number]
        else:
            trigger, body, arguments = CronTrigger(second=f"*/{when}", timezone=UTC), sink, [number]
        scheduler.add_job(body, trigger, args=arguments, id=str(number))
    scheduler.start()


_local = threading.local()


def recorded(number: int, dsn: str) -> None:
    """What a user would add to have a durable start and end."""
    import psycopg

    connection = getattr(_local, "connection", None)
    if connection is None:
        connection = _local.connection = psycopg.connect(dsn, autocommit=True)
    connection.execute("INSERT INTO runs (id, started) VALUES (%s, clock_timestamp())", (number,))
    sink(number)
    connection.execute("UPDATE runs SET ended = clock_timestamp() WHERE id = %s", (number,))


# -- the driver -------------------------------------------------------------------------------------------


class Peer:
    """A peer's daemon as a process tree of its own."""

    def __init__(self, name: str, count: int, when: str, dsn: str, sink_file: Path) -> None:
        self.sink = sink_file
        self.sink.touch()
        self.forked_at = time.time()
        self.process = subprocess.Popen(
            [sys.executable, __file__, name, str(count), when, dsn], env={**os.environ, "BENCH_SINK": str(self.sink)},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def runs(self) -> list[tuple[str, float]]:
        fields = (line.split() for line in self.sink.read_text().splitlines())
        return [(name, float(began)) for name, began, _ in fields]

    def wait_ready(self, timeout_s: float = 120) -> float:
        until = time.time() + timeout_s
        while time.time() < until and self.process.poll() is None:
            for name, at in self.runs():
                if name == "READY":
                    return at - self.forked_at
            time.sleep(0.01)
        raise RuntimeError(f"{self.process.args!r} is not ready")

    def bodies(self) -> list[tuple[str, float]]:
        return [(name, at) for name, at in self.runs() if name != "READY"]


@contextlib.contextmanager
def peer(name: str, count: int, when: str, dsn: str) -> Iterator[Peer]:
    """Started, and killed afterwards: nothing of it has to be kept."""
    with tempfile.TemporaryDirectory(prefix="singd-bench-peer-") as directory:
        started = Peer(name, count, when, dsn, Path(directory) / "sink")
        try:
            yield started
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.process.pid, signal.SIGKILL)
            started.process.wait()


async def install_pgqueuer(dsn: str) -> None:
    """Its tables."""
    import asyncpg
    from pgqueuer.db import AsyncpgDriver
    from pgqueuer.queries import Queries

    connection = await asyncpg.connect(dsn)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


async def enqueue_pgqueuer(dsn: str, count: int) -> None:
    """A backlog, by its bulk API."""
    import asyncpg
    from pgqueuer.db import AsyncpgDriver
    from pgqueuer.queries import Queries

    connection = await asyncpg.connect(dsn)
    queries = Queries(AsyncpgDriver(connection))
    for begin in range(0, count, 1_000):
        size = min(count - begin, 1_000)
        await queries.enqueue(["noop"] * size, [None] * size, [0] * size)
    await connection.close()


class PgqueuerPeer:
    """pgqueuer, beside the figures of singd."""

    name = "pgqueuer"

    def prepare(self, dsn: str) -> None:
        asyncio.run(install_pgqueuer(dsn))

    def f1(self, store: Any, database: str, count: int) -> tuple[float, dict[str, Any]]:
        """Runs a second: a backlog is drained, from the first body to the last commit of an end."""
        dsn = store.url(database)
        asyncio.run(enqueue_pgqueuer(dsn, count))
        ends = "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'"
        commits = "SELECT max(extract(epoch FROM pg_xact_commit_timestamp(xmin)))::float8 FROM pgqueuer_log WHERE status = 'successful'"
        with peer(self.name, 0, "never", dsn) as daemon:
            return drained(store, database, daemon, count, ends, commits)


class ApschedulerPeer:
    """APScheduler 3 with its jobs in memory."""

    name = "apscheduler"

    def prepare(self, dsn: str) -> None:
        """Nothing: it has no store here."""

    def f1(self, store: Any, database: str, count: int) -> tuple[float, dict[str, Any]]:
        """Runs a second, the body recording its start and end itself."""
        with store.connect(database) as connection:
            connection.execute(
                "CREATE TABLE runs (id int PRIMARY KEY, started timestamptz, ended timestamptz)"
            )
        ends = "SELECT count(*) FROM runs WHERE ended IS NOT NULL"
        commits = "SELECT max(extract(epoch FROM pg_xact_commit_timestamp(xmin)))::float8 FROM runs"
        with peer(self.name, count, "record", store.url(database)) as daemon:
            return drained(store, database, daemon, count, ends, commits)


def drained(
    store: Any, database: str, daemon: Peer, count: int, ends: str, commits: str
) -> tuple[float, dict[str, Any]]:
    """Wait until all ends are recorded (asked twice a second); the rate, and how many ended."""
    daemon.wait_ready()
    until = time.time() + 120
    with store.connect(database) as connection:
        while (done := connection.execute(ends).fetchone()[0]) < count and time.time() < until:
            time.sleep(0.5)
        last = connection.execute(commits).fetchone()[0]
    began = [at for _, at in daemon.bodies()]
    return done / (last - min(began)), {"ended": done, "began": len(began)}


def burst_lateness(
    store: Any, which: Any, count: int, fires: int, period: int
) -> tuple[list[list[float]], dict[str, int]]:
    """Lateness of `fires` bursts, and what was lost or doubled."""
    with store.database() as database:
        which.prepare(store.url(database))
        with peer(which.name, count, str(period), store.url(database)) as daemon:
            daemon.wait_ready(300)
            first = (int(time.time() + 1.5) // period + 1) * period
            time.sleep(max(first + fires * period - 1 - time.time(), 0))
            bodies = daemon.bodies()
    late, lost, doubled = [], 0, 0
    for begin in range(first, first + fires * period, period):
        mine = [(name, at) for name, at in bodies if begin <= at < begin + period]
        times = Counter(name for name, _ in mine)
        late.append([at - begin for _, at in mine])
        lost += count - len(times)
        doubled += sum(times.values()) - len(times)
    return late, {"lost": lost, "doubled": doubled}


PEERS = {peer.name: peer for peer in (PgqueuerPeer(), ApschedulerPeer())}


def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    name, count, when, dsn = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    if name == "pgqueuer":
        asyncio.run(pgqueuer_daemon(count, when, dsn))
    else:
        apscheduler_daemon(count, when, dsn)


if __name__ == "__main__":
    main()
