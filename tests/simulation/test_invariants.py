"""Each invariant sees the violation that it is there for: a small clean history, with one thing wrong in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from singd.core.values import CLUSTER, Every, Occurrence, Overlap, Recording, Scope, State, Verdict
from singd.edges.memory.rows import Change, Row
from singd.testing.cluster import SimulatedCluster, schedule
from singd.testing.faults import Fault
from singd.testing.history import History
from singd.testing.invariants import INVARIANTS, check
from singd.testing.machine import Body
from singd.testing.simulate import simulate

TEN = Every(timedelta(seconds=10))


@pytest.fixture(scope="module")
def clean() -> History:
    """Twenty minutes in which nothing was wrong."""
    cluster = SimulatedCluster(
        [
            schedule("a", TEN),
            schedule("free", TEN, overlap=Overlap.ALLOW),
            schedule("own", TEN, scope=Scope.NODE),
        ],
        {"a": Body(3)},
        nodes=2,
    )
    return simulate(cluster, 900 / 86_400)


def test_a_history_without_faults_is_clean(clean: History) -> None:
    assert check(clean) == []
    assert len(clean.begun) > 300


def rows(history: History, change: Callable[[Row], Row | None], number: int = 20) -> History:
    """The same history, with one row of the ledger changed (None: gone)."""
    found = list(history.ledger.rows)
    index = [i for i, row in enumerate(found) if row.occurrence.schedule == "a"][number]
    changed = change(found[index])
    found[index : index + 1] = [changed] if changed is not None else []
    return replace(history, ledger=replace(history.ledger, rows=found))


def changes(history: History, *more: Change) -> History:
    return replace(history, ledger=replace(history.ledger, changes=[*history.ledger.changes, *more]))


def begun(history: History, **other: object) -> History:
    """One begin more: the twentieth of schedule `a` again, but for what is different."""
    one = [each for each in history.begun if each.schedule == "a"][20]
    return replace(history, begun=[*history.begun, replace(one, **other)])  # type: ignore[arg-type]


def twice(history: History) -> History:
    found = list(history.ledger.rows)
    return replace(history, ledger=replace(history.ledger, rows=[*found, found[5]]))


def instant(history: History, seconds: float) -> datetime:
    return history.start + timedelta(seconds=seconds)


def unfinished(row: Row) -> Row:
    return replace(row, verdict=None, attempts=[])


def never(row: Row) -> Row:
    return replace(row, verdict=Verdict.MISSED, reason="nobody", attempts=[])


def shifted(row: Row) -> Row:
    due_at = row.occurrence.due_at + timedelta(seconds=1)
    what = Recording(Occurrence("a", due_at), "a", Verdict.RAN)
    return replace(row, recording=what)


def ended(history: History, before: State, after: State) -> History:
    what = Occurrence("a", instant(history, 100))
    return changes(history, Change(100.0, "ended", None, 1, (what, 1, before, after)))


def leaderless(history: History) -> History:
    fault = Fault("kill", 400.0, 420.0, "n1", True)
    return replace(history, faults=[fault])


def late(history: History) -> History:
    shifted = [
        replace(one, began_s=one.began_s + 5, at=one.at + timedelta(seconds=5)) for one in history.begun
    ]
    return replace(history, begun=shifted)


def not_shipped(history: History) -> History:
    found = [row for row in history.ledger.rows if row.occurrence.owner == CLUSTER]
    return replace(history, ledger=replace(history.ledger, rows=found))


def idle(history: History) -> History:
    return replace(history, ledger=replace(history.ledger, rows=[never(row) for row in history.ledger.rows]))


BROKEN: list[tuple[str, str, Callable[[History], History]]] = [
    ("I1", "an instant has no row", lambda h: rows(h, lambda row: None)),
    ("I1", "a row stands for an instant that never was", lambda h: rows(h, shifted)),
    ("I1", "two rows stand for one instant", twice),
    ("I2", "an identity has two rows", twice),
    ("I2", "an attempt begins twice", begun),
    ("I3", "an epoch comes twice", lambda h: changes(h, Change(9e3, "elected", 1, 1, ("n1",)))),
    ("I3", "a lease ends while it is trusted", lambda h: replace(h, overdrawn=[Change(5.0, "expired", None, 1, ("n1",))])),
    ("I4", "an old epoch writes", lambda h: changes(h, Change(9e3, "wrote", 1, 2, ("record",)))),
    ("I5", "an occurrence is never finished", lambda h: rows(h, unfinished)),
    ("I6", "an attempt ends twice", lambda h: ended(h, State.SUCCEEDED, State.FAILED)),
    ("I6", "an attempt is lost after its end", lambda h: ended(h, State.FAILED, State.LOST)),
    ("I7", "at most once, and again after an unknown outcome", lambda h: begun(h, attempt=2, began_s=850.0)),
    ("I9", "two bodies of one schedule at a time", lambda h: begun(h, due_at=instant(h, 215), attempt=7, began_s=212.0)),
    ("I10", "a body begins before its time", lambda h: begun(h, due_at=instant(h, 600), attempt=7)),
    ("I10", "everything is late", late),
    ("I12", "a change makes the past due",
     lambda h: changes(h, Change(500.0, "begun", 1, 1, ("b", "every 10.0", None, instant(h, 100))))),
    ("I13", "a daemon does not stop", lambda h: replace(h, stuck=["n1 was asked to stop and did not"])),
    ("I17", "nobody leads after a kill", leaderless),
    ("I18", "a node's own row is not in the ledger", not_shipped),
    ("I22", "nothing ran", idle),
    ("I22", "nothing began", lambda h: replace(h, begun=[])),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "what", "break_it"), BROKEN, ids=[f"{name}: {what}" for name, what, _ in BROKEN]
)
def test_an_invariant_sees(
    clean: History, name: str, what: str, break_it: Callable[[History], History]
) -> None:
    broken = break_it(clean)
    assert [text for holds in INVARIANTS[name] for text in holds(broken)], what


def test_every_invariant_is_seen_to_fail() -> None:
    assert {name for name, _, _ in BROKEN} == set(INVARIANTS)
