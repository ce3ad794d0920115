"""psycopg driven by trio, against a real server; and the private names of psycopg that it stands on."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import psycopg
import pytest
import trio
from psycopg import waiting
from support.postgres import Server, pg18

from singd.edges.postgres.failure import PostgresError
from singd.edges.postgres.pool import Pool, checked_schema, connect
from singd.edges.postgres.wire import TrioConnection

__all__ = ["pg18"]


@pytest.fixture
async def connection(pg18: Server) -> AsyncIterator[TrioConnection]:
    connection = await TrioConnection.open(pg18.conninfo())
    yield connection
    connection.drop()


async def one(connection: TrioConnection, sql: str, *values: object) -> object:
    row = await (await connection.execute(sql.encode(), values or None)).fetchone()
    assert row is not None
    return row[0]


# -- the contract with psycopg --------------------------------------------------------------------


def test_psycopg_is_the_minor_version_that_this_was_written_for() -> None:
    assert psycopg.__version__.startswith("3.3.")


@pytest.mark.parametrize(
    "name", ["_connect_gen", "_cancel_gen", "_should_cancel", "_get_connection_params", "wait", "cancel_safe"]
)
def test_the_private_methods_that_wire_uses_exist(name: str) -> None:
    assert callable(getattr(psycopg.AsyncConnection, name))


def test_the_private_names_that_wire_uses_mean_what_they_did(pg18: Server) -> None:
    assert issubclass(psycopg.errors._WaitTimeout, Exception)
    assert (waiting.WAIT_R | waiting.WAIT_W) == waiting.WAIT_RW
    assert (waiting.READY_R, waiting.READY_W) == (waiting.WAIT_R, waiting.WAIT_W)
    assert list(inspect.signature(psycopg.AsyncConnection.wait).parameters) == [
        "self",
        "gen",
        "interval",
        "timeout",
    ]
    generator = psycopg.AsyncConnection._connect_gen(pg18.conninfo())
    fd, wanted = next(generator)
    assert isinstance(fd, int)
    assert wanted in (waiting.WAIT_R, waiting.WAIT_W, waiting.WAIT_RW)
    generator.close()


async def test_a_new_connection_has_the_attributes_that_wire_sets(connection: TrioConnection) -> None:
    assert connection._autocommit is True
    assert connection.autocommit is True
    assert connection._pipeline is None
    assert connection._closed is False
    assert isinstance(connection.lock, trio.Lock)


# -- waiting --------------------------------------------------------------------------------------


async def test_an_idle_wait_costs_no_wake_up(connection: TrioConnection) -> None:
    class Counter(trio.abc.Instrument):
        steps = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            Counter.steps += 1

    counter = Counter()
    trio.lowlevel.add_instrument(counter)
    await connection.execute("SELECT pg_sleep(0.5)")
    trio.lowlevel.remove_instrument(counter)
    assert Counter.steps < 10  # psycopg's own wait would wake for nothing five times more


async def test_a_long_query_leaves_the_loop_to_others(connection: TrioConnection) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await trio.sleep(0.01)
            ticks += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        await connection.execute("SELECT pg_sleep(0.3)")
        nursery.cancel_scope.cancel()
    assert ticks > 10


async def test_a_big_result_and_a_big_parameter_arrive_whole(connection: TrioConnection) -> None:
    text = "ü" * 3_000_000
    assert await one(connection, "SELECT %s", text) == text
    rows = await connection.execute("SELECT * FROM generate_series(1, 200000)")
    assert len(await rows.fetchall()) == 200_000


async def test_copy_pipeline_and_notifications_work(connection: TrioConnection, pg18: Server) -> None:
    await connection.execute("CREATE TEMP TABLE t (n int)")
    async with connection.cursor().copy("COPY t FROM STDIN") as copy:
        for n in range(1000):
            await copy.write_row((n,))
    assert await one(connection, "SELECT sum(n) FROM t") == 499500
    async with connection.pipeline():
        for n in range(10):
            await connection.execute("INSERT INTO t VALUES (%s)", (n,))
    assert await one(connection, "SELECT count(*) FROM t") == 1010
    await connection.execute("LISTEN word")
    pg18.execute("NOTIFY word, 'hello'")
    with trio.fail_after(5):
        async with aclosing(connection.notifies()) as words:
            assert (await anext(words)).payload == "hello"


# -- cancellation ---------------------------------------------------------------------------------


async def test_a_cancelled_query_ends_on_the_server_and_the_connection_lives(
    connection: TrioConnection,
) -> None:
    begun = time.monotonic()
    with trio.move_on_after(0.1) as scope:
        await connection.execute("SELECT pg_sleep(30)")
    assert scope.cancelled_caught
    assert time.monotonic() - begun < 3
    assert await one(connection, "SELECT 1") == 1


async def test_a_cancelled_transaction_is_rolled_back_and_the_connection_idle(
    connection: TrioConnection,
) -> None:
    await connection.execute("CREATE TEMP TABLE t (n int)")
    with trio.move_on_after(0.1):
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (1)")
            await trio.sleep_forever()
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert await one(connection, "SELECT count(*) FROM t") == 0


async def test_a_failed_transaction_is_rolled_back(connection: TrioConnection) -> None:
    await connection.execute("CREATE TEMP TABLE t (n int)")
    with pytest.raises(psycopg.errors.DivisionByZero):
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (1 / (SELECT count(*) FROM t))")
    assert await one(connection, "SELECT count(*) FROM t") == 0


async def test_a_lock_session_drops_its_socket_at_once(pg18: Server) -> None:
    holder = await connect(pg18.conninfo(), "singd", "test holder")
    await holder.execute("SELECT pg_advisory_lock(77)")
    waiter = await connect(pg18.conninfo(), "singd", "test waiter")
    begun = time.monotonic()
    with trio.move_on_after(0.1):
        await waiter.execute("SELECT pg_advisory_lock(77)")
    assert time.monotonic() - begun < 0.5
    assert waiter.closed
    holder.drop()


async def test_dropping_twice_is_no_error(connection: TrioConnection) -> None:
    connection.drop()
    connection.drop()
    with pytest.raises(psycopg.OperationalError):
        await connection.execute("SELECT 1")


# -- failing --------------------------------------------------------------------------------------


async def test_a_server_that_is_not_there_is_an_operational_error() -> None:
    with pytest.raises(psycopg.OperationalError):
        await TrioConnection.open("host=/nonexistent dbname=x")


async def test_the_first_of_several_hosts_that_answers_is_taken(pg18: Server) -> None:
    connection = await TrioConnection.open(
        f"host=/nonexistent,{pg18.directory} dbname=postgres user=postgres"
    )
    assert await one(connection, "SELECT 1") == 1
    connection.drop()


async def test_a_server_that_accepts_and_says_nothing_is_a_timeout(pg18: Server) -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        await TrioConnection.open(f"host=127.0.0.1 port={port} dbname=x connect_timeout=2")
    assert time.monotonic() - begun < 5
    await listener.aclose()


async def test_a_backend_that_is_terminated_is_an_operational_error(
    connection: TrioConnection, pg18: Server
) -> None:
    pg18.execute(f"SELECT pg_terminate_backend({connection.info.backend_pid}, 5000)")
    with pytest.raises(psycopg.OperationalError):
        await connection.execute("SELECT 1")


# -- the pool -------------------------------------------------------------------------------------


async def test_a_pool_keeps_what_is_healthy_and_drops_what_is_not(pg18: Server) -> None:
    pool = Pool(pg18.conninfo(), "public")
    async with pool.connection() as first:
        pass
    async with pool.connection() as again:
        assert again is first
        await again.execute("BEGIN")  # whoever forgets a transaction does not leave it to the next
    async with pool.connection() as second:
        assert second is not first
        assert first.closed
        second.drop()
    async with pool.connection() as third:
        assert await one(third, "SELECT 1") == 1
    pool.close()
    assert third.closed


async def test_a_pool_is_bounded_and_says_when_it_is_exhausted(pg18: Server) -> None:
    pool = Pool(pg18.conninfo(), "public", size=2, wait_s=0.05)
    async with pool.connection(), pool.connection():
        with pytest.raises(PostgresError, match="all 2 connections were busy"):
            async with pool.connection():
                pass
    pool.close()


async def test_every_session_is_pinned(pg18: Server) -> None:
    pool = Pool(pg18.conninfo(), "ledger_7")
    async with pool.connection() as connection:
        rows = await connection.execute("SELECT name, setting FROM pg_settings")
        settings = dict(await rows.fetchall())
    pool.close()
    assert settings["search_path"] == "ledger_7"
    assert settings["statement_timeout"] == "10000"
    assert settings["idle_in_transaction_session_timeout"] == "3000"
    assert settings["client_connection_check_interval"] == "1000"
    assert settings["application_name"] == "singd ledger"


async def test_a_pool_that_cannot_reach_the_server_says_so_at_once() -> None:
    with pytest.raises(PostgresError, match="connecting"):
        async with Pool("host=/nonexistent dbname=x"):
            pass


@pytest.mark.parametrize("name", ["", "Singd", "1st", "a b", 'a"b', "a;drop", "a-b", "ä", "a" * 64])
def test_a_schema_name_that_could_be_sql_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="schema"):
        checked_schema(name)


async def test_connections_leave_no_descriptors_behind(pg18: Server) -> None:
    await (await _opened(pg18)).close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        connection = await _opened(pg18)
        with trio.move_on_after(0.001):
            await connection.execute("SELECT pg_sleep(1)")
        connection.drop()
    assert len(os.listdir("/proc/self/fd")) <= before


async def _opened(server: Server) -> TrioConnection:
    return await TrioConnection.open(server.conninfo())
