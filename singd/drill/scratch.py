"""The scratch schema: a ledger of its own in the operator's database, made for one drill and dropped after it.

It is a whole ledger, made by the same migrations as the real one, so leadership, fence and locks are the real ones;
locks of two ledgers in one database are kept apart by the schema's name. Nothing outside it is touched.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import trio

from singd.drill.tally import Row, Try
from singd.edges.postgres import keys
from singd.edges.postgres.failure import PostgresError, translate
from singd.edges.postgres.migrate import migrate
from singd.edges.postgres.pool import SESSION, connect
from singd.edges.postgres.wire import TrioConnection
from singd.errors import EdgeError, SingdError

PREFIX = "singd_drill_"
SAMPLES = 7
"""Comparisons of the clocks; the one with the shortest way counts."""
_SESSION = {**SESSION, "statement_timeout": "60s", "lock_timeout": "20s"}
_CALL_S = 70.0

_NOW = "SELECT clock_timestamp()"
_LEADER = "SELECT node, epoch FROM leader WHERE epoch > 0"
_STANDING_BY = """
SELECT count(*) FILTER (WHERE granted), count(DISTINCT pid) FILTER (WHERE NOT granted) FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND classid = %s::bigint::oid AND objid = %s::bigint::oid
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
_FIRST_CLAIM = """
SELECT node, epoch, claimed_at FROM attempt
WHERE (SELECT epoch FROM leader) > %(after)s AND epoch > %(after)s ORDER BY claimed_at LIMIT 1"""
_CURSORS = "SELECT schedule, due_at FROM cursor WHERE owner = 'cluster'"
_OPEN = """
SELECT count(*) FROM occurrence o LEFT JOIN attempt a ON a.occurrence_id = o.id AND a.finished_at IS NULL
WHERE o.due_at <= %s AND (o.verdict IS NULL OR a.number IS NOT NULL)"""
_HELD_UP = """
SELECT count(DISTINCT o.schedule) FROM attempt a JOIN occurrence o ON o.id = a.occurrence_id
WHERE a.finished_at IS NULL AND a.claimed_at < clock_timestamp() - interval '2 s'"""
_ROWS = "SELECT schedule, due_at, due_until, count, verdict, epoch, recorded_at FROM occurrence"
_TRIES = """
SELECT o.schedule, o.due_at, a.number, a.epoch, a.state, a.claimed_at, a.started_at IS NOT NULL
FROM attempt a JOIN occurrence o ON o.id = a.occurrence_id"""
_OLD = "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s) AND nspname <> %s ORDER BY 1"


