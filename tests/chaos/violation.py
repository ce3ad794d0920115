"""What a check answers, and what several of them look up in a history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from chaos.history import Body, Change, History, Row

EARLY_S = 0.002
"""Of the witness's clock: reading two clocks takes a moment."""
BUSIEST = 4.0
"""Of a machine with more runnable processes than cores, no more than so many for each excuse anything."""


@dataclass(frozen=True)
class Violation:
    """Which invariant, and the evidence."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


def found(invariant: str, texts: Iterator[str]) -> list[Violation]:
    return [Violation(invariant, text) for text in texts]


def covered_by(history: History, row: Row) -> Iterator[int]:
    """The instants of a row."""
    if row.until_us is None:
        return iter((row.due_us,))
    return history.lines[row.schedule].instants(row.due_us - 1, row.until_us)


Key = tuple[str, str, int]
"""Identity of an occurrence: schedule, owner, instant."""


def ids_of(history: History) -> dict[Key, int]:
    return {(row.schedule, row.owner, row.due_us): row.id for row in history.rows if row.until_us is None}


def key_of(item: Body | Row) -> Key:
    return item.schedule, item.owner, item.due_us


def terms_of(history: History) -> dict[int, list[Change]]:
    terms: dict[int, list[Change]] = defaultdict(list)
    for change in history.changes:
        if change.what == "leader" and change.epoch is not None:
            terms[change.epoch].append(change)
    return terms
