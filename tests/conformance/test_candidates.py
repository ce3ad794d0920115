"""Who leads of those who could: the newest file first, no clock that is off, and a row for each change of leader."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import trio
import trio.testing

from singd.core import skew
from singd.edges.clock import SystemClock
from singd.errors import EdgeError, TermLost
from singd.ports import YIELD_S, Election, NodeInfo, Presence, Term

from .conftest import NOON, World

AT_ONCE = 1.0
"""Seconds: well below `YIELD_S`."""


class Off(SystemClock):
    """A node's clock that is off by so many seconds."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.seconds)


async def join(world: World, name: str, content_hash: str, lease_s: float = 5.0) -> tuple[Presence, Election]:
    """A daemon that is registered, and could campaign."""
    node = NodeInfo(name, uuid4(), content_hash=content_hash)
    presence, election = world.presence(), world.election(lease_s)
    await presence.open(node)
    await election.open(node)
    return presence, election


async def propose(world: World, term: Term, *hashes: str) -> None:
    for content_hash in hashes:
        await world.ledger.generation(term, content_hash, {}, NOON)


# -- the newest file ------------------------------------------------------------------------------


async def test_a_node_with_an_older_file_leaves_the_lock_to_a_live_one_with_the_newest(world: World) -> None:
    leader = await world.lead("first")
    await propose(world, leader, "old", "new")
    _, older = await join(world, "older", "old")
    _, newer = await join(world, "newer", "new")
    order: list[str] = []

    async def campaign(name: str, election: Election) -> None:
        await election.campaign()
        order.append(name)
        await election.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(campaign, "older", older)
        await trio.testing.wait_all_tasks_blocked(0.05)  # first in the queue
        nursery.start_soon(campaign, "newer", newer)
        await trio.testing.wait_all_tasks_blocked(0.05)
        begun = trio.current_time()
        await world.elections[0].close()
        with trio.fail_after(AT_ONCE):
            while not order:
                await trio.sleep(0.01)
    assert order == ["newer", "older"]
    assert trio.current_time() - begun >= YIELD_S * 0.9


async def test_a_newest_file_that_no_live_node_has_is_not_waited_for(world: World) -> None:
    leader = await world.lead("first")
    await propose(world, leader, "old", "new")
    gone, _ = await join(world, "newer", "new")
    await gone.close()
    _, older = await join(world, "older", "old")
    world.terminate("newer")
    await world.elections[0].close()
    with trio.fail_after(AT_ONCE):
        assert (await older.campaign()).epoch == leader.epoch + 1


async def test_one_that_does_not_take_the_lock_is_waited_for_once(world: World) -> None:
    """It may be live and not fit to lead: its clock, its way to the server."""
    leader = await world.lead("first")
    await propose(world, leader, "old", "new")
    await join(world, "newer", "new")
    _, older = await join(world, "older", "old")
    await world.elections[0].close()
    begun = trio.current_time()
    with trio.fail_after(YIELD_S + AT_ONCE):
        assert (await older.campaign()).epoch == leader.epoch + 1
    assert trio.current_time() - begun >= YIELD_S * 0.9


async def test_a_short_lease_outlives_the_time_left_to_another(world: World) -> None:
    leader = await world.lead("first")
    await propose(world, leader, "old", "new")
    await join(world, "newer", "new")
    _, older = await join(world, "older", "old", lease_s=0.6)
    await world.elections[0].close()
    await older.beat(await older.campaign())


@pytest.mark.parametrize("proposed", [[], ["same"], ["other", "same"]])
async def test_nobody_yields_where_there_is_nothing_newer(world: World, proposed: list[str]) -> None:
    leader = await world.lead("first")
    await propose(world, leader, *proposed)
    await join(world, "b", "same")
    _, election = await join(world, "a", "same")
    await world.elections[0].close()
    with trio.fail_after(AT_ONCE):
        await election.campaign()


