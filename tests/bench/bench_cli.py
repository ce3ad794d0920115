"""How long the client takes, as a process: one JSON line a figure, wall-clock milliseconds over 20 runs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 20
TARGETS_MS = {"help": 100, "next_100_schedules": 250, "next_cron": 250, "status_without_daemon": 250}


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "singd.toml"
        config.write_text(
            "".join(
                f'[schedules.s{i}]\ncommand = ["true"]\ncron = "{i % 60} {i % 24} * * *"\n'
                for i in range(100)
            )
        )
        measure("help", "--help")
        measure("next_100_schedules", "next", "--config", str(config))
        measure("next_cron", "next", "--cron", "0 3 * * *")
        measure("status_without_daemon", "status", "--state", directory)


def measure(name: str, *words: str) -> None:
    program = Path(sys.executable).with_name("singd")
    times = []
    for _ in range(RUNS + 1):
        begin = time.perf_counter()
        subprocess.run(
            [program, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ,
            check=False,
        )
        times.append((time.perf_counter() - begin) * 1_000)
    times = sorted(times[1:])  # the first filled the page cache
    line = {
        "bench": f"cli_{name}", "unit": "ms", "runs": RUNS, "median": round(statistics.median(times), 1),
        "min": round(times[0], 1), "max": round(times[-1], 1), "target": TARGETS_MS[name],
    }  # fmt: skip
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
