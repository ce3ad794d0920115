"""Locks, lease, epoch and registration: the same from Postgres and from its twin."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
import trio
import trio.testing

from singd.core.values import Finish, State
from singd.errors import EdgeError, NameTaken, TermLost
from singd.ports import NodeInfo, Registration, Term

from .conftest import NOON, World, missed


def node(name: str) -> NodeInfo:
    return NodeInfo(name, uuid4(), "singularity", "1.0")


async def test_only_the_registration_that_finds_nobody_is_a_startup(world: World) -> None:
    assert (await world.register(node("a"))).startup_at is not None
    assert await world.register(node("b")) == Registration(None)


async def test_many_that_register_at_once_are_one_startup(world: World) -> None:
    answers: list[Registration] = []

    async def register(name: str) -> None:
        answers.append(await world.register(node(name)))

    async with trio.open_nursery() as nursery:
        for name in "abcdefgh":
            nursery.start_soon(register, name)
    assert sum(answer.startup_at is not None for answer in answers) == 1


async def test_a_cluster_that_was_all_gone_starts_again(world: World) -> None:
    presence = world.presence()
    first = await presence.open(node("a"))
    await presence.close()
    again = await _open_when_free(world, "a")
    assert first.startup_at is not None
    assert again.startup_at is not None
    assert first.startup_at < again.startup_at


async def test_a_daemon_that_only_lost_its_session_is_told_what_it_was_told(world: World) -> None:
    presence, me = world.presence(), node("a")
    first = await presence.open(me)
    world.terminate("a")
    assert await presence.open(me) == first
    world.terminate("a")
    assert await world.register(node("b")) != first
    assert await presence.open(me) == first


async def test_a_lost_session_is_told_by_the_next_keep(world: World) -> None:
    presence = world.presence()
    await presence.open(node("a"))
    assert await presence.keep(0.01) is False
    world.terminate("a")
    with pytest.raises(EdgeError):
        await presence.keep(0.01)


async def test_whoever_leads_knows_the_last_startup(world: World) -> None:
    started = await world.register(node("a"))
    await world.register(node("b"))
    adoption = await world.ledger.adopt(await world.lead("b"))
    assert adoption.startup_at == started.startup_at


async def test_a_live_node_name_is_refused_and_a_free_one_is_not(world: World) -> None:
    first = world.presence()
    await first.open(node("a"))
    with pytest.raises(NameTaken):
        await world.register(node("a"))
    await first.close()
    await _open_when_free(world, "a")


async def test_a_silent_node_loses_its_name_after_its_lease_and_not_before(world: World) -> None:
    frozen = world.presence(lease_s=0.6)
    await frozen.open(node("a"))
    await frozen.keep(0.0)
    kept = trio.current_time()
    await _open_when_free(world, "a")
    assert 0.5 <= trio.current_time() - kept < 3
    with pytest.raises(EdgeError):
        await frozen.keep(0.0)


async def test_a_node_takes_its_name_back_from_a_session_of_its_own_that_lingers(world: World) -> None:
    """The connection broke on the way: the server holds the name for the old session until its lease is over."""
    lingering, me = world.presence(), node("a")
    first = await lingering.open(me)
    with trio.fail_after(2):
        assert await world.register(me) == first
    with pytest.raises(EdgeError):
        await lingering.keep(0.0)


async def test_the_same_name_in_another_ledger_is_another_node(world: World, place: object) -> None:
    await world.register(node("a"))
    other = World(world.ledger, world.reader, world.database, world.server, world.schema)
    if other.database is not None:
        other.database = type(other.database)()
    else:
        from support.postgres import RUNTIME

        from singd.edges.postgres.migrate import migrate

        assert other.server is not None
        other.schema = f"{world.schema}_other"
        await migrate(other.server.conninfo(), other.schema, RUNTIME)
    assert (await other.register(node("a"))).startup_at is not None
    assert (await other.lead("b")).epoch == 1
    await other.close()


async def test_leading_needs_no_name_and_a_name_no_lead(world: World) -> None:
    """Two sessions: the end of the one leaves the other what it has."""
    presence, election, me = world.presence(), world.election(), node("a")
    await presence.open(me)
    await election.open(me)
    term = await election.campaign()
    world.terminate("a", "name")
    await election.beat(term)
    await presence.open(me)
    world.terminate("a", "lock")
    await presence.keep(0.0)
    with pytest.raises(TermLost):
        await election.beat(term)


async def test_the_next_leader_has_a_higher_epoch_and_comes_at_once(world: World) -> None:
    first, second = world.election(), world.election()
    await first.open(node("a"))
    await second.open(node("b"))
    term = await first.campaign()
    terms: list[Term] = []

    async def campaign() -> None:
        terms.append(await second.campaign())

    with trio.fail_after(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(campaign)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert terms == []
            await first.beat(term)
            await first.close()
    assert terms[0].epoch == term.epoch + 1


async def test_a_beat_proves_the_term(world: World) -> None:
    election = world.election()
    await election.open(node("a"))
    term = await election.campaign()
    await election.beat(term)
    await election.beat(term)


async def test_a_beat_of_another_epoch_is_refused(world: World) -> None:
    election = world.election()
    await election.open(node("a"))
    term = await election.campaign()
    with pytest.raises(TermLost):
        await election.beat(replace(term, epoch=term.epoch - 1))


async def test_a_terminated_session_loses_the_term(world: World) -> None:
    election = world.election()
    await election.open(node("a"))
    term = await election.campaign()
    world.terminate("a")
    with pytest.raises(TermLost):
        await election.beat(term)
    with pytest.raises(TermLost):
        await election.beat(term)


async def test_a_terminated_waiter_is_told(world: World) -> None:
    await world.lead("a")
    waiter = world.election()
    await waiter.open(node("b"))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_terminated_soon, world, "b")
            with pytest.raises(EdgeError):
                await waiter.campaign()


async def test_a_silent_leader_is_replaced_after_its_lease_and_not_before(world: World) -> None:
    frozen, next_one = world.election(lease_s=0.6), world.election()
    await frozen.open(node("a"))
    term = await frozen.campaign()
    await next_one.open(node("b"))
    await frozen.beat(term)
    beaten = trio.current_time()
    with trio.fail_after(5):
        taken = await next_one.campaign()
    assert 0.5 <= trio.current_time() - beaten < 3
    assert taken.epoch == term.epoch + 1
    with pytest.raises(TermLost):
        await frozen.beat(term)


async def test_waiting_longer_than_the_lease_keeps_the_place_in_the_queue(world: World) -> None:
    leader = world.election()
    await leader.open(node("a"))
    term = await leader.campaign()
    waiter = world.election(lease_s=0.5)
    await waiter.open(node("b"))
    with trio.move_on_after(1.6):
        await waiter.campaign()
    with pytest.raises(EdgeError):
        await waiter.campaign()  # a cancelled wait closed the session: nothing lingers in the queue
    await leader.beat(term)


async def test_an_old_epoch_may_write_nothing(world: World) -> None:
    old = await world.lead("a")
    number, token = await world.started(old)
    await world.depose()
    with pytest.raises(TermLost):
        await world.record(old, missed("x", NOON))
    with pytest.raises(TermLost):
        await world.record(old, cursor=NOON)
    with pytest.raises(TermLost):
        await world.ledger.generation(old, "h", {}, NOON)
    with pytest.raises(TermLost):
        await world.ledger.open_attempts(old, [number])
    with pytest.raises(TermLost):
        await world.ledger.decide(old, {number: ("skipped", "late")})
    with pytest.raises(TermLost):
        await world.ledger.settle(old, [Finish(token, State.LOST, "gone")])
    with pytest.raises(TermLost):
        await world.ledger.adopt(old)


async def test_an_attempt_outlives_the_term_that_opened_it(world: World) -> None:
    _, token = await world.started(await world.lead("a"))
    await world.depose()
    assert await world.ledger.beat([token]) == {token}
    assert await world.ledger.finish([Finish(token, State.SUCCEEDED)]) == {token}


async def test_an_epoch_that_never_was_is_refused(world: World) -> None:
    with pytest.raises(TermLost):
        await world.record(Term(7), missed("x", NOON))


async def _open_when_free(world: World, name: str) -> Registration:
    """The server needs a moment to notice that a socket was closed."""
    with trio.fail_after(5):
        while True:
            try:
                return await world.register(node(name))
            except NameTaken:
                await trio.sleep(0.01)


async def _terminated_soon(world: World, name: str) -> None:
    await trio.testing.wait_all_tasks_blocked(0.05)
    world.terminate(name)
