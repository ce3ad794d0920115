"""Whether a ledger can be what singd needs: `singd doctor`'s questions to Postgres. Nothing is written.

    connect ─ fail: one finding, with Postgres's own words and their cure
       └── server: version, primary, writable ─ a pooler in between ─ settings, connections ─ clock, way
              └── schema and rights ─ lock and notification (a scratch key, a scratch channel)

Each question is asked though others went wrong: an operator wants all of it at once.
"""

from __future__ import annotations

import secrets
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import trio

from singd.core import health, skew
from singd.core.health import Finding, ok, wrong
from singd.edges.postgres.failure import translate
from singd.edges.postgres.migrate import MINIMUM_SERVER, RIGHTS, migrations, require_current
from singd.edges.postgres.pool import SESSION, checked_schema, connect
from singd.edges.postgres.session import refuse_pooled
from singd.edges.postgres.statements import Row, statement
from singd.edges.postgres.wire import TrioConnection
from singd.errors import EdgeError

CONNECT_S = 5.0
TOTAL_S = 20.0
"""All questions together; a server that is slower than this is one finding."""
SAMPLES = 5
HEARD_S = 2.0
LEASE = "5000ms"


async def examine(conninfo: str, schema: str, where: str) -> Sequence[Finding]:
    """Every finding about the ledger.

    Args:
        conninfo: As the daemon logs in.
        where: The database, for people.
    """
    found: list[Finding] = []
    try:
        with trio.fail_after(TOTAL_S):
            connection = await _connected(conninfo, schema)
            try:
                await _ask_all(connection, conninfo, schema, where, found)
            finally:
                connection.drop()
    except (psycopg.Error, EdgeError) as error:
        found.append(_failed("ledger", error, where))
    except trio.TooSlowError:
        cure = "look at its load, and at the network between"
        found.append(wrong("ledger", f"{where} does not answer in time", cure))
    return found


async def _connected(conninfo: str, schema: str) -> TrioConnection:
    with trio.fail_after(CONNECT_S):
        connection = await connect(conninfo, schema, "doctor", {**SESSION, "idle_session_timeout": LEASE})
    connection.prepare_threshold = None  # behind a pooler another client's statement may have the same name
    return connection


async def _rows(connection: TrioConnection, name: str, values: Mapping[str, Any]) -> list[Row]:
    return await (await connection.execute(statement(name), values)).fetchall()


def _failed(check: str, error: Exception, doing: str) -> Finding:
    told = translate(error, doing) if isinstance(error, psycopg.Error) else error
    cure = getattr(told, "cure", "") or (
        "correct user, password or TLS in [database] url" if "FATAL" in str(told) else
        "start the database server, or correct [database] url"
    )  # fmt: skip
    return wrong(check, str(told), cure)


async def _ask_all(
    connection: TrioConnection, conninfo: str, schema: str, where: str, found: list[Finding]
) -> None:
    version = connection.info.server_version
    if version < MINIMUM_SERVER:
        old = f"{where}: PostgreSQL {version // 10000} is too old"
        found.append(wrong("ledger", old, "use PostgreSQL 14 or newer"))
        return
    row = (await _rows(connection, "doctor_server", {"schema": checked_schema(schema)}))[0]
    found.append(ok("ledger", f"{where}: PostgreSQL {row[0].split()[0]}, as {row[1]}"))
    found += [_primary(row), _connections(row), *health.durability(row[4])]
    questions: Mapping[str, Callable[[], Awaitable[Finding]]] = {
        "direct": partial(_direct, connection, conninfo, schema), "clock skew": partial(_clock, connection),
        "round trip": partial(_round_trip, connection),
        "schema": partial(_schema, connection, schema, row),
        "locks": partial(_lock, connection), "notifications": partial(_notified, connection),
    }  # fmt: skip
    for check, question in questions.items():
        try:
            found.append(await question())
        except psycopg.Error as error:
            if connection.closed:
                raise
            found.append(_failed(check, error, "asking"))


