"""The benches measure what they say: losses and doubles are seen, and the whole way works on a small burst."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import failover_peer
import figures
import report
import store

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
PERIOD = 10


def burst(runs: list[tuple[str, float]], schedules: int = 2) -> figures.Burst:
    """What one burst at noon makes of these (schedule, seconds after noon)."""
    lines = [(name, NOON.timestamp() + late, 1) for name, late in runs]
    commits = {NOON: NOON.timestamp() + 3}
    return next(figures._bursts(lines, commits, [NOON], schedules, PERIOD))


def test_a_schedule_without_a_line_is_lost() -> None:
    seen = burst([("a", 0.5)])
    assert (seen.lost, seen.doubled) == (1, 0)


def test_a_second_line_of_a_schedule_is_a_double() -> None:
    seen = burst([("a", 0.5), ("b", 0.6), ("a", 0.7)])
    assert (seen.lost, seen.doubled) == (0, 1)


def test_a_line_of_the_next_instant_belongs_to_the_next_burst() -> None:
    seen = burst([("a", 0.5), ("b", PERIOD + 0.1)])
    assert (len(seen.began), seen.lost) == (1, 1)


def test_the_rate_is_from_the_first_body_to_the_last_recorded_end() -> None:
    assert burst([("a", 1.0), ("b", 2.0)]).runs_per_s == pytest.approx(2 / (3 - 1))


@pytest.mark.parametrize(
    "account",
    [
        store.Account(3, 2, 2, 2),  # an instant twice
        store.Account(2, 2, 1, 2),  # one did not succeed
        store.Account(2, 2, 2, 3),  # an attempt too many
        store.Account(1, 1, 1, 1),  # one that nobody recorded
    ],
)
def test_a_ledger_that_does_not_add_up_is_told(account: store.Account) -> None:
    assert account.wrong(2)
    assert not store.Account(2, 2, 2, 2).wrong(2)


def test_a_percentile_lies_between_its_neighbours() -> None:
    assert report.percentile([0.0, 1.0, 2.0], 0.5) == 1.0
    assert report.percentile([0.0, 10.0], 0.99) == pytest.approx(9.9)


def test_a_minute_of_the_peer_without_an_insert_is_lost_and_one_with_two_is_doubled() -> None:
    noon = int(NOON.timestamp())
    seen = failover_peer.minutes(noon - 1, noon + 121, [noon, noon + 60, noon + 60, noon + 180])
    assert seen == {"expected": 3, "lost": 1, "doubled": 1}
    assert failover_peer.minutes(noon + 1, noon + 59, []) == {"expected": 0, "lost": 0, "doubled": 0}


def test_without_a_python_for_the_peer_its_failover_bench_is_skipped_and_says_so(tmp_path: Path) -> None:
    bare = {**os.environ, "PATH": str(tmp_path), "PYENV_ROOT": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, failover_peer.__file__], env=bare, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert "skipped" in done.stderr
    assert "3.12" in done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[store.Store]:
    with store.running() as running:
        yield running


@pytest.mark.parametrize("kind", figures.KINDS)
def test_a_small_burst_runs_whole_and_adds_up(server: store.Store, kind: str) -> None:
    done, checks = figures.bursts(server, kind, 20, fires=2, period=2)
    assert [(len(seen.began), seen.lost, seen.doubled) for seen in done] == [(20, 0, 0)] * 2
    assert "LEDGER_WRONG" not in checks
    assert all(seen.due.timestamp() <= min(seen.began) < seen.last_commit for seen in done)
    assert done[1].due - done[0].due == timedelta(seconds=2)
