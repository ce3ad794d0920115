"""What may not hold our locks is refused by name before a lock is taken: standbys, poolers, schemas of other versions."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import trio
import trio.testing
from support.pgbouncer import pooling
from support.postgres import RUNTIME, Server, other_user
from support.proxy import SOCKET, cutting_proxy

from singd.edges.postgres import keys, migrate
from singd.edges.postgres.election import PostgresElection
from singd.edges.postgres.migrate import Migration, migrations
from singd.edges.postgres.pool import Pool
from singd.edges.postgres.presence import PostgresPresence
from singd.edges.postgres.statements import statement
from singd.errors import EdgeError, NameTaken
from singd.ports import NodeInfo

from .conftest import NOON, World, missed


@pytest.fixture(params=["pg18", "pg15"])
def place(request: pytest.FixtureRequest) -> Server:
    """Only a real server can refuse so; clocks and names are refused by the twin too, see the other suites."""
    server: Server = request.getfixturevalue(request.param)
    return server


def node(name: str = "a") -> NodeInfo:
    return NodeInfo(name, uuid4())


async def refused(conninfo: str, schema: str) -> EdgeError:
    """Why both sessions are; the reason is the same."""
    reasons: list[EdgeError] = []
    for session in (PostgresElection(conninfo, schema), PostgresPresence(conninfo, schema)):
        with pytest.raises(EdgeError) as caught:
            await session.open(node())
        reasons.append(caught.value)
    assert str(reasons[0]) == str(reasons[1])
    return reasons[0]


def advisory_locks(world: World) -> list[tuple[object, ...]]:
    """Locks of ours in this ledger, whoever holds them."""
    halves = [keys.halves(key) for key in (keys.leader_key(world.schema), keys.node_key(world.schema, "a"))]
    pairs = ", ".join(f"({classid}, {objid})" for classid, objid in halves)
    return world.server.execute(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted "
        f"AND (classid::bigint, objid::bigint) IN ({pairs})"
    )


# -- read-only servers, standbys ------------------------------------------------------------------


async def test_a_read_only_server_is_refused_by_name(world: World) -> None:
    error = await refused(f"{world.conninfo} options='-c default_transaction_read_only=on'", world.schema)
    assert "read-only" in str(error)
    assert "primary" in error.cure


@contextmanager
def standby(primary: Server) -> Iterator[Server]:
    """A hot standby of a server, by pg_basebackup."""
    directory = Path(tempfile.mkdtemp(prefix="sgd-", dir="/tmp"))
    server = Server(primary.binaries, directory, {"wal_level": "replica", "hot_standby": "on"})
    user = other_user()
    if user:
        os.chown(directory, user["user"], user["group"])
    command = [primary.binaries / "pg_basebackup", "-h", primary.directory, "-U", "postgres"]
    try:
        subprocess.run(
            [*command, "-D", directory / "data", "-R", "-X", "stream", "-c", "fast"],
            check=True, cwd="/", **user,
        )  # fmt: skip
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)


async def test_a_standby_is_refused_and_a_lock_taken_there_elects_nobody_not_even_after_promotion(
    world: World,
) -> None:
    """Postgres grants advisory locks on a standby, and the session survives the promotion: only a write elects."""
    term = await world.lead("a")
    with standby(world.server) as copy:
        error = await refused(copy.conninfo(user=RUNTIME), world.schema)
        assert "standby" in str(error)
        assert "primary" in error.cure
        with psycopg.connect(copy.conninfo(), autocommit=True) as early:
            early.execute(f"SET search_path = {world.schema}".encode())
            asked = elected_by(world)
            assert early.execute(
                "SELECT pg_try_advisory_lock(%s)", (keys.leader_key(world.schema),)
            ).fetchone() == (True,)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                early.execute(statement("elect"), asked)
            early.execute("SELECT pg_promote(true, 30)")
            assert early.execute(statement("prove"), {**asked, "epoch": term.epoch}).fetchone() is None
            assert early.execute("SELECT epoch FROM leader").fetchone() == (term.epoch,)
            election = PostgresElection(copy.conninfo(user=RUNTIME), world.schema)
            await election.open(node("b"))
            with trio.move_on_after(0.3) as waiting:
                await election.campaign()
            assert waiting.cancelled_caught, "the lock is held"
        await election.open(node("b"))
        with trio.fail_after(5):
            assert (await election.campaign()).epoch == term.epoch + 1
        await election.close()


def elected_by(world: World) -> dict[str, object]:
    classid, objid = keys.halves(keys.leader_key(world.schema))
    return {
        "process": uuid4(), "name": "early", "content_hash": "", "may_yield": False, "classid": classid, "objid": objid,
    }  # fmt: skip


# -- poolers --------------------------------------------------------------------------------------

POOLS = {"plain": {}, "one backend": {"default_pool_size": "1"}, "round robin": {"server_round_robin": "1"}}


@pytest.mark.parametrize("pool", POOLS)
async def test_a_pooler_in_transaction_mode_is_refused_before_a_lock_is_taken(
    world: World, pool: str
) -> None:
    with pooling(world.server, RUNTIME, "transaction", **POOLS[pool]) as pooler, trio.fail_after(8):
        error = await refused(pooler.conninfo, world.schema)
        assert "pooler" in str(error)
        assert "session-mode" in error.cure
        assert advisory_locks(world) == []


async def test_a_busy_pooler_in_transaction_mode_is_refused(world: World) -> None:
    """Others take and leave backends while we look."""
    with pooling(world.server, RUNTIME, "transaction") as pooler:

        async def use(pool: Pool) -> None:
            while True:
                async with pool.connection() as connection:
                    await connection.execute("SELECT pg_sleep(0.001)", prepare=False)

        async with Pool(pooler.conninfo, world.schema) as pool, trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(use, pool)
            for _ in range(10):
                assert "pooler" in str(await refused(pooler.conninfo, world.schema))
            nursery.cancel_scope.cancel()
        assert advisory_locks(world) == []


async def test_a_pooler_in_session_mode_is_as_good_as_none(world: World) -> None:
    with pooling(world.server, RUNTIME, "session") as pooler:
        presence = PostgresPresence(pooler.conninfo, world.schema)
        first, second = (PostgresElection(pooler.conninfo, world.schema, lease_s=1.0) for _ in range(2))
        me = node()
        assert (await presence.open(me)).startup_at is not None
        with pytest.raises(NameTaken):
            await PostgresPresence(pooler.conninfo, world.schema).open(node())
        await first.open(me)
        term = await first.campaign()
        await first.beat(term)
        beaten = trio.current_time()
        await second.open(node("b"))
        with trio.fail_after(5):
            assert (await second.campaign()).epoch == term.epoch + 1  # the first one's lease is over
        assert 0.8 <= trio.current_time() - beaten < 3
        for session in (first, second, presence):
            await session.close()
        with trio.fail_after(3):
            while advisory_locks(world):
                await trio.sleep(0.02)


async def test_a_process_id_that_is_not_the_servers_is_looked_into_and_no_reason_by_itself(
    world: World,
) -> None:
    async with cutting_proxy(world.server.directory / SOCKET) as proxy:
        proxy.invent_pid = True
        election = PostgresElection(f"host={proxy.directory} dbname=postgres user={RUNTIME}", world.schema)
        await election.open(node())
        await election.beat(await election.campaign())
        await election.close()


# -- schemas --------------------------------------------------------------------------------------


def later(works_from: int | None) -> list[Migration]:
    """The migrations of the next program."""
    number = len(migrations()) + 1
    said = f"-- works with programs from version {works_from} on\n" if works_from else "-- no word\n"
    return [*migrations(), Migration(number, f"{number:04}_later", f"{said}CREATE TABLE @schema@.later ();")]


async def test_daemons_of_this_program_and_of_the_next_work_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During an upgrade: the first new node migrates, the old ones lead, register and write as before."""
    old, old_presence = world.election(), world.presence()
    me = node("old")
    await old_presence.open(me)
    await old.open(me)
    term = await old.campaign()
    newer = later(len(migrations()))
    with monkeypatch.context() as next_program:
        next_program.setattr(migrate, "migrations", lambda: newer)
        assert await migrate.migrate(world.server.conninfo(), world.schema, RUNTIME) == [newer[-1].name]
        new, new_presence, you = world.election(), world.presence(), node("new")
        await new_presence.open(you)
        await new.open(you)
    assert await old.files() == {"old": "", "new": ""}
    await old.beat(term)
    await old_presence.keep(0.0)
    await world.record(term, missed("x", NOON))
    await old.close()
    taken = await new.campaign()
    await world.record(taken, missed("y", NOON))
    await old.open(me)  # comes back under the newer schema, and may migrate what is there
    assert await migrate.migrate(world.server.conninfo(), world.schema, RUNTIME) == []
    await new.close()
    again = await old.campaign()
    await world.ledger.adopt(again)
    assert (term.epoch, taken.epoch, again.epoch) == (1, 2, 3)


