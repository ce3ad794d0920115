"""What `singd status` says of a cluster: the real program against a real socket, over a ledger that each test fills in."""

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
from support.fake_daemon import LED, MINUTE, FakeDaemon, FakeLedger, T, attempt, ran, schedule, serving

from singd.control import ScheduleView
from singd.core.cluster import Cluster, LeaderRow, NodeRow, TermRow
from singd.core.values import Pause, State
from singd.views import Unshipped

ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TZ": "UTC"}
OFTEN = ScheduleView(schedule("often"), cursor=T)
HASH, OTHER = "c" * 64, "d" * 64
STANDING_BY = {"state": "standing by", "epoch": None, "trust_s": None, "leader": "", "node": "sing-2"}


def singd(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from singd.cli.main import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *words, "--state", str(state)],
        capture_output=True, text=True, timeout=30, env=ENVIRONMENT, check=False,
    )  # fmt: skip


async def told(directory: Path, cluster: Cluster, *words: str, rows: Any = (), **changes: Any) -> str:
    daemon, ledger = FakeDaemon([OFTEN], changes=changes), FakeLedger(rows, nodes=cluster)
    async with serving(directory, daemon, ledger):
        result = await trio.to_thread.run_sync(lambda: singd(directory, *(words or ("status",))))
    assert result.returncode == 0, result.stderr
    return result.stdout


async def status(directory: Path, cluster: Cluster, rows: Any = (), **changes: Any) -> dict[str, Any]:
    answer = json.loads(await told(directory, cluster, "status", "--json", rows=rows, **changes))
    return dict(answer["status"])


def node(name: str, **more: Any) -> NodeRow:
    values = {"registered_at": T, "live": True, "content_hash": HASH, "process": name} | more
    return NodeRow(name, "singularity", "0.1.0", **values)


def cluster(*nodes: NodeRow, leader: LeaderRow | None = None, **more: Any) -> Cluster:
    led = leader or LeaderRow(42, "sing-1", "sing-1", T, 0.4, True)
    return Cluster(led, nodes, **{"generation": 3, "content_hash": HASH, **more})


TWO = cluster(node("sing-1", address="10.0.0.7"), node("sing-2", address="10.0.0.8"))


async def test_one_node_needs_no_table_of_nodes(tmp_path: Path) -> None:
    lines = (await told(tmp_path, LED)).splitlines()
    assert lines[-1].split() == ["running", "nothing"]
    assert lines[2] == "leader     sing-1"


async def test_a_node_that_stands_by_says_who_leads_and_that_it_was_heard(tmp_path: Path) -> None:
    text = await told(tmp_path, TWO, **STANDING_BY)
    assert "state      standing by" in text
    assert "leader     sing-1, epoch 42 since 2026-03-01 03:00:00 UTC, heard 0.4 s ago" in text
    table = [line.split() for line in text.split("\n\n")[-1].splitlines()]
    assert table[0] == ["NODE", "IS", "ROLE", "VERSION", "REGISTERED", "CONFIGURATION", "FROM"]
    assert [row[0] for row in table[1:]] == ["sing-1", "sing-2"]
    assert "leads" in table[1]
    assert "(here)" in table[2]
    assert table[2][-1] == "10.0.0.8"


async def test_each_change_of_leader_has_its_honest_bound(tmp_path: Path) -> None:
    terms = [
        TermRow(44, "sing-2", T, T - timedelta(seconds=0.84)),
        TermRow(43, "sing-2", T - MINUTE, T - 10 * MINUTE),
        TermRow(42, "sing-1", T - 60 * MINUTE, None),
    ]
    found = replace(TWO, terms=terms)
    assert [gap["gap_s"] for gap in (await status(tmp_path, found))["gaps"]] == [0.84, 540.0, None]
    text = await told(tmp_path, found)
    assert "epoch 44, sing-2 again: nobody led for at most 0.8 s" in text
    assert "epoch 43, sing-2 after sing-1: nobody led for at most 9 min" in text
    assert "epoch 42, sing-1\n" in text


