"""What a process tree costs, from /proc. CPU is in nanosecond resolution (schedstat), memory as the kernel shares it out (PSS)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import psutil


def tree(pid: int) -> list[int]:
    """The process and everything below it."""
    try:
        root = psutil.Process(pid)
        return [pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of all threads of these processes so far; exited threads and processes are not in it."""
    total = 0
    for pid in pids:
        for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(stat.read_text().split()[0])
    return total / 1e9


def switches(pids: Iterable[int]) -> int:
    """Context switches so far: how often they woke."""
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            with contextlib.suppress(OSError):
                lines = [line for line in status.read_text().splitlines() if "ctxt_switches" in line]
                total += sum(int(line.split()[1]) for line in lines)
    return total


def memory_mib(pids: Iterable[int]) -> tuple[float, float]:
    """(RSS, PSS) of these processes, in MiB."""
    sums = {"Rss:": 0, "Pss:": 0}
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, *rest = line.split()
                if name in sums:
                    sums[name] += int(rest[0])
    return sums["Rss:"] / 1024, sums["Pss:"] / 1024
