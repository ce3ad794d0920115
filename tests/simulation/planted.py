"""Switches the planted bugs on, in tests only: each replaces a few lines of singd, or of the twin of its server.

The twin stands for Postgres: where a bug is in SQL (the fence, the lock it takes, the unique key), it is planted in the twin's
rule of the same name; the conformance suite shows that the twin and Postgres have the same rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from unittest import mock

import trio

from singd import leadership, runner
from singd.core.plan import plan
from singd.edges.memory import ledger
from singd.edges.memory.database import MemoryDatabase
from singd.edges.memory.election import MemoryElection
from singd.edges.memory.ledger import MemoryLedger
from singd.edges.memory.locks import Locks
from singd.errors import EdgeError, TermLost

Patches = list[object]


def no_fence() -> Patches:
    return [mock.patch.object(MemoryDatabase, "fence", lambda self, term: self.elected)]


def key_share() -> Patches:
    return [mock.patch.object(MemoryDatabase, "held", return_value=False)]


def trust_from_reply() -> Patches:
    async def beat(election, term, clock, trust) -> float:
        sent = clock.boot()
        if trust.until and sent >= trust.until:
            raise TermLost("too late")
        with trio.move_on_after((trust.until or sent + term.lease_s) - sent):
            await election.beat(term)
            trust.until = clock.boot() + term.lease_s - leadership.MARGIN_S
            return sent
        raise TermLost("no answer")

    return [mock.patch.object(leadership, "_beat", beat)]


def no_lease() -> Patches:
    return [mock.patch.object(Locks, "expire", return_value=None)]


def leads_on_error() -> Patches:
    async def beat(election, term, clock, trust) -> float:
        with suppress(TermLost, EdgeError):
            await election.beat(term)
        trust.until = clock.boot() + term.lease_s - leadership.MARGIN_S
        return clock.boot()

    return [mock.patch.object(leadership, "_beat", beat)]


def leads_by_name() -> Patches:
    def fence(self, term):
        leader = self.elected
        if leader is None or (term.epoch and _NAMES.get(term.epoch) != leader.name):
            raise TermLost("another node leads")
        return leader

    def elect(self, may_yield, session, call):
        epoch = _elect(self, may_yield, session, call)
        if isinstance(epoch, int):
            _NAMES[epoch] = session.node.name
        return epoch

    def prove(self, session, term):
        return self._database.elected.name == session.node.name

    _NAMES.clear()
    return [
        mock.patch.object(MemoryDatabase, "fence", fence),
        mock.patch.object(Locks, "elect", elect),
        mock.patch.object(MemoryElection, "_prove", prove),
    ]


_NAMES: dict[int, str] = {}
_elect = Locks.elect


def pooled_lock() -> Patches:
    """The pool gives the lock's connection back after a while; heartbeats go through whatever connection there is."""

    async def campaign(self):
        term = await _campaign(self)
        session, database = self._session._session, self._database
        database.timeline.at(trio.current_time() + 20 * self._lease_s, lambda: database.end(session))
        return term

    async def beat(self, term) -> None:
        await self._database.call(self._session._link, lambda call: None)

    return [
        mock.patch.object(MemoryElection, "campaign", campaign),
        mock.patch.object(MemoryElection, "beat", beat),
        mock.patch.object(MemoryDatabase, "fence", lambda self, term: self.elected),
    ]


_campaign = MemoryElection.campaign


def no_unique() -> Patches:
    def record(self, term, generation, recording, number, token):
        self._db.by_identity.pop(recording.occurrence, None)
        return _record(self, term, generation, recording, number, token)

    return [mock.patch.object(MemoryLedger, "_record", record), *unlocked_repeat()]


def unlocked_repeat() -> Patches:
    """What a unique key is there for: a record that was committed unknown, and is sent again with new numbers."""

    async def record(self, term, generation, recordings, cursors):
        try:
            return await _record_all(self, term, generation, recordings, cursors)
        except EdgeError:
            return await _record_all(self, term, generation, recordings, cursors)

    return [mock.patch.object(MemoryLedger, "record", record), mock.patch.object(ledger, "REPEAT_S", -1.0)]


_record = MemoryLedger._record
_record_all = MemoryLedger.record


def rounded_now() -> Patches:
    def rounded(trigger, policy, cursor, now, *rest):
        step = plan(trigger, policy, cursor, now, *rest)
        return replace(step, run=tuple(now.replace(microsecond=0) for _ in step.run))

    return [mock.patch("singd.scheduler.plan", rounded)]


def cursor_in_memory() -> Patches:
    def adopt(self, term):
        return replace(_adopt(self, term), cursors={})

    return [mock.patch.object(MemoryLedger, "_adopt", adopt)]


_adopt = MemoryLedger._adopt


def looks_back() -> Patches:
    async def generation(self, term, content_hash, triggers, now):
        return await _generation(self, term, content_hash, triggers, now - timedelta(days=2))

    return [mock.patch.object(MemoryLedger, "generation", generation)]


_generation = MemoryLedger.generation


def finish_without_token() -> Patches:
    return [mock.patch.object(ledger, "_may_finish", return_value=True)]


def one_step_start() -> Patches:
    async def ask(self, batch):
        tokens = [run.attempt.token for run in batch]
        with suppress(EdgeError):  # it will have arrived
            await self._ledger.start(tokens)
        return set(tokens)

    def work(self, run, go_at):
        return replace(_provided(self, run, go_at), go_at=math.inf)

    from singd.testing.node import Provide

    _provided = Provide.__call__
    return [
        mock.patch.object(runner.Runner, "_ask_start", ask),
        mock.patch.object(Provide, "__call__", work),
    ]


@contextmanager
def planted(name: str) -> Iterator[None]:
    """While it is open, the bug is there."""
    patches: Patches = BUGS[name]()
    for patch in patches:
        patch.start()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()  # type: ignore[attr-defined]


BUGS: dict[str, Callable[[], Patches]] = {
    bug.__name__: bug
    for bug in (
        no_fence, key_share, trust_from_reply, no_lease, leads_on_error, leads_by_name, pooled_lock, no_unique,
        rounded_now, cursor_in_memory, looks_back, finish_without_token, one_step_start,
    )
}  # fmt: skip
