"""What a seeded simulation consists of: the schedules, what they do, and the days they are run for.

The schedules are a mix of every trigger and policy, two of them in a zone whose clocks change on both Sundays that the
days may cross. Bodies are hostile by chance: they hang past their timeout, fail, ask to be retried later, skip, are lost,
and will not end when told.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from simulation.scaled import scaled, span

from singd.core.cron import Cron
from singd.core.values import (
    At,
    Backoff,
    CatchUp,
    Delivery,
    Every,
    Overlap,
    Schedule,
    Scope,
    Startup,
    State,
    Work,
)
from singd.testing.cluster import SimulatedCluster, schedule
from singd.testing.faults import Faults
from singd.testing.history import History
from singd.testing.machine import Body
from singd.testing.simulate import simulate

BEGINS = (
    datetime(2026, 3, 28, 12, 0, tzinfo=UTC),  # the night that lacks an hour in Berlin
    datetime(2026, 10, 24, 12, 0, tzinfo=UTC),  # the night that has one twice
    datetime(2026, 11, 23, 12, 0, tzinfo=UTC),
    datetime(2028, 2, 28, 12, 0, tzinfo=UTC),
)


def schedules(begin: datetime, unit: float) -> list[Schedule]:
    """Eleven schedules; spans of policies in units of the machine's second."""

    def policy(**given: object) -> dict[str, object]:
        return {
            "grace": span(30, unit), "timeout": span(40, unit), "catch_up_window": span(3600, unit),
            "backoff": Backoff(span(3, unit), span(30, unit)),
        } | given  # fmt: skip

    quick, slow = timedelta(seconds=20 * unit), timedelta(seconds=40 * unit)
    return [
        schedule("plain", Every(quick), **policy()),
        schedule("all", Every(quick), **policy(catch_up=CatchUp.ALL, catch_up_max=10_000, overlap=Overlap.ALLOW)),
        schedule("sure", Every(slow), **policy(delivery=Delivery.AT_LEAST_ONCE)),
        schedule("queued", Every(slow), **policy(overlap=Overlap.QUEUE, retries=2)),
        schedule("replaced", Every(slow), **policy(overlap=Overlap.REPLACE)),
        schedule("retried", Every(slow), **policy(retries=3, delivery=Delivery.AT_LEAST_ONCE)),
        schedule("berlin", Cron.parse("30 1-3 * * *", timezone="Europe/Berlin"), **policy(catch_up=CatchUp.NONE)),
        schedule("berlin_often", Cron.parse("*/20 * * * *", timezone="Europe/Berlin"), **policy()),
        schedule("once", At(begin + timedelta(hours=7)), **policy()),
        schedule("boot", Startup(), **policy()),
        schedule("node", Every(slow), scope=Scope.NODE, **policy()),
        schedule("node_often", Every(quick), scope=Scope.NODE, **policy(overlap=Overlap.ALLOW)),
    ]  # fmt: skip


def other(first: list[Schedule], unit: float) -> Mapping[str, Schedule]:
    """A second configuration: one trigger is another, one schedule is gone."""
    changed = {item.name: item for item in first if item.name != "queued"}
    again = schedule("sure", Every(timedelta(seconds=20 * unit)))
    old = changed["sure"]
    changed["sure"] = Schedule(old.name, old.task, old.call, again.trigger, old.policy, old.scope)
    return changed


def hostile(seed: int, unit: float) -> Mapping[str, object]:
    """What runs do: by the seed, the instant and the attempt, so that no order of events changes it."""

    def script(work: Work) -> Body:
        what = work.attempt
        chance = random.Random(f"{seed} {work.schedule} {what.occurrence.due_at} {what.number}")
        seconds = chance.choice([0.0, 0.1, 1, 5, 15, 25]) * unit
        stubborn = chance.choice([0, 0, 1, 4]) * unit
        match chance.choices(
            ["fine", "fails", "hangs", "later", "skips", "lost", "gives up"], [80, 6, 2, 3, 3, 3, 3]
        )[0]:
            case "fails":
                return Body(seconds, State.FAILED, "no", stubborn_s=stubborn)
            case "hangs":
                return Body(math.inf, stubborn_s=stubborn)
            case "later":
                return Body(seconds, State.FAILED, "busy", retry_after_s=20 * unit)
            case "skips":
                return Body(seconds, skipped="nothing to do")
            case "lost":
                return Body(seconds, State.LOST, "its worker vanished")
            case "gives up":
                return Body(seconds, State.FAILED, "never", give_up=True)
        return Body(seconds, stubborn_s=stubborn)

    names = [item.name for item in schedules(BEGINS[0], unit)]
    return dict.fromkeys(names, script)


def simulated(
    seed: int, days: float, factor: float, per_day: float = 50.0, kinds: tuple[str, ...] = ()
) -> History:
    """The history of one seed: three nodes, this many days and faults, on a machine scaled by `factor`."""
    begin = BEGINS[seed % len(BEGINS)]
    with scaled(factor):
        first = schedules(begin, factor)
        cluster = SimulatedCluster(first, hostile(seed, factor), seed=seed, start=begin, room=12)  # type: ignore[arg-type]
        named = {item.name: item for item in first}
        faults = Faults(per_day, kinds, {"first": named, "second": other(first, factor)}, factor)
        return simulate(cluster, days, faults)
