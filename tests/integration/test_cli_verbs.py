"""The verbs that ask a daemon: the real program against a real socket, over views that each test fills in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from support.fake_daemon import MINUTE, FakeDaemon, FakeLedger, T, attempt, ran, schedule, serving

from singd.control import RunningAttempt, ScheduleView, Trouble
from singd.core.history import AttemptRow, OccurrenceRow
from singd.core.values import Log, Scope, Startup, State

ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TZ": "UTC"}


def singd(state: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from singd.cli.main import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *words, "--state", str(state)],
        capture_output=True, text=True, errors="replace", timeout=30, env=ENVIRONMENT | environment, check=False,
    )  # fmt: skip


async def told(
    state: Path, daemon: FakeDaemon, ledger: FakeLedger, *words: str
) -> subprocess.CompletedProcess[str]:
    async with serving(state, daemon, ledger):
        return await trio.to_thread.run_sync(lambda: singd(state, *words))


async def answer(state: Path, daemon: FakeDaemon, ledger: FakeLedger, *words: str) -> Any:
    """The object that `--json` prints under the verb's name."""
    result = await told(state, daemon, ledger, *words, "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["version"] == 1
    return document[words[0]]


DAILY = ScheduleView(schedule("daily", "0 3 * * *"), cursor=T)
OFTEN = ScheduleView(schedule("often"), cursor=T)


@pytest.mark.parametrize(
    "verb", [("status",), ("list",), ("show", "x"), ("runs",), ("logs", "x"), ("why", "x", "--at", "now")]
)
def test_without_a_daemon_every_verb_says_where_it_looked_and_how_to_start_it(
    tmp_path: Path, verb: tuple[str, ...]
) -> None:
    result = singd(tmp_path, *verb)
    assert (result.returncode, result.stdout) == (69, "")
    assert str(tmp_path / "run" / "singd.sock") in result.stderr
    assert "singd run" in result.stderr


async def test_status_says_the_facts(tmp_path: Path) -> None:
    running = RunningAttempt("4712", 2, "often", T, 42)
    status = await answer(tmp_path, FakeDaemon([DAILY, OFTEN], running=[running]), FakeLedger(), "status")
    assert {key: status[key] for key in ("node", "role", "state", "epoch", "trust_s", "leader", "generation", "schedules")} == {
        "node": "sing-1", "role": "singularity", "state": "leading", "epoch": 42, "trust_s": 4.25, "leader": "sing-1",
        "generation": 3, "schedules": 2,
    }  # fmt: skip
    assert status["problems"] == []
    assert status["uptime_s"] == 3660
    assert status["next"] == [
        {"schedule": "often", "due_at": "2026-03-01T03:05:00Z"},
        {"schedule": "daily", "due_at": "2026-03-02T03:00:00Z"},
    ]
    assert status["running"][0]["run_id"] == "4712"
    lines = (
        await told(tmp_path, FakeDaemon([DAILY, OFTEN], running=[running]), FakeLedger(), "status")
    ).stdout.splitlines()
    assert lines[0].startswith("node       sing-1 (singularity), up 1 h 1 min, singd 0.1.0")
    assert lines[1] == "state      leading, epoch 42, trusted for 4.2 s"
    assert lines[-2].startswith("           daily in ")
    assert lines[-1].startswith("running    often run 4712 attempt 2, due")


async def test_status_begins_with_what_is_wrong(tmp_path: Path) -> None:
    late = ScheduleView(schedule("slow"), cursor=T - 20 * MINUTE)
    gone = ScheduleView(schedule("gone"), unavailable="its task vanished")
    rows = [
        ran(1, "daily", T, attempt(1, State.FAILED, error="disk full\nTraceback")),
        OccurrenceRow(2, "often", T, "command", 3, verdict="missed", reason="nobody led"),
    ]
    daemon = FakeDaemon(
        [DAILY, OFTEN, late, gone], changes={"troubles": [Trouble("the file is wrong", "singd check")]}
    )
    result = await told(tmp_path, daemon, FakeLedger(rows), "status")
    assert result.returncode == 0
    head = result.stdout.split("\n\n")[0]
    for wrong in (
        "the file is wrong", "daily failed at 2026-03-01T03:00:00Z: disk full", "often missed 2026-03-01T03:00:00Z: nobody led",
        "slow is late: its instant 2026-03-01T02:45:00Z", "gone is unavailable: its task vanished", "singd logs 1",
    ):  # fmt: skip
        assert wrong in head
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize("verb", ["status", "list"])
async def test_status_and_list_answer_without_the_ledger_and_say_so(tmp_path: Path, verb: str) -> None:
    result = await told(tmp_path, FakeDaemon([DAILY]), FakeLedger(away=True), verb)
    assert result.returncode == 0
    assert result.stdout.startswith("! the ledger cannot be read: connection refused")
    assert "start Postgres" in result.stdout


async def test_a_verb_that_needs_the_ledger_ends_with_69_without_it(tmp_path: Path) -> None:
    result = await told(tmp_path, FakeDaemon([DAILY]), FakeLedger(away=True), "runs")
    assert (result.returncode, result.stdout) == (69, "")
    assert "connection refused" in result.stderr


async def test_list_has_a_line_a_schedule_with_last_and_next(tmp_path: Path) -> None:
    views = [
        DAILY, ScheduleView(schedule("idle", enabled=False)), ScheduleView(schedule("hub", role="central"), here=False),
        ScheduleView(schedule("boot", Startup())),
    ]  # fmt: skip
    found = await answer(tmp_path, FakeDaemon(views), FakeLedger([ran()]), "list")
    assert [item["schedule"] for item in found] == ["daily", "idle", "hub", "boot"]
    assert (found[0]["next"], found[0]["trigger"]) == ("2026-03-02T03:00:00Z", "cron 0 3 * * *")
    assert found[0]["last"]["outcome"] == "succeeded"
    assert [item["next"] for item in found[1:]] == [None, None, None]
    lines = (await told(tmp_path, FakeDaemon(views), FakeLedger([ran()]), "list")).stdout.splitlines()
    assert lines[1].startswith("succeeded")
    assert "disabled" in lines[2]
    assert "only as central" in lines[3]


async def test_show_says_each_value_and_where_it_was_set(tmp_path: Path) -> None:
    shown = await answer(tmp_path, FakeDaemon([DAILY]), FakeLedger(), "show", "daily")
    assert shown["settings"] == [
        {"key": "cron", "value": "*/5 * * * *", "origin": "/etc/singd/singd.toml:3:8"},
        {"key": "timeout", "value": "1h", "origin": "default"},
    ]
    result = await told(tmp_path, FakeDaemon([DAILY]), FakeLedger(), "show", "dayly")
    assert result.returncode == 1
    assert "did you mean daily?" in result.stderr


FIELDS = {
    "schedule", "task", "owner", "due_at", "verdict", "reason", "outcome", "run_id", "attempt", "node", "epoch", "generation",
    "started_at", "finished_at", "result",
}  # fmt: skip


async def test_runs_has_every_field_of_the_contract_whatever_became_of_an_occurrence(tmp_path: Path) -> None:
    rows = [
        ran(10, "daily", T, attempt(1, result={"rows": 7})),
        OccurrenceRow(9, "daily", T - MINUTE, "command", 3, verdict="skipped", reason="overlap"),
        ran(8, "daily", T - 2 * MINUTE, attempt(1, State.RUNNING)),
        OccurrenceRow(7, "daily", T - 3 * MINUTE, "command", 3),
    ]
    found = await answer(tmp_path, FakeDaemon([DAILY]), FakeLedger(rows), "runs")
    assert all(set(item) >= FIELDS for item in found)
    assert [item["run_id"] for item in found] == ["10", "9", "8", "7"]
    assert [item["verdict"] for item in found] == ["ran", "skipped", "ran", None]
    assert [item["outcome"] for item in found] == ["succeeded", None, None, None]
    assert [item["standing"] for item in found] == ["succeeded", "skipped", "running", "waiting"]
    assert (found[0]["result"], found[0]["node"], found[0]["epoch"]) == ({"rows": 7}, "sing-1", 42)
    assert (found[0]["started_at"], found[0]["finished_at"]) == (
        "2026-03-01T03:00:01Z",
        "2026-03-01T03:00:04Z",
    )
    assert (found[1]["attempt"], found[1]["node"]) == (None, None)


def missed(first: datetime, count: int, **more: Any) -> OccurrenceRow:
    last = first + 5 * MINUTE * (count - 1)
    return OccurrenceRow(
        5,
        "often",
        first,
        "command",
        3,
        due_until=last,
        count=count,
        verdict="missed",
        reason="no leader",
        **more,
    )


async def test_runs_counts_ranges_out_newest_first_up_to_the_limit(tmp_path: Path) -> None:
    ledger = FakeLedger([ran(6, "often", T + 50 * MINUTE), missed(T, 10)])
    found = await answer(tmp_path, FakeDaemon([OFTEN]), ledger, "runs", "often", "-n", "4")
    assert [(item["due_at"], item["verdict"]) for item in found] == [
        ("2026-03-01T03:50:00Z", "ran"), ("2026-03-01T03:45:00Z", "missed"), ("2026-03-01T03:40:00Z", "missed"),
        ("2026-03-01T03:35:00Z", "missed"),
    ]  # fmt: skip
    since = await answer(tmp_path, FakeDaemon([OFTEN]), ledger, "runs", "--since", "2026-03-01T03:45:00Z")
    assert len(since) == 2


async def test_a_range_of_another_configuration_stays_one_line_with_both_ends(tmp_path: Path) -> None:
    row = replace(missed(T, 10), count=1_234)
    for views in ([OFTEN], []):
        [found] = await answer(tmp_path, FakeDaemon(views), FakeLedger([row]), "runs", "often")
        assert (found["due_at"], found["due_until"], found["count"]) == (
            "2026-03-01T03:00:00Z",
            "2026-03-01T03:45:00Z",
            1_234,
        )


async def test_logs_gives_the_newest_attempt_of_a_schedule_or_one_that_is_named(tmp_path: Path) -> None:
    rows = [ran(11, "daily", T, attempt(1, State.FAILED, error="first failed"), attempt(2))]
    ledger = FakeLedger(rows, logs={(11, 1): Log(b"one\n"), (11, 2): Log(b"two \xff\x1b[2J\n", b"end\n", 77)})
    newest = await told(tmp_path, FakeDaemon([DAILY]), ledger, "logs", "daily")
    assert "two" in newest.stdout
    assert "77 bytes are not kept" in newest.stdout
    assert (await told(tmp_path, FakeDaemon([DAILY]), ledger, "logs", "11.1")).stdout == "one\n"
    found = await answer(tmp_path, FakeDaemon([DAILY]), ledger, "logs", "11")
    assert (found["attempt"], found["over"], found["text"][:8]) == (2, True, "two \\xff")
    none = await told(tmp_path, FakeDaemon([DAILY]), ledger, "logs", "11.9")
    assert (none.returncode, "no attempt 9" in none.stderr) == (1, True)
    assert (await told(tmp_path, FakeDaemon([DAILY]), ledger, "logs", "12")).returncode == 1


async def test_logs_follows_a_running_attempt_to_its_end_without_repeating_or_losing_a_byte(
    tmp_path: Path,
) -> None:
    daemon, ledger = FakeDaemon([DAILY]), FakeLedger([ran(11, "daily", T, attempt(1, State.RUNNING))])
    daemon.live = {11: Log(b"begin\n")}
    async with serving(tmp_path, daemon, ledger), trio.open_nursery() as nursery:
        follower = await nursery.start(follow, tmp_path)
        for log in (Log(b"begin\nmore\n"), Log(b"begin\nmore\n", b"last of 100\n", 88)):
            await trio.sleep(0.8)
            daemon.live = {11: log}
        await trio.sleep(0.8)
        ledger.logs = {(11, 1): Log(b"begin\nmore\n", b"t of 100\nthe end\n", 91)}
        ledger.rows = [ran(11, "daily", T, attempt(1, State.FAILED, error="it broke"))]
        await follower.wait()
        assert await follower.stdout.receive_some() == b"begin\nmore\nlast of 100\nthe end\n"
        err = (await follower.stderr.receive_some()).decode()
        assert "88 bytes are not kept" in err
        assert "it broke" in err
        nursery.cancel_scope.cancel()


async def follow(state: Path, *, task_status: trio.TaskStatus[trio.Process]) -> None:
    code = "import sys; from singd.cli.main import main; sys.exit(main())"
    await trio.run_process(
        [sys.executable, "-c", code, "logs", "daily", "-f", "--state", str(state)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, task_status=task_status,
    )  # fmt: skip


async def why(tmp_path: Path, ledger: FakeLedger, *words: str, daemon: FakeDaemon | None = None) -> str:
    result = await told(tmp_path, daemon or FakeDaemon([DAILY, OFTEN]), ledger, "why", *words)
    assert result.returncode == 0, result.stderr
    return result.stdout


async def test_why_answers_for_what_ran_with_every_attempt(tmp_path: Path) -> None:
    first = attempt(1, State.TIMED_OUT, error="longer than 1h")
    text = await why(
        tmp_path, FakeLedger([ran(11, "daily", T, first, attempt(2))]), "daily", "--at", "2026-03-01T03:00Z"
    )
    assert "daily at 2026-03-01 03:00:00 UTC (2026-03-01T03:00:00Z): ran and succeeded" in text
    assert (
        "Attempt 1 on sing-1 (epoch 42): timed out, began 2026-03-01 03:00:01 UTC, took 3.0 s. longer than 1h"
        in text
    )
    assert "Attempt 2" in text
    assert "singd logs 11" in text


async def test_of_a_nodes_own_schedule_each_node_answers_for_itself(tmp_path: Path) -> None:
    own = replace(DAILY, schedule=schedule("daily", "0 3 * * *", scope=Scope.NODE))
    theirs = ran(11, "daily", T, owner="sing-2", local_number=7)
    at = ("daily", "--at", "2026-03-01T03:00Z")
    ledger, here = FakeLedger([theirs]), FakeDaemon([own])
    assert "ran" not in (await why(tmp_path, ledger, *at, daemon=here)).splitlines()[0]
    off = await why(tmp_path, ledger, "daily", "--at", "2026-03-01T03:01Z", daemon=here)
    assert "ran and succeeded" not in off
    assert "daily has not run yet" in (await told(tmp_path, here, ledger, "logs", "daily")).stderr
    there = FakeDaemon([own], changes={"node": "sing-2"})
    assert "ran and succeeded" in await why(tmp_path, ledger, *at, daemon=there)
    assert "sing-2:7" in await why(tmp_path, ledger, *at, daemon=FakeDaemon([OFTEN]))  # configured no more


@pytest.mark.parametrize(
    ("at", "state", "words"),
    [
        ("2026-03-01T03:10:00Z", "missed", "10 instants in a row"),
        ("2026-03-01T04:00:00Z", "skipped", "Reason: paused by ada"),
        ("2026-03-01T04:05:00Z", "superseded", "a later instant stands for it"),
        ("2026-03-01T04:10:00Z", "open", "waits for its turn"),
        ("2026-03-01T04:15:00Z", "unrecorded", "please report it"),
        ("2026-03-01T04:50:00Z", "pending", "nobody has dealt with it yet"),
        ("2026-03-01T05:05:00Z", "not_yet_due", "it comes in 5 min"),
        ("2026-03-01T04:12:34Z", "not_an_instant", "The one before is 2026-03-01 04:10:00 UTC"),
        ("2026-03-01T05:01:00Z", "not_an_instant", "The one after is 2026-03-01 05:05:00 UTC"),
        ("2026-02-28T22:00:00Z", "before_known", "not known to this cluster then"),
        ("2024-02-28T22:00:00Z", "beyond_retention", "deleted by its retention"),
    ],
)  # fmt: skip
async def test_why_has_an_answer_for_any_instant(tmp_path: Path, at: str, state: str, words: str) -> None:
    rows = [
        missed(T, 10),
        OccurrenceRow(6, "often", T + 60 * MINUTE, "command", 3, verdict="skipped", reason="paused by ada"),
        OccurrenceRow(
            7, "often", T + 65 * MINUTE, "command", 3, verdict="superseded", reason="catch_up = latest"
        ),
        OccurrenceRow(8, "often", T + 70 * MINUTE, "command", 3),
    ]
    ledger = FakeLedger(rows, cursor=T + 100 * MINUTE, kept_from=T - timedelta(days=400))
    daemon = FakeDaemon([OFTEN], now=T + 120 * MINUTE)
    found = await answer(tmp_path, daemon, ledger, "why", "often", "--at", at)
    assert found["state"] == state
    assert words in " ".join(found["explanation"])


async def test_why_of_no_instant_gives_the_verdict_of_the_one_before(tmp_path: Path) -> None:
    skipped = OccurrenceRow(6, "often", T, "command", 3, verdict="skipped", reason="paused by ada")
    text = await why(tmp_path, FakeLedger([skipped]), "often", "--at", "2026-03-01T03:02Z")
    assert (
        "The one before is 2026-03-01 03:00:00 UTC (2026-03-01T03:00:00Z): skipped (Reason: paused by ada)."
        in text
    )


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (ran(6, "often", T), "ran and succeeded"),
        (ran(6, "often", T, attempt(1, State.RUNNING)), "is running now"),
        (OccurrenceRow(6, "often", T, "command", 3), "came due and waits for its turn"),
        (None, "nothing is recorded"),
    ],
)
async def test_why_of_no_instant_knows_every_verdict_of_the_one_before(
    tmp_path: Path, row: OccurrenceRow | None, verdict: str
) -> None:
    ledger = FakeLedger([row] if row else [], cursor=T)
    text = await why(tmp_path, ledger, "often", "--at", "2026-03-01T03:00:01Z")
    assert f"The one before is 2026-03-01 03:00:00 UTC (2026-03-01T03:00:00Z): {verdict}" in text


