"""A direct session with a server-enforced lease: what a lock of ours may be held in.

Never pooled and never handed back: closing the socket is the release. The server ends the session after `lease_s` of
silence (`idle_session_timeout`), so a frozen or partitioned holder loses its locks without anybody's judgement.
`open` refuses by name where a lock would mean nothing: a standby, a transaction pooler, a schema of another version.

A pooler is recognised in two steps. Any of them invents the process id that the protocol tells the client; one in
transaction mode also serves two statements of a session from two backends, or two sessions from one. In session mode a
backend belongs to one client until that client leaves, and is cleaned then: a lock holds there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
import trio

from singd.edges.postgres.failure import NO_POOLER, PostgresError, translate
from singd.edges.postgres.migrate import MINIMUM_SERVER, require_current
from singd.edges.postgres.pool import CALL_S, SESSION, checked_schema, connect
from singd.edges.postgres.statements import Row, run, statement
from singd.edges.postgres.wire import TrioConnection
from singd.errors import EdgeError

LOOKS = 30
"""How often a pooler is tried: with others at work beside us, one look in a few proves nothing."""


class LeasedSession:
    """One such session, opened again and again.

    Args:
        conninfo: A direct connection to the primary server.
        lease_s: Seconds of silence after which the server ends it.
        purpose: Goes into `application_name`: "lock" or "name".
    """

    def __init__(self, conninfo: str, schema: str, lease_s: float, purpose: str) -> None:
        self._conninfo = conninfo
        self.schema = checked_schema(schema)
        self.lease_s = lease_s
        self._purpose = purpose
        self.connection: TrioConnection | None = None

    async def open(self, name: str) -> TrioConnection:
        """Connect and refuse what is unfit.

        Raises:
            psycopg.Error, trio.TooSlowError: As from the server; see `told`.
            EdgeError: A server or a way to it that cannot hold our locks.
        """
        self.drop()
        self.connection = await connect(
            self._conninfo, self.schema, f"{self._purpose} {name}", self._settings()
        )
        await self._refuse_unfit(self.connection)
        return self.connection

    async def ask(self, statement: str, values: Mapping[str, Any]) -> list[Row]:
        """Run a statement in it.

        Raises:
            PostgresError: The session is closed.
            psycopg.Error, trio.TooSlowError: As from the server; see `told`.
        """
        if self.connection is None:
            raise PostgresError(f"the {self._purpose} session is closed")
        return await run(self.connection, statement, values)

    def drop(self) -> None:
        """Close the socket now; never waits, never raises, may be repeated."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.drop()

    @contextmanager
    def told(self, doing: str) -> Iterator[None]:
        """Whatever goes wrong inside ends the session, and is told as EdgeError if the environment is to blame."""
        try:
            yield
        except psycopg.Error as error:
            self.drop()
            raise translate(error, doing) from error
        except trio.TooSlowError:
            self.drop()
            raise PostgresError(f"{doing}: no answer in time") from None
        except BaseException:
            self.drop()
            raise

    def _settings(self) -> Mapping[str, str]:
        lease = f"{round(self.lease_s * 1000)}ms"
        # The same few statements for days: here a plan made once is the right plan.
        return {**SESSION, "idle_session_timeout": lease, "plan_cache_mode": "auto"}

    async def _refuse_unfit(self, connection: TrioConnection) -> None:
        if connection.info.server_version < MINIMUM_SERVER:
            raise EdgeError("this PostgreSQL is too old", cure="use PostgreSQL 14 or newer")
        if (await _row(connection, "probe"))[0]:
            raise EdgeError(
                "the ledger's server is a standby or read-only", cure="point [database] url at the primary"
            )
        await refuse_pooled(connection, self._conninfo, self.schema, self._purpose)
        await require_current(connection, self.schema)


async def refuse_pooled(connection: TrioConnection, conninfo: str, schema: str, purpose: str) -> None:
    """Refuse a way to the server on which a session is not one session. Its lease must have been set.

    Raises:
        EdgeError: A pooler shares its backend, or forgets what was set.
    """
    _, backend, lease, _ = await _row(connection, "probe")
    pooled = backend != connection.info.backend_pid
    if lease in ("0", "0ms") or (pooled and await _is_shared(connection, conninfo, schema, purpose, backend)):
        raise EdgeError(
            "a connection pooler stands between singd and Postgres: locks do not hold there", cure=NO_POOLER
        )


async def _is_shared(
    connection: TrioConnection, conninfo: str, schema: str, purpose: str, backend: int
) -> bool:
    """Whether this session's backend serves others between its statements: seen sooner or later if it does."""
    other = await connect(conninfo, schema, f"{purpose} probe")
    try:
        for _ in range(LOOKS):
            async with other.transaction():
                if await _backend(other) == backend or await _backend(connection) != backend:
                    return True
    finally:
        other.drop()
    return False


async def _backend(connection: TrioConnection) -> int:
    return int((await _row(connection, "which_backend"))[0])


async def _row(connection: TrioConnection, name: str) -> Row:
    """Not prepared: on a shared backend another client's statement may have the same name."""
    with trio.fail_after(CALL_S):
        row = await (await connection.execute(statement(name), prepare=False)).fetchone()
    assert row is not None
    return tuple(row)
