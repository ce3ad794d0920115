"""Inline attempts: whatever an async task does, the daemon's loop sees one report of it."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from support.processes import eventually
from support.works import Inbox, hostile

from singd.core.values import Report, State, Work
from singd.edges.inline import InlineExecutor
from singd.plugin import Context, GiveUp, RetryAfter, Skip


class Bench:
    def __init__(self, executor: InlineExecutor, inbox: Inbox) -> None:
        self.executor, self.inbox = executor, inbox

    async def one(self, work: Work) -> Report:
        self.executor.hand_over([work])
        return (await self.inbox.of(work))[0]


BODIES: dict[str, Callable[..., Any]] = {}


def body(function: Callable[..., Any]) -> Callable[..., Any]:
    BODIES[function.__name__] = function
    return function


def load(work: Work) -> Any:
    return BODIES[work.entry_point.rpartition(":")[2]]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    inbox, executor = Inbox(), InlineExecutor(load, max_attempts=100)
    async with trio.open_nursery() as nursery:
        await nursery.start(executor.serve, inbox.report, inbox.room_changed)
        yield Bench(executor, inbox)
        nursery.cancel_scope.cancel()


@body
async def counts(ctx: Context, *, by: int = 1) -> dict[str, int]:
    ctx.log.info("counting by %d", by)
    logging.getLogger("some.library").warning("careful")
    await trio.lowlevel.checkpoint()
    return {"count": by, "left_s": round((ctx.deadline.timestamp() - time.time()) / 10)}


@body
async def raises(ctx: Context, *, what: str) -> None:
    raise {
        "value": ValueError("inner"), "exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "base": GeneratorExit(),
        "group": BaseExceptionGroup("many", [SystemExit(1), ValueError("inner")]), "skip": Skip("nothing new"),
        "retry": RetryAfter(5), "give up": GiveUp("no use"),
    }[what]  # fmt: skip


@body
async def nursery_raises(ctx: Context) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(counts, "no context")
        raise SystemExit(1)


@body
async def sleeps(ctx: Context) -> None:
    ctx.log.info("begun")
    ctx.progress(1, 2, "half")
    await trio.sleep_forever()


@body
async def swallows(ctx: Context) -> dict[str, int]:
    with trio.CancelScope(shield=True):
        await trio.sleep(0.2)
    return {"cancelled": int(ctx.cancelled())}


@body
def not_async(ctx: Context) -> None: ...


async def test_an_inline_task_succeeds_with_its_result_and_its_log(bench: Bench) -> None:
    report = await bench.one(hostile("counts", {"by": 3}))
    assert (report.state, report.result) == (State.SUCCEEDED, {"count": 3, "left_s": 6})
    assert report.log.head == b"INFO counting by 3\nWARNING careful\n"
    assert 0 < report.started_at <= report.finished_at


async def test_the_logs_of_attempts_at_the_same_time_do_not_mix(bench: Bench) -> None:
    works = [hostile("counts", {"by": number}) for number in range(50)]
    bench.executor.hand_over(works)
    for number, report in enumerate(await bench.inbox.of(*works)):
        assert report.log.head == f"INFO counting by {number}\nWARNING careful\n".encode()


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("value", "ValueError: inner"),
        ("exit", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("base", "GeneratorExit"),
        ("group", "SystemExit: 1"),
    ],
)
async def test_whatever_a_task_raises_is_its_own_failure_only(bench: Bench, what: str, error: str) -> None:
    report = await bench.one(hostile("raises", {"what": what}))
    assert report.state is State.FAILED
    assert error in report.error
    assert (await bench.one(hostile("counts"))).state is State.SUCCEEDED


async def test_a_failing_nursery_is_a_failure_too(bench: Bench) -> None:
    report = await bench.one(hostile("nursery_raises"))
    assert report.state is State.FAILED
    assert "SystemExit: 1" in report.error
    assert "AttributeError" in report.error


async def test_skip_retry_after_and_give_up_arrive_as_such(bench: Bench) -> None:
    reports = [await bench.one(hostile("raises", {"what": what})) for what in ("skip", "retry", "give up")]
    assert [report.state for report in reports] == [State.SUCCEEDED, State.FAILED, State.FAILED]
    assert (reports[0].skipped, reports[1].retry_after_s, reports[2].give_up) == ("nothing new", 5.0, True)


async def test_a_task_is_ended_at_its_timeout(bench: Bench) -> None:
    report = await bench.one(hostile("sleeps", timeout_s=0.1))
    assert (report.state, report.error) == (State.TIMED_OUT, "timed out after 0.1 s")


async def test_a_running_attempt_can_be_read_and_cancelled(bench: Bench) -> None:
    work = hostile("sleeps")
    bench.executor.hand_over([work])
    await eventually(
        lambda: (log := bench.executor.log(work.attempt.token)) is not None and log.head == b"INFO begun\n"
    )
    assert bench.executor.progress(work.attempt.token) == (1, 2, "half")
    bench.executor.cancel(work.attempt.token, "by somebody")
    report = (await bench.inbox.of(work))[0]
    assert (report.state, report.error, report.begun) == (State.CANCELLED, "by somebody", True)
    assert bench.executor.log(work.attempt.token) is None


async def test_an_attempt_cancelled_before_its_body_never_begins_and_nobody_tries_again(bench: Bench) -> None:
    work = hostile("sleeps")
    bench.executor.hand_over([work])
    bench.executor.cancel(work.attempt.token, "by somebody")
    report = (await bench.inbox.of(work))[0]
    assert (report.state, report.begun, report.give_up) == (State.CANCELLED, False, True)


async def test_a_body_that_swallows_its_cancellation_is_reported_when_it_ends(bench: Bench) -> None:
    late, cancelled = hostile("swallows", timeout_s=0.05), hostile("swallows")
    bench.executor.hand_over([late, cancelled])
    await trio.sleep(0.02)
    bench.executor.cancel(cancelled.attempt.token, "by somebody")
    reports = await bench.inbox.of(late, cancelled)
    assert [report.state for report in reports] == [State.TIMED_OUT, State.SUCCEEDED]
    assert reports[1].result == {"cancelled": 1}


async def test_a_body_does_not_begin_later_than_five_seconds_after_its_go(bench: Bench) -> None:
    report = await bench.one(hostile("counts", go_at=time.clock_gettime(time.CLOCK_BOOTTIME) - 6))
    assert (report.state, report.begun, report.give_up) == (State.CANCELLED, False, False)


async def test_only_an_async_def_may_run_inline(bench: Bench) -> None:
    report = await bench.one(hostile("not_async"))
    assert report.state is State.FAILED
    assert "only those may run inline" in report.error


async def test_room_is_bounded_and_comes_back(bench: Bench) -> None:
    works = [hostile("sleeps", timeout_s=0.1) for _ in range(100)]
    assert bench.executor.room("sleeps") == 100
    bench.executor.hand_over(works)
    assert bench.executor.room("sleeps") == 0
    await bench.inbox.of(*works)
    assert bench.executor.room("sleeps") == 100


async def test_on_shutdown_every_attempt_is_reported_before_serve_returns() -> None:
    inbox, executor = Inbox(), InlineExecutor(load)
    works = [hostile("sleeps"), hostile("sleeps")]
    async with trio.open_nursery() as nursery:
        await nursery.start(executor.serve, inbox.report, inbox.room_changed)
        executor.hand_over(works[:1])
        await trio.sleep(0.01)
        executor.hand_over(works[1:])
        nursery.cancel_scope.cancel()
    reports = [inbox.reports[work.attempt.token] for work in works]
    assert {report.state for report in reports} == {State.CANCELLED}
    assert reports[0].begun
    assert not any(report.give_up for report in reports)
    executor.hand_over([another := hostile("counts")])
    assert not inbox.reports[another.attempt.token].begun


async def test_the_entry_point_is_loaded_when_no_loader_is_given() -> None:
    inbox, executor = Inbox(), InlineExecutor()
    async with trio.open_nursery() as nursery:
        await nursery.start(executor.serve, inbox.report, inbox.room_changed)
        good, bad = hostile("async_noop"), hostile("no_such_task")
        executor.hand_over([good, bad])
        reports = await inbox.of(good, bad)
        nursery.cancel_scope.cancel()
    assert [report.state for report in reports] == [State.SUCCEEDED, State.FAILED]