def _primary(row: Row) -> Finding:
    cure = "point [database] url at the primary server"
    if row[2]:
        return wrong("primary", "the server is a standby: nobody can lead there", cure)
    if row[3]:
        return wrong("primary", "the server is read-only for this login", cure)
    return ok("primary", "it is the primary, and takes writes")


async def _direct(connection: TrioConnection, conninfo: str, schema: str) -> Finding:
    try:
        await refuse_pooled(connection, conninfo, schema, "doctor")
    except EdgeError as error:
        return wrong("direct", str(error), error.cure)
    return ok(
        "direct", "a session stays one session; idle_session_timeout, which ends a dead leader's, holds"
    )


async def _clock(connection: TrioConnection) -> Finding:
    """How far the clocks are apart; the fastest answer says that best."""
    return health.clock_skew(min(await _samples(connection))[1])


async def _round_trip(connection: TrioConnection) -> Finding:
    took = [one.total_seconds() * 1000 for one, _ in await _samples(connection)]
    return health.round_trip(statistics.median(took))


async def _samples(connection: TrioConnection) -> Sequence[tuple[timedelta, timedelta]]:
    """(how long it took, by how much this clock is ahead) of a few statements."""
    samples = []
    for _ in range(SAMPLES):
        sent = datetime.now(UTC)
        server = (await _rows(connection, "probe", {}))[0][3]
        received = datetime.now(UTC)
        samples.append((received - sent, skew.ahead(sent, received, server)))
    return samples


def _connections(row: Row) -> Finding:
    """The server's limit or the login's own, whichever is nearer."""
    used, most, used_by_login, limit = row[5:9]
    if limit >= 0 and limit - used_by_login < most - used:
        return health.connections(used_by_login, limit)
    return health.connections(used, most)


async def _schema(connection: TrioConnection, schema: str, row: Row) -> Finding:
    may_create, there = row[9:11]
    if not there:
        if may_create:
            return ok("schema", f"{schema} is not there yet: a daemon makes it when it starts")
        return wrong(
            "schema",
            f"{schema} is not there, and this login may not create it",
            "singd db migrate --url URL_OF_ITS_OWNER",
        )
    try:
        await require_current(connection, schema)
    except EdgeError as error:
        return wrong("schema", str(error), error.cure)
    return await _rights(connection, schema, row[1])


async def _rights(connection: TrioConnection, schema: str, login: str) -> Finding:
    pairs = [
        (f"{schema}.{table}", one)
        for rights, tables in RIGHTS.items()
        for one in rights.split(", ")
        for table in tables
    ]
    values = {"tables": [table for table, _ in pairs], "rights": [right for _, right in pairs]}
    missing = [line[0] for line in await _rows(connection, "doctor_rights", values)]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        return wrong(
            "schema",
            f"this login lacks rights in {schema}: {shown}",
            f"singd db migrate --url URL_OF_ITS_OWNER --runtime-role {login}",
        )
    return ok("schema", f"{schema} is at version {len(migrations())}, and this login has its rights")


async def _lock(connection: TrioConnection) -> Finding:
    key = secrets.randbits(62)
    rows = await connection.execute("SELECT pg_try_advisory_lock(%s), pg_advisory_unlock(%s)", (key, key))
    if await rows.fetchone() == (True, True):
        return ok("locks", "advisory locks work")
    return wrong(
        "locks",
        "an advisory lock could not be taken and given back",
        "see max_locks_per_transaction; is this PostgreSQL itself?",
    )


async def _notified(connection: TrioConnection) -> Finding:
    """What operators ask of other nodes is heard by notification; a channel of our own, gone with the session."""
    channel, heard = f"singd_doctor_{secrets.token_hex(6)}", trio.Event()
    connection.add_notify_handler(lambda notification: heard.set())
    await connection.execute(f'LISTEN "{channel}"'.encode())
    await connection.execute(f'NOTIFY "{channel}"'.encode())
    with trio.move_on_after(HEARD_S):
        while not heard.is_set():
            await connection.hear()
    if heard.is_set():
        return ok("notifications", "LISTEN and NOTIFY work")
    return wrong(
        "notifications",
        f"a notification was not heard within {HEARD_S:.0f} s",
        "a pooler in between may swallow them: connect directly",
    )
