"""How long the client takes, as a process: one JSON line a figure, wall-clock milliseconds over 20 runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import figure

from singd.edges.catalogue import read_catalogue

RUNS = 20
TARGETS_MS = {"cli_help": 100, "cli_next_100_schedules": 250, "catalogue_20_cached": 30}


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
        measure_catalogue(Path(directory))


def measure_catalogue(directory: Path) -> None:
    """A cached catalogue of twenty distributions, in this process."""
    for number in range(20):
        plugin(directory / "site", f"plugin{number}")
    times = []
    for _ in range(RUNS + 1):
        begin = time.perf_counter()
        found = read_catalogue(directory, site=[str(directory / "site")])
        times.append((time.perf_counter() - begin) * 1_000)
    assert len(found.tasks) == 20, "every one is described"
    figure("catalogue_20_cached", "ms", times[1:], at_most=TARGETS_MS["catalogue_20_cached"])
    figure("catalogue_20_first", "ms", times[:1])


def plugin(site: Path, name: str) -> None:
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("")
    (info / "entry_points.txt").write_text(f"[singd.tasks]\n{name} = {name}:hello\n")
    (site / f"{name}.py").write_text(
        "from singd.plugin import Context, task\n\n@task(placement='node')\n"
        "def hello(ctx: Context, *, name: str = 'world', keep: int = 7) -> dict[str, int]:\n    return {}\n"
    )


def measure(name: str, *words: str) -> None:
    """Wall-clock of a whole process; the first run, which fills the page cache, does not count."""
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
    figure(f"cli_{name}", "ms", times[1:], at_most=TARGETS_MS.get(f"cli_{name}"))


if __name__ == "__main__":
    main()
