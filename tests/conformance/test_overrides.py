"""Operators' requests: the same rules in memory and on Postgres, there as the least role."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import trio
from support.postgres import RUNTIME, Server, pg15, pg18

from singd.core.values import Occurrence, Override, Recording, Verb, Verdict, Wish
from singd.edges.memory import MemoryDatabase, MemoryElection, MemoryLedger, MemoryPresence
from singd.edges.memory.overrides import MemoryOverrides
from singd.edges.postgres.election import PostgresElection
from singd.edges.postgres.ledger import PostgresLedger
from singd.edges.postgres.migrate import migrate
from singd.edges.postgres.overrides import PostgresOverrides
from singd.edges.postgres.pool import Pool
from singd.edges.postgres.presence import PostgresPresence
from singd.errors import EdgeError
from singd.ports import Election, Ledger, NodeInfo, Overrides, Presence

__all__ = ["pg15", "pg18"]
_schemas = itertools.count()


@dataclass
class Place:
    """A ledger, and one daemon's edges on it."""

    overrides: Overrides
    presence: Presence
    election: Election
    ledger: Ledger
    database: MemoryDatabase | None = None
    server: Server | None = None
    schema: str = ""

    def traces(self) -> list[tuple[object, ...]]:
        if isinstance(self.overrides, MemoryOverrides):
            return [(actor, str(verb), target) for actor, verb, target in self.overrides.table.traces]
        return self.server.execute(
            f"SELECT actor, event, detail ->> 'target' FROM {self.schema}.audit_event ORDER BY id"
        )


@pytest.fixture(params=["memory", "pg18", "pg15"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "memory":
        database = MemoryDatabase()
        yield Place(
            MemoryOverrides(database), MemoryPresence(database), MemoryElection(database), MemoryLedger(database), database
        )  # fmt: skip
        return
    server, schema = request.getfixturevalue(request.param), f"o{next(_schemas)}"
    await migrate(server.conninfo(), schema, RUNTIME)
    url = server.conninfo(user=RUNTIME)
    async with Pool(url, schema) as pool:
        presence, election = PostgresPresence(url, schema), PostgresElection(url, schema)
        yield Place(PostgresOverrides(pool), presence, election, PostgresLedger(pool), None, server, schema)
        await presence.close()
        await election.close()


def wish(verb: Verb = Verb.TRIGGER, target: str = "a", **more) -> Wish:
    return Wish(verb, target, more.pop("request", str(uuid4())), more.pop("actor", "uid 0 on one"), **more)


async def test_a_wish_comes_back_as_it_was_asked(place: Place):
    until = datetime(2027, 1, 1, tzinfo=UTC)
    asked = wish(Verb.PAUSE, "a", owner="two", until=until, note="why not; 'quoted' \u20ac")
    override = await place.overrides.ask(asked)
    assert override.wish == asked
    assert override.asked_at.tzinfo is not None
    assert await place.overrides.open() == [override]


async def test_asked_twice_is_one_wish_with_one_trace(place: Place):
    asked = wish()
    first = await place.overrides.ask(asked)
    assert await place.overrides.ask(asked) == first
    assert await place.overrides.open() == [first]
    assert place.traces() == [("uid 0 on one", "trigger", "a")]


async def test_asked_at_the_same_time_it_is_one_wish_all_the_same(place: Place):
    asked, answers = wish(), []

    async def ask() -> None:
        answers.append(await place.overrides.ask(asked))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert len({one.number for one in answers}) == 1
    assert len(place.traces()) == 1


async def test_open_wishes_come_oldest_first_until_they_are_taken(place: Place):
    wishes = [await place.overrides.ask(wish(target=name)) for name in "abc"]
    await place.overrides.take(wishes[1].number, {"run_id": "7"})
    assert await place.overrides.open() == [wishes[0], wishes[2]]


async def test_the_first_answer_stays(place: Place):
    asked = await place.overrides.ask(wish())
    assert await place.overrides.answer(asked.number) is None
    await place.overrides.take(asked.number, {"run_id": "7", "reason": "\u20ac"})
    await place.overrides.take(asked.number, {"run_id": "8"})
    assert await place.overrides.answer(asked.number) == {"run_id": "7", "reason": "\u20ac"}


async def test_every_node_that_listens_is_told_of_a_wish_and_again_when_it_is_repeated(place: Place):
    await place.presence.open(NodeInfo("one", uuid4()))
    assert not await place.presence.keep(0.01)
    asked = wish()
    for _ in range(2):
        await place.overrides.ask(asked)
        with trio.fail_after(5):
            assert await place.presence.keep(4)
        assert not await place.presence.keep(0.01)


async def test_a_trigger_whose_occurrence_stands_in_the_ledger_is_told_with_its_run(place: Place):
    done, other = await place.overrides.ask(wish()), await place.overrides.ask(wish())
    await place.election.open(NodeInfo("one", uuid4()))
    term = await place.election.campaign()
    [recorded] = await place.ledger.record(term, 1, [_recording(done)], {})
    assert [one.run_id for one in await place.overrides.open()] == [str(recorded.occurrence_id), ""]
    assert [one.number for one in await place.overrides.open()] == [done.number, other.number]


def _recording(asked: Override) -> Recording:
    wished = asked.wish
    occurrence = Occurrence(wished.target, asked.asked_at, wished.owner, wished.request)
    return Recording(occurrence, "command", Verdict.RAN, open_attempt=True)


async def test_the_newest_pause_of_a_schedule_counts_and_a_resume_ends_it(place: Place):
    until = datetime.now(UTC) + timedelta(hours=1)
    await place.overrides.ask(wish(Verb.PAUSE, "a", note="old"))
    newest = await place.overrides.ask(wish(Verb.PAUSE, "a", until=until, note="new"))
    other = await place.overrides.ask(wish(Verb.PAUSE, "b"))
    pauses = await place.overrides.pauses()
    assert (pauses["a"].note, pauses["a"].since, pauses["a"].until) == ("new", newest.asked_at, until)
    assert pauses["b"].until is None
    resumed = await place.overrides.ask(wish(Verb.RESUME, "b"))
    ended = (await place.overrides.pauses())["b"]
    assert (ended.since, ended.until) == (other.asked_at, resumed.asked_at)
    assert (await place.overrides.pauses())["a"].until == until


async def test_a_resume_after_the_end_of_a_pause_does_not_make_it_longer(place: Place):
    until = datetime.now(UTC) - timedelta(hours=1)
    await place.overrides.ask(wish(Verb.PAUSE, "a", until=until))
    await place.overrides.ask(wish(Verb.RESUME, "a"))
    assert (await place.overrides.pauses())["a"].until == until


async def test_text_that_postgres_cannot_keep_is_made_keepable(place: Place):
    asked = await place.overrides.ask(wish(Verb.PAUSE, "a", note="nul \x00 and \udcff"))
    await place.overrides.take(asked.number, {"reason": "nul \x00"})
    assert await place.overrides.answer(asked.number) is not None


async def test_without_a_database_every_call_is_an_edge_error():
    database = MemoryDatabase()
    overrides = MemoryOverrides(database)
    database.stop()
    for call in (overrides.ask, overrides.open, overrides.pauses):
        with pytest.raises(EdgeError):
            await (call(wish()) if call == overrides.ask else call())