async def test_nodes_that_are_gone_for_a_week_are_counted_and_not_shown(tmp_path: Path) -> None:
    old = T - timedelta(days=8)
    gone = [node(f"pod-{n}", live=False, registered_at=old) for n in range(3)]
    found = cluster(node("sing-1", registered_at=old), node("sing-2", live=False), *gone)
    shown = await status(tmp_path, found)
    assert [(row["name"], row["live"]) for row in shown["nodes"]] == [("sing-1", True), ("sing-2", False)]
    assert shown["nodes_left_out"] == 3
    text = await told(tmp_path, found)
    assert "and 3 more, gone for over a week" in text
    assert "gone" in next(line for line in text.splitlines() if line.startswith("sing-2")).split()


def problem(found: dict[str, Any], words: str) -> str:
    """What to do about the one problem that has these words."""
    [cure] = [one["cure"] for one in found["problems"] if words in one["text"]]
    return str(cure)


async def test_different_files_on_live_nodes_are_an_alarm(tmp_path: Path) -> None:
    found = cluster(
        node("a"), node("b", content_hash=OTHER), node("c"), node("d", content_hash="e" * 64, live=False)
    )
    told = await status(tmp_path, found)
    words = "live nodes have different configurations: a, c have cccccccccccc (in force); b has dddddddddddd"
    assert "make the files alike" in problem(told, words)
    assert [row["differs"] for row in told["nodes"]] == [False, True, False, True]
    older = cluster(node("a"), node("b", content_hash=""))
    assert (await status(tmp_path, older))["problems"] == []


@pytest.mark.parametrize(
    ("leader", "state", "words", "cure"),
    [
        (LeaderRow(42, "x", "x", T, 40.2, False), "standing by", "x led last and was heard 40 s ago", "as soon as the lock is free"),
        (LeaderRow(42, "x", "x", T, 7.0, True), "standing by", "x led last and was heard 7 s ago", "as soon as the lock is free"),
        (LeaderRow(42, "x", "x", T, 40.2, False), "refused", "nobody leads", "another healthy node"),
    ],
)  # fmt: skip
async def test_nobody_leading_is_a_problem(
    tmp_path: Path, leader: LeaderRow, state: str, words: str, cure: str
) -> None:
    found = await status(tmp_path, cluster(node("sing-2"), leader=leader), **STANDING_BY | {"state": state})
    assert cure in problem(found, words)


async def test_nobody_having_led_yet_is_a_problem_and_a_takeover_under_way_is_none(tmp_path: Path) -> None:
    empty = Cluster(None, [node("sing-2")])
    assert "nobody has led" in json.dumps((await status(tmp_path, empty, **STANDING_BY))["problems"])
    assert "leader     nobody yet" in await told(tmp_path, empty, **STANDING_BY)
    between = cluster(node("sing-2"), leader=LeaderRow(42, "x", "x", T, 1.2, False))
    assert (await status(tmp_path, between, **STANDING_BY))["problems"] == []
    assert "leader     nobody; x led last, heard 1.2 s ago" in await told(tmp_path, between, **STANDING_BY)


@pytest.mark.parametrize(
    ("skew_s", "words"),
    [(2.0, None), (-2.0, None), (2.1, "2.1 s ahead of the database's"), (-31.0, "31.0 s behind the database's: this node does not lead")],
)  # fmt: skip
async def test_a_clock_that_is_off_is_a_problem(tmp_path: Path, skew_s: float, words: str | None) -> None:
    found = await status(tmp_path, LED, skew_s=skew_s)
    assert found["clock_skew_s"] == skew_s
    if words is None:
        assert found["problems"] == []
    else:
        assert "timedatectl" in problem(found, words)


async def test_results_that_were_not_shipped_are_told_once_they_are_old(tmp_path: Path) -> None:
    fresh = await status(tmp_path, LED, unshipped=Unshipped(3, T + MINUTE))
    assert (fresh["unshipped"], fresh["problems"]) == (3, [])
    stale = await status(tmp_path, LED, unshipped=Unshipped(3, T - MINUTE))
    assert problem(stale, "3 results of this node's own schedules not in the ledger yet").startswith(
        "nothing to do"
    )


