"""Every planted bug is caught by the checker, and the same script finds nothing wrong with the daemon as it is.

`make test` takes one bug a day, in turn; SINGD_PLANTED=all, as `make chaos` sets it, takes every one, or names them.
"""

from __future__ import annotations

import os
import time

import pytest
from chaos import planted
from chaos.checks import check
from chaos.directed import DIRECTED
from chaos.run import lived

WANTED = os.environ.get("SINGD_PLANTED", "")


def chosen() -> list[str]:
    """The bugs of this run."""
    names = sorted(DIRECTED)
    if WANTED == "all":
        return names
    return WANTED.split(",") if WANTED else [names[int(time.time() // 86_400) % len(names)]]


def quiet(text: str) -> None:
    """Say nothing."""


@pytest.mark.slow
@pytest.mark.xdist_group("chaos")
@pytest.mark.parametrize("name", chosen())
def test_a_planted_bug_is_caught(name: str) -> None:
    directed = DIRECTED[name]
    program = (str(planted.__file__), name)
    _, history = lived(
        directed.act, directed.lines, program=program, settle_s=10.0, with_standby=False, tell=quiet
    )
    found = check(history)
    assert directed.invariant in {violation.invariant for violation in found}, found
    for violation in found[:5]:
        print(violation)


@pytest.mark.slow
@pytest.mark.xdist_group("chaos")
@pytest.mark.parametrize("name", chosen())
def test_the_daemon_as_it_is_passes_the_same_script(name: str) -> None:
    directed = DIRECTED[name]
    _, history = lived(directed.act, directed.lines, settle_s=30.0, with_standby=False, tell=quiet)
    # A script without a calm says nothing about I22.
    wrong = [violation for violation in check(history) if violation.invariant != "I22" or history.calms]
    assert wrong == []


def test_every_planted_bug_has_a_script() -> None:
    assert set(planted.BUGS) == set(DIRECTED)
