"""The figures of singd. Each bench starts the real daemon, lets it work undisturbed, and reads sink and ledger afterwards.

A *burst* is N schedules with `every = PERIOD`, so all are due at whole multiples of it. Several bursts follow one
another in one daemon; the first of them is cold (no worker yet, cold caches) and is told apart as well.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import procs
import subject
from report import figure, percentile, say
from store import Store

NEVER = 'cron = "0 0 1 1 *"'
SETTLE_S = 15.0
FIRES = 4
KINDS = ("inline", "workers")
THROUGHPUT = {"inline": 15_000, "workers": 3_000}
LATENESS = {"inline": {100: 0.03, 1_000: 0.12, 10_000: 1.0}, "workers": {100: 0.1, 1_000: 0.5, 10_000: 4.0}}
COLD_START = {10: 0.5, 10_000: 1.5}


@dataclass(frozen=True, slots=True)
class Burst:
    """One due instant of all schedules: when their bodies began, when the last end was committed."""

    due: datetime
    began: list[float]
    last_commit: float
    lost: int
    doubled: int

    @property
    def late(self) -> list[float]:
        """Seconds from the due instant to each body's begin."""
        return [at - self.due.timestamp() for at in self.began]

    @property
    def runs_per_s(self) -> float:
        """From the first body to the last recorded end."""
        return len(self.began) / (self.last_commit - min(self.began)) if self.began else 0.0


