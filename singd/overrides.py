"""The desk: what operators ask of the cluster, taken by the node whose business it is.

    asked on any node ─▶ a row, and word of it ─▶ every node's desk looks ─▶ the right one does it ─▶ takes the row: answered
                                                     also when this node registers, and when its term begins

| wish | done by |
|---|---|
| trigger | the leader; the node itself for `scope = "node"` |
| pause, resume | taken by the leader; every node judges its own schedules' instants by it |
| cancel | whoever runs it; what waits is decided by the one who plans it |
| resign | the leader |

A wish is taken after it is done, durably. One that is found done and not taken is taken then; doing it again would change
nothing: a trigger's request is part of the identity, and what is over stays over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

import trio

from singd.byhand import Answer, number_of, reason_of, refused
from singd.core.values import CLUSTER, Override, Pause, Verb
from singd.errors import EdgeError
from singd.events import Emit, Notice
from singd.ports import Clock, Overrides
from singd.runner import Runner
from singd.scheduler import Scheduler

LOOK_AGAIN_S = 10.0
"""While this node leads, word that got lost is made up for within this."""
UNDONE_S = 1.0
"""Until what is this node's business and could not be done is looked at again."""
RETRY_S = 5.0
AWAY_MOST = timedelta(hours=1)
"""A wish for what is a node's own does not wait longer for that node."""


class Hands(Protocol):
    """What the desk has at hand: the daemon."""

    def scheduler_of(self, owner: str) -> Scheduler | None:
        """Who plans this owner's occurrences here; None = nobody, at present."""
        ...

    def runner_of(self, owner: str) -> Runner | None:
        """Who runs them here; None = nobody ever does."""
        ...


class Desk:
    """Deals with wishes for as long as this node has its name; `serve` is its life.

    Args:
        node: This node's name.
        overrides: Where wishes are.
        hands: Who does them.
        clock: What old wishes are told by.
        emit: Where events go.
    """

    def __init__(self, node: str, overrides: Overrides, hands: Hands, clock: Clock, emit: Emit) -> None:
        self._node = node
        self._overrides = overrides
        self._hands = hands
        self._clock = clock
        self._emit = emit
        self._bell = trio.Event()
        self._ending: set[int] = set()
        self.pauses: Mapping[str, Pause] = {}
        self.looked = trio.Event()

    def ring(self) -> None:
        """There may be something new."""
        self._bell.set()

    async def serve(self) -> None:
        """For ever; ends only by cancellation. What it is ending when it is cancelled is ended all the same."""
        self._ending.clear()
        async with trio.open_nursery() as nursery:
            while True:
                bell = self._bell = trio.Event()
                again_s = await self._look(nursery)
                self.looked.set()
                with trio.move_on_after(again_s):
                    await bell.wait()

    async def brief(self, scheduler: Scheduler) -> None:
        """Tell a term, before it plans, what is paused and what is not wanted any more.

        Whom an operator asked to resign before is not who leads now.

        Raises:
            EdgeError: The ledger cannot be reached.
        """
        wishes = await self._overrides.open()
        scheduler.pauses = self.pauses = await self._overrides.pauses()
        for one in wishes:
            if one.wish.verb is Verb.CANCEL and one.wish.owner == CLUSTER:
                scheduler.ask(one)
            elif one.wish.verb is Verb.RESIGN:
                await self._take(one, {"node": ""})
        self.ring()

    async def _look(self, nursery: trio.Nursery) -> float:
        """Deal with what is open.

        Returns:
            Seconds until the next look, if nobody rings.
        """
        try:
            wishes = await self._overrides.open()
            self.pauses = await self._overrides.pauses()
            for owner in (CLUSTER, self._node):
                if scheduler := self._hands.scheduler_of(owner):
                    scheduler.pauses = self.pauses
            undone = [one for one in wishes if not await self._deal(nursery, one)]
        except EdgeError:
            return RETRY_S  # that the ledger is away is told by presence
        leads = self._hands.scheduler_of(CLUSTER) is not None
        return UNDONE_S if undone else LOOK_AGAIN_S if leads else math.inf

    async def _deal(self, nursery: trio.Nursery, one: Override) -> bool:
        """Whether nothing is left to do about it here."""
        number, owner = number_of(one.wish.target), one.wish.owner
        runner = self._hands.runner_of(owner)
        if one.wish.verb is Verb.CANCEL and runner is not None and runner.runs(number):
            if one.number not in self._ending:
                self._ending.add(one.number)
                nursery.start_soon(self._end, one, runner, number)
            return True
        if owner not in (CLUSTER, self._node):
            await self._let_lapse(one)
            return True
        scheduler = self._hands.scheduler_of(owner)
        if scheduler is None:
            return owner == CLUSTER  # whoever leads does it; what is the node's own waits for nobody else
        answer = await self._answer(one, scheduler)
        if answer is None:
            return False
        await self._take(one, answer)
        if one.wish.verb is Verb.RESIGN and answer.get("node"):
            scheduler.resign(reason_of(one))
        return True

    async def _answer(self, one: Override, scheduler: Scheduler) -> Answer | None:
        if one.run_id:
            return {"run_id": one.run_id}
        if one.wish.verb in (Verb.PAUSE, Verb.RESUME):
            return {}  # every look reads what is paused
        if one.wish.verb is Verb.RESIGN:
            other = one.wish.target not in ("", self._node)
            lead = {"node": self._node, "epoch": scheduler.epoch}
            return refused(f"it does not lead: {self._node} does") if other else lead
        asked = scheduler.ask(one)
        await asked.done.wait()
        return asked.answer

    async def _let_lapse(self, one: Override) -> None:
        """The leader answers for a node that is away for too long."""
        late = self._clock.now() - one.asked_at > AWAY_MOST
        if late and self._hands.scheduler_of(CLUSTER) is not None:
            await self._take(one, refused(f"node {one.wish.owner} was away for too long"))

    async def _end(self, one: Override, runner: Runner, number: int) -> None:
        """End what runs here; taken once the end is durable."""
        try:
            runner.cancel(number, reason_of(one))
            await runner.ended(number)
            await self._take(one, {})
        except EdgeError:
            self.ring()  # it is over: a later look says so
        finally:
            self._ending.discard(one.number)

    async def _take(self, one: Override, answer: Mapping[str, Any]) -> None:
        await self._overrides.take(one.number, {"by": self._node, **answer})
        self._emit(Notice("info", told(one, answer)))


def told(one: Override, answer: Mapping[str, Any]) -> str:
    """A wish that was dealt with, as a line of the journal."""
    wish, tail = one.wish, f": {one.wish.note}" if one.wish.note else ""
    became = f" refused, {answer['refused']}" if "refused" in answer else ""
    run = f", run {answer['run_id']}" if answer.get("run_id") else ""
    skipped = f" (skipped: {answer['reason']})" if answer.get("reason") else ""
    return f"{wish.actor}: {wish.verb} {wish.target}".rstrip() + became + run + skipped + tail