async def test_why_says_what_a_late_run_waited_for(tmp_path: Path) -> None:
    def run_at(number: int, due: int, begin: int, end: int) -> OccurrenceRow:
        row = AttemptRow(
            1,
            State.SUCCEEDED,
            42,
            "sing-1",
            T + begin * MINUTE,
            T + end * MINUTE,
            claimed_at=T + begin * MINUTE,
        )
        return OccurrenceRow(number, "often", T + due * MINUTE, "command", 3, verdict="ran", attempts=(row,))

    at = ("often", "--at", "2026-03-01T03:05Z")
    text = await why(tmp_path, FakeLedger([run_at(11, 0, 0, 7), run_at(12, 5, 7, 9)]), *at)
    assert (
        "It began 2 min after it was due: it waited behind run 11, which ended at 2026-03-01 03:07:00 UTC"
        in text
    )
    text = await why(tmp_path, FakeLedger([run_at(11, 0, 0, 3), run_at(12, 5, 7, 9)]), *at)
    assert "It began 2 min after it was due: it waited for a free slot" in text
    assert "It began" not in await why(tmp_path, FakeLedger([run_at(12, 5, 5, 9)]), *at)


async def test_what_a_dead_daemon_ran_is_said_to_be_abandoned(tmp_path: Path) -> None:
    left = AttemptRow(1, State.RUNNING, 41, "sing-1", T, abandoned=True)
    ledger = FakeLedger([ran(11, "often", T, left), ran(12, "often", T + MINUTE, attempt(1, State.RUNNING))])
    daemon = FakeDaemon([OFTEN])
    found = await answer(tmp_path, daemon, ledger, "runs", "often")
    assert [(item["run_id"], item["abandoned"]) for item in found] == [("12", False), ("11", True)]
    for words in (("runs",), ("logs", "11"), ("status",)):
        result = await told(tmp_path, daemon, ledger, *words)
        assert "its daemon is gone or cut off" in result.stdout + result.stderr
    assert "its daemon is gone" not in (await told(tmp_path, daemon, ledger, "logs", "12")).stderr