async def test_a_name_that_is_taken_is_said_with_where_the_other_one_is(tmp_path: Path) -> None:
    found = await status(tmp_path, TWO, **STANDING_BY | {"state": "name taken", "node": "sing-1"})
    assert "sing-1 is connected from 10.0.0.7, since 2026-03-01T03:00:00Z" in json.dumps(found["problems"])
    text = await told(tmp_path, TWO, **STANDING_BY | {"state": "name taken", "node": "sing-1"})
    assert "(here)" not in text


async def test_what_other_nodes_run_has_their_name_and_much_of_it_is_counted(tmp_path: Path) -> None:
    rows = [ran(n, "often", T, attempt(1, State.RUNNING)) for n in range(1, 31)]
    found = await status(tmp_path, TWO, rows, **STANDING_BY)
    assert len(found["elsewhere"]) == 30
    text = await told(tmp_path, TWO, rows=rows, **STANDING_BY)
    assert "often run 1 attempt 1, due 1 min ago, on sing-1" in text
    assert "… and 20 more: `singd runs`" in text


async def test_why_of_what_nobody_dealt_with_names_the_leader_though_another_node_is_asked(
    tmp_path: Path,
) -> None:
    words = ("why", "often", "--at", "2026-03-01T03:05:00Z")
    more = {"now": T + 6 * MINUTE, **STANDING_BY}
    rows = [ran(1, "often", T)]
    assert "sing-1 leads, and its plan covers it" in await told(tmp_path, TWO, *words, rows=rows, **more)
    between = cluster(leader=LeaderRow(42, "x", "x", T, 1.2, False))
    text = await told(tmp_path, between, *words, rows=rows, **more)
    assert "Nobody leads at the moment; the next leader's plan covers it" in text


@pytest.mark.parametrize(
    ("until", "after", "words"),
    [
        (None, None, "until `singd resume`"),
        (T + 33 * MINUTE, "2026-03-01T03:35:00Z", "until 2026-03-01 03:33:00 UTC"),
    ],
)
async def test_a_paused_schedule_is_said_to_be_and_its_next_instant_is_one_that_runs(
    tmp_path: Path, until: datetime | None, after: str | None, words: str
) -> None:
    paused = ScheduleView(
        schedule("often"), cursor=T, pause=Pause(T - MINUTE, "ada on sing-1", until, "deploy")
    )
    found = await status(tmp_path, LED, schedules=[paused])
    assert [(one["schedule"], one["until"]) for one in found["paused"]] == [
        ("often", until and "2026-03-01T03:33:00Z")
    ]
    assert [one["due_at"] for one in found["next"]] == ([after] if after else [])
    text = await told(tmp_path, LED, schedules=[paused])
    assert f"often by ada on sing-1 2 min ago, {words}: deploy" in text
    listed = json.loads(await told(tmp_path, LED, "list", "--json", schedules=[paused]))["list"][0]
    assert listed["next"] == after
    why = await told(tmp_path, LED, "why", "often", "--at", "2026-03-01T03:30:00Z", schedules=[paused])
    assert "It will be skipped then: the schedule is paused by ada on sing-1." in why
    later = await told(tmp_path, LED, "why", "often", "--at", "2026-03-01T03:35:00Z", schedules=[paused])
    assert ("It will be skipped" in later) is (until is None)
    resumed = ScheduleView(schedule("often"), cursor=T, pause=Pause(T - MINUTE, "ada", T))
    assert (await status(tmp_path, LED, schedules=[resumed]))["paused"] == []


async def test_logs_of_what_another_node_runs_say_where_its_output_is(tmp_path: Path) -> None:
    daemon = FakeDaemon([OFTEN], changes=STANDING_BY)
    ledger = FakeLedger([ran(7, "often", T, attempt(1, State.RUNNING))], nodes=TWO)
    async with serving(tmp_path, daemon, ledger):
        result = await trio.to_thread.run_sync(lambda: singd(tmp_path, "logs", "7"))
    assert (result.returncode, result.stdout) == (0, "")
    assert "it runs on sing-1: `singd logs 7 -f` there shows its output" in result.stderr
    own = replace(ledger.rows[0].attempts[0], node="sing-2")
    async with serving(tmp_path, daemon, FakeLedger([replace(ledger.rows[0], attempts=(own,))], nodes=TWO)):
        result = await trio.to_thread.run_sync(lambda: singd(tmp_path, "logs", "7"))
    assert "it has written nothing so far" in result.stderr
