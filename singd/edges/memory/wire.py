"""The way to the server and back: requests that travel, are carried out, and are answered.

       client                              server                                   client
    call ──▶ on the way ──▶ arrives, holds its share lock for `takes_s`, commits ──▶ answered
                 │                                                            │
        the link is cut: it arrives                            the link is cut, or deaf: the answer
        at the heal, if that is soon                           never comes, `patience_s` ends the wait

What a client sent is carried out whether or not the client still waits: who gives up (cancelled, frozen, killed) has
an unknown commit, as with a real server. So everything at the server happens in the timeline's task, and the client
only waits. Times are trio's; nothing here reads a wall clock.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import outcome
import trio

from singd.errors import EdgeError

RETRANSMIT_S = 10.0
"""What was sent into a cut link still arrives if the link is healed so soon (`tcp_user_timeout`)."""


class Unanswered(EdgeError):
    """The connection broke, or was given up, after the request was sent: nobody knows what became of it."""


class Timeline:
    """Calls functions at their times, in order, in a task that belongs to no client."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._bell = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Call `act` at `when` of trio's clock; two of one time in the order in which they were asked for."""
        self._count += 1
        entry = (when, self._count, act)
        heapq.heappush(self._due, entry)
        if self._due[0] is entry:
            self._bell.set()
        if self._token is not (token := trio.lowlevel.current_trio_token()):
            self._token = token
            trio.lowlevel.spawn_system_task(self._serve)

    async def _serve(self) -> None:
        while True:
            self._bell = trio.Event()
            now = trio.current_time()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            with trio.move_on_at(self._due[0][0] if self._due else math.inf):
                await self._bell.wait()


@dataclass(slots=True, eq=False)
class Link:
    """The way from one daemon to the server.

    Attributes:
        up: False is a partition: nothing passes, and the server does not hear that a client closed its end.
        hears: False: what the server says is lost on the way, what the client says arrives.
        dead: The process is gone: nothing is sent any more, what was sent is still carried out.
        patience_s: How long a client waits for an answer through a cut link before it counts the connection as broken.
        there, back, takes: Seconds on the way to the server, back, and inside a statement, asked for each call.
    """

    up: bool = True
    hears: bool = True
    dead: bool = False
    patience_s: float = 0.0
    there: Callable[[], float] = field(default=lambda: 0.0)
    back: Callable[[], float] = field(default=lambda: 0.0)
    takes: Callable[[], float] = field(default=lambda: 0.0)
    _held: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def heal(self) -> None:
        """Everything passes again; what was sent not long ago arrives now."""
        self.up = self.hears = True
        held, self._held = self._held, []
        since = trio.current_time() - RETRANSMIT_S
        for sent, arrive in held:
            if sent >= since:
                arrive()

    def pass_on(self, arrive: Callable[[], None]) -> None:
        """Let the server have it: now, or when the link is healed."""
        if self.up:
            arrive()
        else:
            now = trio.current_time()
            self._held = [one for one in self._held if one[0] >= now - RETRANSMIT_S] + [(now, arrive)]


@dataclass(slots=True, eq=False)
class Call:
    """One request and the client that waits for its answer."""

    timeline: Timeline
    link: Link
    act: Callable[[Call], Any]
    task: trio.lowlevel.Task | None = None
    result: outcome.Maybe[Any] | None = None

    async def answered(self) -> Any:
        """Wait for the answer, or take the one that is there."""
        if self.result is None:
            self.task = trio.lowlevel.current_task()
            return await trio.lowlevel.wait_task_rescheduled(self.abandon)
        await trio.lowlevel.checkpoint()
        return self.result.unwrap()

    def answer(self, result: outcome.Maybe[Any]) -> None:
        """The server has done it: the client will hear of that, if it still waits and hears anything."""
        delay_s = self.link.back()
        if delay_s > 0:
            self.timeline.at(trio.current_time() + delay_s, partial(self._arrive, result))
        else:
            self._arrive(result)

    def refuse(self, error: Exception) -> None:
        """As `answer`, at once."""
        self._arrive(outcome.Error(error))

    def _arrive(self, result: outcome.Maybe[Any]) -> None:
        if not (self.link.up and self.link.hears):
            self.give_up_later()
        else:
            self._deliver(result)

    def _deliver(self, result: outcome.Maybe[Any]) -> None:
        self.result = result
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task, result)

    def give_up_later(self) -> None:
        """No answer can come: the client waits for as long as it has patience."""
        self.timeline.at(trio.current_time() + self.link.patience_s, self._give_up)

    def _give_up(self) -> None:
        if self.result is None:
            self._deliver(outcome.Error(Unanswered("the database did not answer in time")))

    def abandon(self, _: Callable[[], None]) -> trio.lowlevel.Abort:
        """The client waits no more; what it sent is on its way."""
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED


PENDING = object()
"""What a request returns that is answered later."""
