"""`sql = "…"` schedules against a real Postgres."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator

import pytest
import trio
from support.postgres import Server, pg18
from support.processes import eventually
from support.works import Inbox, work_of

from singd.core.values import Report, SqlCall, State, Work
from singd.edges.worker.executor import WorkerExecutor
from singd.edges.worker.keeper import KeeperClient

__all__ = ["pg18"]


class Bench:
    def __init__(self, server: Server, executor: WorkerExecutor, inbox: Inbox) -> None:
        self.server, self.executor, self.inbox = server, executor, inbox
        self.database = server.new_database()

    def work(self, sql: str, timeout_s: float = 30.0) -> Work:
        conninfo = self.server.conninfo(self.database)
        return work_of(SqlCall(sql, "a_db"), databases={"a_db": conninfo}, timeout_s=timeout_s)

    async def run(self, sql: str, timeout_s: float = 30.0) -> Report:
        work = self.work(sql, timeout_s)
        self.executor.hand_over([work])
        return (await self.inbox.of(work))[0]

    def sleepers(self) -> int:
        sql = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{self.database}' AND state = 'active'"
        return int(str(self.server.execute(sql)[0][0]))


@pytest.fixture
async def bench(pg18: Server) -> AsyncIterator[Bench]:
    inbox, keeper = Inbox(), KeeperClient()
    keeper.start()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(keeper.serve)
            executor = WorkerExecutor(keeper, kill_grace_s=0.5)
            async with trio.open_nursery() as inner:
                await inner.start(executor.serve, inbox.report, inbox.room_changed)
                yield Bench(pg18, executor, inbox)
                inner.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
    finally:
        await keeper.stop()


async def test_rows_are_counted_and_notices_are_logged(bench: Bench) -> None:
    report = await bench.run(
        "CREATE TABLE t AS SELECT * FROM generate_series(1, 7); DO $$ BEGIN RAISE NOTICE 'psst %', 100; END $$"
    )
    assert (report.state, report.result) == (State.SUCCEEDED, {"rows": 7, "notices": 1})
    assert report.log.head == b"NOTICE: psst 100\n"


async def test_a_procedure_may_commit(bench: Bench) -> None:
    sql = "CREATE TABLE t (n int); CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2); ROLLBACK; END $$"
    assert (await bench.run(sql)).state is State.SUCCEEDED
    assert (await bench.run("CALL p()")).state is State.SUCCEEDED
    assert bench.server.execute("SELECT n FROM t", bench.database) == [(1,)]


async def test_nothing_in_the_text_is_a_placeholder(bench: Bench) -> None:
    assert (await bench.run("SELECT '100%s %(x)s $1'")).result == {"rows": 1}


async def test_an_error_of_the_server_is_a_failure_with_its_words(bench: Bench) -> None:
    report = await bench.run("SELECT * FROM no_such_table")
    assert report.state is State.FAILED
    assert 'UndefinedTable: relation "no_such_table" does not exist' in report.error


async def test_a_database_that_cannot_be_reached_is_a_failure_without_its_password(bench: Bench) -> None:
    work = work_of(
        SqlCall("SELECT 1", "a_db"), databases={"a_db": "host=/nowhere user=me password=hush dbname=x"}
    )
    bench.executor.hand_over([work])
    report = (await bench.inbox.of(work))[0]
    assert report.state is State.FAILED
    assert "OperationalError" in report.error
    assert "hush" not in str(report)


@pytest.mark.parametrize("how", ["timeout", "cancel", "kill"])
async def test_the_server_stops_working_when_the_attempt_ends(bench: Bench, how: str) -> None:
    work = bench.work("SELECT pg_sleep(300)", timeout_s=0.6 if how == "timeout" else 60)
    bench.executor.hand_over([work])
    await eventually(lambda: bench.sleepers() == 1)
    if how == "cancel":
        bench.executor.cancel(work.attempt.token, "by somebody")
    if how == "kill":
        begun = time.monotonic()
        for worker in bench.executor._pool.workers:
            assert worker.process is not None
            os.kill(worker.process.pid, 9)
    report = (await bench.inbox.of(work))[0]
    assert report.state is {"timeout": State.TIMED_OUT, "cancel": State.CANCELLED, "kill": State.FAILED}[how]
    await eventually(lambda: bench.sleepers() == 0, within=3)
    if how == "kill":
        assert time.monotonic() - begun < 4
