"""Who leads: one direct session with a lease, an advisory lock, and an epoch raised by a write.

        open               campaign                       beat, each second        close
    connect,         wait_for_lock until granted,       one row from `prove`,     drop the socket:
    probe        ──▶ epoch + 1 under the lock      ──▶  or TermLost           ──▶ the server lets
                     = a new term                                                 the lock go

An advisory lock alone is neither a lease nor a fence. What makes it safe:

* `idle_session_timeout` is the lease: the server ends a session that says nothing for `lease_s`, so a
  frozen or partitioned holder loses its locks without anybody's judgement.
* The term is the epoch, and only a write under the lock raises it: a lock taken on a standby, which
  Postgres allows, elects nobody. Every scheduling write compares the epoch (see ledger.py), so a holder
  that does not know yet that it lost is refused by Postgres itself.
* Each beat asks the server, in the same session, whether lock, epoch and backend are still ours.
* The session is never pooled and never handed back: closing the socket is the release. Behind a
  transaction pooler two daemons would share one backend, and one lock; `open` refuses that (session.py).

The leader lock is waited for a second at a time, so that a waiter that is gone does not stay in the
queue and become a leader that nobody hears from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import psycopg
import trio

from singd.edges.postgres import keys, text
from singd.edges.postgres.failure import PostgresError
from singd.edges.postgres.session import LeasedSession
from singd.errors import EdgeError, TermLost
from singd.ports import NodeInfo, Term

BEAT_S = 3.0
"""A beat that takes longer is lost: the lease runs from the moment it was sent."""


class PostgresElection:
    """`ports.Election`: the lock session of one daemon.

    Args:
        conninfo: A direct connection to the primary server.
        lease_s: Silence after which the server ends the session.
    """

    def __init__(self, conninfo: str, schema: str = "singd", lease_s: float = 5.0) -> None:
        self._session = LeasedSession(conninfo, schema, lease_s, "lock")
        self._lock = keys.leader_key(schema)
        self._node: NodeInfo | None = None
        self.skew_s = 0.0

    async def open(self, node: NodeInfo) -> None:
        """See `ports.Election`. EdgeError names a standby, a pooler, or a schema that is missing, old or newer."""
        self._node = replace(node, name=text.clean(node.name))
        with self._session.told("opening the lock session"):
            await self._session.open(self._node.name)

    async def campaign(self) -> Term:
        """See `ports.Election`. EdgeError if the session ends while waiting."""
        with self._session.told("campaigning"):
            while not (await self._session.ask("wait_for_leader", {"key": self._lock}))[0][0]:
                pass  # a second at a time; each answer also renews the lease
            elected = await self._session.ask("elect", self._identity())
            if not elected:
                raise PostgresError("campaigning: the lock was granted to another session than this one")
            return Term(elected[0][0], self._session.lease_s)

    async def beat(self, term: Term) -> None:
        """See `ports.Election`. Any failure is TermLost: what cannot be proved is over."""
        try:
            with trio.fail_after(min(BEAT_S, self._session.lease_s)):
                proved = await self._session.ask("prove", {**self._identity(), "epoch": term.epoch})
        except (psycopg.Error, trio.TooSlowError, EdgeError) as error:
            self._session.drop()
            raise TermLost(
                f"epoch {term.epoch}: the lock session failed ({error or 'no answer in time'})"
            ) from error
        if not proved:
            self._session.drop()
            raise TermLost(f"epoch {term.epoch} is over: the server no longer grants its lock and epoch")

    async def close(self) -> None:
        """See `ports.Election`."""
        self._session.drop()

    def _identity(self) -> Mapping[str, Any]:
        assert self._node is not None, "open() comes first"
        classid, objid = keys.halves(self._lock)
        return {"process": self._node.process, "name": self._node.name, "classid": classid, "objid": objid}
