"""The drill's life: cluster up, faults one by one, everything settled, cluster down, account.

    make the schema ─ start the nodes ─ all stand by ─┬─ fault ─ first claim of a newer term ─ heal ─┐
                                                      └───────────────── next round <────────────────┘
    until = now ─ cursors beyond it ─ attempts settled ─ clean stop ─ count ─ drop the schema

Every wait has a bound; however it ends (a signal, an error, a bound), the daemons are ended and the schema is dropped.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import trio

from singd.core.units import counted
from singd.drill.gaps import Fault
from singd.drill.nodes import COUNT, STOP_S, Cluster, Node, schedules, witnessed
from singd.drill.scratch import Claim, Login, Scratch
from singd.drill.tally import Tally, Window, tally
from singd.drill.words import Outcome, Round
from singd.errors import EdgeError, SingdError

UP_S = 60.0
"""The first start of all nodes: catalogues are read, nothing is cached."""
READY_S = 30.0
"""From a fault to all nodes standing by again."""
CLAIM_S = 30.0
"""A successor that has claimed nothing by then never will."""
SETTLE_S = 40.0
"""A silent run is settled as lost after about 20 s, under the leader that is there then."""
REST_AT = COUNT // 5
"""So many schedules held up by runs that were cut off, and the drill rests: a leader that dies twice in three seconds, for
minutes, is no machine's life, and each new one would inherit more that waits."""
CLEAN_UP_S = 60.0
HURRIED_S = 10.0
"""For the daemons' clean stop where somebody waits for the end, or something went wrong."""
SHORT_S = 1.0
"""What is running anyway is over by then; only what a fault cut off takes longer."""
POLL_S = 0.02
PAUSE_MOST_S = 0.25
"""Before a fault, at random: faults meet the cluster in every phase of its second."""


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
        if self._interrupted.cancelled_caught and not self.failure:
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
        await self._ready(UP_S)
        since = await self._planned_by_all()
        deadline = trio.current_time() + (self.plan.seconds or float("inf"))
        try:
            for number, fault in enumerate(self.plan.faults, 1):
                if trio.current_time() >= deadline:
                    break
                await self._round(number, fault)
                await self._ready(READY_S)
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
        await self._until(self._all_planned, UP_S, "no schedule was ever planned")
        return self.scratch.at(time.time())

    async def _all_planned(self) -> bool:
        return schedules().keys() <= (await self.scratch.cursors()).keys()

    async def _round(self, number: int, fault: Fault) -> None:
        await trio.sleep(random.uniform(0, PAUSE_MOST_S))  # noqa: S311 - not a secret
        leader, epoch = await self._leader()
        await self.scratch.compare_clocks()
        at = self.scratch.at(await self.inflict(fault, leader))
        claim = await self._first_claim(epoch)
        gap_s = (claim.at - at).total_seconds()
        self.rounds.append(Round(number, fault, leader.name, epoch, claim.node, claim.epoch, gap_s))
        self.told(self.rounds[-1])
        await self.heal(fault, leader)

    async def _leader(self) -> tuple[Node, int]:
        found = await self.scratch.leader()
        if found is None:
            raise EdgeError("nobody has ever led")
        return self.cluster.nodes[found[0]], found[1]

    async def inflict(self, fault: Fault, leader: Node) -> float:
        """Do it; the moment it was done, on this machine's clock."""
        match fault:
            case Fault.KILL:
                return leader.kill()
            case Fault.FREEZE:
                return leader.freeze()
            case Fault.STOP:
                return leader.stop()
            case Fault.RESIGN:
                return await leader.resign()

    async def heal(self, fault: Fault, leader: Node) -> None:
        """Whoever was ended comes back under its name, as systemd would have it."""
        if fault is Fault.FREEZE:
            leader.thaw()
        elif fault is not Fault.RESIGN:
            await leader.gone(READY_S)
            leader.start()

    async def _first_claim(self, epoch: int) -> Claim:
        found: list[Claim] = []

        async def claimed() -> bool:
            if claim := await self.scratch.first_claim(epoch):
                found.append(claim)
            return bool(found)

        await self._until(claimed, CLAIM_S, "no other node took over")
        return found[0]

    # -- waiting ----------------------------------------------------------------------------------

    async def _ready(self, within_s: float) -> None:
        await self._until(self._all_there, within_s, "not all nodes stood by again")

    async def _all_there(self) -> bool:
        if dead := self.cluster.dead():
            raise EdgeError(f"{dead[0].name} ended by itself: {dead[0].last_words()}")
        leading, waiting = await self.scratch.standing_by()
        return leading and waiting >= self.plan.nodes - 1

    async def _until(self, fact: Callable[[], Awaitable[bool]], within_s: float, otherwise: str) -> None:
        """Poll until it is so.

        Raises:
            EdgeError: It was not so in time.
        """
        with trio.move_on_after(within_s):
            await polled(fact)
            return
        raise EdgeError(f"{otherwise} within {within_s:g} s")

    async def _settled(self, until: datetime) -> None:
        """Every instant dealt with, every attempt over; whatever is not by then is in the account."""
        with trio.move_on_after(SETTLE_S):
            await polled(partial(self._dealt_with, until))
            await trio.sleep(SHORT_S)
            if await self.scratch.open(until):
                self.said(f"waiting until what the faults cut off is settled (at most {SETTLE_S:g} s)")
            await polled(partial(self._nothing_open, until), 10 * POLL_S)
        self.unsettled = False

    async def _dealt_with(self, until: datetime) -> bool:
        return min((await self.scratch.cursors()).values()) >= until

    async def _nothing_open(self, until: datetime) -> bool:
        return not await self.scratch.open(until)

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


async def polled(fact: Callable[[], Awaitable[bool]], every_s: float = POLL_S) -> None:
    """Until it is so; the caller bounds it. A ledger and a process of another's cannot ring a bell of ours."""
    while not await fact():  # noqa: ASYNC110
        await trio.sleep(every_s)