async def test_why_knows_a_schedule_that_is_gone_by_its_history_and_a_mistyped_one_not(
    tmp_path: Path,
) -> None:
    ledger = FakeLedger([ran(11, "gone", T)])
    assert "ran and succeeded" in await why(tmp_path, ledger, "gone", "--at", "2026-03-01T03:00Z")
    assert "not in the configuration any more" in await why(
        tmp_path, ledger, "gone", "--at", "2026-03-01T02:00Z"
    )
    result = await told(tmp_path, FakeDaemon([DAILY]), ledger, "why", "dayly", "--at", "now")
    assert (result.returncode, "did you mean daily?" in result.stderr) == (1, True)


async def test_why_names_the_startups_that_there_were(tmp_path: Path) -> None:
    daemon = FakeDaemon([ScheduleView(schedule("boot", Startup()))])
    at = T + timedelta(microseconds=7)
    text = await why(
        tmp_path, FakeLedger([ran(11, "boot", at)]), "boot", "--at", "2026-03-01T03:00:00Z", daemon=daemon
    )
    assert "comes due when the cluster starts, the latest times at 2026-03-01T03:00:00.000007Z" in text
    assert "ran and succeeded" in await why(
        tmp_path,
        FakeLedger([ran(11, "boot", at)]),
        "boot",
        "--at",
        "2026-03-01T03:00:00.000007Z",
        daemon=daemon,
    )


