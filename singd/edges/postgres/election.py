"""Who leads: one direct session with a lease, an advisory lock, and an epoch raised by a write.

        open               campaign                       beat, each second        close
    connect,         wait_for_lock until granted,       one row from `prove`,     drop the socket:
    probe        ──▶ epoch + 1 under the lock      ──▶  or TermLost           ──▶ the server lets
                     = a new term                                                 the lock go
                     (once: another has the newest
                      file ─▶ let go, rest, again)

An advisory lock alone is neither a lease nor a fence. What makes it safe:

* `idle_session_timeout` is the lease: the server ends a session that says nothing for `lease_s`, so a
  frozen or partitioned holder loses its locks without anybody's judgement.
* The term is the epoch, and only a write under the lock raises it: a lock taken on a standby, which
  Postgres allows, elects nobody. Every scheduling write compares the epoch (see ledger.py), so a holder
  that does not know yet that it lost is refused by Postgres itself.
* Each beat asks the server, in the same session, whether lock, epoch and backend are still ours. The answer carries
  the server's clock: a node whose own is far off would start things early, and does not lead.
* The session is never pooled and never handed back: closing the socket is the release. Behind a
  transaction pooler two daemons would share one backend, and one lock; `open` refuses that (session.py).

The leader lock is waited for a second at a time, so that a waiter that is gone does not stay in the
queue and become a leader that nobody hears from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import psycopg
import trio

from singd.core import skew
from singd.edges.clock import SystemClock
from singd.edges.postgres import keys, text
from singd.edges.postgres.failure import PostgresError
from singd.edges.postgres.session import LeasedSession
from singd.errors import EdgeError, TermLost
from singd.ports import YIELD_S, Clock, NodeInfo, Term

BEAT_S = 3.0
"""A beat that takes longer is lost: the lease runs from the moment it was sent."""


class PostgresElection:
    """`ports.Election`: the lock session of one daemon.

    Args:
        conninfo: A direct connection to the primary server.
        lease_s: Silence after which the server ends the session.
        clock: This node's, to be compared with the server's.
    """

    def __init__(
        self, conninfo: str, schema: str = "singd", lease_s: float = 5.0, clock: Clock | None = None
    ) -> None:
        self._session = LeasedSession(conninfo, schema, lease_s, "lock")
        self._clock = clock or SystemClock()
        self._lock = keys.leader_key(schema)
        self._node: NodeInfo | None = None
        self.skew_s = 0.0

    async def open(self, node: NodeInfo) -> None:
        """See `ports.Election`. EdgeError names a standby, a pooler, a schema or a clock that does not fit."""
        self._node = replace(node, name=text.clean(node.name), content_hash=text.clean(node.content_hash))
        with self._session.told("opening the lock session"):
            await self._session.open(self._node.name)
            _, refusal = await self._compared("probe", {})
            if refusal:
                raise EdgeError(refusal, cure=skew.CURE)

    async def campaign(self) -> Term:
        """See `ports.Election`. EdgeError if the session ends while waiting."""
        with self._session.told("campaigning"):
            epoch = await self._elected(may_yield=True)
            if epoch is None:
                await self._session.ask("let_go", {"key": self._lock})
                await self._rest(YIELD_S)
                epoch = await self._elected(may_yield=False)
            assert epoch is not None, "who may not yield is elected, or refused"
            return Term(epoch, self._session.lease_s)

    async def beat(self, term: Term) -> None:
        """See `ports.Election`. Any failure is TermLost: what cannot be proved is over."""
        try:
            with trio.fail_after(min(BEAT_S, self._session.lease_s)):
                proved, refusal = await self._compared("prove", {**self._identity(), "epoch": term.epoch})
        except (psycopg.Error, trio.TooSlowError, EdgeError) as error:
            self._session.drop()
            raise TermLost(
                f"epoch {term.epoch}: the lock session failed ({error or 'no answer in time'})"
            ) from error
        if not proved or refusal:
            self._session.drop()
            why = refusal or "the server no longer grants its lock and epoch"
            raise TermLost(f"epoch {term.epoch} is over: {why}", cure=skew.CURE if refusal else "")

    async def files(self) -> Mapping[str, str]:
        """See `ports.Election`."""
        with self._session.told("comparing configurations"):
            return dict(await self._session.ask("live_nodes", {}))

    async def close(self) -> None:
        """See `ports.Election`."""
        self._session.drop()

    async def _elected(self, *, may_yield: bool) -> int | None:
        """The epoch, as soon as the lock is ours; None where another node should have it."""
        while not (await self._session.ask("wait_for_lock", {"key": self._lock}))[0][0]:
            pass  # a second at a time; each answer also renews the lease
        asked = {**self._identity(), "content_hash": self._named.content_hash, "may_yield": may_yield}
        epoch, preferred = (await self._session.ask("elect", asked))[0]
        if epoch is None and not preferred:
            raise PostgresError("campaigning: the lock was granted to another session than this one")
        return None if epoch is None else int(epoch)

    async def _rest(self, seconds: float) -> None:
        """Sleep, and keep the lease."""
        naps = math.ceil(seconds / (self._session.lease_s / 3))
        for _ in range(naps):
            await trio.sleep(seconds / naps)
            await self._session.ask("keep", {})

    async def _compared(self, statement: str, values: Mapping[str, Any]) -> tuple[bool, str | None]:
        """Ask what ends with the server's clock: whether there was a row, and why this node's clock forbids to lead."""
        sent = self._clock.now()
        rows = await self._session.ask(statement, values)
        if not rows:
            return False, None
        ahead = skew.ahead(sent, self._clock.now(), rows[0][-1])
        self.skew_s = ahead.total_seconds()
        return True, skew.refusal(ahead, rows[0][-1])

    @property
    def _named(self) -> NodeInfo:
        assert self._node is not None, "open() comes first"
        return self._node

    def _identity(self) -> Mapping[str, Any]:
        classid, objid = keys.halves(self._lock)
        return {"process": self._named.process, "name": self._named.name, "classid": classid, "objid": objid}