async def test_the_same_content_after_a_restart_is_the_same_generation_and_no_newer_one(world: World) -> None:
    """A takeover by an older file puts it in force; the newest stays what an operator brought in last."""
    leader = await world.lead("first")
    number = await world.ledger.generation(leader, "old", {}, NOON)
    await propose(world, leader, "new")
    taken_over = await world.depose()
    assert await world.ledger.generation(taken_over, "old", {}, NOON) == number
    await join(world, "newer", "new")
    _, older = await join(world, "older", "old")
    for election in world.elections[:2]:
        await election.close()
    begun = trio.current_time()
    await older.campaign()
    assert trio.current_time() - begun >= YIELD_S * 0.9


async def test_a_leader_sees_which_file_each_live_node_has(world: World) -> None:
    _, first = await join(world, "a", "one")
    second, _ = await join(world, "b", "two")
    assert await first.files() == {"a": "one", "b": "two"}
    await second.close()
    world.terminate("b")
    assert await first.files() == {"a": "one"}


# -- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [31.5, -31.5, 86_400.0])
async def test_a_clock_that_is_off_is_refused_with_both_times_and_the_cure(
    world: World, seconds: float
) -> None:
    with pytest.raises(
        EdgeError, match=r"says \d\d:\d\d:\d\d where the database's says \d\d:\d\d:\d\d"
    ) as caught:
        await world.election(clock=Off(seconds)).open(NodeInfo("a", uuid4()))
    assert "synchronise" in caught.value.cure
    assert f"{abs(seconds):.1f} s apart" in str(caught.value)


@pytest.mark.parametrize("seconds", [28.5, -28.5])
async def test_a_clock_that_is_a_little_off_leads_and_says_by_how_much(world: World, seconds: float) -> None:
    election = world.election(clock=Off(seconds))
    assert election.skew_s == 0.0
    await election.open(NodeInfo("a", uuid4()))
    assert election.skew_s == pytest.approx(seconds, abs=0.5)
    await election.beat(await election.campaign())


async def test_a_clock_that_is_set_wrong_in_a_term_ends_it(world: World) -> None:
    clock = Off()
    election = world.election(clock=clock)
    await election.open(NodeInfo("a", uuid4()))
    term = await election.campaign()
    await election.beat(term)
    clock.seconds = -40
    with pytest.raises(TermLost, match=r"40\.\d s apart"):
        await election.beat(term)
    assert election.skew_s == pytest.approx(-40, abs=0.5)


async def test_a_node_may_be_registered_whatever_its_clock_says(world: World) -> None:
    """Its own schedules go by its own clock."""
    await world.register(NodeInfo("a", uuid4()))


def test_a_slow_answer_is_taken_as_half_way() -> None:
    sent, received = NOON, NOON + timedelta(seconds=4)
    assert skew.ahead(sent, received, NOON + timedelta(seconds=2)) == timedelta()
    assert skew.refusal(skew.MOST, NOON) is None
    assert skew.refusal(skew.MOST + timedelta(milliseconds=1), NOON)


# -- terms ----------------------------------------------------------------------------------------


async def test_each_change_of_leader_leaves_a_row_with_the_last_sign_of_the_one_before(world: World) -> None:
    first = await world.lead("a")
    await world.elections[0].beat(first)
    second = await world.depose()
    rows = await world.terms()
    assert [row.epoch for row in rows] == [second.epoch, first.epoch]
    assert [row.node for row in rows][1] == "a"
    assert rows[1].last_seen_at is None
    assert rows[1].elected_at <= rows[0].last_seen_at <= rows[0].elected_at


async def test_only_so_many_terms_are_kept(world: World) -> None:
    first = await world.lead("a")
    world.skip_epochs(1_000)
    second = await world.depose()
    assert second.epoch == first.epoch + 1_001
    assert [row.epoch for row in await world.terms()] == [second.epoch]


async def test_a_campaign_that_yields_raises_no_epoch(world: World) -> None:
    leader = await world.lead("first")
    await propose(world, leader, "old", "new")
    _, newer = await join(world, "newer", "new")
    _, older = await join(world, "older", "old")
    await world.elections[0].close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(older.campaign)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (await newer.campaign()).epoch == leader.epoch + 1
        nursery.cancel_scope.cancel()
