"""What operators ask of the cluster: rows of `override`, and a notification that there is one.

    ask      one transaction: the row, its trace in `audit_event`, NOTIFY to every node that listens (presence.py)
    open     what nobody has taken         take     the first answer stays         answer     for the one who asked

Every statement may be repeated, so one whose connection broke is sent once more on a fresh one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import trio

from singd.core.values import Override, Pause, Verb, Wish
from singd.edges.postgres import keys, text
from singd.edges.postgres.failure import PostgresError, translate
from singd.edges.postgres.pool import CALL_S, Pool
from singd.edges.postgres.statements import Row, run

NOTE_CHARS = 1_000
"""What is kept of a note: it becomes part of a reason, and a reason is one line."""


class PostgresOverrides:
    """`ports.Overrides` on a pool of sessions."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ask(self, wish: Wish) -> Override:
        """See `ports.Overrides`."""
        values = {
            "verb": str(wish.verb), "target": text.clean(wish.target), "request": text.clean(wish.request),
            "owner": text.clean(wish.owner), "until": wish.until, "note": text.clean(wish.note)[:NOTE_CHARS],
            "actor": text.clean(wish.actor), "channel": keys.channel(self._pool.schema),
        }  # fmt: skip
        await self._run("override_ask", values)
        return _override((await self._run("override_asked", {"request": values["request"]}))[0])

    async def open(self) -> Sequence[Override]:
        """See `ports.Overrides`."""
        return [_override(row) for row in await self._run("override_open", {})]

    async def take(self, number: int, answer: Mapping[str, Any]) -> None:
        """See `ports.Overrides`."""
        kept = {key: text.clean(value) if isinstance(value, str) else value for key, value in answer.items()}
        await self._run("override_take", {"id": number, "answer": json.dumps(kept)})

    async def answer(self, number: int) -> Mapping[str, Any] | None:
        """See `ports.Overrides`."""
        rows = await self._run("override_answer", {"id": number})
        return rows[0][0] if rows else None

    async def pauses(self) -> Mapping[str, Pause]:
        """See `ports.Overrides`."""
        rows = await self._run("override_pauses", {})
        return {target: Pause(since, actor, until, note) for target, since, actor, until, note in rows}

    async def _run(self, name: str, values: Mapping[str, Any]) -> list[Row]:
        doing = "asking the cluster"
        for last in (False, True):
            try:
                async with self._pool.connection(doing) as connection:
                    return await run(connection, name, values)
            except trio.TooSlowError:
                raise PostgresError(f"{doing}: no answer within {CALL_S:.0f} s") from None
            except psycopg.Error as error:
                if last or not isinstance(error, psycopg.OperationalError):
                    raise translate(error, doing) from error
                self._pool.close()
        raise AssertionError("the second try returns or raises")


def _override(row: Row) -> Override:
    number, verb, target, request, actor, owner, until, note, asked_at, run_id = row
    wish = Wish(Verb(verb), target, request, actor, owner, until, note)
    return Override(number, wish, asked_at, run_id)
