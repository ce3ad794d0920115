"""Presence: the node's name among live nodes, and with it the right to run anything at all.

    away ──── the ledger was not reached (yet, or any more): node work runs, cluster work waits
    here ──── the name is ours: node work, and the campaign
    taken ─── a live daemon has the name: neither scope runs until it is free

A name that was taken stays so until the ledger itself says otherwise: that it cannot be asked is no answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from singd.errors import EdgeError, NameTaken
from singd.events import Emit, LedgerAway, NameInUse, Registered
from singd.leadership import RETRY_FIRST_S, RETRY_MOST_S, Prepare
from singd.ports import NodeInfo, Presence

KEEP_S = 1.0
"""Between two renewals of the lease on the name."""

RETRY_TAKEN_S = 1.0
"""Longest pause before a name that was taken is asked for again. A new process often starts before the old one has quite
ended: nothing at all runs here meanwhile, and asking is one short session for the server."""

SLOW_S = 2.0
"""A renewal that takes so much longer than it listens met a server that stood still, for others too."""

Serve = Callable[[], Awaitable[None]]


class Attendance:
    """Keeps the name and serves while nobody else has it; `attend` is its life.

    Args:
        presence: The name's session.
        node: Who this daemon is.
        prepare: Run before each registration (migrations); raises EdgeError where cluster work has to wait.
        serve: Everything that needs the name: node work and the campaign.
        heard: Called whenever an operator may have asked for something.
        emit: Where events go.
    """

    def __init__(
        self,
        presence: Presence,
        node: NodeInfo,
        prepare: Prepare,
        serve: Serve,
        heard: Callable[[], None],
        emit: Emit,
    ) -> None:
        self._presence = presence
        self._node = node
        self._prepare = prepare
        self._serve = serve
        self._heard = heard
        self._emit = emit
        self._registered = trio.Event()
        self._serving: trio.CancelScope | None = None
        self._over = trio.Event()
        self._in_touch = 0.0
        self.taken = False

    @property
    def is_registered(self) -> bool:
        """Whether it has, by the last that was heard of it."""
        return self._registered.is_set()

    def in_touch_s(self) -> float:
        """For how many seconds the ledger has been answering this node without a break; 0.0 where it does not."""
        return trio.current_time() - self._in_touch if self.is_registered else 0.0

    async def registered(self) -> None:
        """Until the ledger has this node under its name; one that was registered and lost it meanwhile does not count."""
        while True:
            await self._registered.wait()
            if self._registered.is_set():
                return

    async def attend(self) -> None:
        """For ever; ends only by cancellation."""
        async with trio.open_nursery() as nursery:
            retry_s = RETRY_FIRST_S
            while True:
                try:
                    await self._once(nursery)
                except NameTaken as error:
                    retry_s = min(retry_s, RETRY_TAKEN_S)
                    await self._leave()
                    self._emit(NameInUse(str(error), retry_s, error.cure))
                except EdgeError as error:
                    retry_s = RETRY_FIRST_S if self._unregister() else retry_s
                    self._enter(nursery)
                    self._emit(LedgerAway(str(error), retry_s, error.cure))
                finally:
                    with trio.CancelScope(shield=True):
                        await self._presence.close()
                await trio.sleep(retry_s)
                retry_s = min(retry_s * 2, RETRY_MOST_S)

    async def _once(self, nursery: trio.Nursery) -> None:
        """Register, and keep the name until that fails."""
        await self._prepare()
        await self._presence.open(self._node)
        self.taken = False
        self._in_touch = trio.current_time()
        self._registered.set()
        self._emit(Registered(self._node.name))
        self._enter(nursery)
        self._heard()  # whatever was asked while this node did not listen
        while True:
            asked = trio.current_time()
            if await self._presence.keep(KEEP_S):
                self._heard()
            if trio.current_time() - asked > KEEP_S + SLOW_S:
                self._in_touch = trio.current_time()

    def _unregister(self) -> bool:
        """Whether the node was registered until now; whoever waits for its registration goes on waiting."""
        was = self._registered.is_set()
        if was:
            self._registered = trio.Event()
        return was

    def _enter(self, nursery: trio.Nursery) -> None:
        if self._serving is None and not self.taken:
            self._serving, self._over = trio.CancelScope(), trio.Event()
            nursery.start_soon(self._served, self._serving)

    async def _leave(self) -> None:
        self.taken = True
        self._unregister()
        if self._serving is not None:
            self._serving.cancel()
            await self._over.wait()

    async def _served(self, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await self._serve()
        finally:
            self._serving = None
            self._over.set()
