"""Cron: steps per CPU second of singd, croniter and cronsim, and what parsing ten thousand schedules costs.

One JSON line a figure. CPU time (`time.process_time`), so that neighbours on the machine matter less; the
best of three rounds of about 0.1 s each. "Steps" are taken as each library offers them: `Cron.upcoming`,
`croniter.get_next(datetime)` and `next(CronSim)`, with aware datetimes in and out. croniter and cronsim
answer in the zone itself, singd in UTC.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from time import process_time
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

from singd.core import cron_fields
from singd.core.cron import Cron

Steps = Callable[[str, str], Iterable[datetime]]

START = datetime(2026, 1, 1, tzinfo=UTC)
ROUND_S = 0.1
SCHEDULES = 10_000
EXPRESSIONS = (
    "* * * * *",
    "*/5 * * * *",
    "0 * * * *",
    "30 1 * * *",
    "0 9 * * 1-5",
    "0 9 * * 1",
    "0 0 1 * *",
    "15,45 8-18/2 * * *",
    "0 0 1,15 * fri",
    "0 0 29 2 *",
)


def singd_steps(expression: str, zone: str) -> Iterator[datetime]:
    return Cron.parse(expression, timezone=zone).upcoming(START)


def croniter_steps(expression: str, zone: str) -> Iterator[datetime]:
    trigger = croniter(expression, local_start(zone))
    while True:
        yield trigger.get_next(datetime)


def cronsim_steps(expression: str, zone: str) -> Iterator[datetime]:
    return CronSim(expression, local_start(zone))


SYSTEMS: dict[str, Steps] = {
    "singd": singd_steps,
    "croniter": croniter_steps,
    "cronsim": cronsim_steps,
}


def steps_per_s(steps: Steps, expression: str, zone: str) -> float:
    """The best of three rounds."""
    return max(_round(steps, expression, zone) for _ in range(3))


def _round(steps: Steps, expression: str, zone: str) -> float:
    """Passes of a few thousand steps from the same start, until the round is over.

    A pass of `29 2` is forty steps: singd ends with the year 2200, after 43.
    """
    limit = 40 if " 29 2 " in expression else 5_000
    taken, spent, begin = 0, 0.0, process_time()
    while spent < ROUND_S:
        taken += sum(1 for _ in islice(steps(expression, zone), limit))
        spent = process_time() - begin
    return taken / spent


def local_start(zone: str) -> datetime:
    """cronsim has a fast path for `datetime.UTC` only."""
    return START if zone == "UTC" else START.astimezone(ZoneInfo(zone))


def parse_s(expressions: Iterable[str]) -> float:
    """CPU seconds to parse all of them, with cold caches."""
    for cached in vars(cron_fields).values():
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()
    begin = process_time()
    for expression in expressions:
        Cron.parse(expression, timezone="Europe/Berlin")
    return process_time() - begin


def parse_cases() -> dict[str, list[str]]:
    """Ten thousand schedules: ten expressions, as many daily times and dates as there are, or lists at random."""
    numbers = range(SCHEDULES)
    return {
        "repeated": [EXPRESSIONS[n % len(EXPRESSIONS)] for n in numbers],
        "distinct": [f"{n % 60} {n // 60 % 24} {n // 1440 + 1} * *" for n in numbers],
        "distinct_lists": [
            f"{n % 60},{n * 7 % 59} {n % 23},{n % 19 + 4} * 1-{n % 12 + 1} {n % 5}" for n in numbers
        ],
    }


def next_after_us() -> float:
    """CPU microseconds of one `next_after`, as the planner calls it."""
    triggers = [Cron.parse(expression, timezone="Europe/Berlin") for expression in EXPRESSIONS]
    for trigger in triggers:
        trigger.next_after(START)
    begin = process_time()
    for _ in range(SCHEDULES // len(triggers)):
        for trigger in triggers:
            trigger.next_after(START)
    return (process_time() - begin) / SCHEDULES * 1e6


def report(figure: str, value: float, **labels: str) -> None:
    print(
        json.dumps({"figure": figure, **labels, "value": round(value, 4 if value < 10 else None)}), flush=True
    )


def main() -> None:
    for name, expressions in parse_cases().items():
        report("cron_parse_10000_cpu_s", parse_s(expressions), system="singd", expressions=name)
    report("cron_next_after_cpu_us", next_after_us(), system="singd", timezone="Europe/Berlin")
    for zone in ("UTC", "Europe/Berlin"):
        for expression in EXPRESSIONS:
            for system, steps in SYSTEMS.items():
                value = steps_per_s(steps, expression, zone)
                report("cron_steps_per_cpu_s", value, system=system, expression=expression, timezone=zone)


if __name__ == "__main__":
    main()
