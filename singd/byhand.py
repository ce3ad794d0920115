"""What operators ask, on its way through a scheduler: one wish after another, inside its rounds.

A scheduler's standing belongs to its rounds alone, so a wish waits for one. A term that ends tells those that still wait
that nothing was done: who leads next finds the wish where it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

from singd.agenda import RUNS, Due, Line, Unfinished, by_hand
from singd.core.values import Override, Verb, Verdict, run_id
from singd.ports import Ledger, Term

Answer = Mapping[str, Any]
CANCELLED = "cancelled by "
"""How the reason of what an operator ended begins."""
DIGITS = 19
"""Of the first number that no ledger can count to."""


@dataclass(slots=True, eq=False)
class Asked:
    """A wish that waits for its round.

    Attributes:
        answer: What became of it, once `done` is set; None = nothing, or nothing yet.
    """

    override: Override
    done: trio.Event = field(default_factory=trio.Event)
    answer: Answer | None = None

    def tell(self, answer: Answer | None) -> None:
        """It had its round, or will have none."""
        self.answer = answer
        self.done.set()


class Wishes:
    """Those that wait, oldest first; open while the scheduler lives."""

    def __init__(self) -> None:
        self._waiting: deque[Asked] = deque()
        self._closed = False

    def put(self, override: Override) -> Asked:
        """Let a wish wait for the next round."""
        asked = Asked(override)
        if self._closed:
            asked.tell(None)
        else:
            self._waiting.append(asked)
        return asked

    async def serve(self, carry_out: Callable[[Override], Awaitable[Answer | None]]) -> None:
        """Carry out what waits."""
        while self._waiting:
            answer = await carry_out(self._waiting[0].override)
            self._waiting.popleft().tell(answer)

    def close(self) -> None:
        """There will be no more rounds."""
        self._closed = True
        while self._waiting:
            self._waiting.popleft().tell(None)


class Planner(Protocol):
    """A scheduler, as its wishes see it."""

    lines: dict[str, Line]

    async def record(self, due: Due) -> int | None:
        """Write one row that no plan asked for; None where its identity stands already."""
        ...

    def dismiss(self, line: Line, number: int) -> None:
        """An occurrence that waited waits no more."""
        ...


class ByHand:
    """Carries wishes out, one inside a round."""

    def __init__(self, term: Term, ledger: Ledger, planner: Planner) -> None:
        self._term = term
        self._ledger = ledger
        self._planner = planner

    async def carry_out(self, override: Override) -> Answer | None:
        """A trigger or a cancel; None = there is nothing to say yet."""
        if override.wish.verb is Verb.TRIGGER:
            return await self._trigger(override)
        return await self._cancel(number_of(override.wish.target), reason_of(override))

    async def _trigger(self, override: Override) -> Answer | None:
        """Record it once: where its identity stands already, the ledger will tell the run."""
        line = self._planner.lines.get(override.wish.target)
        if line is None:
            return refused(f"its configuration has no schedule {override.wish.target!r}")
        due = by_hand(line, override)
        number = await self._planner.record(due)
        if number is None:
            return None
        return {"run_id": run_id(line.owner, number), "reason": due.recording.reason}

    async def _cancel(self, number: int, reason: str) -> Answer | None:
        """Let go what waits; what runs elsewhere is ended there, and not tried again here."""
        line, unfinished = self._find(number)
        if line is not None and unfinished is not None and unfinished.doing != RUNS:
            await self._ledger.decide(self._term, {number: (Verdict.SKIPPED, reason)})
            self._planner.dismiss(line, number)
            return {}
        if unfinished is not None:
            unfinished.unwanted = reason
        adoption = await self._ledger.adopt(self._term)
        if any(item.attempt.occurrence_id == number for item in adoption.live):
            return None
        await self._ledger.decide(self._term, {number: (Verdict.SKIPPED, reason)})
        return {}

    def _find(self, number: int) -> tuple[Line | None, Unfinished | None]:
        for line in self._planner.lines.values():
            if number in line.unfinished:
                return line, line.unfinished[number]
        return None, None


def refused(why: str) -> Answer:
    """The answer to a wish that cannot be."""
    return {"refused": why}


def reason_of(override: Override) -> str:
    """Why something ended that an operator ended."""
    done = CANCELLED if override.wish.verb is Verb.CANCEL else "resigned, asked by "
    return done + override.wish.actor + (f": {override.wish.note}" if override.wish.note else "")


def number_of(run_id: str) -> int:
    """The number in a run's id, whoever owns it; 0 where there is none that a ledger could have given."""
    number = run_id.rpartition(":")[2]
    known = number.isascii() and number.isdigit() and len(number) < DIGITS
    return int(number) if known else 0
