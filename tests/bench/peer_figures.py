"""The peers' figures, by the same definitions, on the same server, in the same run."""

from __future__ import annotations

import time

import peers
from figures import COLD_START, FIRES, LATENESS, SETTLE_S, idle, lateness
from report import figure, say
from store import Store

NOTES = {
    "pgqueuer": {
        "f1": "a backlog worked off, batch 200; entries logged picked and ended in batches",
        "f2": "no run is recorded",
    },
    "apscheduler": {
        "f1": "jobs in memory; the body records start and end itself",
        "f2": "jobs in memory; no run is recorded",
    },
}


def f1_throughput(store: Store, names: list[str], quick: bool) -> None:
    count = 1_000 if quick else 5_000
    for name in names:
        rates, checks = [], []
        for _ in range(1 if quick else 3):
            with store.database() as database:
                peers.PEERS[name].prepare(store.url(database))
                rate, check = peers.PEERS[name].f1(store, database, count)
                rates.append(rate)
                checks.append(check)
        figure(
            "f1_throughput",
            "runs/s",
            rates,
            system=name,
            schedules=count,
            checks=checks,
            note=NOTES[name]["f1"],
        )


def f2_lateness(store: Store, names: list[str], quick: bool) -> None:
    for name in names:
        for count in list(LATENESS["inline"])[: 2 if quick else None]:
            fires, period = (2 if quick else FIRES - 1), (10 if count <= 1_000 else 20)
            late, checks = peers.burst_lateness(store, peers.PEERS[name], count, fires, period)
            lateness(name, "f2_lateness_p99", count, late, {**checks, "note": NOTES[name]["f2"]})


def f3_idle(store: Store, names: list[str], quick: bool) -> None:
    window, rounds, settle = (10.0, 1, 5.0) if quick else (60.0, 1, SETTLE_S)
    for name in names:
        with store.database() as database:
            peers.PEERS[name].prepare(store.url(database))
            with peers.peer(name, 1_000, "never", store.url(database)) as daemon:
                daemon.wait_ready()
                time.sleep(settle)
                idle(name, "", daemon.process.pid, store, database, window, rounds)


def f5_cold_start(store: Store, names: list[str], quick: bool) -> None:
    for name in names:
        for count in COLD_START:
            with store.database() as database:
                peers.PEERS[name].prepare(store.url(database))
                armed = []
                for _ in range(1 if quick else 3):
                    with peers.peer(name, count, "never", store.url(database)) as daemon:
                        armed.append(daemon.wait_ready())
                    say(f"f5: {name}, {count} schedules: armed after {armed[-1]:.3f} s")
            figure("f5_cold_start", "s", armed, system=name, schedules=count)


FIGURES = {
    "f1_throughput": f1_throughput,
    "f2_lateness": f2_lateness,
    "f3_idle": f3_idle,
    "f5_cold_start": f5_cold_start,
}
