"""The drill's life: cluster up, faults one by one, everything settled, cluster down, account.

    make the schema ─ start the nodes ─ all stand by ─┬─ fault ─ first claim of a newer term ─ heal ─┐
                                                      └───────────────── next round <────────────────┘
    until = now ─ cursors beyond it ─ attempts settled ─ clean stop ─ count ─ drop the schema

Every wait has a bound; however it ends (a signal, an error, a bound), the daemons are ended and the schema is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import trio

from singd.core.units import counted
from singd.drill.faults import POLL_S, Hand, polled, within
from singd.drill.gaps import Fault
from singd.drill.nodes import STOP_S, TASKS, Cluster, schedules, witnessed
from singd.drill.scratch import Login, Scratch
from singd.drill.tally import Tally, Window, tally
from singd.drill.words import Outcome, Round
from singd.errors import SingdError

UP_S = 60.0
"""The first start of all nodes: catalogues are read, nothing is cached."""
SETTLE_S = 40.0
"""A silent run is settled as lost after about 20 s, under the leader that is there then."""
SETTLE_MOST_S = 300.0
REST_AT = TASKS // 5
"""So many schedules held up by runs that were cut off, and the drill rests: a leader that dies twice in three seconds, for
minutes, is no machine's life, and each new one would inherit more that waits."""
CLEAN_UP_S = 60.0
HURRIED_S = 10.0
"""For the daemons' clean stop where somebody waits for the end, or something went wrong."""
SHORT_S = 1.0
"""What is running anyway is over by then; only what a fault cut off takes longer."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for.

    Attributes:
        faults: One a round.
        seconds: No new round begins after so long; None = no bound but the number of rounds.
    """

    nodes: int
    faults: Sequence[Fault]
    seconds: float | None = None


Told = Callable[[Round], None]
Said = Callable[[str], None]


