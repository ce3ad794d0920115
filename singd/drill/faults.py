"""One fault at a time, done to the leader: when it was done, who claimed first afterwards, and the leader healed.

all stand by ─ a random pause ─ clocks compared ─ inflict ─ first claim of a newer term ─ heal ─ all stand by
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import trio

from singd.drill.gaps import Fault
from singd.drill.nodes import Cluster, Node
from singd.drill.scratch import Claim, Scratch
from singd.drill.words import Round
from singd.errors import EdgeError

READY_S = 30.0
"""From a fault to all nodes standing by again."""
CLAIM_S = 30.0
"""A successor that has claimed nothing by then never will."""
POLL_S = 0.02
PAUSE_MOST_S = 0.25
"""Before a fault, at random: faults meet the cluster in every phase of its second."""

Fact = Callable[[], Awaitable[bool]]


class Hand:
    """Does it. Another hand may do it in another way (`inflict`, `heal`)."""

    def __init__(self, cluster: Cluster, scratch: Scratch) -> None:
        self.cluster = cluster
        self.scratch = scratch

    async def round(self, number: int, fault: Fault) -> Round:
        """One fault and what followed.

        Raises:
            EdgeError: Nobody took over, or the database is away.
        """
        await trio.sleep(random.uniform(0, PAUSE_MOST_S))  # noqa: S311 - not a secret
        leader, epoch = await self._leader()
        await self.scratch.compare_clocks()
        at = self.scratch.at(await self.inflict(fault, leader))
        claim = await self._first_claim(epoch)
        await self.heal(fault, leader)
        gap_s = (claim.at - at).total_seconds()
        return Round(number, fault, leader.name, epoch, claim.node, claim.epoch, gap_s)

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

    async def ready(self, within_s: float = READY_S) -> None:
        """Until one leads and all others stand by.

        Raises:
            EdgeError: They did not in time, or one ended by itself.
        """
        await within(within_s, self._all_there, "not all nodes stood by")

    async def _all_there(self) -> bool:
        if dead := self.cluster.dead():
            raise EdgeError(f"{dead[0].name} ended by itself: {dead[0].last_words()}")
        leading, waiting = await self.scratch.standing_by()
        return leading and waiting >= len(self.cluster.nodes) - 1

    async def _leader(self) -> tuple[Node, int]:
        found = await self.scratch.leader()
        if found is None:
            raise EdgeError("nobody has ever led")
        return self.cluster.nodes[found[0]], found[1]

    async def _first_claim(self, epoch: int) -> Claim:
        found: list[Claim] = []

        async def claimed() -> bool:
            if claim := await self.scratch.first_claim(epoch):
                found.append(claim)
            return bool(found)

        await within(CLAIM_S, claimed, "no other node took over")
        return found[0]


async def within(most_s: float, fact: Fact, otherwise: str) -> None:
    """Until it is so.

    Raises:
        EdgeError: It was not so in time.
    """
    with trio.move_on_after(most_s):
        await polled(fact)
        return
    raise EdgeError(f"{otherwise} within {most_s:g} s")


async def polled(fact: Fact, every_s: float = POLL_S) -> None:
    """Until it is so; the caller bounds it. A ledger and a process of another's cannot ring a bell of ours."""
    while not await fact():  # noqa: ASYNC110
        await trio.sleep(every_s)
