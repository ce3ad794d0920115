"""A connection that breaks around a COMMIT doubles nothing and loses nothing, wherever it breaks.

Each write is broken at each of its messages in turn, at three places (see `support.proxy`), and afterwards
the ledger must look as if nothing had happened. The twin plays the same with `MemoryDatabase.cut`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import get_args

import psycopg
import pytest
from support.postgres import RUNTIME, Server
from support.proxy import SOCKET, CuttingProxy, Place, cutting_proxy

from singd.core.values import CLUSTER, Finish, Log, State
from singd.edges.memory import Link, MemoryDatabase, MemoryElection, MemoryLedger, MemoryReader
from singd.edges.postgres.ledger import PostgresLedger
from singd.edges.postgres.pool import Pool
from singd.errors import EdgeError
from singd.ports import Term

from .conftest import NOON, World, missed, to_run, to_wait

ENOUGH = 8
"""More messages than any write here has."""


@dataclass
class Broken:
    """A world whose ledger is reached through the proxy, and the truth through another way."""

    world: World
    proxy: CuttingProxy


@pytest.fixture(params=["pg18", "pg15"])
def place(request: pytest.FixtureRequest) -> Server:
    """The twin has tests of its own below."""
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
async def broken(world: World) -> AsyncIterator[Broken]:
    assert world.server is not None
    async with cutting_proxy(world.server.directory / SOCKET) as proxy:
        pool = Pool(f"host={proxy.directory} dbname=postgres user={RUNTIME}", world.schema)
        world.ledger = PostgresLedger(pool)
        yield Broken(world, proxy)
        pool.close()


Act = Callable[[World, Term, int], Awaitable[object]]


async def _record(world: World, term: Term, turn: int) -> object:
    somebody_elses = to_run("p0")
    asked = [to_run(f"run-{turn}"), missed(f"missed-{turn}", NOON), to_wait(f"wait-{turn}"), somebody_elses]
    answers = await world.ledger.record(term, 1, asked, {f"run-{turn}": NOON})
    assert [answer.occurrence_id is not None for answer in answers] == [True, True, True, False]
    token = answers[0].attempt.token
    assert await world.ledger.beat([token]) == {token}
    assert [row.schedule for row in await world.reader.runs(f"run-{turn}", None, 9)] == [f"run-{turn}"]
    assert (await world.reader.known(f"run-{turn}", NOON, CLUSTER)).cursor == NOON
    return answers


async def _start(world: World, term: Term, turn: int) -> object:
    token = world.prepared.pop()
    assert await world.ledger.start([token]) == {token}
    return token


async def _finish_shortly(world: World, term: Term, turn: int) -> object:
    token = world.prepared.pop()
    assert await world.ledger.finish([Finish(token, State.SUCCEEDED)]) == {token}
    return token


async def _finish_with_all(world: World, term: Term, turn: int) -> object:
    token = world.prepared.pop()
    end = Finish(token, State.FAILED, "why", {"n": 1}, retry_at=NOON, log=Log(b"head"))
    assert await world.ledger.finish([end]) == {token}
    row = next(row for row in await world.reader.runs(None, None, 99) if row.retry_at)
    assert await world.reader.log(row.occurrence_id, 1) == Log(b"head")
    assert [attempt.number for attempt in await world.ledger.open_attempts(term, [row.occurrence_id])] == [2]
    return token


async def _open(world: World, term: Term, turn: int) -> object:
    number = world.waiting.pop()
    opened = (await world.ledger.open_attempts(term, [number]))[0]
    assert opened.number == 1
    assert len((await world.reader.run(number)).attempts) == 1
    return opened


async def _settle(world: World, term: Term, turn: int) -> object:
    token = world.prepared.pop()
    assert await world.ledger.settle(term, [Finish(token, State.CANCELLED, "gone", retry_at=NOON)]) == {token}
    return token


async def _generation(world: World, term: Term, turn: int) -> object:
    number = await world.ledger.generation(term, f"hash-{turn}", {}, NOON)
    assert number == await world.ledger.generation(term, f"hash-{turn}", {}, NOON)
    return number


ACTS: dict[str, Act] = {
    "record": _record, "start": _start, "finish": _finish_shortly, "finish in full": _finish_with_all,
    "open": _open, "settle": _settle, "generation": _generation,
}  # fmt: skip


async def _prepare(world: World, term: Term, count: int) -> None:
    """Claimed attempts and waiting occurrences for the acts, two for each turn."""
    claimed = await world.record(term, *[to_run(f"p{n}") for n in range(count)])
    waiting = await world.record(term, *[to_wait(f"w{n}") for n in range(count)])
    world.prepared = [answer.attempt.token for answer in claimed]
    world.waiting = [answer.occurrence_id for answer in waiting]


@pytest.mark.parametrize("place_of_cut", get_args(Place))
@pytest.mark.parametrize("name", ACTS)
async def test_a_write_broken_at_any_message_is_written_once(
    broken: Broken, name: str, place_of_cut: Place
) -> None:
    world, proxy = broken.world, broken.proxy
    term = await world.lead()
    await _prepare(world, term, ENOUGH)
    cut = 0
    for turn in range(ENOUGH):
        before = await _totals(world)
        proxy.arm(place_of_cut, skip=turn)
        await ACTS[name](world, term, turn)
        proxy.disarm()
        if not proxy.cuts:
            break
        cut += 1
        after = await _totals(world)
        if place_of_cut == "late":
            await proxy.deliver()
            assert await _totals(world) == after
        assert all(a - b <= most for a, b, most in zip(after, before, (3, 1, 1), strict=True))
    assert cut >= 1, "the proxy cut nothing: this test proved nothing"


@pytest.mark.parametrize("deposed", [True, False])
async def test_a_write_that_arrives_after_its_term_is_refused_by_the_fence(
    broken: Broken, deposed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("singd.edges.postgres.ledger.REPEAT_S", 0.0)
    world, proxy = broken.world, broken.proxy
    term = await world.lead()
    await world.record(term, missed("warm", NOON))
    proxy.arm("late", skip=1)  # the first message fetches numbers, the second writes
    with pytest.raises(EdgeError):
        await world.record(term, to_run("late"))
    if deposed:
        await world.depose()
    await proxy.deliver()
    assert len(await world.reader.runs("late", None, 9)) == (0 if deposed else 1)


@pytest.mark.parametrize("at", ["request", "reply"])
async def test_the_twin_breaks_connections_alike(at: str) -> None:
    database = MemoryDatabase()
    world = World(MemoryLedger(database), MemoryReader(database), database)
    term = await world.lead()
    await _prepare(world, term, 8)
    for name, operation in {"finish in full": "finish", "open": "open_attempts"}.items():
        database.cut(operation, at)
        await ACTS[name](world, term, 0)
    for name in ("record", "start", "finish", "settle", "generation"):
        database.cut(name, at, times=2)
        await ACTS[name](world, term, 1)


async def test_the_twin_of_a_partition_is_an_error_on_one_side_only() -> None:
    database, link = MemoryDatabase(), Link()
    cut_off, other = MemoryLedger(database, link), MemoryLedger(database)
    election = MemoryElection(database)
    world = World(other, MemoryReader(database), database, elections=[election])
    term = await world.lead()
    link.up = False
    with pytest.raises(EdgeError):
        await cut_off.record(term, 1, [to_run()], {})
    assert (await world.run_one(term)).attempt is not None


async def _totals(world: World) -> tuple[int, ...]:
    """Rows in the tables, by the superuser's way."""
    assert isinstance(world.server, Server)
    with psycopg.connect(world.server.conninfo(), autocommit=True) as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM {world.schema}.{table}").fetchone()
            for table in ("occurrence", "attempt", "generation")
        ]
    return tuple(count[0] for count in counts)
