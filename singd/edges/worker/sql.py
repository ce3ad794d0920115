"""`sql = "CALL …"` on a named database: the one task of the built-in plugin. Runs in a worker.

The text is the operator's and goes to the server as it stands, without parameters and outside any transaction of
ours, so that procedures may COMMIT. If the worker dies the server notices within a second.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from singd.plugin import Context

NOTICES_MOST = 100
CHECK_INTERVAL = "1s"
"""PostgreSQL's client_connection_check_interval."""
MARGIN_MS = 2_000
"""The server's own timeout comes this much after the attempt's: it is for a worker that cannot cancel any more."""


def call(ctx: Context, *, sql: str, database: str) -> dict[str, int]:
    """Run one SQL text; answers how many rows it touched or returned."""
    import psycopg

    seen = 0

    def notice(diagnostic: psycopg.errors.Diagnostic) -> None:
        nonlocal seen
        seen += 1
        if seen <= NOTICES_MOST:
            print(f"{diagnostic.severity}: {diagnostic.message_primary}", file=sys.stderr)

    left = max(1, int((ctx.deadline - datetime.now(UTC)).total_seconds() * 1000)) + MARGIN_MS
    with psycopg.connect(
        ctx.database(database).conninfo, autocommit=True, application_name="singd sql"
    ) as connection:
        connection.add_notice_handler(notice)
        connection.execute(
            "SELECT set_config('client_connection_check_interval', %s, false), set_config('statement_timeout', %s, false)",
            [CHECK_INTERVAL, f"{left}ms"],
        )
        cursor = connection.execute(sql.encode())
        rows = max(cursor.rowcount, 0)
        while cursor.nextset():
            rows += max(cursor.rowcount, 0)
    return {"rows": rows, "notices": seen} if seen else {"rows": rows}
