"""The ledger in Postgres: batches behind a fence, each safe to repeat.

    scheduling writes   WITH fence AS (SELECT … FROM leader WHERE epoch = mine FOR SHARE) …   0 rows = TermLost
    attempts' writes    … WHERE token = ANY (mine) AND state IN (…)                            answers the live ones

The fence is a share lock on the leader's row: the next leader's `epoch + 1` waits for our open transaction,
and whatever we send after it finds another epoch. FOR KEY SHARE would not do: that UPDATE passes it.

An unknown COMMIT. When a connection breaks, nobody knows whether the statement it carried was committed,
or will be: its bytes may still be on their way to a server that has not noticed. So the same statement is
sent again with the same numbers and tokens, and its row locks and unique keys put it behind the first one.
Then the ledger is read by number or token: what stands there under ours is ours, whoever wrote it first.

    send ──ok──────────────────────────────▶ answer
      └─broken─▶ reconnect ─▶ send again ─▶ read by token ─▶ answer        10 s of this, then EdgeError
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import psycopg
import trio

from singd.core.values import Attempt, Finish, Recorded, Recording
from singd.edges.postgres import batches, text
from singd.edges.postgres.failure import repeatable, translate
from singd.edges.postgres.pool import CALL_S, Pool
from singd.edges.postgres.statements import run
from singd.edges.postgres.wire import TrioConnection
from singd.errors import TermLost
from singd.ports import Adoption, Term

T = TypeVar("T")
Body = Callable[[TrioConnection, bool], Awaitable[T]]
"""What to do on a connection; the flag says that an earlier try may have been committed."""

REPEAT_S = 10.0
"""Seconds after the first failure during which a statement is sent again."""

CHUNK = 10_000
"""Most rows in one statement; a longer batch is several in one transaction."""


class PostgresLedger:
    """`ports.Ledger` on a pool of sessions; safe for any number of tasks at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def adopt(self, term: Term) -> Adoption:
        """What is unfinished, as of one snapshot."""

        async def body(connection: TrioConnection, _: bool) -> Adoption:
            async with connection.transaction():
                await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                return await _adoption(connection, term)

        return await self._durably("adopting the ledger", body)

    async def generation(
        self, term: Term, content_hash: str, triggers: Mapping[str, str], now: datetime
    ) -> int:
        """See `ports.Ledger`."""
        values = {
            "epoch": term.epoch,
            "hash": text.clean(content_hash),
            "triggers": text.table(triggers),
            "now": now,
        }

        async def body(connection: TrioConnection, _: bool) -> int:
            fenced, number = (await run(connection, "accept_generation", values))[0]
            _require(fenced, term)
            return int(number)

        return await self._durably("accepting a generation", body)

    async def record(
        self, term: Term, generation: int, recordings: Sequence[Recording], cursors: Mapping[str, datetime]
    ) -> Sequence[Recorded]:
        """See `ports.Ledger`."""
        if not recordings and not cursors:
            return []
        ids: list[int] = []
        tokens = text.tokens(len(recordings))

        async def body(connection: TrioConnection, repeated: bool) -> set[int]:
            if not ids and recordings:
                ids.extend(row[0] for row in await run(connection, "next_ids", {"count": len(recordings)}))
            columns = _chunks(recordings, cursors, ids, tokens)
            shared = {"epoch": term.epoch, "generation": generation}
            written = await _record(connection, shared, columns, term)
            if written == len(ids) and not repeated:
                return set(ids)
            return {row[0] for row in await run(connection, "which_ids", {"ids": text.numbers(ids)})}

        ours = await self._durably("recording occurrences", body)
        return [
            batches.recorded(r, number, token, term.epoch) if number in ours else Recorded(None)
            for r, number, token in zip(recordings, ids, tokens, strict=True)
        ]

    async def open_attempts(self, term: Term, occurrence_ids: Sequence[int]) -> Sequence[Attempt | None]:
        """See `ports.Ledger`."""
        once = dict.fromkeys(occurrence_ids)
        tokens = text.tokens(len(once))
        values = {"epoch": term.epoch, "ids": text.numbers(once), "tokens": text.plain(tokens)}

        async def body(connection: TrioConnection, _: bool) -> dict[int, Attempt]:
            _require((await run(connection, "open_attempts", values))[0][0], term)
            rows = await run(connection, "which_attempts", {"tokens": values["tokens"]})
            return {row[0]: batches.attempt(row) for row in rows}

        opened = await self._durably("opening attempts", body)
        # An id given twice gets one attempt: the second mention finds it live.
        return [opened.pop(number, None) for number in occurrence_ids]

    async def decide(self, term: Term, verdicts: Mapping[int, tuple[str, str]]) -> None:
        """See `ports.Ledger`."""
        values = {
            "epoch": term.epoch,
            "ids": text.numbers(verdicts),
            "verdicts": text.texts(verdict for verdict, _ in verdicts.values()),
            "reasons": text.texts(reason for _, reason in verdicts.values()),
        }

        async def body(connection: TrioConnection, _: bool) -> None:
            _require((await run(connection, "decide", values))[0][0], term)

        await self._durably("deciding occurrences", body)

    async def start(self, tokens: Sequence[str]) -> set[str]:
        """See `ports.Ledger`."""
        return await self._by_token("starting attempts", "start", tokens)

    async def beat(self, tokens: Sequence[str]) -> set[str]:
        """See `ports.Ledger`."""
        return await self._by_token("renewing attempts", "beat", tokens)

    async def finish(self, finishes: Sequence[Finish]) -> set[str]:
        """See `ports.Ledger`. Of two ends for one token in a batch the first counts."""
        first = {f.token: f for f in reversed(finishes)}
        short = [f for f in first.values() if batches.is_short(f)]
        accepted = await self._finish("finish", short, batches.short_ends(short))
        # What was not running may be lost and ours: only the full statement judges that.
        full = [f for f in first.values() if f.token not in accepted]
        for part in batches.by_weight(full):
            accepted |= await self._finish(
                "finish_in_full", part, {**batches.ends(part), **batches.logs(part)}
            )
        return accepted

    async def settle(self, term: Term, finishes: Sequence[Finish]) -> set[str]:
        """See `ports.Ledger`. CANCELLED settles only what is still claimed, LOST only what is running."""
        if not finishes:
            return set()
        values = {**batches.ends(finishes), "epoch": term.epoch}

        async def body(connection: TrioConnection, _: bool) -> set[str]:
            fenced, settled = (await run(connection, "settle", values))[0]
            _require(fenced, term)
            return await _with_earlier(connection, set(settled), values, len(finishes))

        return await self._durably("settling attempts", body)

    async def _finish(self, name: str, finishes: Sequence[Finish], values: Mapping[str, Any]) -> set[str]:
        async def body(connection: TrioConnection, _: bool) -> set[str]:
            accepted = {row[0] for row in await run(connection, name, values)}
            return await _with_earlier(connection, accepted, values, len(finishes))

        return await self._durably("finishing attempts", body) if finishes else set()

    async def _by_token(self, doing: str, name: str, tokens: Sequence[str]) -> set[str]:
        async def body(connection: TrioConnection, _: bool) -> set[str]:
            return {row[0] for row in await run(connection, name, {"tokens": text.plain(tokens)})}

        return await self._durably(doing, body) if tokens else set()

    async def _durably(self, doing: str, body: Body[T]) -> T:
        return await durably(self._pool, doing, body)


