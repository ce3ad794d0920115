"""What operators read of a cluster, the same from the twin in memory and from Postgres as the least role."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from singd.core.cluster import NodeRow
from singd.ports import NodeInfo

from .conftest import NOON, World


def node(name: str, content_hash: str = "h") -> NodeInfo:
    return NodeInfo(name, uuid4(), "singularity", "0.1.0", content_hash)


async def leads(world: World, info: NodeInfo) -> int:
    """The node is there, and leads: the epoch."""
    await world.register(info)
    election = world.election()
    await election.open(info)
    return (await election.campaign()).epoch


def age(world: World, seconds: int) -> None:
    """As if what runs had last beaten so long ago."""
    if world.database is not None:
        for row in world.database.rows.values():
            for one in row.attempts:
                one.renewed -= seconds
    else:
        assert world.server is not None
        world.server.execute(
            f"UPDATE {world.schema}.attempt SET claimed_at = claimed_at - interval '{seconds} s', "
            f"started_at = started_at - interval '{seconds} s', beat_at = beat_at - interval '{seconds} s'"
        )


async def readings(world: World, number: int) -> list[bool]:
    """Whether the one attempt is abandoned, by everything that tells of attempts."""
    reader = world.reader
    rows = [*await reader.running(1), *await reader.runs("s", None, 1), *await reader.runs(None, None, 1)]
    return [row.attempts[-1].abandoned for row in (*rows, await reader.run(number))]


async def test_nobody_is_there_before_anybody_was(world: World) -> None:
    found = await world.reader.cluster()
    assert (found.leader, list(found.nodes), list(found.terms), found.generation) == (None, [], [], None)


async def test_live_nodes_and_the_leader_are_known(world: World) -> None:
    one, two = node("one"), node("two", "other")
    epoch = await leads(world, one)
    await world.register(two)
    found = await world.reader.cluster()
    rows = {row.name: row for row in found.nodes}
    assert rows["two"] == NodeRow(
        "two", "singularity", "0.1.0", str(two.process), rows["two"].registered_at, True, "other"
    )
    assert [found.leads(rows[name]) for name in ("one", "two")] == [True, False]
    assert found.leading is not None
    assert (found.leading.epoch, found.leading.node, found.leading.process) == (
        epoch,
        "one",
        str(one.process),
    )
    assert 0 <= found.leading.silent_s < 5
    assert found.configurations() == {"h": ["one"], "other": ["two"]}


async def test_a_node_whose_session_ended_is_gone_and_so_is_a_leader_without_its_lock(world: World) -> None:
    await leads(world, node("one"))
    world.terminate("one")
    found = await world.reader.cluster()
    assert [(row.name, row.live) for row in found.nodes] == [("one", False)]
    assert (found.leading, found.leader and found.leader.node) == (None, "one")


async def test_the_newest_changes_of_leader_come_first_and_five_at_most(world: World) -> None:
    for number in range(6):
        await leads(world, node(f"n{number}"))
        world.terminate(f"n{number}")
    terms = (await world.reader.cluster()).terms
    assert [term.node for term in terms] == ["n5", "n4", "n3", "n2", "n1"]
    assert all(term.gap is not None and term.gap >= timedelta() for term in terms)


async def test_the_generation_in_force_is_the_one_accepted_last(world: World) -> None:
    term = await world.lead()
    first = await world.ledger.generation(term, "a", {}, NOON)
    second = await world.ledger.generation(term, "b", {}, NOON)
    assert await world.ledger.generation(term, "a", {}, NOON) == first != second
    found = await world.reader.cluster()
    assert (found.generation, found.content_hash) == (first, "a")


async def test_what_is_in_progress_is_told_oldest_first_and_is_not_abandoned_at_once(world: World) -> None:
    term = await world.lead()
    first, _ = await world.started(term, "s", NOON)
    second, _ = await world.started(term, "t", NOON)
    found = await world.reader.running(10)
    assert [(row.occurrence_id, row.attempts[-1].abandoned) for row in found] == [
        (first, False),
        (second, False),
    ]
    assert [row.occurrence_id for row in await world.reader.running(1)] == [first]


async def test_a_silent_attempt_is_abandoned_unless_its_own_daemon_is_live(world: World) -> None:
    info = node("one")
    await world.register(info)
    election = world.election()
    await election.open(info)
    number, _ = await world.started(await election.campaign())
    assert await readings(world, number) == [False] * 4
    age(world, 8)
    assert await readings(world, number) == [False] * 4
    world.terminate("one")
    await world.register(node("one"))  # a new process under the same name runs nothing of the old one's
    assert await readings(world, number) == [True] * 4


async def test_an_attempt_that_beats_is_not_abandoned_though_its_daemon_lost_its_name(world: World) -> None:
    number, token = await world.started(await world.lead())
    age(world, 8)
    assert await readings(world, number) == [True] * 4
    assert await world.ledger.beat([token]) == {token}
    assert await readings(world, number) == [False] * 4
