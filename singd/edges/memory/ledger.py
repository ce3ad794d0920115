"""The ledger's writes on `MemoryDatabase`: the rules of `singd.edges.postgres.ledger`, without SQL.

Each write is a function that may be applied twice; a broken connection has it applied twice, as the real edge
sends its statement again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import trio

from singd.core.values import Attempt, Finish, Recorded, Recording, State, Verdict
from singd.edges.memory.database import Link, MemoryDatabase, Row, Try
from singd.edges.memory.wire import Unanswered
from singd.ports import Adoption, LiveAttempt, OpenOccurrence, Term

T = TypeVar("T")
REPEAT_FIRST_S = 0.05
REPEAT_S = 10.0
"""Seconds after the first failure during which a statement is sent again."""

_FAILED = (State.FAILED, State.TIMED_OUT)


class MemoryLedger:
    """`ports.Ledger`; any number of them share one database."""

    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._db = database
        self._link = link or Link()

    async def adopt(self, term: Term) -> Adoption:
        """See `ports.Ledger`."""
        return await self._apply("adopt", lambda: self._adopt(term))

    async def generation(
        self, term: Term, content_hash: str, triggers: Mapping[str, str], now: datetime
    ) -> int:
        """See `ports.Ledger`."""

        def act() -> int:
            self._db.fence(term)
            before, self._db.triggers = self._db.triggers, dict(triggers)
            for name in (name for name, trigger in triggers.items() if before.get(name) != trigger):
                old = self._db.cursors.get(name)
                self._db.cursors[name] = max(now, old or now)
                self._db.note("begun", term.epoch, name, triggers[name], old, self._db.cursors[name])
            for name in before.keys() - triggers.keys():
                self._db.note("gone", term.epoch, name, self._db.cursors.get(name))
            self._db.note("accepted", term.epoch, content_hash)
            self._db.in_force = content_hash
            if content_hash not in self._db.generations:  # a takeover with an older file makes that no newer
                self._db.generations[content_hash] = len(self._db.generations) + 1
                self._db.newest = content_hash
            return self._db.generations[content_hash]

        return await self._apply("generation", act, term)

    async def record(
        self, term: Term, generation: int, recordings: Sequence[Recording], cursors: Mapping[str, datetime]
    ) -> Sequence[Recorded]:
        """See `ports.Ledger`."""
        numbers = self._db.numbers(len(recordings))
        tokens = [self._db.new_token() for _ in recordings]

        def act() -> Sequence[Recorded]:
            self._db.fence(term)
            self._db.note("wrote", term.epoch, "record")
            for name, due_at in cursors.items():
                self._db.cursors[name] = max(due_at, self._db.cursors.get(name, due_at))
            rows = zip(recordings, numbers, tokens, strict=True)
            return [self._record(term, generation, *row) for row in rows]

        return await self._apply("record", act, term)

    async def open_attempts(self, term: Term, occurrence_ids: Sequence[int]) -> Sequence[Attempt | None]:
        """See `ports.Ledger`."""
        tokens = [self._db.new_token() for _ in occurrence_ids]

        def act() -> Sequence[Attempt | None]:
            self._db.fence(term)
            self._db.note("wrote", term.epoch, "open_attempts")
            pairs = zip(occurrence_ids, tokens, strict=True)
            return [self._open_next(term, number, token) for number, token in pairs]

        return await self._apply("open_attempts", act, term)

    async def decide(self, term: Term, verdicts: Mapping[int, tuple[str, str]]) -> None:
        """See `ports.Ledger`."""

        def act() -> None:
            self._db.fence(term)
            self._db.note("wrote", term.epoch, "decide")
            for number, (verdict, reason) in verdicts.items():
                row = self._db.rows.get(number)
                if row and (row.verdict is None or row.retry_at is not None):
                    row.verdict = row.verdict or Verdict(verdict)
                    row.reason, row.retry_at = reason, None
                    self._db.keep(row)

        await self._apply("decide", act, term)

    async def start(self, tokens: Sequence[str]) -> set[str]:
        """See `ports.Ledger`."""

        def act() -> set[str]:
            live = self._live(tokens)
            for one in live.values():
                one.state, one.renewed = State.RUNNING, trio.current_time()
                one.started_at = one.started_at or self._db.clock.now()
            return set(live)

        return await self._apply("start", act)

    async def beat(self, tokens: Sequence[str]) -> set[str]:
        """See `ports.Ledger`."""

        def act() -> set[str]:
            live = self._live(tokens)
            for one in live.values():
                if one.state is State.RUNNING:
                    one.renewed = trio.current_time()
            return set(live)

        return await self._apply("beat", act)

    async def finish(self, finishes: Sequence[Finish]) -> set[str]:
        """See `ports.Ledger`."""
        first = {f.token: f for f in reversed(finishes)}.values()
        return await self._apply("finish", lambda: {f.token for f in first if self._end(f, _may_finish)})

    async def settle(self, term: Term, finishes: Sequence[Finish]) -> set[str]:
        """See `ports.Ledger`. CANCELLED settles only what is still claimed, LOST only what is running."""

        def act() -> set[str]:
            self._db.fence(term)
            self._db.note("wrote", term.epoch, "settle")
            now = self._db.clock.now()
            plain = [
                replace(f, skipped=None, result=None, started_at=None, finished_at=now) for f in finishes
            ]
            return {f.token for f in plain if self._end(f, _may_settle)}

        return await self._apply("settle", act, term)

    async def _apply(self, name: str, act: Callable[[], T], term: Term | None = None) -> T:
        """Have it carried out; again, by the same numbers and tokens, where nobody knows whether it was."""
        until, wait_s = math.inf, REPEAT_FIRST_S
        while True:
            try:
                return await self._db.call(self._link, lambda call: act(), name, term)
            except Unanswered:
                until = min(until, trio.current_time() + REPEAT_S)
                if trio.current_time() + wait_s > until:
                    raise
            await trio.sleep(wait_s)
            wait_s = min(wait_s * 2, 1.0)

    def _record(self, term: Term, generation: int, recording: Recording, number: int, token: str) -> Recorded:
        _check(recording)
        row = self._db.by_identity.get(recording.occurrence)
        if row is None:
            row = Row(number, recording, generation, recording.verdict, recording.reason)
            self._db.rows[number] = self._db.by_identity[recording.occurrence] = row
            if recording.open_attempt:
                self._open(term, row, token)
            self._db.keep(row)
        if row.number != number:
            return Recorded(None)
        return Recorded(number, row.attempts[0].attempt if recording.open_attempt else None)

    def _open_next(self, term: Term, number: int, token: str) -> Attempt | None:
        if token in self._db.by_token:
            return self._db.by_token[token][1].attempt
        row = self._db.rows.get(number)
        if row is None or not row.waits:
            return None
        row.verdict, row.reason, row.retry_at = Verdict.RAN, "", None
        return self._open(term, row, token)

    def _open(self, term: Term, row: Row, token: str) -> Attempt:
        leader = self._db.fence(term)
        attempt = Attempt(row.number, row.occurrence, len(row.attempts) + 1, token, term.epoch)
        one = Try(attempt, leader.name, leader.process, self._db.clock.now(), trio.current_time())
        row.attempts.append(one)
        self._db.by_token[token] = (row, one)
        return attempt

    def _live(self, tokens: Iterable[str]) -> dict[str, Try]:
        found = self._db.found(iter(tokens))
        return {one.attempt.token: one for _, one in found if not one.state.terminal}

    def _end(self, finish: Finish, may: Callable[[Row, Try, Finish], bool]) -> bool:
        if finish.token not in self._db.by_token:
            return False
        row, one = self._db.by_token[finish.token]
        if not may(row, one, finish):
            return (one.state, one.error) == (finish.state, finish.error)  # an earlier try of the same end
        self._db.note("ended", None, row.occurrence, one.attempt.number, one.state, finish.state)
        one.state, one.error, one.finish = finish.state, finish.error, finish
        one.finished_at = finish.finished_at or self._db.clock.now()
        one.started_at = finish.started_at or one.started_at
        row.retry_at = finish.retry_at
        if finish.skipped is not None:
            row.verdict, row.reason = Verdict.SKIPPED, finish.skipped or "the task said so"
        self._db.keep(row)
        return True

    def _adopt(self, term: Term) -> Adoption:
        self._db.fence(term)
        rows = sorted(self._db.unfinished.values(), key=lambda row: (row.occurrence.due_at, row.number))
        return Adoption(
            dict(self._db.cursors),
            [_waiting(row) for row in rows if row.waits],
            [_alive(row) for row in rows if row.live],
            self._db.startup_at,
        )


def _may_finish(row: Row, one: Try, finish: Finish) -> bool:
    """Live, or lost with nothing after it: see finish_in_full.sql."""
    if not one.state.terminal:
        return True
    last = one is row.attempts[-1] and row.retry_at is None
    return one.state is State.LOST and finish.state is not State.LOST and last


def _may_settle(row: Row, one: Try, finish: Finish) -> bool:
    return (one.state, finish.state) in ((State.CLAIMED, State.CANCELLED), (State.RUNNING, State.LOST))


def _waiting(row: Row) -> OpenOccurrence:
    return OpenOccurrence(row.number, row.occurrence, len(row.attempts), _retries_used(row), row.retry_at)


def _alive(row: Row) -> LiveAttempt:
    one = row.attempts[-1]
    age_s = trio.current_time() - one.renewed
    return LiveAttempt(one.attempt, one.state is State.RUNNING, one.process, _retries_used(row), age_s)


def _retries_used(row: Row) -> int:
    return sum(one.state in _FAILED for one in row.attempts)


def _check(recording: Recording) -> None:
    """The constraints of the table."""
    never_ran = recording.verdict not in (None, Verdict.RAN)
    if never_ran and not recording.reason:
        raise ValueError(f"a verdict {recording.verdict} has a reason")
    if recording.due_until is not None and not never_ran:
        raise ValueError("a range row stands for what never ran")
