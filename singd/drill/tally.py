"""Counts every instant against the ledger and the witness: what was expected, recorded, started, doubled, lost.

What is expected is computed here from the intervals alone, between two instants that the drill chose: no cursor,
no trigger and no plan of singd's has a say in it. What began is told twice, by the ledger and by the witness, a
file that each body writes a line into; they must agree that nothing began twice.

    (since, until]  x  intervals   = expected      each in exactly one row, or lost
    rows of the ledger             = recorded      of no other instant, and each with a verdict in the end
    attempts, lines of the witness = started       at most one of an instant
    epochs in order of time        = one leader    no write of an old epoch after one of a newer
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHOWN = 3
"""Instants named in one line about many."""

Instant = tuple[str, datetime]
"""A schedule and its due instant."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the ledger's occurrences; `due_until` and `count` where it stands for several instants."""

    schedule: str
    due_at: datetime
    due_until: datetime | None
    count: int
    verdict: str | None
    epoch: int
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt in the ledger."""

    schedule: str
    due_at: datetime
    number: int
    epoch: int
    state: str
    claimed_at: datetime
    started: bool


@dataclass(frozen=True, slots=True)
class Window:
    """What is judged: instants after `since`, up to and with `until`."""

    since: datetime
    until: datetime

    def __contains__(self, instant: datetime) -> bool:
        return self.since < instant <= self.until


@dataclass(frozen=True, slots=True)
class Tally:
    """The account; the sequences name what must not be.

    Attributes:
        expected, recorded: Instants: by the intervals, and of those how many have a row.
        started: Of those, how many began.
        skipped: How many were let go, with a reason.
        cut_off: Attempts whose outcome nobody knows, as their daemon was killed.
        witnessed: Bodies that told the witness.
        lost: Expected and not in the ledger.
        doubled: Began more than once.
        twice: In more than one row.
        strange: In the ledger, and no instant of the schedule.
        open: Of the window, without a verdict or with an attempt that is not over.
        unclaimed: Told the witness, and the ledger knows of no start.
        interleaved: (old epoch, new epoch): the old one wrote after the new one had begun.
    """

    expected: int = 0
    recorded: int = 0
    started: int = 0
    skipped: int = 0
    cut_off: int = 0
    witnessed: int = 0
    lost: Sequence[Instant] = ()
    doubled: Sequence[Instant] = ()
    twice: Sequence[Instant] = ()
    strange: Sequence[Instant] = ()
    open: Sequence[Instant] = ()
    unclaimed: Sequence[Instant] = ()
    interleaved: Sequence[tuple[int, int]] = ()

    def violations(self) -> Sequence[str]:
        """What broke a promise, one sentence a kind."""
        kinds = (
            (self.lost, "lost: expected, and not in the ledger"),
            (self.doubled, "doubled: began more than once"),
            (self.twice, "recorded in more than one row"),
            (self.strange, "in the ledger, and no instant of the schedule"),
            (self.open, "not settled: no verdict, or an attempt that is not over"),
            (self.unclaimed, "began, and the ledger knows of no start"),
        )
        return [*(_sentence(found, said) for found, said in kinds if found), *map(_late, self.interleaved)]


def tally(
    intervals: Mapping[str, timedelta],
    window: Window,
    rows: Sequence[Row],
    tries: Sequence[Try],
    witness: Sequence[Instant],
) -> Tally:
    """Account for every instant of the window; doubles and interleavings are looked for everywhere.

    Args:
        intervals: Schedule -> its interval.
        window: The instants to account for.
        rows, tries: Everything in the ledger.
        witness: One entry a line that a body wrote.
    """
    expected = {(name, at) for name, step in intervals.items() for at in multiples(step, window)}
    covered = Counter(instant for row in rows for instant in instants_of(row, intervals))
    judged = Counter({instant: count for instant, count in covered.items() if instant[1] in window})
    began = Counter((item.schedule, item.due_at) for item in tries if _began(item))
    told = Counter(witness)
    return Tally(
        expected=len(expected),
        recorded=len(expected & judged.keys()),
        started=len(expected & (began.keys() | told.keys())),
        skipped=sum(row.count for row in rows if row.verdict not in ("ran", None) and row.due_at in window),
        cut_off=sum(item.state == "lost" for item in tries),
        witnessed=len(told.keys() & expected),
        lost=sorted(expected - judged.keys()),
        doubled=sorted({instant for seen in (began, told) for instant in seen if seen[instant] > 1}),
        twice=sorted(instant for instant, count in covered.items() if count > 1),
        strange=sorted(judged.keys() - expected),
        open=sorted(instant for instant in _open(rows, tries) if instant[1] in window),
        unclaimed=sorted(told.keys() - {(item.schedule, item.due_at) for item in tries if item.started}),
        interleaved=interleaved(rows, tries),
    )


def multiples(interval: timedelta, window: Window) -> Iterator[datetime]:
    """The whole multiples of the interval since the Unix epoch that lie in the window."""
    number = (window.since - EPOCH) // interval + 1
    while (instant := EPOCH + number * interval) <= window.until:
        yield instant
        number += 1


def instants_of(row: Row, intervals: Mapping[str, timedelta]) -> Iterator[Instant]:
    """What a row stands for; a range whose count is wrong stands for its first instant, once too often."""
    if row.due_until is None or row.schedule not in intervals:
        yield row.schedule, row.due_at
        return
    step = intervals[row.schedule]
    covered = list(multiples(step, Window(row.due_at - timedelta(microseconds=1), row.due_until)))
    yield from ((row.schedule, instant) for instant in covered)
    if len(covered) != row.count:
        yield row.schedule, row.due_at


def interleaved(rows: Sequence[Row], tries: Sequence[Try]) -> Sequence[tuple[int, int]]:
    """Pairs of epochs of which the older wrote after the newer had begun, by the database's clock.

    A claim's instant is read inside the fenced statement and before its commit, and the next epoch begins after
    every such commit: so the spans of two epochs never touch.
    """
    first: dict[int, datetime] = {}
    last: dict[int, datetime] = {}
    for epoch, at in _writes(rows, tries):
        first[epoch] = min(first.get(epoch, at), at)
        last[epoch] = max(last.get(epoch, at), at)
    order = sorted(first)
    return [(old, new) for old, new in pairwise(order) if last[old] >= first[new]]


def _writes(rows: Sequence[Row], tries: Sequence[Try]) -> Iterator[tuple[int, datetime]]:
    yield from ((row.epoch, row.recorded_at) for row in rows)
    yield from ((item.epoch, item.claimed_at) for item in tries)


def _began(item: Try) -> bool:
    """By the ledger: one that was cancelled may have been started there and never have begun; the witness knows."""
    return item.started and item.state != "cancelled"


def _open(rows: Iterable[Row], tries: Iterable[Try]) -> set[Instant]:
    waiting = {(row.schedule, row.due_at) for row in rows if row.verdict is None}
    live = {(item.schedule, item.due_at) for item in tries if item.state in ("claimed", "running")}
    return waiting | live


def _sentence(found: Sequence[Instant], said: str) -> str:
    named = ", ".join(f"{schedule} at {at:%FT%T.%f}Z" for schedule, at in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{len(found)} {said}: {named}{more}"


def _late(pair: tuple[int, int]) -> str:
    return f"epoch {pair[0]} wrote after epoch {pair[1]} had begun"
