"""Every invariant is fed a history it must refuse: a check that cannot fail proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from chaos import checks
from chaos.history import (
    Attempt,
    Body,
    Change,
    Fault,
    History,
    Row,
    Said,
    load_notes,
    read_bodies,
    read_terms,
)
from chaos.plan import Line

S = 1_000_000
T0 = 1_700_000_000
LINE = Line("tick", 1000, "inline", 0.1)
AGAIN = Line("again", 1000, "inline", 0.1, policy={"delivery": "at_least_once"})


def due(second: int) -> int:
    return (T0 + second) * S


def body(second: int, schedule: str = "tick", **changes: object) -> Body:
    whole = Body(schedule, due(second), 1, 1, "a", 100, second, T0 + second + 0.01, second + 0.1, True)
    return replace(whole, **changes)  # type: ignore[arg-type]


def row(number: int, second: int, schedule: str = "tick", **changes: object) -> Row:
    return replace(Row(number, schedule, due(second), None, 1, "ran", "", 1, False, 1), **changes)  # type: ignore[arg-type]


def attempt(number: int, **changes: object) -> Attempt:
    return replace(Attempt(number, 1, f"t{number}", 1, "a", "p1", "succeeded", True), **changes)  # type: ignore[arg-type]


def change(n: int, what: str, at: float, **changes: object) -> Change:
    return replace(Change(n, n, T0 + at, what, 1, None, None, "", "new", ""), **changes)  # type: ignore[arg-type]


def term(epoch: int, at: float, holder: str = "p1", node: str = "a") -> Change:
    return change(epoch, "leader", at, epoch=epoch, key=holder, was=str(epoch - 1), became=node)


def good() -> History:
    """Ten instants of two schedules, all well."""
    history = History(("a",), {"tick": LINE, "again": AGAIN}, due(0), due(0), due(10))
    rows, attempts, bodies, changes = [], [], [], [term(1, 0.0)]
    for schedule, base in (("tick", 0), ("again", 100)):
        for second in range(1, 11):
            number = base + second
            rows.append(row(number, second, schedule))
            attempts.append(attempt(number))
            bodies.append(body(second, schedule))
            changes.append(change(number, "occurrence", second, id=number, became="ran"))
            changes.append(change(number, "attempt", second, id=number, number=1, became="claimed"))
            changes.append(
                change(
                    number, "attempt", second + 0.2, id=number, number=1, was="running", became="succeeded"
                )
            )
    history.rows, history.attempts, history.bodies, history.changes = rows, attempts, bodies, changes
    history.calms = [(T0 + 1.0, T0 + 10.0)]
    history.terms = [Said("a", 1, T0, None)]
    return history


Spoil = Callable[[History], None]


def lose_row(h: History) -> None:
    h.rows = h.rows[1:]


def double_row(h: History) -> None:
    h.rows = [*h.rows, row(77, 3)]


def odd_row(h: History) -> None:
    h.rows = [*h.rows, replace(row(77, 3), due_us=due(3) + 1)]


def early_row(h: History) -> None:
    h.rows = [*h.rows, row(77, -3)]


def wrong_range(h: History) -> None:
    h.rows = [*h.rows[1:], row(77, 1, until_us=due(1), count=2, verdict="missed")]


def start_twice(h: History) -> None:
    h.bodies = [*h.bodies, body(3, pid=101)]


def start_unknown(h: History) -> None:
    h.bodies = [*h.bodies, body(3, attempt=2)]


def start_elsewhere(h: History) -> None:
    h.bodies = [replace(h.bodies[0], node="b"), *h.bodies[1:]]


def two_of_a_name(h: History) -> None:
    h.lines = {**h.lines, "tick": replace(LINE, scope="node")}
    h.bodies = [replace(b, owner="a", home=f"h{b.due_us // S % 2}") for b in h.bodies if b.schedule == "tick"]


def start_never_started(h: History) -> None:
    h.attempts = [replace(h.attempts[0], started=False), *h.attempts[1:]]


def start_after_end(h: History) -> None:
    h.bodies = [body(1, begin_wall=T0 + 9.0), *h.bodies[1:]]


def two_holders(h: History) -> None:
    h.changes = [*h.changes, term(1, 5.0, "p2", "b")]


def epoch_skipped(h: History) -> None:
    h.changes = [*h.changes, term(3, 20.0)]


def two_say_it(h: History) -> None:
    h.terms = [*h.terms, *h.terms]


def other_says_it(h: History) -> None:
    h.terms = [Said("b", 1, T0, None)]


def strangers_attempt(h: History) -> None:
    h.attempts = [replace(h.attempts[0], process="p9"), *h.attempts[1:]]


def stale_write(h: History) -> None:
    h.changes = [*h.changes, term(2, 4.5)]


def write_before_term(h: History) -> None:
    h.changes = [term(1, 5.0), *h.changes[1:]]


def leads_on(h: History) -> None:
    h.changes = [*h.changes, term(2, 10.0, "p2", "b")]
    h.terms = [Said("a", 1, T0, T0 + 17.0)]


def leads_on_behind_a_cut(h: History) -> None:
    h.changes = [*h.changes, term(2, 10.0, "p2", "b")]
    h.faults = [Fault("link drops both ways", "partition", "a", 1, T0 + 5.0, T0 + 12.0)]
    h.terms = [Said("a", 1, T0, T0 + 11.0)]


def elected_in_the_calm(h: History) -> None:
    h.changes = [*h.changes, term(2, 5.5, "p2", "b")]


def open_row(h: History) -> None:
    h.rows = [replace(h.rows[0], verdict=None), *h.rows[1:]]


def forever_running(h: History) -> None:
    h.attempts = [replace(h.attempts[0], state="running"), *h.attempts[1:]]


def second_end(h: History) -> None:
    h.changes = [*h.changes, change(900, "attempt", 9, id=1, number=1, was="failed", became="succeeded")]


def lost_then_found_again(h: History) -> None:
    h.changes = [*h.changes, change(900, "attempt", 9, id=101, number=1, was="lost", became="succeeded")]


def verdict_changed(h: History) -> None:
    h.changes = [*h.changes, change(900, "occurrence", 9, id=1, key="tick", was="missed", became="ran")]


def at_most_once_twice(h: History) -> None:
    h.attempts = [attempt(1, state="lost"), replace(attempt(1), number=2), *h.attempts[1:]]
    h.rows = [replace(h.rows[0], attempts=2), *h.rows[1:]]
    h.bodies = [*h.bodies, body(1, attempt=2, begin_boot=1.5, last_boot=1.6)]


def at_least_once_never(h: History) -> None:
    h.attempts = [one if one.id != 101 else replace(one, state="lost") for one in h.attempts]


def invented_success(h: History) -> None:
    h.bodies = h.bodies[1:]


def overlap(h: History) -> None:
    h.bodies = [body(1, last_boot=2.05), *h.bodies[1:]]


def early(h: History) -> None:
    h.bodies = [body(1, begin_wall=T0 + 0.5), *h.bodies[1:]]


def slow_exit(h: History) -> None:
    h.notes = [{"note": "exit", "node": "a", "how": "SIGTERM", "seconds": 32.0}]


def orphans(h: History) -> None:
    h.notes = [{"note": "orphans", "node": "a", "left": ["1 sleep"]}]


def sick(h: History) -> None:
    h.notes = [{"note": "sick", "text": "nobody leads"}]


def gone(h: History) -> None:
    h.notes = [{"note": "gone", "node": "a", "code": 1, "tail": ""}]


def traceback(h: History) -> None:
    h.logs = {"a": "fine\nTraceback (most recent call last):\n  …"}


def leaderless(h: History) -> None:
    h.faults = [Fault("kill -9 leader", "kill", "a", 1, T0 + 5.0, T0 + 6.0)]
    h.changes = [
        *h.changes, term(2, 15.0, "p2", "b"), change(900, "attempt", 15.5, epoch=2, id=1, number=2, became="claimed"),
    ]  # fmt: skip


def idle(h: History) -> None:
    h.bodies = h.bodies[::2]


def never_calm(h: History) -> None:
    h.calms = []


SPOILS: list[tuple[checks.Check, Spoil]] = [
    *((checks.i1_every_instant_has_one_row, spoil) for spoil in (lose_row, double_row, odd_row, early_row, wrong_range)),
    *((checks.i2_one_start_an_attempt, spoil) for spoil in (start_twice, start_unknown, start_never_started, start_elsewhere)),
    (checks.i2_one_daemon_a_name, two_of_a_name),
    (checks.i2_no_start_after_the_end, start_after_end),
    *((checks.i3_one_holder_an_epoch, spoil) for spoil in (two_holders, epoch_skipped, two_say_it, other_says_it, strangers_attempt)),
    *((checks.i4_no_stale_writes, spoil) for spoil in (stale_write, write_before_term)),
    *((checks.i4_nobody_leads_on, spoil) for spoil in (leads_on, leads_on_behind_a_cut)),
    *((checks.i5_nothing_unfinished, spoil) for spoil in (open_row, forever_running)),
    *((checks.i6_the_end_is_the_end, spoil) for spoil in (second_end, lost_then_found_again, verdict_changed)),
    *((checks.i7_delivery, spoil) for spoil in (at_most_once_twice, at_least_once_never, invented_success)),
    (checks.i9_no_overlap, overlap),
    (checks.i10_never_early, early),
    *((checks.noted, spoil) for spoil in (slow_exit, orphans, gone, sick)),
    (checks.no_tracebacks, traceback),
    (checks.i17_gaps, leaderless),
    (checks.i17_no_change_in_the_calm, elected_in_the_calm),
    *((checks.i22_alive, spoil) for spoil in (idle, never_calm)),
]  # fmt: skip


def test_a_good_history_passes_every_check() -> None:
    assert checks.check(good()) == []


@pytest.mark.parametrize(("one", "spoil"), SPOILS, ids=lambda item: item.__name__)
def test_a_check_refuses_what_it_is_there_for(one: checks.Check, spoil: Spoil) -> None:
    history = good()
    assert one(history) == []
    spoil(history)
    assert one(history), f"{one.__name__} did not see {spoil.__name__}"


def test_no_check_is_without_a_history_that_it_refuses() -> None:
    assert {one for one, _ in SPOILS} == set(checks.CHECKS)


def test_an_attempt_counted_as_lost_is_let_alone_only_under_at_most_once() -> None:
    for schedule, number, allowed in (("tick", 1, True), ("again", 101, False)):
        history = good()
        late = body(1, schedule, last_boot=2.05)
        history.bodies = [
            late,
            *(b for b in history.bodies if (b.schedule, b.due_us) != (schedule, late.due_us)),
        ]
        history.changes = [*history.changes, change(900, "attempt", 1.5, id=number, number=1, was="running", became="lost")]  # fmt: skip
        assert (checks.i9_no_overlap(history) == []) is allowed


def test_a_gap_with_another_fault_near_is_not_measured() -> None:
    history = good()
    leaderless(history)
    history.faults = [*history.faults, Fault("x", "", "b", None, T0 + 1.0, T0 + 2.0)]
    assert checks.gaps(history) == {}


def test_a_nodes_own_schedules_go_by_its_own_clock_and_the_clusters_do_not() -> None:
    for owner, allowed in (("a", True), ("cluster", False)):
        history = good()
        history.faults = [Fault("clock +1 h", "clock", "a", None, T0 - 5.0, T0 - 2.0)]
        history.bodies = [body(1, begin_wall=T0 + 0.5, owner=owner)]
        assert (checks.i10_never_early(history) == []) is allowed


def test_bodies_are_told_apart_by_their_begins() -> None:
    word = '"schedule": "s", "due_at": "2026-01-01T00:00:00+00:00", "attempt": 1, "epoch": 4, "node": "a", "home": "", "boot": 99'
    lines = [
        f'{boot} 1000.5 {{"at": "{at}", {word}, "pid": {pid}}}'
        for boot, at, pid in ((1.0, "begin", 7), (1.1, "tick", 7), (1.2, "begin", 8), (1.3, "end", 7))
    ]
    first, second = read_bodies(lines)
    assert (first.pid, first.begin_boot, first.last_boot, first.ended) == (7, 1.0, 1.3, True)
    assert (second.pid, second.begin_boot, second.last_boot, second.ended) == (8, 1.2, 1.2, False)


def test_terms_are_read_from_the_daemons_own_words() -> None:
    log = "7.5 10:00:00Z   this node leads (epoch 12)\n8.0 other\n9.25 10:00:02Z ! no longer leading (epoch 12): because\n"
    assert read_terms({"a": log, "b": "1.0 10:00:00Z   this node leads (epoch 13)\n"}) == [
        Said("a", 12, 7.5, 9.25), Said("b", 13, 1.0, None),
    ]  # fmt: skip


def test_the_harness_notes_are_faults_calms_and_findings(tmp_path: Path) -> None:
    file = tmp_path / "faults.jsonl"
    file.write_text(
        '{"note": "fault", "kind": "k", "family": "kill", "node": "a", "epoch": 3, "begin": 1.0, "end": 2.0}\n'
        '{"note": "calm", "begin": 3.0, "end": 4.0}\n'
        '{"note": "gone", "node": "a", "code": 1, "tail": ""}\n'
    )
    history = History((), {}, 0, 0, 0)
    load_notes(history, file)
    assert history.faults == [Fault("k", "kill", "a", 3, 1.0, 2.0)]
    assert history.calms == [(3.0, 4.0)]
    assert [note["note"] for note in history.notes] == ["gone"]