@dataclass(slots=True)
class Drill:
    """One drill; `run` is its life.

    Args:
        directory: Empty and short; the caller removes it.
        told: Called after each round.
        said: Called when a longer wait begins.
    """

    plan: Plan
    login: Login
    directory: Path
    told: Told
    said: Said
    scratch: Scratch = field(init=False)
    cluster: Cluster = field(init=False)
    hand: Hand = field(init=False)
    rounds: list[Round] = field(default_factory=list)
    cleaned: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    window: Window | None = None
    failure: str = ""
    unsettled: bool = True
    _interrupted: trio.CancelScope = field(default_factory=trio.CancelScope)
    _tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.scratch = Scratch(self.login)
        self.cluster = Cluster(self.plan.nodes, self.directory, self.scratch.schema, self.login.runtime)
        self.hand = Hand(self.cluster, self.scratch)

    def interrupt(self) -> None:
        """End it soon: no more rounds, nothing is waited for, everything is cleaned up."""
        self._interrupted.cancel()

    async def run(self) -> Outcome:
        """From the schema to its end.

        Raises:
            EdgeError: There is no database, or it refused, before there was anything to account for.
            MayNot: The login may not make a schema.
        """
        began = time.monotonic()
        await self._prepared()
        try:
            with self._interrupted:
                await self._faults_and_settling()
        except SingdError as error:
            self.failure = str(error)
        finally:
            with trio.CancelScope(shield=True):
                await self._clean_up()
        return self._outcome(time.monotonic() - began)

    async def _prepared(self) -> None:
        try:
            await self.scratch.make()
            for schema in await self.scratch.older():
                self.said(
                    f"also there: schema {schema}, of a drill that runs now, or of one that was killed (then drop it)"
                )
        except BaseException:
            self.scratch.close()
            raise

    def _outcome(self, elapsed_s: float) -> Outcome:
        if (
            self._interrupted.cancel_called
        ):  # whatever else failed, failed because of that, or does not matter any more
            self.failure = "it was interrupted"
        return Outcome(
            self.login.where,
            self.scratch.schema,
            self.plan.nodes,
            tuple(self.rounds),
            self._tally,
            self.scratch.clock_s,
            elapsed_s,
            self.failure,
            self.unsettled,
            tuple(self.cleaned),
            tuple(self.left),
        )

    # -- faults -----------------------------------------------------------------------------------

    async def _faults_and_settling(self) -> None:
        self.cluster.start()
        await self.hand.ready(UP_S)
        since = await self._planned_by_all()
        deadline = trio.current_time() + (self.plan.seconds or float("inf"))
        try:
            for number, fault in enumerate(self.plan.faults, 1):
                if trio.current_time() >= deadline:
                    break
                self.rounds.append(await self.hand.round(number, fault))
                self.told(self.rounds[-1])
                await self.hand.ready()
                await self._rested()
        finally:
            self.window = Window(since, self.scratch.at(time.time()))
        await self._settled(self.window.until)

    async def _rested(self) -> None:
        """Faults that follow so closely that nothing is ever settled measure their own backlog: let it be settled."""
        if await self.scratch.held_up() >= REST_AT:
            self.said(
                f"resting: {REST_AT} schedules wait until a run that was cut off is settled (at most {SETTLE_S:g} s)"
            )
            with trio.move_on_after(SETTLE_S):
                await polled(self._nothing_held_up, 10 * POLL_S)

    async def _nothing_held_up(self) -> bool:
        return not await self.scratch.held_up()

    async def _planned_by_all(self) -> datetime:
        """Instants from now on count: every schedule has its place in the ledger."""
        await within(UP_S, self._all_planned, "no schedule was ever planned")
        return self.scratch.at(time.time())

    async def _all_planned(self) -> bool:
        return schedules().keys() <= (await self.scratch.cursors()).keys()

    # -- settling ---------------------------------------------------------------------------------

    async def _settled(self, until: datetime) -> None:
        """Every instant dealt with, every attempt over; whatever is not by then is in the account."""
        with trio.move_on_after(SETTLE_S):
            await polled(partial(self._dealt_with, until))
        await trio.sleep(SHORT_S)
        if left := await self.scratch.open(until):
            self.said(f"waiting until {counted(left, 'run')} that the faults cut off or held up are settled")
            await self._less_and_less(until, left)
        self.unsettled = False

    async def _dealt_with(self, until: datetime) -> bool:
        return min((await self.scratch.cursors()).values()) >= until

    async def _less_and_less(self, until: datetime, left: int) -> None:
        """Until nothing is open, as long as it becomes less: on a busy machine a backlog takes its time."""
        over = trio.current_time() + SETTLE_MOST_S
        with trio.move_on_after(SETTLE_S) as patience:
            while now_left := await self.scratch.open(until):
                if now_left < left:
                    left, patience.deadline = now_left, min(trio.current_time() + SETTLE_S, over)
                await trio.sleep(10 * POLL_S)

    # -- the end ----------------------------------------------------------------------------------

    async def _clean_up(self) -> None:
        """Daemons first: what they still write is counted, and they hold nothing that is in the way of a drop."""
        ended = await self.cluster.end(HURRIED_S if self.unsettled else STOP_S)
        self.cleaned.append(counted(ended, "daemon") + " ended")
        with trio.move_on_after(CLEAN_UP_S) as patience:
            await self._count()
            await self._drop()
        if patience.cancelled_caught:
            self._remains(self.scratch.remains(f"not done within {CLEAN_UP_S:g} s"))

    async def _count(self) -> None:
        if self.window is None:
            return
        try:
            rows, tries = await self.scratch.read()
            window = self.window
            if self.unsettled:  # what was due last may not have been looked at: no reproach
                window = replace(window, until=min((await self.scratch.cursors()).values()))
        except SingdError as error:
            self.failure = self.failure or str(error)
            return
        told = witnessed(self.cluster.witness)
        self._tally = tally(schedules(), window, rows, tries, told)
        if self.unsettled:
            self._tally = replace(self._tally, open=())

    async def _drop(self) -> None:
        try:
            await self.scratch.drop()
        except SingdError as error:
            self._remains(error)
        else:
            self.cleaned.append(f"schema {self.scratch.schema} dropped")

    def _remains(self, error: SingdError) -> None:
        self.left.append(f"{error} ({error.cure})" if error.cure else str(error))
