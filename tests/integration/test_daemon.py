"""The whole daemon: real processes, a real Postgres, real signals."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.daemon import Machine, alive, eventually, machine

EMBEDDED = """
[database]
url = "embedded"
[databases.work]
url = "embedded"
"""
EVERY_SECOND = '[schedules.tick]\nevery = "1s"\ncommand = ["true"]\n'
SLEEPER = '[schedules.sleeper]\nstartup = true\ncommand = ["sleep", "300"]\n'


def instants(runs: list[dict]) -> list[datetime]:
    return sorted(datetime.fromisoformat(run["due_at"]) for run in runs)


def until_runs(it: Machine, name: str, many: int) -> list[dict]:
    return eventually(
        lambda: len(runs := [r for r in it.runs(name) if r["outcome"]]) >= many and runs,
        f"{many} runs of {name}",
    )


@pytest.fixture(scope="module")
def ticking():
    with machine(
        EMBEDDED
        + EVERY_SECOND
        + '[schedules.words]\nstartup = true\ncommand = ["echo", "hello \\u001b[31mred"]\n'
        + '[schedules.ask]\nstartup = true\nsql = "SELECT 42"\ndatabase = "work"\n'
        + '[schedules.broken]\nstartup = true\ncommand = ["false"]\nretries = 1\nbackoff = "1s..1s"\n'
        + '[schedules.slow]\nstartup = true\ncommand = ["sleep", "60"]\ntimeout = "1s"\n'
    ) as it:
        it.lead()
        yield it


def test_schedules_fire_on_time_and_the_ledger_tells_what_became_of_each_instant(ticking):
    runs = until_runs(ticking, "tick", 4)
    due = instants(runs)
    assert due == [due[0] + timedelta(seconds=n) for n in range(len(due))]
    assert all(run["verdict"] == "ran" for run in runs)
    late = [datetime.fromisoformat(r["started_at"]) - datetime.fromisoformat(r["due_at"]) for r in runs]
    assert min(late) >= timedelta(0)


def test_commands_sql_and_their_ends_are_in_the_ledger(ticking):
    assert until_runs(ticking, "ask", 1)[0]["outcome"] == "succeeded"
    assert until_runs(ticking, "ask", 1)[0]["result"] == {"rows": 1}
    slow = until_runs(ticking, "slow", 1)[0]
    assert slow["outcome"] == "timed_out"
    broken = eventually(
        lambda: [r for r in ticking.runs("broken") if r["outcome"] and r["attempt"] == 2],
        "the second attempt",
    )
    assert broken[0]["outcome"] == "failed"


def test_output_is_kept_and_control_characters_do_not_reach_the_terminal(ticking):
    until_runs(ticking, "words", 1)
    shown = ticking.tell("logs", "words")
    assert "hello" in shown.stdout
    assert "hello" in shown.stdout  # raw into a pipe; escaped on a terminal (tests/core/test_output.py)


def test_why_explains_an_instant_that_ran_and_one_that_never_was(ticking):
    run = until_runs(ticking, "tick", 1)[-1]
    assert ticking.ask("why", "tick", "--at", run["due_at"])["why"]["verdict"] == "ran"
    off = datetime.fromisoformat(run["due_at"]) + timedelta(milliseconds=500)
    told = ticking.tell("why", "tick", "--at", off.isoformat())
    assert "not" in told.stdout + told.stderr


def test_a_second_daemon_on_one_state_directory_is_refused_and_says_which_has_it(ticking):
    second = ticking.tell("run")
    assert second.returncode != 0
    assert str(ticking.process.pid) in second.stderr
    assert "in use" in second.stderr
    assert ticking.ask("status")["status"]["state"] == "leading"


def test_no_password_is_in_arguments_environments_logs_or_answers(ticking):
    secrets = json.loads((ticking.state / "postgres" / "credentials.json").read_text())
    words = [value.encode() for value in _strings(secrets) if len(value) > 12]
    assert words
    for pid in ticking.tree():
        for part in ("cmdline", "environ"):
            text = Path(f"/proc/{pid}/{part}").read_bytes()
            assert not [word for word in words if word in text], f"{part} of {pid}"
    answers = "".join(json.dumps(ticking.ask(verb)) for verb in ("status", "list", "runs")).encode()
    for text in (answers, ticking.log.read_bytes()):
        assert not [word for word in words if word in text]


def _strings(value) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def test_workers_are_given_no_credentials_of_the_ledger(ticking):
    until_runs(ticking, "ask", 1)
    for pid in ticking.tree()[1:]:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"SINGD_STATE" not in environ
        assert b"PGPASS" not in environ


def test_a_clean_stop_drains_ends_with_zero_and_leaves_no_process():
    with machine(
        EMBEDDED + EVERY_SECOND + '[schedules.short]\nstartup = true\ncommand = ["sleep", "2"]\n'
    ) as it:
        it.lead()
        eventually(lambda: it.runs("short"), "the short one running")
        tree = it.tree()
        assert len(tree) > 3
        assert it.stop() == 0
        assert not alive(tree)
        it.lead()
        outcomes = {run["outcome"] for run in it.runs("short") if run["outcome"]}
        assert outcomes == {"succeeded"}
        assert it.ask("status")["status"]["epoch"] == 2


def test_kill_9_in_the_middle_leaves_no_process_and_every_instant_in_between_gets_its_verdict():
    with machine(EMBEDDED + EVERY_SECOND + SLEEPER) as it:
        it.lead()
        until_runs(it, "tick", 3)
        eventually(lambda: it.runs("sleeper"), "the sleeper running")
        tree = it.tree()
        it.kill()
        it.process.wait()
        eventually(lambda: not alive(tree), "no process left", 5)
        time.sleep(3)
        it.lead()
        since = datetime.now(UTC)
        runs = eventually(
            lambda: (r := it.runs("tick", check=False)) and instants(r)[-1] > since and r, "ticks go on"
        )
        due = instants(runs)
        assert due == [due[0] + timedelta(seconds=n) for n in range(len(due))]
        assert len(set(due)) == len(due)
        lost = eventually(
            lambda: [r for r in it.runs("sleeper") if r["outcome"] == "lost"], "the sleeper lost"
        )
        why = it.ask("why", "sleeper", "--at", lost[0]["due_at"])
        assert "lost" in json.dumps(why)


def test_a_frozen_daemon_loses_its_processes_and_comes_back_without_doubling_anything():
    with machine(EMBEDDED + EVERY_SECOND + SLEEPER) as it:
        it.lead()
        until_runs(it, "tick", 2)
        children = it.tree()[1:]
        it.kill(signal.SIGSTOP)
        eventually(lambda: not alive(children), "its children gone", 25)
        it.kill(signal.SIGCONT)
        it.wait_leading()
        since = datetime.now(UTC)
        runs = eventually(
            lambda: (r := it.runs("tick", check=False)) and instants(r)[-1] > since and r, "ticks go on"
        )
        due = instants(runs)
        assert due == [due[0] + timedelta(seconds=n) for n in range(len(due))]


def test_a_daemon_whose_keeper_is_killed_starts_a_new_one_and_goes_on():
    with machine(EMBEDDED + EVERY_SECOND) as it:
        it.lead()
        until_runs(it, "tick", 2)
        children = it.tree()[1:]
        os.kill(children[0], signal.SIGKILL)
        eventually(lambda: not alive(children), "the old children gone", 15)
        it.wait_leading()
        since = datetime.now(UTC)
        eventually(lambda: (r := it.runs("tick", check=False)) and instants(r)[-1] > since, "ticks go on")
        assert it.process.poll() is None
        assert "keeper" in it.log.read_text()


def test_a_killed_postgres_comes_back_and_so_does_leadership():
    with machine(EMBEDDED + EVERY_SECOND) as it:
        it.lead()
        until_runs(it, "tick", 2)
        postmaster = int((it.state / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        eventually(lambda: not alive([postmaster]), "the old server gone")
        it.wait_leading()
        since = datetime.now(UTC)
        runs = eventually(
            lambda: (r := it.runs("tick", check=False)) and instants(r)[-1] > since and r, "ticks go on"
        )
        due = instants(runs)
        assert due == [due[0] + timedelta(seconds=n) for n in range(len(due))]


def test_a_wrong_file_at_the_first_start_ends_with_78_and_the_place():
    with machine('[schedules.a]\ncron = "61 * * * *"\ncommand = ["true"]\n') as it:
        done = it.tell("run")
        assert done.returncode == 78
        assert f"{it.config}:2:" in done.stderr
        assert not (it.state / "postgres").exists()


@pytest.mark.parametrize("name", ["cluster", "a:b", "x" * 64])
def test_a_name_that_no_node_can_have_ends_with_78_and_the_cure(name, monkeypatch):
    with machine(EMBEDDED + EVERY_SECOND) as it:
        environment = it.environment() | {"SINGD_NODE_NAME": name}
        monkeypatch.setattr(it, "environment", lambda: environment)
        done = it.tell("run")
        assert done.returncode == 78
        assert "the name of this node" in done.stderr
        assert "SINGD_NODE_NAME" in done.stderr
        assert not (it.state / "postgres").exists()


def test_a_wrong_file_at_a_later_start_runs_the_last_good_one_and_says_so():
    with machine(EMBEDDED + EVERY_SECOND) as it:
        it.lead()
        it.stop()
        it.configure(EMBEDDED + EVERY_SECOND + "nonsense = 1\n")
        it.lead()
        until_runs(it, "tick", 1)
        assert "last good" in json.dumps(it.ask("status")["status"]["problems"])


@pytest.mark.parametrize("frozen", ["nothing", "keeper"])
def test_two_signals_end_it_at_once(frozen):
    with machine(EMBEDDED + SLEEPER) as it:
        it.lead()
        eventually(lambda: it.runs("sleeper"), "the sleeper running")
        tree = it.tree()
        if frozen == "keeper":
            os.kill(tree[1], signal.SIGSTOP)
        it.kill(signal.SIGTERM)
        time.sleep(0.5)
        it.kill(signal.SIGTERM)
        it.process.wait(12)
        eventually(lambda: not alive(tree), "no process left", 5)


def test_a_killed_keeper_is_no_new_start_for_startup_schedules():
    with machine(EMBEDDED + EVERY_SECOND + '[schedules.once]\nstartup = true\ncommand = ["true"]\n') as it:
        it.lead()
        until_runs(it, "once", 1)
        epoch = it.ask("status")["status"]["epoch"]
        os.kill(it.tree()[1], signal.SIGKILL)
        eventually(
            lambda: (s := it.ask("status", check=False)) and (s["status"]["epoch"] or 0) > epoch, "a new term"
        )
        until_runs(it, "tick", 3)
        assert len(it.runs("once")) == 1


def test_what_a_double_kill_leaves_is_ended_before_the_next_daemon_leads(tmp_path):
    program = tmp_path / "forks.sh"
    program.write_text("#!/bin/sh\nsleep 4321 &\n(setsid sleep 4321 &)\nwait\n")
    program.chmod(0o755)
    with machine(EMBEDDED + f'[schedules.forks]\nstartup = true\ncommand = ["/bin/sh", "{program}"]\n') as it:
        it.lead()
        sleepers = eventually(
            lambda: len(found := [p for p in it.tree() if b"4321" in cmdline(p)]) == 2 and found, "two sleeps"
        )
        os.kill(it.tree()[1], signal.SIGKILL)
        it.kill()
        it.process.wait()
        it.lead()
        assert not alive(sleepers)
        assert "had left" in it.log.read_text()


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_state_directory_that_cannot_be_made_is_told_in_a_sentence():
    with machine(EMBEDDED) as it:
        it.state = Path("/nowhere/state")
        done = it.tell("run")
        assert done.returncode == 77
        assert "/nowhere" in done.stderr
        assert "Traceback" not in done.stderr
