"""Attempts that are alive in the ledger but not in this process: whose owner is elsewhere, or gone.

One that beats is left alone; its own node ends it. One that never started is settled `SETTLE_AFTER_S` after its claim, at
once if its epoch is dead. One that is silent is lost `LOST_AFTER_S` after the later of its last beat and the moment since
which the ledger has been answering this process (after an outage every beat is old). That process need not have led since
then: where leaders change faster than that, their attempts are settled all the same. Where the ledger knows that the owner is gone (an infinite age: a node's own, and this process holds its state directory) nothing is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf

import trio

from singd.attempts import Ended
from singd.core.retry import after_loss
from singd.core.values import Finish, Policy, Schedule, State
from singd.events import AttemptSettled, Emit
from singd.ports import Adoption, Clock, Ledger, LiveAttempt, Term

SETTLE_AFTER_S = 10.0
LOST_AFTER_S = 20.0
LOOK_AGAIN_S = 2.0

Report = Callable[[Sequence[Ended]], None]


class Strangers:
    """Watches the live attempts that a term found, until each is over."""

    def __init__(
        self,
        term: Term,
        ledger: Ledger,
        clock: Clock,
        emit: Emit,
        schedules: Mapping[str, Schedule],
        mine: Callable[[str], bool],
        report: Report,
        in_touch_s: Callable[[], float],
    ) -> None:
        self._term = term
        self._ledger = ledger
        self._clock = clock
        self._emit = emit
        self._schedules = schedules
        self._mine = mine
        self._report = report
        self._in_touch_s = in_touch_s

    async def watch(self, live: Sequence[LiveAttempt]) -> None:
        """Settle or see off every stranger of `live`; returns when none is left."""
        strangers = {item.attempt.token: item for item in live if not self._mine(item.attempt.token)}
        while strangers:
            await self._settle([item for item in strangers.values() if self._due(item)])
            await trio.sleep(LOOK_AGAIN_S)
            adoption = await self._ledger.adopt(self._term)
            still = {item.attempt.token: item for item in adoption.live}
            self._report([_ended(item, adoption) for token, item in strangers.items() if token not in still])
            strangers = {token: still[token] for token in strangers if token in still}

    def _due(self, item: LiveAttempt) -> bool:
        if not item.started:
            return item.attempt.epoch < self._term.epoch or item.age_s >= SETTLE_AFTER_S
        return item.age_s == inf or min(item.age_s, self._in_touch_s()) >= LOST_AFTER_S

    async def _settle(self, items: Sequence[LiveAttempt]) -> None:
        if not items:
            return
        settled = await self._ledger.settle(self._term, [self._finish(item) for item in items])
        for item in items:
            attempt = item.attempt
            if attempt.token in settled:
                state = State.LOST if item.started else State.CANCELLED
                self._emit(AttemptSettled(attempt.run_id, attempt.occurrence.schedule, attempt.number, state))

    def _finish(self, item: LiveAttempt) -> Finish:
        now = self._clock.now()
        token, attempt = item.attempt.token, item.attempt
        if not item.started:
            return Finish(
                token, State.CANCELLED, "never started: its daemon was gone", retry_at=now, finished_at=now
            )
        schedule = self._schedules.get(attempt.occurrence.schedule)
        policy = schedule.policy if schedule else Policy()
        silent_s = max(item.age_s, LOST_AFTER_S)
        reason = (
            f"lost: its daemon was silent for {silent_s:.0f} s"
            if silent_s < inf
            else "lost: its daemon is gone"
        )
        return Finish(
            token, State.LOST, reason, retry_at=after_loss(policy, attempt.number, now), finished_at=now
        )


def _ended(item: LiveAttempt, adoption: Adoption) -> Ended:
    """What became of a stranger that is over: another attempt if the ledger says so."""
    attempt = item.attempt
    for unfinished in adoption.unfinished:
        if unfinished.occurrence_id == attempt.occurrence_id:
            used, retry_at = unfinished.retries_used, unfinished.retry_at
            return Ended(attempt.occurrence_id, attempt.occurrence.schedule, attempt.number, used, retry_at)
    return Ended(attempt.occurrence_id, attempt.occurrence.schedule, attempt.number, item.retries_used, None)