@pytest.mark.parametrize("works_from", [None, 3])
async def test_a_schema_that_leaves_this_program_behind_is_refused_with_the_cure(
    world: World, monkeypatch: pytest.MonkeyPatch, works_from: int | None
) -> None:
    newer = later(works_from)
    with monkeypatch.context() as next_program:
        next_program.setattr(migrate, "migrations", lambda: newer)
        await migrate.migrate(world.server.conninfo(), world.schema, RUNTIME)
    known = len(migrations())
    error = await refused(world.conninfo, world.schema)
    assert f"is at version {known + 1}" in str(error)
    assert f"knows versions up to {known}" in str(error)
    assert "upgrade singd" in error.cure
    with pytest.raises(EdgeError, match="knows versions up to"):
        await migrate.migrate(world.server.conninfo(), world.schema, RUNTIME)


async def test_one_step_that_leaves_it_behind_is_enough_whatever_follows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = later(None)
    number = len(steps) + 1
    steps.append(Migration(number, "gentle", "-- works with programs from version 1 on\nSELECT 1;"))
    with monkeypatch.context() as next_program:
        next_program.setattr(migrate, "migrations", lambda: steps)
        await migrate.migrate(world.server.conninfo(), world.schema, RUNTIME)
    assert "knows versions up to" in str(await refused(world.conninfo, world.schema))


