"""Each planted bug is caught by the invariants within a few seeds; without it the same seeds are clean.

The list of them, with a sentence each, is `support.planted_list`.
"""

from __future__ import annotations

import pytest
from simulation.planted import BUGS, planted
from simulation.scaled import FACTOR
from simulation.seeds import simulated
from support.planted_list import PLANTED, SIMULATION

from singd.testing.faults import KINDS

SEEDS, DAYS, PER_DAY = range(300, 324), 0.5, 150.0
KIND = {
    "key_share": ("slow", "slow", "terminate", "restart"),
    "trust_from_reply": ("slow", "slow", "slow", "freeze", "partition"),
    "no_lease": ("freeze", "partition"),
    "leads_by_name": ("double start", "freeze", "partition", "freeze"),
    "one_step_start": ("slow", "slow", "freeze", "partition"),
    "no_unique": ("unknown commit", "deaf", "partition"),
    "finish_without_token": ("partition", "freeze", "unknown commit"),
}
"""Kinds of fault that bring a bug out soon; by default every kind."""

IN_SIMULATION = [bug for bug in PLANTED if SIMULATION in bug.caught]


def broken(seed: int, name: str) -> set[str]:
    """Which invariants a history broke; a daemon that fell over counts as caught too."""
    history = simulated(seed, DAYS, FACTOR, PER_DAY, KIND.get(name, tuple(KINDS)))
    return {text.partition(":")[0] for text in history.violations()}


@pytest.mark.parametrize("bug", IN_SIMULATION, ids=lambda bug: f"{bug.number}-{bug.name}")
@pytest.mark.timeout(600)
def test_a_planted_bug_is_caught(bug) -> None:
    for seed in SEEDS:
        with planted(bug.name):
            found = broken(seed, bug.name)
        if found:
            assert not broken(seed, bug.name), "without the bug the same seed is clean"
            return
    pytest.fail(f"{bug.sentence}: not caught in {len(SEEDS)} seeds")


def test_every_planted_bug_of_the_list_can_be_switched_on() -> None:
    assert {bug.name for bug in IN_SIMULATION} == set(BUGS)
