"""Occurrences, attempts, verdicts and cursors: the same from Postgres and from its twin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from singd.core.values import CLUSTER, Attempt, Finish, Log, Occurrence, Recorded, Recording, State, Verdict

from .conftest import MINUTE, NOON, World, missed, to_run, to_wait

LATER = NOON + timedelta(hours=1)


async def one_row(world: World, number: int) -> object:
    row = await world.reader.run(number)
    assert row is not None
    return row


# -- recording ------------------------------------------------------------------------------------


async def test_a_recorded_occurrence_has_its_attempt_and_moves_the_cursor(world: World) -> None:
    term = await world.lead("a")
    recorded = (await world.record(term, to_run("s"), s=NOON))[0]
    assert recorded.attempt == Attempt(
        recorded.occurrence_id, Occurrence("s", NOON), 1, recorded.attempt.token, term.epoch
    )
    adoption = await world.ledger.adopt(term)
    assert adoption.cursors == {"s": NOON}
    assert [item.attempt for item in adoption.live] == [recorded.attempt]
    assert adoption.unfinished == []


async def test_answers_stand_in_the_order_of_what_was_asked(world: World) -> None:
    term = await world.lead()
    asked = [to_run("a"), missed("b", NOON), to_wait("c"), to_run("a", NOON + MINUTE)]
    answers = await world.record(term, *asked)
    rows = [await world.reader.run(answer.occurrence_id) for answer in answers]
    assert [(row.schedule, row.due_at) for row in rows] == [
        ("a", NOON),
        ("b", NOON),
        ("c", NOON),
        ("a", NOON + MINUTE),
    ]
    assert [answer.attempt is not None for answer in answers] == [True, False, False, True]
    assert [row.verdict for row in rows] == ["ran", "missed", None, "ran"]


async def test_an_identity_that_is_taken_stays_with_who_has_it(world: World) -> None:
    term = await world.lead()
    first = await world.run_one(term)
    again = await world.record(term, to_run(), to_run("other"))
    assert again[0] == Recorded(None)
    assert again[1].attempt is not None
    live = (await world.ledger.adopt(term)).live
    assert {item.attempt.token for item in live} == {first.attempt.token, again[1].attempt.token}


async def test_a_request_an_owner_and_an_instant_each_make_another_identity(world: World) -> None:
    term = await world.lead()
    here = Recording(Occurrence("s", NOON, owner="node-1"), "command", Verdict.SKIPPED, "paused")
    answers = await world.record(
        term, to_run(), to_run(request="r1"), to_run(request="r2"), to_run(due_at=NOON + MINUTE), here
    )
    assert len({answer.occurrence_id for answer in answers}) == 5


async def test_the_same_identity_twice_in_one_batch_is_one_occurrence(world: World) -> None:
    term = await world.lead()
    answers = await world.record(term, to_run(), to_run())
    assert [answer.occurrence_id is None for answer in answers] == [False, True]
    assert len((await world.ledger.adopt(term)).live) == 1


async def test_a_cursor_never_moves_back(world: World) -> None:
    term = await world.lead()
    await world.record(term, s=LATER)
    await world.record(term, s=NOON, t=NOON)
    assert (await world.ledger.adopt(term)).cursors == {"s": LATER, "t": NOON}


async def test_recording_nothing_is_allowed(world: World) -> None:
    assert await world.record(await world.lead()) == []


async def test_a_batch_larger_than_a_statement_is_one_transaction(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("singd.edges.postgres.ledger.CHUNK", 10)
    term = await world.lead()
    asked = [to_run(f"s{n}") for n in range(35)]
    answers = await world.ledger.record(term, 1, asked, {"s0": NOON})
    assert [answer.attempt.occurrence.schedule for answer in answers] == [f"s{n}" for n in range(35)]
    assert len((await world.ledger.adopt(term)).live) == 35


async def test_a_range_row_stands_for_its_instants(world: World) -> None:
    term = await world.lead()
    until = NOON + 4 * MINUTE
    number = (await world.record(term, missed("s", NOON, until, 5), s=until))[0].occurrence_id
    known = await world.reader.known("s", NOON + 2 * MINUTE, CLUSTER)
    assert (known.row.occurrence_id, known.row.due_until, known.row.count) == (number, until, 5)
    assert known.cursor == until
    assert (await world.reader.known("s", until + MINUTE, CLUSTER)).row is None


async def test_the_newest_begun_row_is_found_behind_those_that_wait(world: World) -> None:
    term = await world.lead()
    assert await world.reader.begun("s", CLUSTER) is None
    number, _ = await world.started(term)
    await world.run_one(term, "other", NOON + 9 * MINUTE)
    await world.record(term, *(to_wait("s", NOON + n * MINUTE) for n in range(1, 4)))
    row = await world.reader.begun("s", CLUSTER)
    assert (row.occurrence_id, [one.number for one in row.attempts]) == (number, [1])


async def test_what_a_generation_adds_or_changes_begins_when_it_is_accepted(world: World) -> None:
    term = await world.lead()
    await world.ledger.generation(term, "one", {"a": "every 5", "b": "every 5", "c": "every 5"}, NOON)
    assert (await world.ledger.adopt(term)).cursors == {"a": NOON, "b": NOON, "c": NOON}
    await world.ledger.generation(term, "two", {"a": "every 5", "b": "every 7", "d": "every 5"}, LATER)
    assert (await world.ledger.adopt(term)).cursors == {"a": NOON, "b": LATER, "c": NOON, "d": LATER}
    much_later = LATER + timedelta(hours=1)
    await world.ledger.generation(term, "one", {"a": "every 5", "b": "every 5", "c": "every 5"}, much_later)
    cursors = (await world.ledger.adopt(term)).cursors
    assert cursors == {"a": NOON, "b": much_later, "c": much_later, "d": LATER}
    await world.ledger.generation(term, "one", {"a": "every 5", "b": "every 5", "c": "every 5"}, NOON)
    assert (await world.ledger.adopt(term)).cursors == cursors


async def test_the_same_content_is_the_same_generation(world: World) -> None:
    term = await world.lead()
    first = await world.ledger.generation(term, "hash-1", {}, NOON)
    second = await world.ledger.generation(term, "hash-2", {}, NOON)
    assert await world.ledger.generation(term, "hash-1", {}, NOON) == first
    assert second > first
    assert await world.ledger.generation(await world.depose(), "hash-2", {}, NOON) == second


# -- starting, beating, finishing -----------------------------------------------------------------


async def test_a_start_may_be_asked_again(world: World) -> None:
    term = await world.lead()
    token = (await world.run_one(term)).attempt.token
    assert await world.ledger.start([token]) == {token}
    assert await world.ledger.start([token]) == {token}
    live = (await world.ledger.adopt(term)).live[0]
    assert live.started
    assert live.age_s < 5


async def test_a_settled_claim_cannot_start(world: World) -> None:
    term = await world.lead()
    token = (await world.run_one(term)).attempt.token
    assert await world.ledger.settle(
        term, [Finish(token, State.CANCELLED, "never started", retry_at=NOON)]
    ) == {token}
    assert await world.ledger.start([token]) == set()
    assert await world.ledger.beat([token]) == set()


async def test_tokens_nobody_knows_are_answered_with_nothing(world: World) -> None:
    await world.lead()
    unknown = str(uuid4())
    assert await world.ledger.start([unknown]) == set()
    assert await world.ledger.beat([unknown]) == set()
    assert await world.ledger.finish([Finish(unknown, State.SUCCEEDED)]) == set()
    assert await world.ledger.finish([Finish(unknown, State.FAILED, "why", log=Log(b"x"))]) == set()
    assert await world.ledger.start([]) == set()


async def test_a_beat_renews_what_runs(world: World) -> None:
    term = await world.lead()
    _, token = await world.started(term)
    claimed = (await world.run_one(term, "t")).attempt.token
    assert await world.ledger.beat([token, claimed]) == {token, claimed}
    ages = {item.attempt.token: item.started for item in (await world.ledger.adopt(term)).live}
    assert ages == {token: True, claimed: False}


async def test_a_finished_run_tells_all_that_its_end_said(world: World) -> None:
    term = await world.lead()
    number, token = await world.started(term)
    log = Log(b"\x00head\xff", b'tail\\"', 7)
    end = Finish(
        token, State.FAILED, 'boom: "{\\', {"rows": 3, "nested": {"a": [1, None]}},
        started_at=NOON, finished_at=LATER, log=log,
    )  # fmt: skip
    assert await world.ledger.finish([end]) == {token}
    row = await world.reader.run(number)
    attempt = row.attempts[0]
    assert (attempt.state, attempt.error, attempt.result) == (State.FAILED, end.error, end.result)
    assert (attempt.started_at, attempt.finished_at) == (NOON, LATER)
    assert (attempt.node, attempt.epoch) == ("one", term.epoch)
    assert await world.reader.log(number, 1) == log
    assert row.outcome is State.FAILED
    assert (await world.ledger.adopt(term)).live == []


async def test_a_short_end_keeps_no_log(world: World) -> None:
    number, token = await world.started(await world.lead())
    assert await world.ledger.finish([Finish(token, State.SUCCEEDED)]) == {token}
    assert await world.reader.log(number, 1) is None


async def test_a_batch_of_ends_of_every_kind(world: World) -> None:
    term = await world.lead()
    ends = {}
    for name, end in {
        "plain": {"state": State.SUCCEEDED},
        "told": {"state": State.SUCCEEDED, "result": {"n": 1}},
        "retried": {"state": State.FAILED, "error": "x", "retry_at": LATER},
        "skipped": {"state": State.SUCCEEDED, "skipped": "nothing to do"},
        "logged": {"state": State.TIMED_OUT, "log": Log(b"a", b"b", 1)},
    }.items():
        number, token = await world.started(term, name)
        ends[name] = (number, Finish(token, **end))
    assert await world.ledger.finish([end for _, end in ends.values()]) == {
        end.token for _, end in ends.values()
    }
    rows = {name: await world.reader.run(number) for name, (number, _) in ends.items()}
    assert {name: (row.verdict, row.standing) for name, row in rows.items()} == {
        "plain": ("ran", "succeeded"),
        "told": ("ran", "succeeded"),
        "retried": ("ran", "retrying"),
        "skipped": ("skipped", "skipped"),
        "logged": ("ran", "timed_out"),
    }
    assert rows["skipped"].reason == "nothing to do"


async def test_an_attempt_that_never_began_may_end(world: World) -> None:
    term = await world.lead()
    token = (await world.run_one(term)).attempt.token
    assert await world.ledger.finish([Finish(token, State.CANCELLED, "stopped first")]) == {token}


async def test_an_end_said_twice_is_one_end(world: World) -> None:
    number, token = await world.started(await world.lead())
    end = Finish(token, State.FAILED, "first", finished_at=NOON)
    assert await world.ledger.finish([end]) == {token}
    assert await world.ledger.finish([end]) == {token}
    assert (await world.reader.run(number)).attempts[0].finished_at == NOON


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED])
async def test_a_terminal_attempt_never_changes(world: World, state: State) -> None:
    term = await world.lead()
    number, token = await world.started(term)
    await world.ledger.finish([Finish(token, state, "the truth")])
    for other in (State.SUCCEEDED, State.FAILED, State.LOST):
        assert await world.ledger.finish([Finish(token, other, "another story", retry_at=LATER)]) == set()
        assert await world.ledger.settle(term, [Finish(token, other, "gone", retry_at=LATER)]) == set()
    row = await world.reader.run(number)
    assert (row.attempts[0].state, row.attempts[0].error, row.retry_at) == (state, "the truth", None)


async def test_lost_gives_way_to_the_truth_once(world: World) -> None:
    term = await world.lead()
    number, token = await world.started(term)
    assert await world.ledger.settle(term, [Finish(token, State.LOST, "silent")]) == {token}
    assert await world.ledger.finish([Finish(token, State.SUCCEEDED, result={"n": 1})]) == {token}
    assert await world.ledger.finish([Finish(token, State.FAILED, "no, failed")]) == set()
    row = await world.reader.run(number)
    assert (row.outcome, row.attempts[0].error) == (State.SUCCEEDED, "")


async def test_a_bare_success_also_replaces_lost(world: World) -> None:
    term = await world.lead()
    number, token = await world.started(term)
    await world.ledger.settle(term, [Finish(token, State.LOST, "silent")])
    assert await world.ledger.finish([Finish(token, State.SUCCEEDED)]) == {token}
    assert (await world.reader.run(number)).outcome is State.SUCCEEDED


async def test_lost_stays_lost_where_a_retry_is_due(world: World) -> None:
    term = await world.lead()
    number, token = await world.started(term)
    await world.ledger.settle(term, [Finish(token, State.LOST, "silent", retry_at=LATER)])
    assert await world.ledger.finish([Finish(token, State.SUCCEEDED)]) == set()
    await world.ledger.open_attempts(term, [number])
    assert await world.ledger.finish([Finish(token, State.SUCCEEDED)]) == set()
    row = await world.reader.run(number)
    assert [attempt.state for attempt in row.attempts] == [State.LOST, State.CLAIMED]


# -- settling -------------------------------------------------------------------------------------


async def test_settling_a_claim_does_not_touch_one_that_began_meanwhile(world: World) -> None:
    term = await world.lead()
    _, token = await world.started(term)
    assert (
        await world.ledger.settle(term, [Finish(token, State.CANCELLED, "never started", retry_at=NOON)])
        == set()
    )
    assert await world.ledger.beat([token]) == {token}


async def test_a_claim_is_not_lost(world: World) -> None:
    term = await world.lead()
    token = (await world.run_one(term)).attempt.token
    assert await world.ledger.settle(term, [Finish(token, State.LOST, "silent")]) == set()
    assert await world.ledger.start([token]) == {token}


async def test_a_settled_claim_waits_for_its_next_attempt(world: World) -> None:
    old = await world.lead("a")
    recorded = await world.run_one(old)
    term = await world.depose()
    token, number = recorded.attempt.token, recorded.occurrence_id
    await world.ledger.settle(term, [Finish(token, State.CANCELLED, "never started", retry_at=NOON)])
    waiting = (await world.ledger.adopt(term)).unfinished[0]
    assert (waiting.occurrence_id, waiting.attempts, waiting.retries_used, waiting.retry_at) == (
        number,
        1,
        0,
        NOON,
    )
    opened = (await world.ledger.open_attempts(term, [number]))[0]
    assert (opened.number, opened.epoch) == (2, term.epoch)


# -- waiting, retrying, deciding ------------------------------------------------------------------


async def test_what_waits_is_opened_once(world: World) -> None:
    term = await world.lead()
    number = (await world.record(term, to_wait()))[0].occurrence_id
    opened = await world.ledger.open_attempts(term, [number, 999_999, number])
    assert opened[0] == Attempt(number, Occurrence("s", NOON), 1, opened[0].token, term.epoch)
    assert opened[1:] == [None, None]
    assert await world.ledger.open_attempts(term, [number]) == [None]
    row = await world.reader.run(number)
    assert (row.verdict, row.reason) == ("ran", "")


async def test_what_is_over_is_not_opened_again(world: World) -> None:
    term = await world.lead()
    number, token = await world.started(term)
    await world.ledger.finish([Finish(token, State.SUCCEEDED)])
    gone = (await world.record(term, missed("m", NOON)))[0].occurrence_id
    assert await world.ledger.open_attempts(term, [number, gone]) == [None, None]


async def test_a_retry_is_the_next_attempt(world: World) -> None:
    term = await world.lead()
    number, token = await world.started(term)
    await world.ledger.finish([Finish(token, State.FAILED, "once", retry_at=LATER)])
    waiting = (await world.ledger.adopt(term)).unfinished
    assert [(w.occurrence_id, w.attempts, w.retries_used, w.retry_at) for w in waiting] == [
        (number, 1, 1, LATER)
    ]
    second = (await world.ledger.open_attempts(term, [number]))[0]
    assert second.number == 2
    assert second.token != token
    live = (await world.ledger.adopt(term)).live
    assert [(item.attempt, item.started, item.retries_used) for item in live] == [(second, False, 1)]
    assert (await world.ledger.adopt(term)).unfinished == []


async def test_a_decision_ends_the_wait(world: World) -> None:
    term = await world.lead()
    numbers = [a.occurrence_id for a in await world.record(term, to_wait("a"), to_wait("b"), to_run("c"))]
    await world.ledger.decide(term, {numbers[0]: ("skipped", "needs x"), numbers[2]: ("skipped", "too late")})
    rows = [await world.reader.run(number) for number in numbers]
    assert [(row.verdict, row.reason) for row in rows] == [
        ("skipped", "needs x"),
        (None, "waits for needs"),
        ("ran", ""),
    ]
    assert await world.ledger.open_attempts(term, numbers[:1]) == [None]
    assert [w.occurrence_id for w in (await world.ledger.adopt(term)).unfinished] == numbers[1:2]


async def test_a_retry_that_is_given_up_stays_ran(world: World) -> None:
    term = await world.lead()
    number, token = await world.started(term)
    await world.ledger.finish([Finish(token, State.FAILED, "once", retry_at=LATER)])
    await world.ledger.decide(term, {number: ("skipped", "schedule removed")})
    row = await world.reader.run(number)
    assert (row.verdict, row.reason, row.retry_at, row.outcome) == (
        "ran",
        "schedule removed",
        None,
        State.FAILED,
    )
    assert (await world.ledger.adopt(term)).unfinished == []


# -- adoption -------------------------------------------------------------------------------------


async def test_a_new_term_adopts_exactly_what_is_unfinished(world: World) -> None:
    old = await world.lead("a")
    claimed = (await world.run_one(old, "claimed", NOON)).attempt
    _, running = await world.started(old, "running", NOON + MINUTE)
    waits = (await world.record(old, to_wait("waits"), missed("missed", NOON)))[0].occurrence_id
    over, done = await world.started(old, "done")
    retried, failed = await world.started(old, "retried", LATER)
    await world.ledger.finish(
        [Finish(done, State.SUCCEEDED), Finish(failed, State.FAILED, "x", retry_at=LATER)]
    )
    adoption = await world.ledger.adopt(await world.depose())
    assert [(item.attempt.token, item.started) for item in adoption.live] == [
        (claimed.token, False),
        (running, True),
    ]
    assert all(0 <= item.age_s < 30 for item in adoption.live)
    assert len({item.process for item in adoption.live}) == 1
    assert [(w.occurrence_id, w.retry_at) for w in adoption.unfinished] == [(waits, None), (retried, LATER)]
    assert over not in {w.occurrence_id for w in adoption.unfinished}


# -- history --------------------------------------------------------------------------------------


async def test_history_is_newest_first_and_bounded(world: World) -> None:
    term = await world.lead()
    for minute in range(4):
        await world.record(term, missed("s", NOON + minute * MINUTE), missed("t", NOON + minute * MINUTE))
    everything = await world.reader.runs(None, None, 100)
    assert len(everything) == 8
    assert [row.due_at for row in everything] == sorted((row.due_at for row in everything), reverse=True)
    assert [row.due_at for row in await world.reader.runs("s", None, 2)] == [
        NOON + 3 * MINUTE,
        NOON + 2 * MINUTE,
    ]
    assert [row.schedule for row in await world.reader.runs("t", NOON + 3 * MINUTE, 10)] == ["t"]


async def test_latest_is_what_is_over(world: World) -> None:
    term = await world.lead()
    _, done = await world.started(term, "s", NOON)
    await world.ledger.finish([Finish(done, State.SUCCEEDED)])
    await world.started(term, "s", LATER)
    await world.record(term, missed("t", NOON), s=LATER, t=NOON)
    latest = await world.reader.latest()
    assert {name: (row.due_at, row.standing) for name, row in latest.items()} == {
        "s": (NOON, "succeeded"),
        "t": (NOON, "missed"),
    }


async def test_nothing_is_known_of_an_instant_that_nobody_recorded(world: World) -> None:
    term = await world.lead()
    await world.record(term, missed("s", NOON), s=LATER)
    known = await world.reader.known("s", NOON + MINUTE, CLUSTER)
    assert (known.row, known.cursor, known.oldest, known.kept_from) == (None, LATER, NOON, None)
    known = await world.reader.known("never", NOON, CLUSTER)
    assert (known.row, known.cursor, known.oldest) == (None, None, None)
    assert await world.reader.run(12345) is None
    assert await world.reader.run(1 << 70) is None


async def test_instants_keep_their_microseconds(world: World) -> None:
    term = await world.lead()
    odd = datetime(2026, 3, 29, 1, 59, 59, 999999, tzinfo=UTC)
    await world.record(term, missed("s", odd), s=odd)
    assert (await world.reader.known("s", odd, CLUSTER)).row.due_at == odd
    assert (await world.ledger.adopt(term)).cursors == {"s": odd}