def bursts(
    store: Store, kind: str, count: int, fires: int = FIRES, period: int = 0
) -> tuple[list[Burst], dict[str, Any]]:
    """Run them; also what was wrong in the ledger or the sink, and what they cost."""
    period = period or (10 if count <= 1_000 else 20)
    trigger = f'every = "{period}s"'
    with (
        store.database() as database,
        subject.home([trigger] * count, kind, store.url(database)) as home,
        home.daemon() as daemon,
    ):
        daemon.wait_armed()
        first = (int(time.time() + 1.5) // period + 1) * period
        dues = [datetime.fromtimestamp(first + number * period, UTC) for number in range(fires)]
        time.sleep(max(first - 0.5 - time.time(), 0))
        before = procs.cpu_s(daemon.pids), store.cpu_s(database)
        _wait_for_end(store, database, dues, count, period)
        after = procs.cpu_s(daemon.pids), store.cpu_s(database)
        daemon.stop()
        done = list(_bursts(home.runs(), store.last_commits(database), dues, count, period))
        cost = {
            key: (b - a) / (count * fires) * 1e3
            for key, a, b in zip(("cpu_ms_per_run", "cpu_ms_per_run_store"), before, after, strict=True)
        }
        wrong = store.account(database, dues).wrong(count * fires)
    return done, {"lost": sum(b.lost for b in done), "doubled": sum(b.doubled for b in done), **cost, **wrong}


def _wait_for_end(store: Store, database: str, dues: list[datetime], count: int, period: int) -> None:
    """Asleep until the last burst; then the ledger is asked twice a second, until all is done or the next would come."""
    last = dues[-1].timestamp()
    time.sleep(max(last + 0.5 - time.time(), 0))
    while time.time() < last + period - 1 and store.finished(database, dues[-1]) < count:
        time.sleep(0.5)


def _bursts(
    runs: list[subject.Run], commits: dict[datetime, float], dues: list[datetime], count: int, period: int
) -> Iterator[Burst]:
    for due in dues:
        begin = due.timestamp()
        mine = [(name, at) for name, at, _ in runs if begin <= at < begin + period]
        times = Counter(name for name, _ in mine)
        doubled = sum(number - 1 for number in times.values())
        yield Burst(due, [at for _, at in mine], commits.get(due, begin), count - len(times), doubled)


def f1_throughput(store: Store, quick: bool) -> None:
    """5,000 at one instant: runs per second from the first body to the last recorded end."""
    count = 1_000 if quick else 5_000
    for kind in KINDS:
        done, checks = bursts(store, kind, count, 2 if quick else FIRES)
        rates = [burst.runs_per_s for burst in done]
        wall = [burst.last_commit - burst.due.timestamp() for burst in done]
        figure(
            f"f1_throughput_{kind}", "runs/s", rates, at_least=THROUGHPUT[kind],
            schedules=count, cold=rates[0], due_to_last_end_s=statistics.median(wall), **checks,
        )  # fmt: skip


def f2_lateness(store: Store, quick: bool) -> None:
    """Body's begin minus due, with many due at one instant."""
    for kind in KINDS:
        for count, target in list(LATENESS[kind].items())[: 2 if quick else None]:
            done, checks = bursts(store, kind, count, 2 if quick else FIRES)
            lateness(
                "singd", f"f2_lateness_p99_{kind}", count, [burst.late for burst in done], checks, target
            )


def lateness(
    system: str,
    name: str,
    count: int,
    late: list[list[float]],
    checks: dict[str, Any],
    target: float | None = None,
) -> None:
    """Print p99 with p50 and maximum beside it; a burst without any run has no value."""
    late = [values for values in late if values]
    p99 = [percentile(values, 0.99) for values in late]
    figure(
        name, "s", p99, system=system, at_most=target, schedules=count, cold=p99[0] if p99 else None,
        p50=[percentile(values, 0.5) for values in late], first=[min(values) for values in late],
        max=[max(values) for values in late], **checks,
    )  # fmt: skip


def f3_idle(store: Store, quick: bool) -> None:
    """1,000 schedules, none due before January: CPU of the whole tree a minute, and memory."""
    window, rounds, settle = (10.0, 1, 5.0) if quick else (60.0, 3, SETTLE_S)
    with store.database() as database:
        for ledger, url in (("url", store.url(database)), ("embedded", "embedded")):
            with subject.home([NEVER] * 1_000, "workers", url) as home, home.daemon() as daemon:
                daemon.wait_armed()
                time.sleep(settle)
                idle("singd", f"_{ledger}", daemon.process.pid, store, database, window, rounds)


def idle(system: str, suffix: str, pid: int, store: Store, database: str, window: float, rounds: int) -> None:
    """Measure a tree that has nothing to do, and print what it costs."""
    spent, sessions, woke = [], [], []
    for _ in range(rounds):
        pids = procs.tree(pid)
        before = procs.cpu_s(pids), store.cpu_s(database), procs.switches(pids)
        begin = time.monotonic()
        time.sleep(window)
        minutes = (time.monotonic() - begin) / 60
        after = procs.cpu_s(pids), store.cpu_s(database), procs.switches(pids)
        spent.append((after[0] - before[0]) / minutes)
        sessions.append((after[1] - before[1]) / minutes)
        woke.append((after[2] - before[2]) / minutes / 60)
    pids, own = procs.tree(pid), system == "singd"
    figure(
        f"f3_idle_cpu{suffix}", "s/min", spent, system=system, at_most=0.15 if own and suffix == "_url" else None,
        postgres_sessions_s_per_min=sessions, switches_per_s=woke, processes=len(pids), window_s=window,
    )  # fmt: skip
    tree_rss, tree_pss = procs.memory_mib(pids)
    rss, pss = procs.memory_mib([pid])
    figure(
        f"f3_idle_rss{suffix}", "MiB", [rss], system=system, at_most=55 if own else None,
        daemon_pss=pss, tree_pss=tree_pss, tree_rss=tree_rss,
    )  # fmt: skip


def f5_cold_start(store: Store, quick: bool) -> None:
    """Fork to armed, database up, catalogue cached, schedules known to the ledger; every expression is another one."""
    for count, target in COLD_START.items():
        triggers = [f'cron = "{n % 60} {n // 60 % 24} {n // 1440 + 1} 1 *"' for n in range(count)]
        with (
            store.database() as database,
            subject.home(triggers, "workers", store.url(database)) as home,
        ):
            with home.daemon() as daemon:
                first = daemon.wait_armed()
            armed, stopped, cpu = [], [], []
            for _ in range(2 if quick else 5):
                with home.daemon() as daemon:
                    armed.append(daemon.wait_armed())
                    cpu.append(procs.cpu_s([daemon.process.pid]))
                stopped.append(daemon.stopped_s)
                say(f"f5: {count} schedules: armed after {armed[-1]:.3f} s")
            figure(
                "f5_cold_start", "s", armed, at_most=target, schedules=count, very_first_s=first, cpu_s=cpu, stop_s=stopped
            )  # fmt: skip
