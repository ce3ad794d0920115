"""How others lost their leader, or had two: each of their failures by its name, played on singd.

The numbers are those of the projects' own issue trackers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import trio
import trio.testing
from support.pgbouncer import pooling
from support.postgres import RUNTIME, Server
from support.proxy import SOCKET, cutting_proxy

from singd.core.values import Finish, State
from singd.edges.clock import SystemClock
from singd.edges.postgres.election import PostgresElection
from singd.edges.postgres.ledger import PostgresLedger
from singd.edges.postgres.pool import Pool
from singd.edges.postgres.presence import PostgresPresence
from singd.errors import EdgeError, NameTaken, TermLost
from singd.events import Event, TermBegan, TermEnded
from singd.leadership import Trust, lead
from singd.ports import NodeInfo, Term

from .conftest import NOON, World, missed, to_run
from .test_refusals import advisory_locks


def node(name: str = "a") -> NodeInfo:
    return NodeInfo(name, uuid4())


on_servers = pytest.mark.parametrize("place", ["pg18", "pg15"], indirect=True)
"""For what only a real server, or the way to it, can do wrong."""


def real(world: World) -> Server:
    assert world.server is not None
    return world.server


# -- Oban #1488: a rolled-back election kept its leadership; renewal matched the name, not the owner --


@on_servers
async def test_oban_1488_an_election_that_failed_leads_nothing(world: World) -> None:
    server = real(world)
    server.execute(f"REVOKE UPDATE ON {world.schema}.leader FROM {RUNTIME}")
    election = world.election()
    await election.open(node())
    with pytest.raises(EdgeError, match="permission denied"):
        await election.campaign()
    with pytest.raises(TermLost):
        await election.beat(Term(1))
    server.execute(f"GRANT UPDATE ON {world.schema}.leader TO {RUNTIME}")
    with trio.fail_after(3):
        assert (await world.lead("b")).epoch == 1  # and its lock is free


@on_servers
async def test_oban_1488_an_election_whose_answer_was_lost_leads_nothing(world: World) -> None:
    async with cutting_proxy(real(world).directory / SOCKET) as proxy:
        election = PostgresElection(f"host={proxy.directory} dbname=postgres user={RUNTIME}", world.schema)
        await election.open(node())
        proxy.arm("reply", skip=3)  # two messages for the lock, two for the election
        with pytest.raises(EdgeError):
            await election.campaign()
        assert proxy.cuts == 1
        with pytest.raises(TermLost):
            await election.beat(Term(1))
        with trio.fail_after(3):
            assert (await world.lead("b")).epoch == 2  # the first is lost with its answer
        with pytest.raises(TermLost):
            await world.record(Term(1), missed("x", NOON))


@on_servers
async def test_oban_1488_a_heartbeat_that_fails_ends_the_term(world: World) -> None:
    server = real(world)
    election = world.election()
    await election.open(node())
    term = await election.campaign()
    server.execute(f"REVOKE UPDATE ON {world.schema}.leader_beat FROM {RUNTIME}")
    with pytest.raises(TermLost, match="permission denied"):
        await election.beat(term)
    server.execute(f"GRANT UPDATE ON {world.schema}.leader_beat TO {RUNTIME}")
    with pytest.raises(TermLost):  # and stays over
        await election.beat(term)


async def test_oban_1488_a_term_is_renewed_by_its_owner_and_not_by_its_name(world: World) -> None:
    leader, namesake = world.election(), world.election()
    await leader.open(node("same"))
    term = await leader.campaign()
    await namesake.open(node("same"))
    with pytest.raises(TermLost):
        await namesake.beat(term)
    await leader.beat(term)
    world.skip_epochs(1)
    with pytest.raises(TermLost):
        await leader.beat(term)


# -- oban-py #32: identity was the host name, so every process of a host led ----------------------


async def test_oban_py_32_two_daemons_of_one_name_never_both_lead(world: World) -> None:
    first, second = world.election(), world.election()
    await first.open(node("host"))
    await second.open(node("host"))
    terms: list[Term] = []

    async def campaign() -> None:
        terms.append(await second.campaign())

    term = await first.campaign()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(campaign)
        for _ in range(5):
            await trio.testing.wait_all_tasks_blocked(0.05)
            await first.beat(term)
            assert terms == []
        await first.close()
    assert terms[0].epoch == term.epoch + 1
    with pytest.raises(TermLost):
        await world.record(term, to_run("s"))
    await second.beat(terms[0])


async def test_oban_py_32_two_daemons_of_one_name_are_not_even_both_registered(world: World) -> None:
    await world.register(node("host"))
    with pytest.raises(NameTaken):
        await world.register(node("host"))


# -- leoflow #1199: a pool recycled the lock's connection each hour -------------------------------


async def test_leoflow_1199_the_locks_session_lives_as_long_as_it_beats(world: World) -> None:
    election = world.election(lease_s=0.4)
    await election.open(node())
    term = await election.campaign()
    for _ in range(25):
        await trio.sleep(0.1)
        await election.beat(term)
    if world.server is not None:
        holders = world.server.execute(f"SELECT backend_pid FROM {world.schema}.leader")
        assert advisory_locks(world) == holders


@on_servers
async def test_leoflow_1199_the_end_of_the_ledgers_sessions_costs_no_term(world: World) -> None:
    server = real(world)
    election = world.election()
    await election.open(node())
    term = await election.campaign()
    for turn in range(3):
        await world.record(term, to_run(f"s{turn}"))
        server.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'singd ledger'"
        )
        await election.beat(term)
    assert len((await world.ledger.adopt(term)).live) == 3


# -- authentik #23876: a lock stranded behind pgbouncer -------------------------------------------


@on_servers
async def test_authentik_23876_no_lock_is_left_behind_a_pooler_nor_without_one(world: World) -> None:
    server = real(world)
    with pooling(server, RUNTIME, "transaction") as pooler:
        for session in (
            PostgresElection(pooler.conninfo, world.schema),
            PostgresPresence(pooler.conninfo, world.schema),
        ):
            with pytest.raises(EdgeError, match="pooler"):
                await session.open(node())
        assert advisory_locks(world) == []
    with pooling(server, RUNTIME, "session") as pooler:
        for conninfo in (pooler.conninfo, world.conninfo):
            election, presence = (
                kind(conninfo, world.schema) for kind in (PostgresElection, PostgresPresence)
            )
            await presence.open(node())
            await election.open(node())
            await election.campaign()
            assert len(advisory_locks(world)) == 2
            await election.close()
            await presence.close()
            with trio.fail_after(2):
                while advisory_locks(world):
                    await trio.sleep(0.01)


# -- GoodJob #989: a dropped connection let the lock go, and the job ran twice in parallel --------


async def test_goodjob_989_who_lost_the_lock_with_its_connection_is_refused_by_the_fence(
    world: World,
) -> None:
    term = await world.lead("a")
    number, token = await world.started(term)
    world.terminate("a", "lock")
    successor = await world.lead("b")
    with pytest.raises(TermLost):
        await world.record(term, to_run("twice"))
    with pytest.raises(TermLost):
        await world.ledger.open_attempts(term, [number])
    assert (await world.record(successor, to_run("twice")))[0].attempt is not None
    assert await world.ledger.finish([Finish(token, State.SUCCEEDED)]) == {token}, (
        "its attempt is its own still"
    )


# -- River: a stalled call, and a term that was replaced under the same leader --------------------


async def test_river_a_term_that_was_replaced_is_lost_though_the_same_node_leads(world: World) -> None:
    election, me = world.election(), node()
    await election.open(me)
    old = await election.campaign()
    await election.close()
    await election.open(me)
    with trio.fail_after(3):
        new = await election.campaign()
    assert new.epoch == old.epoch + 1
    with pytest.raises(TermLost):
        await election.beat(old)


@on_servers
async def test_river_1251_a_call_that_hangs_does_not_outlive_its_term(world: World) -> None:
    """Cut off: the lock's session and the ledger's. Trust ends by the clock, and the call with it."""
    async with cutting_proxy(real(world).directory / SOCKET) as proxy:
        conninfo = f"host={proxy.directory} dbname=postgres user={RUNTIME}"
        election = PostgresElection(conninfo, world.schema, lease_s=2.0)
        pool = Pool(conninfo, world.schema)
        ledger = PostgresLedger(pool)
        events: list[Event] = []
        inside = trio.Event()

        async def serve(term: Term) -> None:
            await ledger.record(term, 1, [to_run("warm")], {})
            proxy.silence()
            inside.set()
            await ledger.record(term, 1, [to_run("hangs")], {})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lead, election, node(), SystemClock(), Trust(SystemClock()), trio.lowlevel.checkpoint, serve,
                events.append,
            )  # fmt: skip
            with trio.fail_after(3):
                await inside.wait()
            begun = trio.current_time()
            with trio.fail_after(2):
                while not any(isinstance(event, TermEnded) for event in events):
                    await trio.sleep(0.01)
            assert trio.current_time() - begun < 1.3  # lease 2 s, margin 1 s
            nursery.cancel_scope.cancel()
        pool.close()
    assert [event for event in events if isinstance(event, TermBegan)]


@pytest.mark.parametrize("answers", range(4))
@on_servers
async def test_a_ledger_call_that_hangs_ends_at_once_when_its_term_does(world: World, answers: int) -> None:
    """At whichever of its messages: nobody asks the server to cancel, nobody waits for a rollback."""
    async with cutting_proxy(real(world).directory / SOCKET) as proxy:
        pool = Pool(f"host={proxy.directory} dbname=postgres user={RUNTIME}", world.schema)
        term = await world.lead()
        ledger = PostgresLedger(pool)
        await ledger.adopt(term)
        proxy.silence(after=answers)
        with trio.move_on_after(0.3) as scope:
            await ledger.adopt(term)
        late = trio.current_time() - scope.deadline
        pool.close()
    assert scope.cancelled_caught, "it did not hang: this proved nothing"
    assert late < 0.2


# -- Concourse #6008: the lock's connection dropped, the owner was not told, two ran the same steps --


@on_servers
async def test_concourse_6008_a_leader_that_is_cut_off_stops_before_another_can_begin(world: World) -> None:
    """The margin between the two is a second: of trust, counted from when the last answered beat was sent."""
    async with cutting_proxy(real(world).directory / SOCKET) as proxy:
        election = PostgresElection(
            f"host={proxy.directory} dbname=postgres user={RUNTIME}", world.schema, lease_s=2.5
        )
        moments: dict[str, float] = {}
        begun = trio.Event()

        async def serve(term: Term) -> None:
            begun.set()
            try:
                await trio.sleep_forever()
            finally:
                moments["stopped"] = trio.current_time()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lead, election, node("cut"), SystemClock(), Trust(SystemClock()), trio.lowlevel.checkpoint,
                serve, lambda event: None,
            )  # fmt: skip
            await begun.wait()
            proxy.silence()
            with trio.fail_after(5):
                await world.lead("next")
            moments["succeeded"] = trio.current_time()
            nursery.cancel_scope.cancel()
    assert moments["succeeded"] - moments["stopped"] > 0.7


# -- releasing, and waiting, through a partition --------------------------------------------------


@on_servers
async def test_a_lock_is_given_back_at_once_though_nothing_passes_any_more(world: World) -> None:
    """psycopg would ask the server to cancel what runs, on a connection of its own: 12 s in a partition."""
    await world.lead("leader")
    async with cutting_proxy(real(world).directory / SOCKET) as proxy:
        conninfo = f"host={proxy.directory} dbname=postgres user={RUNTIME}"
        idle, waiting = (PostgresElection(conninfo, world.schema) for _ in range(2))
        presence = PostgresPresence(conninfo, world.schema)
        for session, name in ((idle, "idle"), (waiting, "waiting"), (presence, "name")):
            await session.open(node(name))
        proxy.silence()
        begun = trio.current_time()
        await idle.close()
        await presence.close()
        with trio.move_on_after(0.1):
            await waiting.campaign()
        await waiting.close()
        assert trio.current_time() - begun < 0.3


@on_servers
async def test_a_waiter_that_is_cut_off_becomes_no_leader_that_nobody_hears_from(world: World) -> None:
    """It waits a second at a time: cut off for longer, it is in no queue, and its lease ends its session."""
    server = real(world)
    leader = world.election()
    await leader.open(node("leader"))
    term = await leader.campaign()
    log = len(server.log.read_text())
    async with cutting_proxy(server.directory / SOCKET) as proxy:
        ghost = PostgresElection(
            f"host={proxy.directory} dbname=postgres user={RUNTIME}", world.schema, lease_s=2.0
        )
        await ghost.open(node("ghost"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_campaign, ghost)
            await trio.testing.wait_all_tasks_blocked(0.3)
            proxy.silence()
            for _ in range(12):
                await trio.sleep(0.1)
                await leader.beat(term)
            await leader.close()
            begun = trio.current_time()
            assert (await world.lead("next")).epoch == term.epoch + 1
            assert trio.current_time() - begun < 0.3
            with trio.fail_after(4):
                while server.execute(
                    "SELECT FROM pg_stat_activity WHERE application_name = 'singd lock ghost'"
                ):
                    await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    said = [line for line in server.log.read_text()[log:].splitlines() if "idle-session timeout" not in line]
    assert not [line for line in said if "ERROR" in line or "FATAL" in line]


async def _campaign(election: PostgresElection) -> None:
    await election.campaign()


@on_servers
async def test_waiting_for_seconds_writes_nothing_to_the_servers_log(world: World) -> None:
    server = real(world)
    await world.lead("a")
    waiter = world.election(lease_s=1.5)
    await waiter.open(node("b"))
    before = len(server.log.read_text())
    with trio.move_on_after(4.2):
        await waiter.campaign()
    assert "singd" not in server.log.read_text()[before:]
    assert "ERROR" not in server.log.read_text()[before:]


@on_servers
async def test_every_call_in_the_locks_session_is_bounded_by_the_server_too(world: World) -> None:
    real(world)
    election, presence = world.election(), world.presence()
    await election.open(node())
    await presence.open(node())
    for session in (election, presence):
        row = await session._session.connection.execute(
            "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'), "
            "current_setting('idle_session_timeout'), current_setting('client_connection_check_interval'), "
            "current_setting('idle_in_transaction_session_timeout')"
        )
        assert await row.fetchone() == ("10s", "5s", "5s", "1s", "3s")


@on_servers
async def test_an_election_that_waits_for_a_zombie_is_bounded_and_leads_nothing(world: World) -> None:
    """The zombie's transaction outlives the election's patience: the lock goes back, another tries."""
    server = real(world)
    election = world.election()
    await election.open(node())
    with psycopg.connect(server.conninfo()) as zombie:
        zombie.execute(f"SELECT FROM {world.schema}.leader FOR SHARE".encode())
        await election._session.connection.execute("SET lock_timeout = '300ms'")
        with pytest.raises(EdgeError), trio.fail_after(3):
            await election.campaign()
    with trio.fail_after(3):
        assert (await world.lead("b")).epoch == 1


async def test_the_name_given_to_a_term_is_not_its_identity(world: World) -> None:
    """Two processes with one name and one uuid each: what one wrote is not the other's to finish under its epoch."""
    first = await world.lead("same")
    await world.elections[0].close()
    with trio.fail_after(3):
        second = await world.lead("same")
    with pytest.raises(TermLost):
        await world.record(first, missed("x", NOON))
    with pytest.raises(TermLost):
        await world.record(replace(second, epoch=second.epoch + 1), missed("x", NOON))


def test_trust_is_counted_on_a_clock_that_runs_through_suspend() -> None:
    """`time.monotonic` stands still meanwhile: a laptop that wakes would still believe in its term."""
    since_boot = float(Path("/proc/uptime").read_text().split()[0])
    assert SystemClock().boot() == pytest.approx(since_boot, abs=1.0)
