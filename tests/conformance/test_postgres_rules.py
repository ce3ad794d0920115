"""What only a real server can show: zombies, standbys, poolers, rights (S9), and hostile text (S8)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from importlib import resources
from uuid import uuid4

import psycopg
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.postgres import RUNTIME, Server

from singd.core.values import Finish, Log, Occurrence, Recording, State, Verdict
from singd.edges.postgres import batches
from singd.edges.postgres import text as literals
from singd.edges.postgres.election import PostgresElection
from singd.edges.postgres.failure import PostgresError
from singd.edges.postgres.ledger import PostgresLedger
from singd.edges.postgres.migrate import migrate
from singd.edges.postgres.pool import Pool
from singd.edges.postgres.reader import LedgerReader
from singd.edges.postgres.statements import statement
from singd.errors import EdgeError, TermLost
from singd.ports import NodeInfo, Term

from .conftest import NOON, World


@pytest.fixture(params=["pg18", "pg15"])
def place(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


def session(world: World, user: str = RUNTIME) -> psycopg.Connection[tuple[object, ...]]:
    """A plain connection of somebody else."""
    connection = psycopg.connect(world.server.conninfo(user=user), autocommit=True)
    connection.execute(f"SET search_path = {world.schema}".encode())
    return connection


# -- fence ----------------------------------------------------------------------------------------


async def test_a_takeover_waits_for_the_open_transaction_of_a_zombie_but_not_for_ever(world: World) -> None:
    term = await world.lead("a")
    with session(world) as zombie:
        zombie.execute("SET idle_in_transaction_session_timeout = '700ms'")
        zombie.execute("BEGIN")
        zombie.execute("SELECT epoch FROM leader FOR SHARE")
        begun = trio.current_time()
        with trio.fail_after(8):
            successor = await world.depose()
        assert 0.4 < trio.current_time() - begun < 5
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            zombie.execute("COMMIT")
    assert successor.epoch == term.epoch + 1


async def test_a_zombie_in_the_middle_of_its_transaction_commits_before_the_takeover_or_not_at_all(
    world: World,
) -> None:
    await world.lead("a")
    with session(world) as zombie:
        zombie.execute("BEGIN")
        zombie.execute("SELECT epoch FROM leader FOR SHARE")
        zombie.execute("INSERT INTO cursor VALUES ('zombie', 'cluster', now())")
        done = trio.Event()

        async def take_over() -> None:
            await world.depose()
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_over)
            await trio.sleep(0.2)
            assert not done.is_set()
            zombie.execute("COMMIT")
    assert done.is_set()


FENCED: dict[str, dict[str, object]] = {
    "record": {"generation": 1, **batches.recordings([], [], []), **batches.cursors({})},
    "open_attempts": {"ids": "{}", "tokens": "{}"},
    "decide": {"ids": "{}", "verdicts": "{}", "reasons": "{}"},
    "settle": batches.ends([]),
    "accept_generation": {"hash": "h", "triggers": "{}", "now": NOON},
}


@pytest.mark.parametrize("name", FENCED)
async def test_a_takeover_waits_for_whoever_is_inside_a_fenced_statement(world: World, name: str) -> None:
    term = await world.lead()
    with session(world) as zombie, session(world) as successor:
        zombie.execute("BEGIN")
        zombie.execute(statement(name), {"epoch": term.epoch, **FENCED[name]})
        successor.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            successor.execute("UPDATE leader SET epoch = epoch + 1")
        zombie.execute("COMMIT")
        successor.execute("UPDATE leader SET epoch = epoch + 1")
        found = zombie.execute(statement(name), {"epoch": term.epoch, **FENCED[name]}).fetchone()
        assert found[0] == 0


def test_every_statement_that_names_an_epoch_to_write_is_among_them() -> None:
    folder = resources.files("singd.edges.postgres") / "sql"
    fenced = {f.name.removesuffix(".sql") for f in folder.iterdir() if "FOR SHARE" in f.read_text()}
    assert fenced == set(FENCED)


async def test_waiting_for_the_lock_leaves_the_servers_log_empty(world: World) -> None:
    await world.lead("a")
    waiter = world.election()
    await waiter.open(NodeInfo("b", uuid4()))
    before = world.server.log.read_text()
    with trio.move_on_after(2.2):
        await waiter.campaign()
    new = world.server.log.read_text()[len(before) :]
    assert "lock timeout" not in new
    assert "canceling statement" not in new


async def test_a_waiter_that_is_gone_leaves_the_queue(world: World) -> None:
    await world.lead("a")
    waiter = world.election()
    await waiter.open(NodeInfo("b", uuid4()))
    with trio.move_on_after(0.1):
        await waiter.campaign()
    with trio.fail_after(3):
        while world.server.execute("SELECT FROM pg_stat_activity WHERE application_name = 'singd lock b'"):
            await trio.sleep(0.02)


async def test_a_lock_that_was_let_go_is_noticed_by_the_next_beat(world: World) -> None:
    election = world.election()
    await election.open(NodeInfo("a", uuid4()))
    term = await election.campaign()
    await election._session.connection.execute("SELECT pg_advisory_unlock_all()")
    with pytest.raises(TermLost):
        await election.beat(term)


# -- servers that are away ------------------------------------------------------------------------


async def test_a_server_that_is_away_is_an_edge_error_within_its_bound(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("singd.edges.postgres.ledger.REPEAT_S", 0.3)
    ledger = PostgresLedger(Pool("host=/nonexistent dbname=x", world.schema))
    with pytest.raises(EdgeError), trio.fail_after(5):
        await ledger.start([str(uuid4())])
    with pytest.raises(EdgeError):
        await PostgresElection("host=/nonexistent dbname=x").open(NodeInfo("a", uuid4()))


async def test_a_ledger_outlives_the_end_of_all_its_connections(world: World) -> None:
    term = await world.lead()
    for turn in range(3):
        await world.run_one(term, f"s{turn}")
        world.server.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'singd ledger'"
        )
    assert len((await world.ledger.adopt(term)).live) == 3


async def test_a_lock_that_is_held_too_long_is_an_error_with_its_sqlstate(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("singd.edges.postgres.ledger.REPEAT_S", 0.1)
    term = await world.lead()
    recorded = await world.run_one(term)
    with session(world, "postgres") as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE attempt")
        pool = Pool(world.server.conninfo(user=RUNTIME), world.schema)
        async with pool.connection() as connection:
            await connection.execute("SET lock_timeout = '100ms'")
        with pytest.raises(PostgresError) as caught:
            await PostgresLedger(pool).start([recorded.attempt.token])
        pool.close()
    assert caught.value.sqlstate == "55P03"


# -- attempts -------------------------------------------------------------------------------------


async def test_a_beat_skips_a_row_that_another_transaction_holds_and_keeps_it(world: World) -> None:
    term = await world.lead()
    _, held = await world.started(term, "held")
    _, free = await world.started(term, "free")
    with session(world) as other:
        other.execute("BEGIN")
        other.execute("SELECT FROM attempt WHERE token = %s FOR UPDATE", (held,))
        with trio.fail_after(2):
            assert await world.ledger.beat([held, free]) == {held, free}


async def test_starting_and_beating_touch_no_index(world: World) -> None:
    term = await world.lead()
    async with Pool(world.server.conninfo(user=RUNTIME), world.schema) as pool:
        world.ledger = PostgresLedger(pool)
        for n in range(20):
            _, token = await world.started(term, f"s{n}")
            await world.ledger.beat([token])
    counters = (
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables "
        f"WHERE relname = 'attempt' AND schemaname = '{world.schema}'"
    )
    with trio.fail_after(10):
        while (found := world.server.execute(counters)) != [(40, 40)]:  # told when the sessions end
            assert found[0][1] == found[0][0]
            await trio.sleep(0.02)


async def test_no_session_may_change_a_terminal_attempt(world: World) -> None:
    _, token = await world.started(await world.lead())
    await world.ledger.finish([Finish(token, State.SUCCEEDED)])
    for user in (RUNTIME, "postgres"):
        with session(world, user) as other, pytest.raises(psycopg.Error) as caught:
            other.execute("UPDATE attempt SET state = 'failed' WHERE token = %s", (token,))
        assert caught.value.sqlstate == "SG002"


async def test_a_tasks_own_transaction_finishes_with_its_effects_or_not_at_all(world: World) -> None:
    term = await world.lead()
    number, token = await world.started(term)
    with session(world) as task:
        task.execute("SELECT finish(%s, %s)", (token, '{"rows": 2}'))
        with pytest.raises(psycopg.Error) as caught:
            task.execute("SELECT finish(%s, NULL)", (token,))
        assert caught.value.sqlstate == "SG003"
    row = await world.reader.run(number)
    assert (row.outcome, row.attempts[0].result) == (State.SUCCEEDED, {"rows": 2})
    assert await world.ledger.finish([Finish(token, State.SUCCEEDED)]) == {token}


async def test_a_log_is_kept_within_its_bound(world: World) -> None:
    number, token = await world.started(await world.lead())
    log = Log(b"h" * (1 << 20), b"t" * (1 << 20), 5)
    assert await world.ledger.finish([Finish(token, State.SUCCEEDED, log=log)]) == {token}
    kept = await world.reader.log(number, 1)
    assert len(kept.head) + len(kept.tail) == 1 << 20
    assert kept.dropped == 5 + (1 << 20)


async def test_a_result_or_an_error_without_bound_is_cut(world: World) -> None:
    number, token = await world.started(await world.lead())
    end = Finish(token, State.FAILED, "e" * 100_000, {"x": "y" * 100_000})
    assert await world.ledger.finish([end]) == {token}
    attempt = (await world.reader.run(number)).attempts[0]
    assert attempt.error == "e" * 8192
    assert "was not kept" in attempt.result["singd"]


# -- rights (S9) ----------------------------------------------------------------------------------

FORBIDDEN = [
    "CREATE TABLE mine ()",
    "DROP TABLE attempt",
    "TRUNCATE attempt",
    "ALTER TABLE attempt DISABLE TRIGGER ALL",
    "DROP TRIGGER attempt_is_over ON attempt",
    "CREATE OR REPLACE FUNCTION wait_for_lock(key bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
    "DELETE FROM leader",
    "INSERT INTO leader (only_row) VALUES (true)",
    "DELETE FROM audit_event",
    "UPDATE audit_event SET actor = 'nobody'",
    "DELETE FROM cursor",
    "DELETE FROM generation",
    "INSERT INTO schema_version VALUES (9, 'x', 'x')",
    "SET session_replication_role = replica",
    "CREATE ROLE more",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_the_runtime_role_may_not(world: World, statement: str) -> None:
    with session(world) as runtime, pytest.raises(psycopg.Error) as caught:
        runtime.execute(statement.encode())
    assert caught.value.sqlstate in ("42501", "42P16") or "permission denied" in str(caught.value)


async def test_a_stranger_may_call_no_function_and_read_nothing(world: World) -> None:
    role = f"stranger_{world.schema}"
    world.server.execute(f"CREATE ROLE {role} LOGIN")
    world.server.execute(f"GRANT USAGE ON SCHEMA {world.schema} TO {role}")
    for text in ("SELECT wait_for_lock(1)", f"SELECT finish('{uuid4()}', NULL)", "TABLE occurrence"):
        with session(world, role) as stranger, pytest.raises(psycopg.errors.InsufficientPrivilege):
            stranger.execute(text.encode())


async def test_every_function_has_its_search_path_pinned(world: World) -> None:
    rows = world.server.execute(
        "SELECT proname, proconfig::text, prosecdef FROM pg_proc WHERE pronamespace = "
        f"'{world.schema}'::regnamespace"
    )
    assert {row[0] for row in rows} == {"attempt_is_over", "wait_for_lock", "finish"}
    assert all("search_path=" in str(row[1]) and "pg_temp" in str(row[1]) for row in rows)


async def test_a_temporary_table_cannot_stand_in_for_the_ledgers_own(world: World) -> None:
    _, token = await world.started(await world.lead())
    with session(world) as task:
        task.execute(
            "CREATE TEMP TABLE attempt (token uuid, state text, finished_at timestamptz, result jsonb)"
        )
        task.execute("INSERT INTO attempt VALUES (%s, 'running')", (token,))
        task.execute(f"SELECT {world.schema}.finish(%s, NULL)".encode(), (token,))
        assert task.execute("SELECT state FROM pg_temp.attempt").fetchone() == ("running",)


# -- hostile text (S8) ----------------------------------------------------------------------------

NASTY = st.text(max_size=60) | st.sampled_from(
    ["'; DROP TABLE tripwire; --", '"; DROP TABLE tripwire; --', "$$; DROP TABLE tripwire; $$", "{a,b}", '{"a"}',
     "NULL", "null", "\\", '\\"', "\\x00", "%s", "%(ids)s", "@schema@", "\0", "\ud800", "{", "}", ",", " ", "é", "'"]
)  # fmt: skip


CASE = st.fixed_dictionaries(
    dict.fromkeys(
        (
            "schedule",
            "owner",
            "request",
            "task",
            "reason",
            "error",
            "skipped",
            "key",
            "value",
            "node",
            "content",
        ),
        NASTY,
    )
)
QUICK = settings(
    max_examples=40,
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def hostile(place: Server) -> Iterator[tuple[Server, str]]:
    """A ledger with a table beside it that must be untouched at the end."""
    schema = f"hostile{uuid4().hex[:8]}"
    trio.run(migrate, place.conninfo(), schema, RUNTIME)
    place.execute(f"CREATE TABLE {schema}.tripwire (n int)")
    place.execute(f"GRANT ALL ON {schema}.tripwire TO {RUNTIME}")
    yield place, schema
    assert place.execute(f"SELECT count(*) FROM {schema}.tripwire") == [(0,)]


@QUICK
@given(case=CASE, log=st.binary(max_size=50))
def test_any_text_comes_back_as_it_went_and_runs_nowhere(
    hostile: tuple[Server, str], case: dict[str, str], log: bytes
) -> None:
    trio.run(_round_trip, *hostile, case, log)


async def _round_trip(server: Server, schema: str, case: dict[str, str], log: bytes) -> None:
    unique, conninfo = str(uuid4()), server.conninfo(user=RUNTIME)
    schedule, node = case["schedule"] + unique, case["node"] + unique
    election = PostgresElection(conninfo, schema)
    await election.open(NodeInfo(node, uuid4(), role=case["task"], version=case["reason"]))
    try:
        term = await election.campaign()
        async with Pool(conninfo, schema) as pool:
            ledger, reader = PostgresLedger(pool), LedgerReader(pool)
            await ledger.generation(term, case["content"] + unique, {}, NOON)
            number = await _write_all(ledger, term, schedule, case, log)
            await _check_all(reader, number, schedule, node, case, log)
    finally:
        await election.close()


async def _write_all(
    ledger: PostgresLedger, term: Term, schedule: str, case: dict[str, str], log: bytes
) -> int:
    what = Occurrence(schedule, NOON, case["owner"], case["request"])
    later = Occurrence(schedule, NOON + timedelta(1), case["owner"], case["request"])
    reason = case["reason"] or "r"
    ran, _, wait = await ledger.record(
        term,
        1,
        [
            Recording(what, case["task"], Verdict.RAN, open_attempt=True),
            Recording(later, case["task"], Verdict.MISSED, reason),
            Recording(Occurrence(schedule, NOON + timedelta(2)), case["task"], None),
        ],
        {schedule: NOON},
    )
    await ledger.decide(term, {wait.occurrence_id: ("skipped", reason)})
    end = Finish(
        ran.attempt.token, State.FAILED, case["error"], {case["key"]: case["value"], "list": [case["value"]]},
        case["skipped"], log=Log(log, log, 1),
    )  # fmt: skip
    assert await ledger.finish([end]) == {ran.attempt.token}
    return int(ran.occurrence_id)


async def _check_all(
    reader: LedgerReader, number: int, schedule: str, node: str, case: dict[str, str], log: bytes
) -> None:
    said = {name: literals.clean(value) for name, value in case.items()}
    row = await reader.run(number)
    assert (row.schedule, row.owner, row.task) == (literals.clean(schedule), said["owner"], said["task"])
    assert (row.verdict, row.reason) == ("skipped", said["skipped"] or "the task said so")
    attempt = row.attempts[0]
    assert (attempt.error, attempt.node) == (said["error"], literals.clean(node))
    assert attempt.result == {said["key"]: said["value"], "list": [said["value"]]} | (
        {"list": [said["value"]]} if said["key"] == "list" else {}
    )
    assert await reader.log(number, 1) == Log(log, log, 1)
    rows = await reader.runs(schedule, None, 9)
    assert [row.reason for row in rows[:2]] == [said["reason"] or "r"] * 2
    assert (await reader.known(schedule, NOON, None)).cursor == NOON


@QUICK
@given(values=st.lists(st.none() | NASTY, max_size=8))
def test_an_array_literal_says_what_was_said(pg18: Server, values: list[str | None]) -> None:
    with psycopg.connect(pg18.conninfo()) as connection:
        found = connection.execute("SELECT %s::text[]", (literals.texts(values),)).fetchone()
    assert found == ([None if value is None else literals.clean(value) for value in values],)


async def test_a_session_that_began_while_the_server_was_read_only_costs_one_write(world: World) -> None:
    term = await world.lead("a")
    assert world.server is not None
    async with Pool(world.conninfo, world.schema) as pool:
        pool.close()
        world.server.execute(f"ALTER ROLE {RUNTIME} SET default_transaction_read_only = on")
        try:
            await LedgerReader(pool).latest()
        finally:
            world.server.execute(f"ALTER ROLE {RUNTIME} RESET default_transaction_read_only")
        ledger = PostgresLedger(pool)
        with pytest.raises(EdgeError, match="read-only"):
            await ledger.generation(term, "content", {}, NOON)
        assert await ledger.generation(term, "content", {}, NOON) > 0