async def test_why_takes_a_distance_back_though_it_looks_like_an_option(tmp_path: Path) -> None:
    assert "daily at " in await why(tmp_path, FakeLedger([ran()]), "daily", "--at", "-2h")


async def test_why_reads_local_time_in_the_machines_zone(tmp_path: Path) -> None:
    def ask() -> subprocess.CompletedProcess[str]:
        return singd(tmp_path, "why", "daily", "--at", "2026-03-01 04:00", TZ="Europe/Berlin")

    async with serving(tmp_path, FakeDaemon([DAILY]), FakeLedger([ran(11, "daily", T)])):
        result = await trio.to_thread.run_sync(ask)
    assert "daily at 2026-03-01 04:00:00 CET (2026-03-01T03:00:00Z): ran and succeeded" in result.stdout


async def test_a_hostile_name_or_reason_reaches_no_terminal_unescaped(tmp_path: Path) -> None:
    row = OccurrenceRow(
        9, "evil\x1b]0;x\x07", T, "command", 3, verdict="skipped", reason="a\x1b[31m\u202eb\nforged: line"
    )
    result = await told(tmp_path, FakeDaemon([DAILY]), FakeLedger([row]), "runs")
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    assert len(result.stdout.splitlines()) == 2


async def test_logs_of_a_schedule_finds_its_newest_run_behind_any_number_that_wait(tmp_path: Path) -> None:
    waiting = [OccurrenceRow(100 + n, "often", T + n * MINUTE, "command", 3) for n in range(1, 60)]
    ledger = FakeLedger([ran(11, "often", T), *waiting], logs={(11, 1): Log(b"hello\n")})
    assert (await told(tmp_path, FakeDaemon([OFTEN]), ledger, "logs", "often")).stdout == "hello\n"
    never = await told(tmp_path, FakeDaemon([OFTEN]), FakeLedger(waiting), "logs", "often")
    assert (never.returncode, "has not run yet" in never.stderr) == (1, True)


