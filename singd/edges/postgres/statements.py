"""The SQL of this package: one file a statement, read once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import trio

from singd.edges.postgres.pool import CALL_S
from singd.edges.postgres.wire import TrioConnection

Row = tuple[Any, ...]


@cache
def statement(name: str) -> bytes:
    """The text of `sql/<name>.sql`, without its comments (they are for readers, not for the server)."""
    text = (resources.files("singd.edges.postgres") / "sql" / f"{name}.sql").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return "\n".join(lines).encode()


async def run(connection: TrioConnection, name: str, values: Mapping[str, Any]) -> list[Row]:
    """Execute a statement, prepared, and fetch its rows.

    Raises:
        psycopg.Error: As from the server.
        trio.TooSlowError: No answer within CALL_S; the connection is closed then.
    """
    try:
        with trio.fail_after(CALL_S):
            cursor = await connection.execute(statement(name), values, prepare=True)
            return await cursor.fetchall() if cursor.description else []
    except trio.TooSlowError:
        connection.drop()
        raise
