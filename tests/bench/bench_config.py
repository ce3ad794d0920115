"""How long 10,000 schedules take to read: `python tests/bench/bench_config.py [seconds]`.

Prints the best of five in CPU seconds (a shared machine's wall clock says little), and what of it is `tomllib` alone, which
is the floor. With an argument: exits 1 if the whole took longer.
"""

from __future__ import annotations

import sys
import time
import tomllib
from collections.abc import Callable
from functools import partial

from singd.core.config import Loaded, load

SCHEDULES = 10_000
EXPRESSIONS = ("*/5 * * * *", "0 * * * *", "0 1 * * *", "30 3 * * 1", "*/15 8-18 * * 1-5")


def content(body: str) -> bytes:
    """A configuration with 10,000 schedules whose expressions repeat."""
    tables = (
        f'[schedules.metrics_{number:05d}]\ncron = "{EXPRESSIONS[number % len(EXPRESSIONS)]}"\n'
        + body.format(number=number)
        for number in range(SCHEDULES)
    )
    return "".join(tables).encode()


BODIES = {
    "cron and task": 'task = "metrics"\n',
    "cron, task, three policies, zone": 'task = "metrics"\ntimeout = "4m"\nretries = 2\ntimezone = "Europe/Berlin"\n',
    "the same with a table of arguments": (
        'task = "metrics"\ntimeout = "4m"\nretries = 2\ntimezone = "Europe/Berlin"\n'
        '[schedules.metrics_{number:05d}.args]\nbucket = "{number}m"\n'
    ),
}


def best_of(call: Callable[[], object], times: int = 5) -> float:
    """The least CPU seconds of several calls."""
    spent = []
    for _ in range(times):
        before = time.process_time()
        call()
        spent.append(time.process_time() - before)
    return min(spent)


def loaded(raw: bytes) -> Loaded:
    return load([("bench.toml", raw)], max_bytes=2**23, max_schedules=SCHEDULES)


def main() -> int:
    allowed = float(sys.argv[1]) if len(sys.argv) > 1 else float("inf")
    slow = False
    for name, body in BODIES.items():
        raw = content(body)
        assert not loaded(raw).problems
        whole = best_of(partial(loaded, raw))
        floor = best_of(partial(tomllib.loads, raw.decode()))
        print(f"{name}: {len(raw) / 1e6:.2f} MB, {whole:.2f} s, of which tomllib {floor:.2f} s")
        slow = slow or whole > allowed
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
