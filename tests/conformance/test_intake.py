"""What nodes recorded for themselves reaches the ledger once: the same from Postgres and from its twin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, get_args
from uuid import UUID, uuid4

import psycopg
import pytest
from support.postgres import RUNTIME, Server
from support.proxy import SOCKET, CuttingProxy, Place, cutting_proxy

from singd.core.history import Known
from singd.core.values import (
    CLUSTER,
    Finish,
    Log,
    Occurrence,
    Recording,
    Shipment,
    ShippedAttempt,
    State,
    Verdict,
)
from singd.edges.memory import MemoryDatabase, MemoryLedger, MemoryReader
from singd.edges.memory.intake import MemoryIntake
from singd.edges.postgres.intake import PostgresIntake
from singd.edges.postgres.ledger import PostgresLedger
from singd.edges.postgres.pool import Pool
from singd.edges.postgres.reader import LedgerReader
from singd.errors import EdgeError
from singd.ports import Intake, NodeInfo

from .conftest import MINUTE, NOON, World, to_run

HERE, THERE = uuid4(), uuid4()
NODE = NodeInfo("node-1", uuid4())
LATER = NOON + timedelta(seconds=7)


@dataclass
class Taking:
    """The intake of a world, and what the ledger then says."""

    world: World
    intake: Intake

    async def take_in(self, *shipments: Shipment, origin: UUID = HERE) -> set[int]:
        return await self.intake.take_in(NODE, origin, shipments)

    async def rows(self, schedule: str | None = None) -> list[Any]:
        return list(await self.world.reader.runs(schedule, None, 99))

    def conflicts(self) -> list[dict[str, Any]]:
        """Details of the audit events, oldest first."""
        if isinstance(self.intake, MemoryIntake):
            return list(self.intake.taken.conflicts.values())
        assert self.world.server is not None
        found = self.world.server.execute(
            f"SELECT detail FROM {self.world.schema}.audit_event WHERE event = 'identity_conflict' ORDER BY id"
        )
        return [row[0] for row in found]  # type: ignore[misc]


@pytest.fixture
async def taking(world: World) -> AsyncIterator[Taking]:
    if world.database is not None:
        yield Taking(world, MemoryIntake(world.database))
        return
    assert world.server is not None
    async with Pool(world.server.conninfo(user=RUNTIME), world.schema) as pool:
        yield Taking(world, PostgresIntake(pool))


def tried(number: int = 1, state: State = State.SUCCEEDED, **said: Any) -> ShippedAttempt:
    return ShippedAttempt(
        number, str(uuid4()), str(NODE.process), state, NOON, LATER, **{"started_at": NOON, **said}
    )


def ran(number: int, schedule: str = "s", minute: int = 0, *attempts: ShippedAttempt) -> Shipment:
    what = Occurrence(schedule, NOON + minute * MINUTE, NODE.name)
    return Shipment(
        number,
        Recording(what, "command", Verdict.RAN),
        Verdict.RAN,
        "",
        "hash-1",
        NOON,
        attempts or (tried(),),
    )


def gone(number: int, schedule: str = "s", minute: int = 0, count: int = 1) -> Shipment:
    what = Occurrence(schedule, NOON + minute * MINUTE, NODE.name)
    until = NOON + (minute + count - 1) * MINUTE if count > 1 else None
    said = Recording(what, "command", Verdict.MISSED, "nobody was there", due_until=until, count=count)
    return Shipment(number, said, Verdict.MISSED, said.reason, "hash-1", NOON)


async def test_a_row_arrives_with_all_that_its_node_knew(taking: Taking) -> None:
    first = tried(
        1, State.FAILED, error='no: "{\\', result={"n": [1, None]}, log=Log(b"\x00head\xff", b"tail", 7)
    )
    assert await taking.take_in(ran(5, "s", 0, first, tried(2)), gone(6, "t", 0, 3)) == set()
    [row] = await taking.rows("s")
    assert (row.owner, row.due_at, row.verdict, row.standing) == (NODE.name, NOON, "ran", "succeeded")
    whole = await taking.world.reader.run(row.occurrence_id)
    failed, succeeded = whole.attempts
    assert (failed.number, failed.state, failed.error, failed.result) == (
        1,
        State.FAILED,
        first.error,
        first.result,
    )
    assert (failed.node, failed.epoch, failed.claimed_at) == (NODE.name, 0, NOON)
    assert (succeeded.number, succeeded.started_at, succeeded.finished_at) == (2, NOON, LATER)
    assert await taking.world.reader.log(row.occurrence_id, 1) == first.log
    assert await taking.world.reader.log(row.occurrence_id, 2) is None
    assert (row.run_id, whole.run_id) == ("node-1:5", "node-1:5")
    assert await taking.world.reader.node_run("node-1", 5) == whole
    assert await taking.world.reader.node_run("node-2", 5) is None
    assert await taking.world.reader.node_run("node-1", 7) is None
    [range_row] = await taking.rows("t")
    assert (range_row.due_until, range_row.count, range_row.reason) == (
        NOON + 2 * MINUTE,
        3,
        "nobody was there",
    )


async def test_what_never_began_and_what_the_task_skipped_arrive_as_they_are(taking: Taking) -> None:
    cancelled = tried(1, State.CANCELLED, started_at=None, error="never started")
    skipped = replace(ran(2, "t"), verdict=Verdict.SKIPPED, reason="nothing to do")
    assert await taking.take_in(ran(1, "s", 0, cancelled, tried(2, State.LOST)), skipped) == set()
    assert [(row.verdict, row.outcome) for row in await taking.rows("s")] == [("ran", State.LOST)]
    assert [(row.verdict, row.reason) for row in await taking.rows("t")] == [("skipped", "nothing to do")]


async def test_nothing_is_taken_in_without_ado(taking: Taking) -> None:
    assert await taking.take_in() == set()


async def test_the_generation_is_the_clusters_of_the_same_content(taking: Taking) -> None:
    term = await taking.world.lead()
    accepted = await taking.world.ledger.generation(term, "hash-1", {}, NOON)
    await taking.take_in(ran(1, "s"), replace(ran(2, "t"), content_hash="never accepted"))
    assert [row.generation for row in await taking.rows("s")] == [accepted]
    assert [row.generation for row in await taking.rows("t")] == [0]


async def test_a_batch_that_is_sent_again_changes_nothing(taking: Taking) -> None:
    batch = [ran(1), gone(2, "t", 0, 5), ran(3, "s", 1)]
    for _ in range(3):
        assert await taking.take_in(*batch) == set()
    again = [replace(batch[0], attempts=(tried(1, State.FAILED),)), *batch[1:], ran(4, "s", 2)]
    assert await taking.take_in(*again) == set()
    assert [row.standing for row in await taking.rows("s")] == ["succeeded"] * 3
    assert len(await taking.rows("t")) == 1
    assert taking.conflicts() == []


async def test_two_state_directories_of_one_name_are_told_apart(taking: Taking) -> None:
    """The row that came first stays, the other becomes an audit event, once, and the rest goes on."""
    assert await taking.take_in(ran(1), ran(2, "s", 1)) == set()
    strange = ran(1, "s", 0, tried(1, State.FAILED, error="theirs"))
    for _ in range(2):
        assert await taking.take_in(strange, ran(9, "s", 5), gone(10, "s", 1), origin=THERE) == {1, 10}
    assert [(row.due_at - NOON, row.standing) for row in await taking.rows("s")] == [
        (5 * MINUTE, "succeeded"), (MINUTE, "succeeded"), (0 * MINUTE, "succeeded"),
    ]  # fmt: skip
    first, second = taking.conflicts()
    assert (first["origin"], first["number"], first["schedule"], first["owner"]) == (
        str(THERE),
        1,
        "s",
        NODE.name,
    )
    assert (first["verdict"], first["attempts"][0]["error"]) == ("ran", "theirs")
    assert (second["number"], second["verdict"], second["reason"]) == (10, "missed", "nobody was there")


async def test_a_state_directory_that_was_restored_uses_a_number_again(taking: Taking) -> None:
    assert await taking.take_in(ran(1), ran(2, "s", 1)) == set()
    for _ in range(2):
        assert await taking.take_in(ran(2, "s", 7), ran(3, "s", 8)) == {2}
    assert [row.due_at - NOON for row in await taking.rows("s")] == [8 * MINUTE, MINUTE, 0 * MINUTE]
    assert [detail["number"] for detail in taking.conflicts()] == [2]
    assert await taking.take_in(ran(2, "s", 9)) == {2}
    assert len(taking.conflicts()) == 2


async def test_an_identity_that_was_taken_in_under_another_number_is_a_conflict(taking: Taking) -> None:
    assert await taking.take_in(ran(1)) == set()
    assert await taking.take_in(ran(2)) == {2}
    assert len(await taking.rows("s")) == 1


async def test_nodes_do_not_stand_in_each_others_way(taking: Taking) -> None:
    other = replace(ran(1), recording=replace(ran(1).recording, occurrence=Occurrence("s", NOON, "node-2")))
    assert await taking.take_in(ran(1)) == set()
    assert await taking.take_in(other, origin=THERE) == set()
    assert {row.owner for row in await taking.rows("s")} == {"node-1", "node-2"}


async def test_a_leader_neither_adopts_nor_plans_what_is_a_nodes(taking: Taking) -> None:
    await taking.take_in(ran(1), gone(2, "t"))
    term = await taking.world.lead()
    adoption = await taking.world.ledger.adopt(term)
    assert (adoption.cursors, adoption.unfinished, adoption.live) == ({}, [], [])


# -- broken connections ---------------------------------------------------------------------------

MESSAGES = 12
"""More than taking in a batch has."""


@pytest.fixture
async def cut_off(world: World) -> AsyncIterator[tuple[Taking, CuttingProxy]]:
    if world.server is None:
        pytest.skip("the twin is cut below")
    async with cutting_proxy(world.server.directory / SOCKET) as proxy:
        pool = Pool(f"host={proxy.directory} dbname=postgres user={RUNTIME}", world.schema)
        yield Taking(world, PostgresIntake(pool)), proxy
        pool.close()


@pytest.mark.parametrize("place_of_cut", get_args(Place))
async def test_a_batch_broken_at_any_message_is_taken_in_once(
    cut_off: tuple[Taking, CuttingProxy], place_of_cut: Place
) -> None:
    taking, proxy = cut_off
    await taking.take_in(ran(1))
    cut = 0
    for turn in range(MESSAGES):
        numbers = range(10 * turn + 10, 10 * turn + 13)
        proxy.arm(place_of_cut, skip=turn)
        batch = [ran(number, f"s{turn}", number) for number in numbers]
        assert await taking.take_in(*batch, ran(1)) == set()
        assert await taking.take_in(ran(1, f"s{turn}", numbers[0]), origin=THERE) == {1}
        proxy.disarm()
        if not proxy.cuts:
            break
        cut += 1
        if place_of_cut == "late":
            await proxy.deliver()
        rows = await taking.rows(f"s{turn}")
        assert [len(row.attempts) for row in rows] == [1, 1, 1]
        assert len(taking.conflicts()) == turn + 1
    assert cut >= 8, "the proxy cut too little: this test proved too little"
    assert _attempts(taking.world) == 1 + 3 * (cut + 1)


def _attempts(world: World) -> int:
    assert isinstance(world.server, Server)
    with psycopg.connect(world.server.conninfo(), autocommit=True) as connection:
        found = connection.execute(f"SELECT count(*) FROM {world.schema}.attempt".encode()).fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.parametrize("at", ["request", "reply"])
async def test_the_twin_breaks_connections_alike(at: Any) -> None:
    database = MemoryDatabase()
    world = World(MemoryLedger(database), MemoryReader(database), database)
    taking = Taking(world, MemoryIntake(database))
    await taking.take_in(ran(1))
    database.cut("take_in", at, times=2)
    assert await taking.take_in(ran(1), ran(2, "s", 1), ran(1, "s", 2)) == {1}
    assert len(await taking.rows("s")) == 2
    assert len(taking.conflicts()) == 1


async def test_a_ledger_that_is_away_is_an_error_and_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    if world.server is None:
        pytest.skip("Postgres only")
    monkeypatch.setattr("singd.edges.postgres.ledger.REPEAT_S", 0.1)
    pool = Pool(f"host={world.server.directory}/nowhere dbname=postgres user={RUNTIME}", world.schema)
    with pytest.raises(EdgeError):
        await PostgresIntake(pool).take_in(NODE, HERE, [ran(1)])


async def test_a_batch_of_five_hundred_does_not_take_long(taking: Taking) -> None:
    """Beside rows enough for a bad plan to show."""
    if not isinstance(taking.world.ledger, PostgresLedger):
        pytest.skip("Postgres only")
    assert isinstance(taking.world.reader, LedgerReader)
    await taking.take_in(*(ran(n, f"s{n % 50}", n) for n in range(1, 5_001)))
    strange = [ran(n, f"s{n % 50}", n) for n in range(1, 501)]
    assert taking.world.server is not None
    assert len(await taking.take_in(*strange, origin=THERE)) == 500
    assert len(await taking.take_in(*strange, origin=THERE)) == 500
    assert len(taking.conflicts()) == 500


async def test_what_is_known_of_an_instant_is_its_owners_alone(taking: Taking) -> None:
    reader = taking.world.reader
    await taking.take_in(ran(1, "s", 0), gone(2, "s", 3, 4))
    for at in (NOON, NOON + 4 * MINUTE):
        for owner in ("node-2", CLUSTER):
            assert await reader.known("s", at, owner) == Known()
            assert await reader.begun("s", owner) is None
        assert (await reader.known("s", at, NODE.name)).row.owner == NODE.name
        assert (await reader.known("s", at, None)).row.owner == NODE.name
    assert (await reader.known("s", NOON, NODE.name)).oldest == NOON
    assert (await reader.begun("s", NODE.name)).due_at == (await reader.begun("s", None)).due_at == NOON
    await taking.world.run_one(await taking.world.lead(), "s", NOON)
    for owner in (CLUSTER, NODE.name):
        assert (await reader.known("s", NOON, owner)).row.owner == owner
        assert (await reader.begun("s", owner)).owner == owner
    assert (await reader.known("s", NOON, None)).row.owner == CLUSTER


async def test_the_latest_runs_are_the_clusters_alone(taking: Taking) -> None:
    """A node's own it knows by its journal; those of other nodes are not its."""
    term = await taking.world.lead()
    recorded = await taking.world.record(term, to_run("s"), s=NOON)
    await taking.world.ledger.finish([Finish(recorded[0].attempt.token, State.SUCCEEDED)])
    await taking.take_in(ran(1, "s", 5), ran(2, "t", 5))
    assert {name: row.due_at for name, row in (await taking.world.reader.latest()).items()} == {"s": NOON}
