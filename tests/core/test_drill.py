"""The drill's account sees what it is there for: each way in which a failover can lie, made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singd.core.config import load
from singd.drill.gaps import EDGES, Fault, bins, broken, figures, histogram, misses
from singd.drill.nodes import configuration, schedules, witnessed
from singd.drill.tally import Row, Tally, Try, Window, multiples, tally
from singd.drill.words import Outcome, Round, account_lines, as_json, passed, round_line, verdict_line

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
STEP = timedelta(milliseconds=100)
INTERVALS = {"a": STEP}
WINDOW = Window(NOON, NOON + 10 * STEP)


def at(number: int) -> datetime:
    return NOON + number * STEP


def row(number: int, *, epoch: int = 1, **changed: object) -> Row:
    plain = Row("a", at(number), None, 1, "ran", epoch, at(number) + timedelta(milliseconds=1))
    return replace(plain, **changed)


def attempt(instant: int, *, epoch: int = 1, **changed: object) -> Try:
    plain = Try("a", at(instant), 1, epoch, "succeeded", at(instant) + timedelta(milliseconds=1), True)
    return replace(plain, **changed)


ROWS = [row(number) for number in range(1, 11)]
TRIES = [attempt(number) for number in range(1, 11)]
WITNESS = [("a", at(number)) for number in range(1, 11)]


def account(rows=ROWS, tries=TRIES, witness=WITNESS, window=WINDOW) -> Tally:
    return tally(INTERVALS, window, rows, tries, witness)


def test_a_whole_ledger_has_no_violation():
    found = account()
    assert (found.expected, found.recorded, found.started, found.witnessed) == (10, 10, 10, 10)
    assert not found.violations()


def test_an_instant_that_nobody_recorded_is_lost():
    found = account(rows=[item for item in ROWS if item.due_at != at(4)])
    assert found.lost == [("a", at(4))]
    assert "1 lost" in found.violations()[0]
    assert "12:00:00.400000" in found.violations()[0]


def test_an_instant_at_the_end_of_the_window_counts_and_one_at_its_begin_does_not():
    assert account(rows=ROWS[:-1]).lost == [("a", at(10))]
    assert not account(rows=[*ROWS, row(0)]).violations()


def test_a_second_attempt_that_began_is_a_double():
    assert account(tries=[*TRIES, attempt(4, number=2)]).doubled == [("a", at(4))]


def test_a_second_line_of_the_witness_is_a_double_whatever_the_ledger_says():
    found = account(witness=[*WITNESS, ("a", at(4))])
    assert found.doubled == [("a", at(4))]
    assert found.violations()


def test_an_attempt_after_one_that_never_began_is_no_double():
    never = attempt(4, state="cancelled", started=True)
    assert not account(tries=[*TRIES, replace(never, number=2)]).violations()


def test_a_body_of_which_the_ledger_knows_no_start_is_told():
    assert account(tries=TRIES[:-1]).unclaimed == [("a", at(10))]


def test_a_row_without_a_verdict_or_with_a_running_attempt_is_not_settled():
    assert account(rows=[*ROWS[:-1], row(10, verdict=None)]).open == [("a", at(10))]
    assert account(tries=[*TRIES[:-1], attempt(10, state="running")]).open == [("a", at(10))]


def test_what_is_not_settled_after_the_window_is_no_violation():
    assert not account(rows=[*ROWS, row(11, verdict=None)]).violations()


def test_a_row_for_no_instant_of_the_schedule_is_strange():
    off = row(4, due_at=at(4) + timedelta(milliseconds=3))
    assert [item[1] for item in account(rows=[*ROWS, off]).strange] == [off.due_at]


def test_a_range_row_stands_for_each_of_its_instants():
    gone = row(3, due_until=at(6), count=4, verdict="missed")
    kept = [item for item in ROWS if not at(3) <= item.due_at <= at(6)]
    tries = [item for item in TRIES if not at(3) <= item.due_at <= at(6)]
    found = account(rows=[*kept, gone], tries=tries, witness=[])
    assert (found.expected, found.recorded, found.started, found.skipped) == (10, 10, 6, 4)
    assert not found.violations()


def test_a_range_row_over_an_instant_that_has_a_row_counts_it_twice():
    gone = row(3, due_until=at(6), count=4, verdict="missed")
    kept = [item for item in ROWS if not at(3) <= item.due_at <= at(5)]
    assert account(rows=[*kept, gone]).twice == [("a", at(6))]


def test_a_range_row_whose_count_is_wrong_is_told():
    gone = row(3, due_until=at(6), count=7, verdict="missed")
    kept = [item for item in ROWS if not at(3) <= item.due_at <= at(6)]
    assert account(rows=[*kept, gone]).twice == [("a", at(3))]


def test_a_write_of_an_old_epoch_after_one_of_a_newer_is_told():
    rows = [row(number, epoch=1 if number < 5 else 2) for number in range(1, 11)]
    assert not account(rows=rows, tries=[]).interleaved
    zombie = attempt(2, epoch=1, claimed_at=at(8))
    found = account(rows=rows, tries=[zombie])
    assert found.interleaved == [(1, 2)]
    assert "epoch 1 wrote after epoch 2" in found.violations()[-1]


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(100, 10_000), st.integers(0, 10**9), st.integers(0, 100_000))
def test_multiples_are_those_of_the_window_and_no_others(interval: int, since: int, length: int):
    step = timedelta(milliseconds=interval)
    begin = NOON + timedelta(microseconds=since)
    window = Window(begin, begin + timedelta(milliseconds=length))
    found = list(multiples(step, window))
    assert all(
        instant in window and (instant - datetime(1970, 1, 1, tzinfo=UTC)) % step == timedelta()
        for instant in found
    )
    assert abs(len(found) - length / interval) <= 1
    assert found == sorted(set(found))


# -- gaps ---------------------------------------------------------------------------------------------------


def test_figures_of_two_hundred_gaps():
    found = figures([number / 1000 for number in range(200)])
    assert (found.n, found.median, found.longest) == (200, pytest.approx(0.0995), 0.199)
    assert found.p99 == pytest.approx(0.19701)


def test_a_slow_median_is_a_warning_and_a_gap_beyond_the_lease_a_violation():
    assert not misses(Fault.KILL, figures([0.05] * 10))
    assert misses(Fault.KILL, figures([0.2] * 10)) == [
        "kill: the median is 0.200 s, promised are 0.1 s",
    ]
    assert not broken(Fault.FREEZE, [5.9])
    assert "7.000 s" in broken(Fault.FREEZE, [7.0])[0]


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 100), min_size=1))
def test_every_gap_is_in_one_bin(gaps: list[float]):
    found = bins(gaps)
    assert sum(item.count for item in found) == len(gaps)
    assert found[0].count
    assert found[-1].count
    assert len(histogram(gaps)) == len(found) <= len(EDGES) + 1


def test_no_gap_is_no_histogram():
    assert not histogram([])


# -- words --------------------------------------------------------------------------------------------------

ROUND = Round(1, Fault.KILL, "drill-1", 4, "drill-2", 5, 0.0431)


def outcome(found: Tally, rounds=(ROUND,), **more: object) -> Outcome:
    return Outcome("a database", "singd_drill_1", 3, rounds, found, **more)


def test_a_drill_that_kept_every_promise_says_so_last():
    done = outcome(account())
    assert passed(done)
    assert (
        verdict_line(done)
        == "PASSED: 10 instants over 1 change of leader, each recorded once; none lost, none doubled"
    )


@pytest.mark.parametrize(
    "bad",
    [
        outcome(account(rows=ROWS[:-1])),
        outcome(account(), rounds=(replace(ROUND, gap_s=6.1),)),
        outcome(account(), failure="no database"),
        outcome(account(), rounds=()),
        outcome(account(rows=[], tries=[], witness=[], window=Window(NOON, NOON))),
    ],
)
def test_a_drill_that_broke_something_or_proved_nothing_does_not_pass(bad: Outcome):
    assert not passed(bad)
    assert not as_json(bad)["passed"]


def test_the_account_names_every_count_and_what_was_removed():
    text = "\n".join(account_lines(outcome(account(), cleaned=("3 daemons ended",))))
    for word in ("expected", "recorded", "lost", "started", "doubled", "kill", "0.043", "3 daemons ended"):
        assert word in text
    assert "drill-1 -> drill-2" in round_line(ROUND, 20)


def test_a_drill_is_one_json_object():
    found = json.loads(json.dumps(as_json(outcome(account(rows=ROWS[:-1]))), default=str))
    assert found["instants"]["lost"][0]["schedule"] == "a"
    assert found["gaps"]["kill"]["n"] == 1
    assert found["gaps"]["kill"]["values"] == [0.0431]
    assert found["rounds"][0]["successor"] == "drill-2"


# -- what the daemons run -----------------------------------------------------------------------------------


def test_the_generated_configuration_is_one_that_singd_accepts():
    loaded = load([("singd.toml", configuration("singd_drill_1", Path('/tmp/a "b"/witness')).encode())])
    assert loaded.config is not None, loaded.problems
    assert set(loaded.config.schedules) == set(schedules())
    assert not loaded.problems


def test_a_line_that_its_body_could_not_finish_is_not_counted(tmp_path: Path):
    whole = "a 2026-07-01T12:00:00.100000Z 1 3\n"
    (tmp_path / "witness").write_text(whole + "a 2026-07-01T12:0")
    assert witnessed(tmp_path / "witness") == [("a", at(1))]
    assert not witnessed(tmp_path / "no such file")
