"""Warm workers and commands under a real keeper: every kind of bad task is one failed attempt with its cause."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from support.processes import eventually, kill_marked, marked, new_mark
from support.works import SUPPORT, TESTS, Inbox, command, hostile

from singd.core.values import Report, State, Work
from singd.edges.worker import executor as executor_module
from singd.edges.worker import wire
from singd.edges.worker.executor import WorkerExecutor
from singd.edges.worker.keeper import KeeperClient
from singd.edges.worker.output import Splitter
from singd.errors import KeeperGone


class Bench:
    """An executor that serves, and where its reports go."""

    def __init__(self, executor: WorkerExecutor, inbox: Inbox, keeper: KeeperClient) -> None:
        self.executor, self.inbox, self.keeper = executor, inbox, keeper

    async def run(self, *works: Work, within: float = 20.0) -> list[Report]:
        self.executor.hand_over(works)
        return await self.inbox.of(*works, within=within)

    async def one(self, work: Work, within: float = 20.0) -> Report:
        return (await self.run(work, within=within))[0]

    async def begun(self, work: Work) -> None:
        await eventually(lambda: self.text(work).startswith("begun"))

    def text(self, work: Work) -> str:
        log = self.executor.log(work.attempt.token)
        return log.head.decode() if log else ""


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Bench]:
    inbox, keeper = Inbox(), KeeperClient()
    options = {"plugin_paths": (TESTS,), "kill_grace_s": 0.5} | options
    keeper.start()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(keeper.serve)
            executor = WorkerExecutor(keeper, **options)
            async with trio.open_nursery() as inner:
                await inner.start(executor.serve, inbox.report, inbox.room_changed)
                yield Bench(executor, inbox, keeper)
                inner.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
    finally:
        await keeper.stop()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with serving() as it:
        yield it


@pytest.fixture
def mark() -> Iterator[str]:
    word = new_mark()
    yield word
    kill_marked(word)


# ---------------------------------------------------------------------- the pure parts


def test_a_mark_is_found_wherever_the_output_is_cut() -> None:
    nonce = b"0123456789abcdef"
    text = (
        b"a\0b"
        + wire.mark(nonce, 7)
        + b"c\0"
        + wire.mark(nonce, 8)
        + wire.mark(nonce, 9)
        + b"\0"
        + nonce[:5]
        + b"z\0"
    )
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1, 3):
            splitter = Splitter(nonce)
            parts = [
                part
                for cut in (text[:first], text[first:second], text[second:])
                for part in splitter.feed(cut)
            ]
            parts.append(splitter.rest())
            by: dict[int, bytes] = {0: b""}
            at = 0
            for part in parts:
                if isinstance(part, int):
                    by[at := part] = b""
                else:
                    by[at] += part
            assert by == {0: b"a\0b", 7: b"c\0", 8: b"", 9: b"\0" + nonce[:5] + b"z\0"}


# ---------------------------------------------------------------------- the ordinary


async def test_a_task_succeeds_with_its_result_its_output_and_its_times(bench: Bench) -> None:
    before = time.time()
    report = await bench.one(hostile("hello", {"name": "you"}))
    assert (report.state, report.error, report.result, report.begun) == (
        State.SUCCEEDED,
        "",
        {"greetings": 1},
        True,
    )
    assert report.log.head.decode() == "hello you\nINFO from a_schedule at 2026-03-01T12:00:00+00:00\n"
    assert before <= report.started_at <= report.finished_at <= time.time()


async def test_the_context_tells_everything_about_the_attempt(bench: Bench, tmp_path: Path) -> None:
    work = hostile("tell", state_dir=tmp_path / "s", databases={"a_db": "host=x password=y"}, timeout_s=50.0)
    report = await bench.one(work)
    assert report.result is not None
    told = dict(report.result)
    assert 40 < told.pop("left_s") <= 50
    assert told.pop("pid") != os.getpid()
    del told["environment"]
    assert told == {
        "schedule": "a_schedule", "due_at": "2026-03-01T12:00:00+00:00", "attempt": 1, "epoch": 42, "key": work.idempotency_key,
        "node": "a_node", "role": "a_role", "state_dir": str(tmp_path / "s"), "state_dir_mode": 0o700, "databases": ["a_db"],
        "cwd": "/",
    }  # fmt: skip


async def test_toml_values_become_what_the_annotations_say(bench: Bench) -> None:
    args = {
        "wait": "1h30m", "path": "/x", "at": "2026-01-01T00:00:00+00:00", "mode": "b", "many": ["1s", "2s"],
        "table": {"k": 1}, "database": "ledger", "share": 1,
    }  # fmt: skip
    report = await bench.one(hostile("typed", args))
    assert report.result == {
        "repr": "(datetime.timedelta(seconds=5400), PosixPath('/x'), datetime.datetime(2026, 1, 1, 0, 0, tzinfo=datetime."
        "timezone.utc), 'b', [datetime.timedelta(seconds=1), datetime.timedelta(seconds=2)], {'k': 1}, 'ledger', 1.0, None)"
    }


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"wait": "30"}, 'wait: "30" has no unit'),
        ({"mode": "c"}, "mode: expected one of 'a', 'b', got 'c'"),
        ({"table": {"k": True}}, "table.k: expected int, got True"),
        ({"many": ["1s", 2]}, "many[1]: expected timedelta, got 2"),
        ({"colour": "red"}, "unknown parameter: colour"),
    ],
)
async def test_a_value_that_does_not_fit_is_a_failure_that_names_it(
    bench: Bench, change: dict[str, Any], problem: str
) -> None:
    args = {
        "wait": "1h", "path": "/x", "at": "2026-01-01T00:00:00Z", "mode": "b", "many": [], "table": {}, "database": "x"
    }  # fmt: skip
    report = await bench.one(hostile("typed", args | change))
    assert report.state is State.FAILED
    assert problem in report.error


async def test_attempts_of_one_plugin_share_a_warm_worker_and_another_version_gets_its_own(
    bench: Bench,
) -> None:
    pids = [
        (await bench.one(hostile(name))).result for name in ("pid", "pid", "async_pid", "pid", "async_pid")
    ]
    assert len({result["pid"] for result in pids if result}) == 1
    other = (await bench.one(hostile("pid", plugin_version="2"))).result
    assert other not in pids


async def test_a_worker_is_recycled_after_its_attempts_and_retired_when_idle() -> None:
    async with serving(recycle_after=2, idle_s=0.2) as bench:
        pids = [((await bench.one(hostile("pid"))).result or {})["pid"] for _ in range(4)]
        assert pids[0] == pids[1] != pids[2] == pids[3]
        await eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


async def test_a_worker_that_grew_large_is_replaced() -> None:
    async with serving(recycle_rss=1) as bench:
        first = (await bench.one(hostile("pid"))).result
        assert first is not None
        await eventually(lambda: not os.path.exists(f"/proc/{first['pid']}"))
        assert (await bench.one(hostile("pid"))).result != first


async def test_skip_retry_after_and_give_up_arrive_as_such(bench: Bench) -> None:
    skipped, wrapped, later, never = await bench.run(
        hostile("skips"), hostile("async_skips"), hostile("retry_later"), hostile("gives_up")
    )
    assert (skipped.skipped, wrapped.skipped) == ("nothing new", "nothing new")
    assert skipped.state is wrapped.state is State.SUCCEEDED
    assert (later.state, later.retry_after_s, later.error) == (State.FAILED, 12.5, "the server said so")
    assert (never.state, never.give_up, never.error) == (State.FAILED, True, "no use")


async def test_the_output_and_the_progress_of_a_running_attempt_can_be_read(bench: Bench) -> None:
    work, other = hostile("progresses"), hostile("sleeps", {"seconds": 300})
    bench.executor.hand_over([work, other])
    await eventually(lambda: bench.executor.progress(work.attempt.token) == (3, 10, "third"))
    await eventually(lambda: bench.text(other) == "begun\n")
    assert bench.executor.log("no such token") is None


# ---------------------------------------------------------------------- the bad


@pytest.mark.parametrize(
    ("task", "cause"),
    [
        ("segfault", "killed by SIGSEGV (Segmentation fault)"),
        ("abort", "killed by SIGABRT (Aborted)"),
        ("killed", "killed by SIGKILL (out of memory?)"),
        ("terminated", "ended by a SIGTERM that singd did not send"),
        ("exit_zero", "the process exited with status 0 without a result"),
        ("exit_three", "the process exited with status 3 without a result"),
        ("system_exit", "SystemExit: 0 [tasks.py"),
        ("interrupt", "KeyboardInterrupt [tasks.py"),
        ("group", "ValueError: inner"),
        ("async_group", "SystemExit: 3"),
        ("unprintable", "Unprintable: <its __str__ raised RuntimeError>"),
        ("hog", "MemoryError"),
        ("no_such_task", "the task could not be loaded: AttributeError"),
    ],
)
async def test_a_bad_task_is_one_failed_attempt_with_its_cause_and_nothing_else_moves(
    task: str, cause: str
) -> None:
    limits = executor_module.WORKER_LIMITS | {"RLIMIT_AS": 1 << 30}
    async with serving(limits=limits) as bench:
        other = hostile("sleeps", {"seconds": 0.5}, plugin="other")
        bench.executor.hand_over([other])
        report = await bench.one(hostile(task))
        assert report.state is State.FAILED
        assert cause in report.error
        assert (await bench.one(hostile("noop"))).state is State.SUCCEEDED
        assert (await bench.inbox.of(other))[0].state is State.SUCCEEDED


async def test_a_crash_keeps_what_was_printed_and_the_stack_of_the_crash(bench: Bench) -> None:
    log = (await bench.one(hostile("segfault"))).log.head.decode()
    assert log.startswith("about to\n")
    assert "Segmentation fault" in log
    assert "tasks.py" in log


async def test_a_huge_error_is_cut_to_eight_kilobytes(bench: Bench) -> None:
    report = await bench.one(hostile("huge_error"))
    assert report.error.startswith("ValueError: xxx")
    assert len(report.error.encode()) <= 8192


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("number", "returned int, expected a mapping of counts"),
        ("object", "not JSON"),
        ("nan", "not JSON"),
        ("surrogate", "not JSON"),
        ("nul", "a NUL in it"),
        ("recursive", "not JSON"),
        ("large", "bytes of result, more than 65536"),
    ],
)
async def test_a_result_that_the_ledger_cannot_keep_is_a_failure(
    bench: Bench, what: str, problem: str
) -> None:
    report = await bench.one(hostile("returns", {"what": what}))
    assert report.state is State.FAILED
    assert problem in report.error


@pytest.mark.parametrize("task", ["endless", "stubborn", "holds_the_gil"])
async def test_a_task_that_will_not_end_is_killed_at_its_timeout(bench: Bench, task: str) -> None:
    other = hostile("sleeps", {"seconds": 1.5}, plugin="other")
    bench.executor.hand_over([other])
    report = await bench.one(hostile(task, timeout_s=0.3))
    assert (report.state, report.error) == (State.TIMED_OUT, "timed out after 0.3 s")
    assert 0.3 <= report.finished_at - report.started_at < 3
    assert (await bench.inbox.of(other))[0].state is State.SUCCEEDED


@pytest.mark.parametrize("task", ["tidy", "async_tidy"])
async def test_a_timeout_lets_a_task_tidy_up(bench: Bench, task: str, tmp_path: Path) -> None:
    note = tmp_path / "note"
    report = await bench.one(hostile(task, {"note": str(note)}, timeout_s=0.3))
    assert report.state is State.TIMED_OUT
    assert note.read_text() == "tidied"


@pytest.mark.parametrize("task", ["tidy", "async_tidy"])
async def test_a_cancelled_attempt_tidies_up_and_says_why_it_was_cancelled(
    bench: Bench, task: str, tmp_path: Path
) -> None:
    work = hostile(task, {"note": str(tmp_path / "note")})
    bench.executor.hand_over([work])
    await bench.begun(work)
    bench.executor.cancel(work.attempt.token, "by somebody")
    report = (await bench.inbox.of(work))[0]
    assert (report.state, report.error, report.begun) == (State.CANCELLED, "by somebody", True)
    assert (tmp_path / "note").read_text() == "tidied"


async def test_a_task_may_end_well_on_its_own_when_it_is_cancelled(bench: Bench) -> None:
    work = hostile("polls")
    bench.executor.hand_over([work])
    await bench.begun(work)
    bench.executor.cancel(work.attempt.token, "by somebody")
    report = (await bench.inbox.of(work))[0]
    assert (report.state, report.result) == (State.SUCCEEDED, {"cancelled": 1})


async def test_cancelling_one_of_a_hand_leaves_the_others_alone(bench: Bench) -> None:
    await bench.run(*[hostile("sometimes_slow") for _ in range(8)])  # now known to be short: hands
    slow = hostile("sometimes_slow", {"seconds": 1.0})
    rest = [hostile("sometimes_slow") for _ in range(30)]
    bench.executor.hand_over([slow, *rest])
    bench.executor.cancel(rest[20].attempt.token, "by somebody")
    bench.executor.cancel(rest[-1].attempt.token, "by somebody")
    reports = await bench.inbox.of(slow, *rest)
    cancelled = [report for report in reports if report.state is State.CANCELLED]
    assert {report.token for report in cancelled} == {rest[20].attempt.token, rest[-1].attempt.token}
    assert all((report.begun, report.give_up) == (False, True) for report in cancelled)
    assert sum(report.state is State.SUCCEEDED for report in reports) == 29


async def test_cancelling_an_attempt_that_is_just_over_does_not_hit_the_next_one(bench: Bench) -> None:
    await bench.run(*[hostile("sometimes_slow") for _ in range(8)])
    over, following = hostile("sometimes_slow"), hostile("sometimes_slow", {"seconds": 0.8})
    bench.executor.hand_over([over, following])
    time.sleep(0.3)  # the loop is busy: the worker goes on to the next, and nobody here has seen it
    bench.executor.cancel(over.attempt.token, "by somebody")
    assert [report.state for report in await bench.inbox.of(over, following)] == [State.SUCCEEDED] * 2


async def test_what_waits_behind_a_slow_attempt_of_its_hand_runs_elsewhere(bench: Bench) -> None:
    await bench.run(*[hostile("sometimes_slow") for _ in range(8)])
    slow = hostile("sometimes_slow", {"seconds": 3.0})
    rest = [hostile("sometimes_slow") for _ in range(30)]
    begun = trio.current_time()
    bench.executor.hand_over([slow, *rest])
    assert {report.state for report in await bench.inbox.of(*rest)} == {State.SUCCEEDED}
    assert trio.current_time() - begun < 2.5
    assert slow.attempt.token not in bench.inbox.reports
    assert (await bench.inbox.of(slow))[0].state is State.SUCCEEDED


async def test_a_crash_in_a_hand_fails_one_attempt_and_runs_each_other_once(
    bench: Bench, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    await bench.run(*[hostile("order", {"note": str(note)}) for _ in range(8)])
    await bench.run(hostile("killed"))
    note.unlink()
    bench.executor._pool._seconds["killed"] = 0.0001  # as if it had been short: it joins a hand
    works = [hostile("order", {"note": str(note)}) for _ in range(60)]
    bad = hostile("killed")
    works.insert(30, bad)
    reports = await bench.run(*works)
    assert [report.token for report in reports if report.state is not State.SUCCEEDED] == [bad.attempt.token]
    assert sorted(note.read_text().split()) == sorted(
        work.idempotency_key for work in works if work is not bad
    )


async def test_output_of_a_hand_stays_with_the_attempt_that_wrote_it(bench: Bench) -> None:
    await bench.run(*[hostile("hello", {"name": "nobody"}) for _ in range(8)])
    works = [hostile("hello", {"name": f"n{number}"}) for number in range(100)]
    reports = await bench.run(*works)
    for number, report in enumerate(reports):
        assert report.log.head.startswith(f"hello n{number}\nINFO".encode())
        assert report.log.head.count(b"\n") == 2


async def test_processes_left_behind_fail_the_attempt_and_are_ended(bench: Bench, mark: str) -> None:
    report = await bench.one(hostile("forks_away", {"mark": mark}))
    assert report.state is State.FAILED
    assert report.error == "left 2 processes behind"
    await eventually(lambda: not marked(mark))
    assert (await bench.one(hostile("noop"))).state is State.SUCCEEDED


async def test_a_child_that_is_just_ending_is_not_left_behind(bench: Bench) -> None:
    assert (await bench.one(hostile("brief_child"))).state is State.SUCCEEDED


async def test_a_flood_of_output_ends_the_attempt_and_the_loop_stays_awake(bench: Bench) -> None:
    other = hostile("sleeps", {"seconds": 0.5}, plugin="other")
    worst = 0.0
    bench.executor.hand_over([other, flood := hostile("floods")])
    while flood.attempt.token not in bench.inbox.reports:
        before = trio.current_time()
        await trio.sleep(0.01)
        worst = max(worst, trio.current_time() - before)
    report = (await bench.inbox.of(flood))[0]
    assert (report.state, report.error) == (State.FAILED, "wrote more than 64 MiB of output")
    assert len(report.log.head) + len(report.log.tail) == 1 << 20
    assert report.log.dropped > 60 << 20
    assert worst < 0.5
    assert (await bench.inbox.of(other))[0].state is State.SUCCEEDED


async def test_of_much_output_the_head_and_the_tail_are_kept_and_the_rest_is_counted(bench: Bench) -> None:
    log = (await bench.one(hostile("prints_much", {"size": 3_000_000}))).log
    assert (len(log.head), len(log.tail), log.dropped) == (256 << 10, 768 << 10, 3_000_002 - (1 << 20))
    assert log.head.startswith(b"<yyy")
    assert log.tail.endswith(b"yyy>")


async def test_a_task_that_closes_what_all_share_hurts_nobody_after_it(bench: Bench) -> None:
    await bench.one(hostile("closes_everything"))
    report = await bench.one(hostile("hello"))
    assert report.log.head.startswith(b"hello world\nINFO")
    assert (
        await bench.one(hostile("tidy", {"note": "/dev/null"}, timeout_s=0.2))
    ).finished_at - report.finished_at < 0.5


async def test_printing_forges_neither_a_begin_nor_a_result(bench: Bench) -> None:
    report = await bench.one(hostile("forges"))
    assert (report.state, report.result) == (State.SUCCEEDED, None)
    assert report.log.head.count(b"\0") == 20


@pytest.mark.parametrize(
    ("line", "times"),
    [
        ('{"index": 99, "state": "succeeded", "from": 0, "to": 0}', 1),
        ('{"index": 0, "state": "lost", "from": 0, "to": 0}', 1),
        ('{"index": 0, "state": "succeeded", "result": [1], "from": 0, "to": 0}', 1),
        ('{"index": 0, "state": "succeeded", "result": {"x": 1e999}, "from": 0, "to": 0}', 1),
        ('{"index": 0, "state": "succeeded", "from": 0, "to": NaN}', 1),
        ('{"index": 0, "progress": 1}', 1),
        ("[]", 1),
        ("not JSON", 1),
        ("[", 100_000),
        ("x", 300_000),
    ],
)
async def test_a_frame_that_may_not_be_fails_that_worker_only(bench: Bench, line: str, times: int) -> None:
    report = await bench.one(hostile("breaks_the_protocol", {"line": line, "times": times}))
    assert report.state is State.FAILED
    assert "broke the protocol" in report.error
    assert (await bench.one(hostile("noop"))).state is State.SUCCEEDED


async def test_a_body_does_not_begin_later_than_five_seconds_after_its_go(bench: Bench) -> None:
    late = time.clock_gettime(time.CLOCK_BOOTTIME) - 6
    reports = await bench.run(hostile("noop", go_at=late), command("true", go_at=late))
    assert [(report.state, report.begun, report.give_up) for report in reports] == [
        (State.CANCELLED, False, False)
    ] * 2


async def test_a_worker_that_cannot_be_started_is_a_failure_with_its_cause() -> None:
    async with serving(limits={"RLIMIT_AS": 20 << 20}) as bench:
        reports = await bench.run(*[hostile("noop") for _ in range(3)])
        assert {report.state for report in reports} == {State.FAILED}
        assert "no worker could be started" in reports[0].error


async def test_workers_see_no_secret_and_get_their_limits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINGD_DATABASE_URL", "postgresql://somebody:secret@x/y")
    monkeypatch.setenv("LC_TIME", "C")
    report = await bench.one(hostile("reach"))
    assert report.result is not None
    found = dict(report.result)
    assert set(found["environment"]) <= {
        "PATH",
        "HOME",
        "LANG",
        "TZ",
        "TMPDIR",
        "USER",
        "LC_TIME",
        "LC_CTYPE",
    }
    assert found["environment"]["LC_TIME"] == "C"
    assert "secret" not in str(found)
    assert found["core"] == [0, 0]
    assert found["nofile"][0] == 1024
    assert found["session"] is True
    assert found["no_new_privs"] is True
    assert found["descriptors"] == [0, 1, 2, 3, 4, 5, 10]  # 5 is the listing itself


async def test_room_is_what_could_run_now_and_becomes_hands_for_short_tasks() -> None:
    async with serving(max_processes=3) as bench:
        assert bench.executor.room("noop") == 3
        works = [hostile("sleeps", {"seconds": 0.5}) for _ in range(3)]
        bench.executor.hand_over(works)
        assert [bench.executor.room(kind) for kind in ("noop", "sleeps", "command")] == [0, 0, 0]
        await bench.inbox.of(*works)
        await bench.run(*[hostile("noop") for _ in range(3)])
        assert bench.executor.room("noop") == 3 * 64
        assert bench.executor.room("sleeps") == 3


async def test_a_worker_of_another_plugin_makes_place_when_all_are_taken() -> None:
    async with serving(max_processes=1) as bench:
        for plugin in ("one", "two", "one"):
            assert (await bench.one(hostile("noop", plugin=plugin))).state is State.SUCCEEDED


# ---------------------------------------------------------------------- commands


async def test_a_command_runs_with_its_own_environment_and_its_output_is_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINGD_DATABASE_URL", "secret")
    work = command("sh", "-c", "env | grep SINGD | sort; echo oops >&2")
    report = await bench.one(work)
    assert (report.state, report.result) == (State.SUCCEEDED, None)
    assert report.log.head.decode().splitlines() == [
        "SINGD_ATTEMPT=1", "SINGD_DUE_AT=2026-03-01T12:00:00Z", "SINGD_EPOCH=42",
        f"SINGD_IDEMPOTENCY_KEY={work.idempotency_key}", "SINGD_RUN=7", "SINGD_SCHEDULE=a_schedule", "oops",
    ]  # fmt: skip


async def test_how_a_command_fails_is_said(bench: Bench, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no program")
    text.chmod(0o755)
    reports = await bench.run(
        command("sh", "-c", "exit 3"),
        command("sh", "-c", "kill -9 $$"),
        command("no-such-program-here"),
        command(str(text)),
        command("/etc/passwd"),
        command("/etc"),
        command("/no/such/program"),
    )
    assert {report.state for report in reports} == {State.FAILED}
    errors = [report.error for report in reports]
    assert errors[:2] == ["exit status 3", "killed by SIGKILL (out of memory?)"]
    assert errors[2:] == [
        "no-such-program-here could not be started: no program 'no-such-program-here' on PATH",
        f"{text} could not be started: Exec format error: {text}",
        "/etc/passwd could not be started: Permission denied",
        "/etc could not be started: Is a directory",
        "/no/such/program could not be started: No such file or directory",
    ]


async def test_commands_that_leave_a_process_behind_fail_and_those_that_end_beside_them_do_not(
    bench: Bench, mark: str
) -> None:
    leave = f'setsid {sys.executable} -I -S -c "import time; time.sleep(777)" {mark} & exit 0'
    works = [command("sh", "-c", leave) if n % 4 == 0 else command("true") for n in range(32)]
    reports = await bench.run(*works)
    assert [report.error for report in reports[::4]] == ["left 1 process behind"] * 8
    others = [report for n, report in enumerate(reports) if n % 4]
    assert {report.state for report in others} == {State.SUCCEEDED}
    assert marked(mark) == []


async def test_a_commands_whole_tree_ends_at_its_timeout(bench: Bench, mark: str) -> None:
    clinger = SUPPORT / "hostile_tasks" / "clinger.py"
    report = await bench.one(command(sys.executable, "-I", "-S", str(clinger), mark, "3", timeout_s=0.5))
    assert (report.state, report.error) == (State.TIMED_OUT, "timed out after 0.5 s")
    assert marked(mark) == []


async def test_what_a_command_leaves_behind_fails_it_and_is_ended(bench: Bench, mark: str) -> None:
    clinger = SUPPORT / "hostile_tasks" / "clinger.py"
    report = await bench.one(command(sys.executable, "-I", "-S", str(clinger), mark, "1", "--leave"))
    assert (report.state, report.error) == (State.FAILED, "left 1 process behind")
    assert marked(mark) == []


async def test_a_cancelled_command_ends(bench: Bench) -> None:
    work = command("sh", "-c", "echo begun; sleep 300")
    bench.executor.hand_over([work])
    await bench.begun(work)
    bench.executor.cancel(work.attempt.token, "by somebody")
    report = (await bench.inbox.of(work, within=3))[0]
    assert (report.state, report.error) == (State.CANCELLED, "by somebody")


async def test_a_gigabyte_from_a_command_is_one_failed_attempt(bench: Bench) -> None:
    report = await bench.one(command("sh", "-c", "yes | head -c 1000000000"))
    assert (report.state, report.error) == (State.FAILED, "wrote more than 64 MiB of output")


# ---------------------------------------------------------------------- the end


async def test_on_shutdown_everything_is_ended_and_reported_before_serve_returns(tmp_path: Path) -> None:
    async with serving() as bench:
        works = [
            hostile("tidy", {"note": str(tmp_path / "note")}), hostile("stubborn"), command("sleep", "300"),
            *[hostile("sleeps", {"seconds": 300}, plugin=f"p{n}") for n in range(20)],
        ]  # fmt: skip
        bench.executor.hand_over(works)
        for work in works[:2]:
            await bench.begun(work)
        begun = trio.current_time()
    assert trio.current_time() - begun < 5
    reports = [bench.inbox.reports[work.attempt.token] for work in works]
    assert {(report.state, report.error) for report in reports} == {
        (State.CANCELLED, "the daemon is stopping")
    }
    assert [report.begun for report in reports[:3]] == [True] * 3
    assert not all(report.begun for report in reports)
    assert (tmp_path / "note").read_text() == "tidied"


async def test_when_the_keeper_dies_what_ran_is_lost_and_the_rest_never_began() -> None:
    inbox, keeper = Inbox(), KeeperClient()
    keeper.start()
    running = [hostile("sleeps", {"seconds": 300}), command("sh", "-c", "echo begun; sleep 300")]
    waiting = hostile("noop")

    async def until_it_dies() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(keeper.serve)
            executor = WorkerExecutor(keeper, plugin_paths=(TESTS,), max_processes=2)
            bench = Bench(executor, inbox, keeper)
            await nursery.start(executor.serve, inbox.report, inbox.room_changed)
            executor.hand_over([*running, waiting])
            for work in running:
                await bench.begun(work)
            os.kill(keeper.pid, signal.SIGKILL)

    with pytest.raises(ExceptionGroup) as caught:
        await until_it_dies()
    assert caught.value.split(KeeperGone)[1] is None
    reports = [inbox.reports[work.attempt.token] for work in (*running, waiting)]
    assert [report.state for report in reports] == [State.LOST, State.LOST, State.CANCELLED]
    assert not reports[-1].begun
    await keeper.kill_orphans()


async def test_a_thousand_short_attempts_are_each_reported_once(bench: Bench) -> None:
    works = [hostile(name) for _ in range(500) for name in ("noop", "async_noop")]
    reports = await bench.run(*works)
    assert {report.state for report in reports} == {State.SUCCEEDED}