async def test_an_older_schema_is_refused_with_the_verb_that_helps(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = later(1)
    monkeypatch.setattr(migrate, "migrations", lambda: newer)
    error = await refused(world.conninfo, world.schema)
    assert "lacks migrations" in str(error)
    assert "singd db migrate" in error.cure


async def test_a_ledger_from_before_programs_said_what_they_work_with_is_brought_forward(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its table of versions has no such column, and every program refuses what is newer than itself."""
    schema = f"{world.schema}_old"
    first = migrations()[:1]
    with monkeypatch.context() as first_program:
        first_program.setattr(migrate, "migrations", lambda: first)
        await migrate.migrate(world.server.conninfo(), schema, None)
    world.server.execute(f"ALTER TABLE {schema}.schema_version DROP COLUMN works_from")
    world.server.execute(f"GRANT USAGE ON SCHEMA {schema} TO {RUNTIME}")
    world.server.execute(f"GRANT SELECT ON {schema}.schema_version TO {RUNTIME}")
    assert "lacks migrations" in str(await refused(world.conninfo, schema))
    assert await migrate.migrate(world.server.conninfo(), schema, RUNTIME) == [
        m.name for m in migrations()[1:]
    ]
    election = PostgresElection(world.conninfo, schema)
    await election.open(node())
    await election.close()


def test_a_migration_says_what_it_works_with_in_its_first_line_only() -> None:
    said = "-- works with programs from version 4 on\n"
    assert Migration(7, "m", f"{said}SELECT 1;").works_from == 4
    assert Migration(7, "m", f"SELECT 1;\n{said}").works_from == 7
    assert migrations()[1].works_from == 1
