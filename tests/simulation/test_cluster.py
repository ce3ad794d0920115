"""Days of a cluster of three, with faults of every kind: nothing that singd promises is broken.

Counted together: 300 simulated days and 15,000 faults on a scaled machine (`scaled`: what that means), and hours of an unscaled
one. `--sim-days 1000` runs so many more, from another seed on.
"""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
import trio
from simulation.scaled import FACTOR
from simulation.seeds import simulated

from singd.core.values import Every, Overlap
from singd.testing.cluster import SimulatedCluster, schedule
from singd.testing.faults import KINDS
from singd.testing.history import History

SEEDS, DAYS, PER_DAY = 50, 6.0, 54.0
BATCHES = 10


def check(seeds: range, days: float, factor: float, per_day: float) -> list[History]:
    histories = []
    for seed in seeds:
        history = simulated(seed, days, factor, per_day)
        assert not history.violations(), f"seed {seed}: " + "\n".join(history.violations()[:20])
        histories.append(history)
    return histories


@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.timeout(600)
def test_days_with_every_fault_on_a_scaled_machine(batch: int, record_property) -> None:
    share = SEEDS // BATCHES
    histories = check(range(batch * share, (batch + 1) * share), DAYS, FACTOR, PER_DAY)
    faults = sum(len(history.faults) for history in histories)
    record_property("faults", faults)
    assert faults >= share * DAYS * 50
    assert sum(len(history.begun) for history in histories) >= share * DAYS * 200


@pytest.mark.parametrize("seed", range(200, 206))
@pytest.mark.timeout(600)
def test_an_hour_with_faults_on_an_unscaled_machine(seed: int) -> None:
    [history] = check(range(seed, seed + 1), 1 / 24, 1.0, 24 * 100)
    assert len(history.faults) >= 70


def test_the_days_have_faults_of_every_kind() -> None:
    kinds = {fault.kind for seed in (0, 1) for fault in simulated(seed, 1.0, FACTOR, 200.0).faults}
    assert kinds == set(KINDS)


def test_a_seed_is_a_history_and_another_seed_is_another() -> None:
    first, again, other = (simulated(seed, 0.25, FACTOR).digest() for seed in (7, 7, 8))
    assert first == again
    assert first != other


async def test_a_leader_whose_clock_is_set_forward_starts_nothing_before_its_time(autojump_clock) -> None:
    """The heartbeat compares the clocks once a second; until then the term must not believe the new time."""
    cluster = SimulatedCluster([schedule("a", Every(timedelta(seconds=10)), overlap=Overlap.ALLOW)], nodes=1)
    node = cluster.nodes["n1"]
    async with cluster.open():
        await trio.sleep(0.3)
        await cluster.boot(node)
        await trio.sleep(19.2)
        node.clock.skew += timedelta(hours=2)
        await trio.sleep(20)
        node.clock.skew = timedelta()
        await trio.sleep(40)
    true = [(one.began_s - (one.due_at - cluster.start).total_seconds()) for one in cluster.witness]
    assert min(true) >= 0
    assert len(true) >= 6


@pytest.mark.timeout(7200)
def test_as_many_days_as_are_asked_for(request: pytest.FixtureRequest, capsys) -> None:
    """One process, one seed after another; give two processes different first seeds."""
    option = request.config.getoption  # unknown where pytest was not given this directory
    days, first = option("--sim-days", default=0.0), option("--sim-seed", default=0)
    if not days:
        pytest.skip("no --sim-days")
    seeds = range(first, first + math.ceil(days / DAYS))
    faults = begun = 0
    for seed in seeds:
        history = simulated(seed, DAYS, FACTOR, PER_DAY)
        assert not history.violations(), f"seed {seed}: " + "\n".join(history.violations()[:20])
        faults, begun = faults + len(history.faults), begun + len(history.begun)
    with capsys.disabled():
        print(
            f"\n{len(seeds) * DAYS:.0f} simulated days, {faults} faults, {begun} attempts begun, 0 violations"
        )
