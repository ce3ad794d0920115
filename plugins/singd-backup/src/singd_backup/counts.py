"""How many rows each table has, at one snapshot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import sql

from singd.plugin import Database

TABLES = (files("singd_backup") / "sql" / "tables.sql").read_text()


@contextlib.contextmanager
def snapshot(database: Database) -> Iterator[tuple[Any, str]]:
    """A read-only transaction, and the name under which pg_dump can see exactly what it sees."""
    with database.connect() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        # The session idles while pg_dump starts. Rows that a policy hides would be missing from both
        # the dump and the count: an error is the better answer.
        connection.execute("set local idle_in_transaction_session_timeout = 0")
        connection.execute("set local row_security = off")
        [name] = connection.execute("select pg_export_snapshot()").fetchone()
        yield connection, name


def count_rows(connection: Any) -> dict[str, int]:
    """Rows of each table, `schema.table`."""
    return {
        f"{schema}.{table}": _count(connection, schema, table) for schema, table in connection.execute(TABLES)
    }


def database_bytes(connection: Any) -> int:
    """What the database takes on the server."""
    [size] = connection.execute("select pg_database_size(current_database())").fetchone()
    return int(size)


def _count(connection: Any, schema: str, table: str) -> int:
    query = sql.SQL("select count(*) from only {}").format(sql.Identifier(schema, table))
    [rows] = connection.execute(query).fetchone()
    return int(rows)