@dataclass(frozen=True, slots=True)
class Login:
    """How to reach the database; credentials in it, never shown.

    Attributes:
        owner: May create a schema.
        runtime: What the daemons log in with; `role` is its name where it needs rights granted.
        where: The database, for people.
    """

    owner: str
    runtime: str
    where: str
    role: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The first claim of a new term."""

    node: str
    epoch: int
    at: datetime


class MayNot(SingdError):
    """The login may not make a schema."""

    exit = 77


class Scratch:
    """One schema and a session to look at it with. Life: `make`, questions, `drop`."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self.schema = PREFIX + secrets.token_hex(4)
        self._session: TrioConnection | None = None
        self.offset = timedelta()
        self.clock_s = 0.0

    async def make(self) -> None:
        """Create the schema with a ledger in it.

        Raises:
            MayNot: The login has no right to.
            EdgeError: No database, or one that is too old.
        """
        try:
            await migrate(self.login.owner, self.schema, self.login.role)
            self._session = await connect(self.login.owner, self.schema, "drill", _SESSION)
        except PostgresError as error:
            if error.sqlstate == "42501":
                raise self._may_not() from None
            raise
        except psycopg.Error as error:
            raise translate(error, "connecting to the database") from error
        await self.compare_clocks()

    def _may_not(self) -> MayNot:
        return MayNot(
            "this login may not create a schema in its database, which a drill needs for its scratch ledger",
            cure="GRANT CREATE ON DATABASE … TO the login of [database] url, or name another: singd drill --url postgresql://…",
        )

    async def older(self) -> Sequence[str]:
        """Schemas that earlier drills could not drop, or that drills of this moment use."""
        return [row[0] for row in await self._ask(_OLD, (PREFIX, self.schema))]

    async def compare_clocks(self) -> None:
        """Learn how far the database's clock is ahead of ours, and how exactly that is known."""
        best = float("inf")
        for _ in range(SAMPLES):
            sent = time.time()
            there = (await self._ask(_NOW))[0][0]
            way = time.time() - sent
            if way < best:
                best = way
                self.offset = there - datetime.fromtimestamp(sent + way / 2, UTC)
        self.clock_s = max(self.clock_s, best / 2)

    def at(self, local: float) -> datetime:
        """A moment of this machine's clock on the database's."""
        return datetime.fromtimestamp(local, UTC) + self.offset

    async def leader(self) -> tuple[str, int] | None:
        """(node, epoch) of the last election; None before the first."""
        rows = await self._ask(_LEADER)
        return (rows[0][0], rows[0][1]) if rows else None

    async def standing_by(self) -> tuple[bool, int]:
        """Whether somebody holds the leader's lock, and how many wait for it."""
        granted, waiting = (await self._ask(_STANDING_BY, keys.halves(keys.leader_key(self.schema))))[0]
        return granted > 0, waiting

    async def first_claim(self, after: int) -> Claim | None:
        """The first claim of a term newer than `after`, if there is one yet."""
        rows = await self._ask(_FIRST_CLAIM, {"after": after})
        return Claim(*rows[0]) if rows else None

    async def cursors(self) -> dict[str, datetime]:
        """Schedule -> the last instant dealt with."""
        return dict(await self._ask(_CURSORS))

    async def open(self, until: datetime) -> int:
        """How many instants up to this one still wait, or run."""
        return int((await self._ask(_OPEN, (until,)))[0][0])

    async def held_up(self) -> int:
        """Of how many schedules a run has been going on for two seconds, which none does by itself."""
        return int((await self._ask(_HELD_UP))[0][0])

    async def read(self) -> tuple[Sequence[Row], Sequence[Try]]:
        """Everything, at one moment."""
        rows = [Row(*row) for row in await self._ask(_ROWS)]
        return rows, [Try(*row) for row in await self._ask(_TRIES)]

    async def drop(self) -> None:
        """Drop the schema, on a new session: the old one may be what failed.

        Raises:
            EdgeError: It is still there.
        """
        self.close()
        try:
            session = await connect(self.login.owner, self.schema, "drill", _SESSION)
            try:
                await session.execute(f'DROP SCHEMA IF EXISTS "{self.schema}" CASCADE'.encode())
            finally:
                session.drop()
        except psycopg.Error as error:
            raise self.remains(str(error)) from error

    def remains(self, why: str) -> EdgeError:
        """The error that says how to drop it by hand."""
        text = " ".join(why.split())
        return EdgeError(
            f"schema {self.schema} is still there: {text}", cure=f"DROP SCHEMA {self.schema} CASCADE"
        )

    def close(self) -> None:
        """Close the session; never waits."""
        session, self._session = self._session, None
        if session is not None:
            session.drop()

    async def _ask(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        if self._session is None:
            raise PostgresError("the drill's session is closed")
        try:
            with trio.fail_after(_CALL_S):
                if self._session.closed:  # an interruption in the middle of a question closes its connection
                    self._session = await connect(self.login.owner, self.schema, "drill", _SESSION)
                return await (await self._session.execute(sql.encode(), values)).fetchall()
        except psycopg.Error as error:
            raise translate(error, "asking the scratch ledger") from error
        except trio.TooSlowError:
            raise PostgresError("the scratch ledger did not answer in time") from None
