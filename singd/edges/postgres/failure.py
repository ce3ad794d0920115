"""What Postgres says when it does not do its part, in the words of `singd.errors`.

| psycopg says | we say | and |
|---|---|---|
| the connection broke, server starting, stopping, full | `PostgresError` | the statement may be repeated |
| deadlock, serialization failure, lock timeout | `PostgresError` | nothing was written: repeated |
| statement timeout, disk full, no right, read-only | `PostgresError` | told at once |
| anything that only wrong code can cause | unchanged | our own bug |
"""

from __future__ import annotations

import psycopg

from singd.errors import EdgeError

BUGS = (psycopg.ProgrammingError, psycopg.IntegrityError, psycopg.DataError, psycopg.InterfaceError)
"""Errors that blame the caller of the database, but for those in `ENVIRONMENT`."""

NO_POOLER = "point [database] url at Postgres itself, or at a pooler's session-mode port"

ENVIRONMENT = {
    # A name of ours that another client's statement has, or none: the backend is shared.
    "42P05": NO_POOLER,
    "26000": NO_POOLER,
    "42501": "grant the runtime role its rights: `singd db migrate --runtime-role NAME`",
    "42P01": "run `singd db migrate`",
    "42703": "run `singd db migrate`",
    "3F000": "run `singd db migrate`",
    "3D000": "create the database, or correct [database] url",
    "25006": "point [database] url at the primary server: this one is read-only",
    "53100": "make room on the database server's disk",
    "53300": "raise max_connections, or the role's CONNECTION LIMIT",
    "28P01": "correct the password of [database] url",
    "28000": "let this role log in (pg_hba.conf)",
}
"""SQLSTATE -> cure, for failures that an operator can end."""

_REPEATABLE = {
    "40001",
    "40P01",
    "57P01",
    "57P02",
    "57P03",
    "57P05",
    "53300",
    "25P03",
    "08000",
    "08003",
    "08006",
}


class PostgresError(EdgeError):
    """Postgres is away, or refused. `sqlstate` is None where there was no answer at all."""

    def __init__(self, message: str, *, sqlstate: str | None = None, cure: str = "") -> None:
        super().__init__(message, cure=cure)
        self.sqlstate = sqlstate


def repeatable(error: psycopg.Error, broken: bool) -> bool:
    """Whether the same statement may be sent again, on another connection if this one is broken."""
    return broken or error.sqlstate in _REPEATABLE or isinstance(error, psycopg.errors.ConnectionTimeout)


def translate(error: psycopg.Error, doing: str) -> Exception:
    """The error to raise for `error` while `doing`; our own bugs come back as they are."""
    state = error.sqlstate
    if isinstance(error, BUGS) and state not in ENVIRONMENT:
        return error
    text = " ".join(str(error).split())[:500]
    return PostgresError(f"{doing}: {text}", sqlstate=state, cure=ENVIRONMENT.get(state or "", ""))
