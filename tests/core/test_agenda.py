"""What a new term makes of the instants it finds, and of those that come in its own time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from singd.agenda import Due, Line, Unfinished, from_plan, take_over
from singd.core.plan import plan
from singd.core.values import (
    CLUSTER,
    Attempt,
    CommandCall,
    Every,
    Occurrence,
    Overlap,
    Policy,
    Schedule,
    Startup,
    Verdict,
)
from singd.ports import Adoption, LiveAttempt

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
STEP = timedelta(seconds=10)


def term(overlap: Overlap) -> Line:
    """A line as a leader finds it whose predecessor's run, of an instant ago, is still going on."""
    schedule = Schedule("a", "command", CommandCall(("true",)), Every(STEP), Policy(overlap=overlap))
    attempt = Attempt(1, Occurrence("a", NOW - STEP), 1, "token", 1)
    live = LiveAttempt(attempt, True, uuid4(), 0, 1.0)
    lines, _ = take_over([schedule], Adoption({"a": NOW - STEP}, (), (live,)), NOW + STEP / 2)
    return lines["a"]


def planned(line: Line, now: datetime) -> list[Due]:
    step = plan(line.trigger, line.schedule.policy, line.cursor, now)
    line.cursor = step.cursor or line.cursor
    return list(from_plan(line, step))


@pytest.mark.parametrize("overlap", Overlap)
def test_what_fell_due_before_the_term_waits_behind_what_runs(overlap: Overlap) -> None:
    (due,) = planned(term(overlap), NOW + STEP / 2)
    assert due.recording.occurrence.due_at == NOW
    assert (due.recording.verdict, due.start, due.replaces) == (None, False, False)


@pytest.mark.parametrize(
    ("overlap", "verdict", "start", "replaces"),
    [
        (Overlap.SKIP, Verdict.SKIPPED, False, False),
        (Overlap.QUEUE, None, False, False),
        (Overlap.REPLACE, None, False, True),
        (Overlap.ALLOW, None, True, False),
    ],
)
def test_what_falls_due_in_the_term_is_judged_by_overlap_also_when_it_is_the_first(
    overlap: Overlap, verdict: Verdict | None, start: bool, replaces: bool
) -> None:
    line = term(overlap)
    line.cursor = NOW
    (due,) = planned(line, NOW + STEP)
    assert (due.recording.verdict, due.start, due.replaces) == (verdict, start, replaces)


@pytest.mark.parametrize(("owner", "run"), [(CLUSTER, "7"), ("node", "node:7")])
def test_a_skip_names_the_run_in_the_way_by_the_id_that_an_operator_uses(owner: str, run: str) -> None:
    line = term(Overlap.SKIP)
    line.owner, line.cursor = owner, NOW
    line.unfinished = {7: Unfinished(7)}
    (due,) = planned(line, NOW + STEP)
    assert due.recording.reason == f"overlap = skip: run {run} still waits"


@pytest.mark.parametrize(
    ("cursor", "owner", "due"),
    [
        (timedelta(hours=-1), "node", True),  # of the process before
        (timedelta(0), "node", False),  # of this process: planning begins anew
        (timedelta(hours=1), "node", True),  # the clock was ahead when the process before began
        (timedelta(hours=1), CLUSTER, False),  # by the database's clock, and a takeover is no startup
    ],
)
def test_a_node_startup_is_due_once_a_process_whatever_the_clock_did(
    cursor: timedelta, owner: str, due: bool
) -> None:
    schedule = Schedule("a", "command", CommandCall(("true",)), Startup())
    lines, _ = take_over([schedule], Adoption({"a": NOW + cursor}, (), (), NOW), NOW, owner)
    assert [item.recording.occurrence.due_at for item in planned(lines["a"], NOW)] == [NOW] * due
