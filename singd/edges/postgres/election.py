"""Who leads: one direct session with a lease, an advisory lock, and an epoch raised by a write.

        open                     campaign                       beat, each second        close
    connect, probe,      wait_for_lock until granted,       one row from `prove`,     drop the socket:
    take the name,   ──▶ epoch + 1 under the lock      ──▶  or TermLost           ──▶ the server lets
    register             = a new term                                                 both locks go

An advisory lock alone is neither a lease nor a fence. What makes it safe:

* `idle_session_timeout` is the lease: the server ends a session that says nothing for `lease_s`, so a
  frozen or partitioned holder loses its locks without anybody's judgement.
* The term is the epoch, and only a write under the lock raises it: a lock taken on a standby, which
  Postgres allows, elects nobody. Every scheduling write compares the epoch (see ledger.py), so a holder
  that does not know yet that it lost is refused by Postgres itself.
* Each beat asks the server, in the same session, whether lock, epoch and backend are still ours.
* The session is never pooled and never handed back: closing the socket is the release. Behind a
  transaction pooler two daemons would share one backend, and one lock; `open` refuses that by name.

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
from singd.edges.postgres.failure import PostgresError, translate
from singd.edges.postgres.migrate import MINIMUM_SERVER, require_current
from singd.edges.postgres.pool import SESSION, checked_schema, connect
from singd.edges.postgres.statements import Row, run
from singd.edges.postgres.wire import TrioConnection
from singd.errors import EdgeError, NameTaken, TermLost
from singd.ports import NodeInfo, Registration, Term

BEAT_S = 3.0
"""A beat that takes longer is lost: the lease runs from the moment it was sent."""


class PostgresElection:
    """`ports.Election`: the lock session of one daemon.

    Args:
        conninfo: A direct connection to the primary server.
        lease_s: Silence after which the server ends the session.
    """

    def __init__(self, conninfo: str, schema: str = "singd", lease_s: float = 5.0) -> None:
        self._conninfo = conninfo
        self._schema = checked_schema(schema)
        self._lease_s = lease_s
        self._lock = keys.leader_key(schema)
        self._session: TrioConnection | None = None
        self._node: NodeInfo | None = None
        self._term: Term | None = None

    async def open(self, node: NodeInfo) -> Registration:
        """See `ports.Election`.

        Raises:
            NameTaken: A live daemon has this name.
            EdgeError: No database, or one that cannot elect: a standby, a pooler in between, a schema that
                is missing, old or newer than this program.
        """
        await self.close()
        self._node = node = replace(
            node, name=text.clean(node.name), role=text.clean(node.role), version=text.clean(node.version)
        )
        try:
            self._session = await connect(self._conninfo, self._schema, f"lock {node.name}", self._settings())
            await self._refuse_unfit(self._session)
            return await self._register(self._session, node)
        except psycopg.Error as error:
            raise self._failed(error, "opening the lock session") from error
        except trio.TooSlowError:
            raise self._silent("opening the lock session") from None
        except BaseException:
            await self.close()
            raise

    async def campaign(self) -> Term:
        """See `ports.Election`. EdgeError if the session ends while waiting."""
        try:
            while not (await self._ask("wait_for_leader", {"key": self._lock}))[0][0]:
                pass  # a second at a time; each answer also renews the lease
            elected = await self._ask("elect", self._identity())
        except psycopg.Error as error:
            raise self._failed(error, "campaigning") from error
        except trio.TooSlowError:
            raise self._silent("campaigning") from None
        if not elected:
            raise self._gone(
                PostgresError("campaigning: the lock was granted to another session than this one")
            )
        self._term = Term(elected[0][0], self._lease_s)
        return self._term

    async def beat(self, term: Term) -> None:
        """See `ports.Election`. Any failure is TermLost: what cannot be proved is over."""
        try:
            with trio.fail_after(min(BEAT_S, self._lease_s)):
                proved = await self._ask("prove", {**self._identity(), "epoch": term.epoch})
        except (psycopg.Error, trio.TooSlowError, EdgeError) as error:
            self._drop()
            raise TermLost(
                f"epoch {term.epoch}: the lock session failed ({error or 'no answer in time'})"
            ) from error
        if not proved:
            self._drop()
            raise TermLost(f"epoch {term.epoch} is over: the server no longer grants its lock and epoch")

    async def keep(self) -> None:
        """Renew the lease while not campaigning, so that the name stays ours.

        Raises:
            EdgeError: The session is gone, and the name with it.
        """
        try:
            await self._ask("keep", {})
        except psycopg.Error as error:
            raise self._failed(error, "keeping the node's name") from error
        except trio.TooSlowError:
            raise self._silent("keeping the node's name") from None

    async def close(self) -> None:
        """See `ports.Election`."""
        self._drop()

    def _drop(self) -> None:
        session, self._session, self._term = self._session, None, None
        if session is not None:
            session.drop()

    def _settings(self) -> Mapping[str, str]:
        lease = f"{round(self._lease_s * 1000)}ms"
        # The same few statements for days: here a plan made once is the right plan.
        return {**SESSION, "idle_session_timeout": lease, "plan_cache_mode": "auto"}

    async def _refuse_unfit(self, session: TrioConnection) -> None:
        if session.info.server_version < MINIMUM_SERVER:
            raise EdgeError("this PostgreSQL is too old", cure="use PostgreSQL 14 or newer")
        read_only, backend, lease = (await run(session, "probe", {}))[0]
        if read_only:
            raise EdgeError(
                "the ledger's server is a standby or read-only", cure="point [database] url at the primary"
            )
        # A pooler invents the pid of the protocol, and may forget the settings of the session.
        if backend != session.info.backend_pid or lease in ("0", "0ms"):
            raise EdgeError(
                "a connection pooler stands between singd and Postgres: locks do not hold there",
                cure="point [database] url at Postgres itself, or at a pooler's session-mode port",
            )
        await require_current(session, self._schema)

    async def _register(self, session: TrioConnection, node: NodeInfo) -> Registration:
        name_key = keys.node_key(self._schema, node.name)
        async with session.transaction():
            await run(session, "serialise", {"key": keys.register_key(self._schema)})
            # Taken inside: of two that start at once, the second sees the first one's name as live.
            if not (await run(session, "take_name", {"key": name_key}))[0][0]:
                raise NameTaken(
                    f"node {node.name!r} is already running",
                    cure="give this daemon another [node] name, or end the other",
                )
            rows = await run(
                session,
                "register",
                {**self._identity(), "key": name_key, "role": node.role, "version": node.version},
            )
        return Registration(startup_at=rows[0][0])

    def _identity(self) -> dict[str, Any]:
        assert self._node is not None, "open() comes first"
        classid, objid = keys.halves(self._lock)
        return {"process": self._node.process, "name": self._node.name, "classid": classid, "objid": objid}

    async def _ask(self, name: str, values: Mapping[str, Any]) -> list[Row]:
        if self._session is None:
            raise PostgresError("the lock session is closed")
        return await run(self._session, name, values)

    def _failed(self, error: psycopg.Error, doing: str) -> Exception:
        return self._gone(translate(error, doing))

    def _silent(self, doing: str) -> Exception:
        return self._gone(PostgresError(f"{doing}: no answer in time"))

    def _gone(self, error: Exception) -> Exception:
        self._drop()
        return error
