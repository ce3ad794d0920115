"""What one Postgres holds and grants: rows, locks with a lease, the epoch; and the faults a test asks for.

Time here is the server's: `trio.current_time()` for leases and ages, so that a mock clock drives both, and
the injected clock for what is written down.

A request is carried out when it arrives, in the timeline's task (`wire`). One that is fenced and takes time holds the
leader's row in share mode from the moment its epoch was compared until it commits, and the next election waits for it:
with a weaker lock it would commit after the takeover.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Literal, TypeVar
from uuid import uuid4

import outcome
import trio

from singd.core.values import CLUSTER, Occurrence
from singd.edges.clock import SystemClock
from singd.edges.memory.locks import Locks, Session
from singd.edges.memory.rows import Change, Row, Try
from singd.edges.memory.wire import PENDING, Call, Link, Timeline, Unanswered
from singd.errors import EdgeError, TermLost
from singd.ports import Clock, NodeInfo, Term

__all__ = ["Change", "Link", "MemoryDatabase", "Row", "Session", "Try"]

T = TypeVar("T")


class MemoryDatabase(Locks):
    """One server with one ledger; any number of daemons share the object.

    Args:
        clock: Says what time is written into rows.
        latency_s: How long each answer is on its way.
    """

    def __init__(
        self, clock: Clock | None = None, latency_s: float = 0.0, timeline: Timeline | None = None
    ) -> None:
        super().__init__(clock or SystemClock(), timeline or Timeline())
        self.latency_s = latency_s
        self.up = True
        self.generations: dict[str, int] = {}
        self.in_force = ""
        self.triggers: dict[str, str] = {}
        self.cursors: dict[str, datetime] = {}
        self.rows: dict[int, Row] = {}
        self.by_identity: dict[Occurrence, Row] = {}
        self.by_token: dict[str, tuple[Row, Try]] = {}
        self.unfinished: dict[int, Row] = {}
        self.over: set[int] = set()
        self.on_over: Callable[[], None] = lambda: None
        self.next_number = 1
        self.new_token: Callable[[], str] = lambda: str(uuid4())
        self._sharing: dict[Call, Term] = {}
        self._committing: Term | None = None
        self._cuts: defaultdict[str, deque[str]] = defaultdict(deque)

    # -- faults -----------------------------------------------------------------------------------

    def stop(self) -> None:
        """The server goes down: every session ends, what is not committed is rolled back, every call fails until `start`."""
        self.up = False
        for session in list(self.sessions):
            self.end(session)
        for call in list(self._sharing):
            self._release(call)
            call.refuse(Unanswered("the server went down"))

    def start(self) -> None:
        """The server is back, with all that was committed."""
        self.up = True

    def terminate(self, node: str, *purposes: str) -> None:
        """End the sessions of a node ("lock", "name", or both), as an administrator may."""
        for session in [one for one in self.sessions if one.node.name == node]:
            if not purposes or session.purpose in purposes:
                self.end(session)

    def cut(self, operation: str, at: Literal["request", "reply"], times: int = 1) -> None:
        """Break the connection of the next calls of `operation`, before their statement arrives or after COMMIT."""
        self._cuts[operation].extend([at] * times)

    def mend(self) -> None:
        """No connection breaks any more."""
        self._cuts.clear()

    # -- requests ---------------------------------------------------------------------------------

    async def call(self, link: Link, act: Callable[[Call], T], name: str = "", term: Term | None = None) -> T:
        """Send a request and wait for its answer; `act` is carried out at the server, if it arrives.

        Args:
            link: The way of this daemon.
            act: What to do; raises what the client is to get, or returns PENDING and answers the call later.
            name: What `cut` knows it by.
            term: It is fenced: while it is carried out no election is.

        Raises:
            EdgeError: The server does not answer; `Unanswered` where the request may have arrived.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if link.dead or (not link.up and not link.patience_s):
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise EdgeError("the database does not answer")
        call = Call(self.timeline, link, act)
        arrive = partial(self._arrive, call, name, term)
        delay_s = link.there() + self.latency_s
        if delay_s > 0:
            self.timeline.at(trio.current_time() + delay_s, arrive)
        else:
            arrive()
        answer: T = await call.answered()
        return answer

    def _arrive(self, call: Call, name: str, term: Term | None) -> None:
        if not call.link.up:
            call.give_up_later()
        call.link.pass_on(partial(self._carry_out, call, name, term))

    async def reach(self, link: Link) -> None:
        """Ask for nothing; EdgeError if the server does not answer."""
        await self.call(link, lambda call: None)

    def _carry_out(self, call: Call, name: str, term: Term | None) -> None:
        cuts = self._cuts.get(name)
        cut = cuts.popleft() if cuts else ""
        if not self.up:
            call.refuse(EdgeError("the database does not answer"))
        elif cut == "request":
            call.refuse(Unanswered("the connection broke"))
        elif term is not None and (takes_s := call.link.takes()) > 0:
            self._hold(call, term, takes_s)
        else:
            result = outcome.capture(call.act, call)
            if cut == "reply":
                call.refuse(Unanswered("the connection broke"))
            elif not (isinstance(result, outcome.Value) and result.value is PENDING):
                call.answer(result)

    def _hold(self, call: Call, term: Term, takes_s: float) -> None:
        """The fence is passed now, the commit comes later; in between the leader's row is held."""
        try:
            self.fence(term)
        except TermLost as error:
            call.answer(outcome.Error(error))
            return
        self._sharing[call] = term
        self.timeline.at(trio.current_time() + takes_s, partial(self._commit, call))

    def _commit(self, call: Call) -> None:
        if call in self._sharing:
            self._committing = self._sharing[call]
            result = outcome.capture(call.act, call)
            self._committing = None
            self._release(call)
            call.answer(result)

    def _release(self, call: Call) -> None:
        self._sharing.pop(call, None)
        self.elect_waiting()

    def held(self) -> bool:
        """Whether the leader's row is held in share mode: its update waits."""
        return bool(self._sharing)

    # -- the fence --------------------------------------------------------------------------------

    def fence(self, term: Term) -> NodeInfo:
        """Who leads in this term.

        Raises:
            TermLost: Nobody does: there is a newer epoch.
        """
        passed = self._committing is not None and self._committing.epoch == term.epoch
        if self.elected is None or not (passed or term.epoch == self.epoch):
            raise TermLost(f"epoch {term.epoch} is over: the ledger has another leader")
        return self.elected

    # -- rows -------------------------------------------------------------------------------------

    def numbers(self, count: int) -> list[int]:
        """Numbers for rows to come."""
        first, self.next_number = self.next_number, self.next_number + count
        return list(range(first, first + count))

    def keep(self, row: Row) -> None:
        """Remember whether the row still has something to come; `over` are those that have not, for a local journal."""
        if row.waits or row.live:
            self.unfinished[row.number] = row
            return
        self.unfinished.pop(row.number, None)
        if row.occurrence.owner != CLUSTER:
            self.over.add(row.number)
            self.on_over()

    def found(self, tokens: Iterator[str]) -> Iterator[tuple[Row, Try]]:
        """Rows and attempts of the tokens that the ledger knows."""
        return (self.by_token[token] for token in tokens if token in self.by_token)
