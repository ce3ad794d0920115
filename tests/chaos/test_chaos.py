"""Three real daemons, a real Postgres pair, and a hundred real faults; afterwards every instant is accounted for.

`make chaos SEED= FAULTS=` is the same with thousands.
"""

from __future__ import annotations

import os

import pytest
from chaos.campaign import Limits
from chaos.run import campaign, report

FAULTS = 100
KINDS = 15


@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.xdist_group("chaos")
def test_after_a_hundred_faults_every_instant_is_accounted_for_and_nothing_ran_twice() -> None:
    seed = int(os.environ.get("SINGD_CHAOS_SEED", "1"))
    verdict = campaign(seed, Limits(FAULTS, minutes=3.0, round_s=60.0))
    words = report(verdict)
    print(words)
    assert not verdict.violations, words
    assert sum(verdict.faults.values()) >= FAULTS, words
    assert len(verdict.faults) >= KINDS, words
    assert verdict.occurrences >= 500, words