async def test_runs_says_when_its_list_is_cut_and_since_a_time_it_is_not(tmp_path: Path) -> None:
    ledger = FakeLedger([ran(n, "often", T + n * MINUTE) for n in range(1, 101)])
    daemon = FakeDaemon([OFTEN])
    cut = await told(tmp_path, daemon, ledger, "runs", "often")
    assert (len(cut.stdout.splitlines()), cut.stderr) == (1 + 20, "more: -n 200\n")
    since = await told(tmp_path, daemon, ledger, "runs", "often", "--since", "2026-03-01T03:00:00Z")
    assert (len(since.stdout.splitlines()), since.stderr) == (1 + 100, "")
    exact = await told(tmp_path, daemon, ledger, "runs", "-n", "100")
    assert (len(exact.stdout.splitlines()), exact.stderr) == (1 + 100, "")


async def test_the_most_rows_that_may_be_asked_for_fit_into_one_answer(tmp_path: Path) -> None:
    end = attempt(1, State.FAILED, error="e" * 8192)
    ledger = FakeLedger([ran(n, "often", T + n * MINUTE, end) for n in range(1, 10_001)])
    result = await told(tmp_path, FakeDaemon([OFTEN]), ledger, "runs", "-n", "10000", "--json")
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)["runs"]) > 1000
    assert "more: only the newest" in result.stderr
    plain = FakeLedger([ran(n, "often", T + n * MINUTE) for n in range(1, 10_001)])
    result = await told(tmp_path, FakeDaemon([OFTEN]), plain, "runs", "-n", "10000", "--json")
    assert (len(json.loads(result.stdout)["runs"]), result.stderr) == (10_000, "")
