"""How a wish is put to the cluster: written down, waited for, and told of while nobody has taken it.

One answer on the control socket has 5 s in all, so the waits here share a deadline: the ledger has to take the wish by
`LEDGER_S`, an answer is waited for until `ANSWER_S`, both counted from the request's arrival.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from difflib import get_close_matches
from typing import Any
from uuid import uuid4

import trio

from singd.answers import text
from singd.byhand import Answer
from singd.control import word
from singd.core.values import CLUSTER, Override, Verb, Wish
from singd.errors import EdgeError, SingdError
from singd.ports import Overrides
from singd.views import BadRequest, DaemonView, LedgerView, NotFound

ANSWER_S = 3.0
LEDGER_S = 3.5
FACTS_S = 0.7
"""For what an answer tells beside: it is told without where the ledger is slow."""
SUCCESSOR_S = 4.2
POLL_FIRST_S, POLL_MOST_S = 0.01, 0.2
SUCCESSOR_POLL_S = 0.05
REQUEST_CHARS = 200


class Unsure(SingdError):
    """The ledger was asked and did not answer: the wish may be there, or not."""

    exit = 75


class Asking:
    """One request of an operator; made when it arrives."""

    def __init__(self, daemon: DaemonView, ledger: LedgerView, overrides: Overrides) -> None:
        self._node = daemon.snapshot().node
        self._ledger = ledger
        self._overrides = overrides
        self._began = trio.current_time()

    @asynccontextmanager
    async def ledger_near(self) -> AsyncIterator[None]:
        """What is done inside needs the ledger, in time."""
        try:
            with trio.fail_at(self._began + LEDGER_S):
                yield
        except trio.TooSlowError:
            raise Unsure(
                "the ledger did not answer in time: nobody knows whether this was asked",
                cure="`singd status`; asking the same again does no harm",
            ) from None
        except EdgeError as error:
            raise EdgeError(
                f"the ledger cannot be reached: {error}", cure=error.cure or "`singd status`"
            ) from error

    async def ask(
        self,
        request: Mapping[str, Any],
        verb: Verb,
        target: str,
        owner: str = CLUSTER,
        until: datetime | None = None,
    ) -> Override:
        """Write it down; asked again with the same id it is the same wish, and nothing else."""
        identity = word(request, "request", "") or str(uuid4())
        if len(identity) > REQUEST_CHARS:
            raise BadRequest(f"a request's id has at most {REQUEST_CHARS} characters")
        actor = f"uid {request.get('peer_uid', '?')} on {self._node}"
        wish = Wish(verb, target, identity, actor, owner, until, word(request, "note", ""))
        asked = await self._overrides.ask(wish)
        if (asked.wish.verb, asked.wish.target, asked.wish.owner) != (verb, target, owner):
            raise BadRequest(
                f"request {identity} was {asked.wish.verb} {asked.wish.target}: another wish needs another id"
            )
        return asked

    async def answer(self, asked: Override) -> Answer | None:
        """What became of it, if anybody says so in time."""
        wait_s = POLL_FIRST_S
        try:
            with trio.move_on_at(self._began + ANSWER_S):
                while (answer := await self._overrides.answer(asked.number)) is None:
                    await trio.sleep(wait_s)
                    wait_s = min(wait_s * 1.5, POLL_MOST_S)
                return answer
        except EdgeError:
            pass  # the wish stands, and what it waits for is told
        return None

    async def withdraw(self, asked: Override) -> None:
        """Nobody is to take it any more."""
        await self._overrides.take(asked.number, {"refused": "nobody answered in time"})

    async def check_node(self, name: str) -> None:
        """NotFound where no node ever had this name."""
        if name in ("", CLUSTER, self._node):
            return
        known = [node.name for node in (await self._ledger.cluster()).nodes]
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise NotFound(
                f"there is no node {name!r}",
                cure=f"did you mean {close[0]}?" if close else "`singd status` has them all",
            )

    async def waits_for(self, owner: str) -> str:
        """Whose business it is, in words."""
        if owner != CLUSTER:
            return f"node {owner}"
        try:
            with trio.move_on_after(FACTS_S):
                leading = (await self._ledger.cluster()).leading
                return f"the leader, {leading.node}" if leading else "a leader: nobody leads at present"
        except EdgeError:
            pass  # whoever it is, it is waited for
        return "a leader"

    async def successor(self, epoch: int) -> dict[str, Any]:
        """Who leads after that term; "" where nobody does in time."""
        try:
            with trio.move_on_at(self._began + SUCCESSOR_S):
                while True:
                    leading = (await self._ledger.cluster()).leading
                    if leading and leading.epoch > epoch:
                        return {"leader": leading.node, "leader_epoch": leading.epoch}
                    await trio.sleep(SUCCESSOR_POLL_S)
        except EdgeError:
            pass  # it resigned; `singd status` tells who follows
        return {"leader": "", "leader_epoch": None}


def told(asked: Override) -> dict[str, Any]:
    """The wish as an answer tells it."""
    wish = asked.wish
    return {"request": wish.request, "asked_at": text(asked.asked_at), "actor": wish.actor, "note": wish.note}
