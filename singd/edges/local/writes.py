"""The ledger's writes on the journal, each the body of one transaction: the rules of `singd.edges.postgres.ledger`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import uuid4

from singd.core.values import Attempt, Finish, Recorded, Recording
from singd.edges.local import rows
from singd.edges.local.statements import statement
from singd.ports import NodeInfo


def accept(
    connection: sqlite3.Connection, content_hash: str, triggers: Mapping[str, str], now: datetime
) -> int:
    """The number of the generation with this content; what is new or changed in it begins now."""
    before = dict(connection.execute("SELECT schedule, identity FROM trigger_in_force"))
    changed = [name for name, identity in triggers.items() if before.get(name) != identity]
    move_cursors(connection, dict.fromkeys(changed, now))
    connection.execute("DELETE FROM trigger_in_force")
    connection.executemany("INSERT INTO trigger_in_force VALUES (?, ?)", triggers.items())
    connection.execute("INSERT OR IGNORE INTO generation (content_hash) VALUES (?)", (content_hash,))
    found = connection.execute("SELECT id FROM generation WHERE content_hash = ?", (content_hash,))
    return int(found.fetchone()[0])


def move_cursors(connection: sqlite3.Connection, cursors: Mapping[str, datetime]) -> None:
    """Forward only."""
    values = [{"schedule": name, "due_at": rows.micros(at)} for name, at in cursors.items()]
    connection.executemany(statement("move_cursor"), values)


def record(
    connection: sqlite3.Connection,
    generation: int,
    recordings: Sequence[Recording],
    node: NodeInfo,
    now: int,
) -> list[Recorded]:
    """Write the occurrences and claim the attempts that are asked for."""
    return [_record(connection, generation, one, node, now) for one in recordings]


def _record(
    connection: sqlite3.Connection, generation: int, recording: Recording, node: NodeInfo, now: int
) -> Recorded:
    written = connection.execute(statement("record"), rows.recording(recording, generation, now))
    number = written.lastrowid
    if written.rowcount != 1 or number is None:
        return Recorded(None)
    if not recording.open_attempt:
        return Recorded(number)
    attempt = Attempt(number, recording.occurrence, 1, str(uuid4()), 0)
    _claim(connection, attempt, node, now)
    return Recorded(number, attempt)


def _claim(connection: sqlite3.Connection, attempt: Attempt, node: NodeInfo, now: int) -> None:
    values = {
        "occurrence": attempt.occurrence_id, "number": attempt.number, "token": attempt.token,
        "node": node.name, "process": str(node.process), "now": now,
    }  # fmt: skip
    connection.execute(statement("claim"), values)


def open_next(connection: sqlite3.Connection, number: int, node: NodeInfo, now: int) -> Attempt | None:
    """Claim the next attempt of an occurrence, if it waits for one."""
    if connection.execute(statement("open_next"), {"number": number}).rowcount != 1:
        return None
    found = connection.execute(
        "SELECT attempts, schedule, due_at, owner, request FROM occurrence WHERE number = ?", (number,)
    )
    tried, *identity = found.fetchone()
    attempt = Attempt(number, rows.occurrence(*identity), tried, str(uuid4()), 0)
    _claim(connection, attempt, node, now)
    return attempt


def decide(connection: sqlite3.Connection, verdicts: Mapping[int, tuple[str, str]]) -> None:
    """A verdict for occurrences that wait."""
    values = [
        {"number": number, "verdict": str(verdict), "reason": reason}
        for number, (verdict, reason) in verdicts.items()
    ]
    connection.executemany(statement("decide"), values)


def start(connection: sqlite3.Connection, tokens: Iterable[str], now: int) -> set[str]:
    """claimed -> running."""
    text = statement("start")
    return {token for token in tokens if connection.execute(text, {"token": token, "now": now}).rowcount == 1}


def live(connection: sqlite3.Connection, tokens: Iterable[str]) -> set[str]:
    """Those of the tokens that are claimed or running."""
    text = "SELECT 1 FROM attempt WHERE token = ? AND finished_at IS NULL"
    return {token for token in tokens if connection.execute(text, (token,)).fetchone()}


def finish(connection: sqlite3.Connection, finishes: Iterable[Finish], now: int) -> set[str]:
    """Live -> terminal, or our own lost -> the truth."""
    return {one.token for one in finishes if _end(connection, "finish", one, now)}


def settle(connection: sqlite3.Connection, finishes: Iterable[Finish], now: int) -> set[str]:
    """The end of attempts whose process is gone."""
    return {one.token for one in finishes if _end(connection, "settle", one, now)}


def _end(connection: sqlite3.Connection, name: str, finish: Finish, now: int) -> bool:
    values = rows.end(finish, now)
    if connection.execute(statement(name), values).rowcount != 1:
        said = "SELECT 1 FROM attempt WHERE token = :token AND state = :state AND error = :error"
        return connection.execute(said, values).fetchone() is not None  # said twice is said once
    connection.execute(statement("ended"), values)
    if (kept := rows.log(finish)) is not None:
        connection.execute(statement("log"), kept)
    return True