async def durably(pool: Pool, doing: str, body: Body[T]) -> T:
    """Run `body`, again on a new connection while that can help; see the head of this module.

    Raises:
        TermLost: The fence refused.
        PostgresError: Postgres is away for longer than REPEAT_S, or refused.
    """
    until, wait_s, repeated = None, 0.05, False
    while True:
        try:
            async with pool.connection(doing) as connection:
                return await _attempted(connection, body, repeated)
        except psycopg.Error as error:
            again = error if isinstance(error, _Again) else _Again(error, sent=False)
        if not again.useful:
            raise translate(again.cause, doing) from again.cause
        pool.close()  # what broke one idle connection broke them all
        repeated |= again.sent
        until = until or trio.current_time() + REPEAT_S
        if trio.current_time() + wait_s > until:
            raise translate(again.cause, doing) from again.cause
        await trio.sleep(wait_s)
        wait_s = min(wait_s * 2, 1.0)


class _Again(psycopg.Error):
    """A failed try: why, and whether its statement may have been committed all the same."""

    def __init__(self, cause: psycopg.Error, *, sent: bool, useful: bool = True) -> None:
        super().__init__(str(cause))
        self.cause, self.sent, self.useful = cause, sent, useful


async def _attempted(connection: TrioConnection, body: Body[T], repeated: bool) -> T:
    try:
        return await body(connection, repeated)
    except trio.TooSlowError:
        silence = psycopg.OperationalError(f"no answer within {CALL_S:.0f} s")
        raise _Again(silence, sent=True) from None
    except psycopg.Error as error:
        broken = connection.broken or connection.closed
        raise _Again(error, sent=broken, useful=repeatable(error, broken)) from error


def _require(fenced: int, term: Term) -> None:
    if not fenced:
        raise TermLost(f"epoch {term.epoch} is over: the ledger has another leader")


async def _adoption(connection: TrioConnection, term: Term) -> Adoption:
    current = await run(connection, "adopt_term", {"epoch": term.epoch})
    _require(len(current), term)
    startup_at = current[0][0]
    cursors = await run(connection, "adopt_cursors", {})
    unfinished = await run(connection, "adopt_unfinished", {})
    live = await run(connection, "adopt_live", {})
    return Adoption(
        cursors=dict(cursors),
        unfinished=[batches.open_occurrence(row) for row in unfinished],
        live=[batches.live_attempt(row) for row in live],
        startup_at=startup_at,
    )


async def _record(
    connection: TrioConnection, shared: Mapping[str, Any], columns: Sequence[Mapping[str, Any]], term: Term
) -> int:
    """Write the chunks, the cursors with the last; answers how many occurrences were new."""
    if len(columns) == 1:
        fenced, written = (await run(connection, "record", {**shared, **columns[0]}))[0]
        _require(fenced, term)
        return int(written)
    total = 0
    async with connection.transaction():
        for chunk in columns:
            total += await _record(connection, shared, [chunk], term)
    return total


def _chunks(
    recordings: Sequence[Recording],
    cursors: Mapping[str, datetime],
    ids: Sequence[int],
    tokens: Sequence[str],
) -> list[dict[str, Any]]:
    starts = range(0, len(recordings), CHUNK) or [0]
    columns = [
        {
            **batches.recordings(recordings[at : at + CHUNK], ids[at : at + CHUNK], tokens[at : at + CHUNK]),
            **batches.cursors({}),
        }
        for at in starts
    ]
    columns[-1].update(batches.cursors(cursors))
    return columns


async def _with_earlier(
    connection: TrioConnection, accepted: set[str], values: Mapping[str, Any], asked: int
) -> set[str]:
    """Also what an earlier try of the same ends wrote: its answer may never have arrived."""
    if len(accepted) == asked:
        return accepted
    return accepted | {row[0] for row in await run(connection, "which_finished", values)}
