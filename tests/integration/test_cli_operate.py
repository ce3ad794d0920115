"""trigger, cancel, pause, resume and resign, typed on either of two real daemons that share a real Postgres."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from support.daemon import Machine, alive, eventually, machine
from support.postgres import Server, pg18

from singd.cli.client import ask
from singd.cli.paths import find

__all__ = ["pg18"]

CONFIG = """
[database]
url = "{url}"
[schedules.tick]
every = "1s"
command = ["true"]
[schedules.daily]
cron = "0 3 * * *"
command = ["true"]
[schedules.failing]
cron = "0 3 * * *"
retries = 5
backoff = "1h..1h"
command = ["false"]
[schedules.sleeper]
cron = "0 3 * * *"
command = ["sleep", "600"]
[schedules.stubborn]
cron = "0 3 * * *"
command = ["sh", "-c", "trap '' TERM; while true; do sleep 0.1; done"]
[schedules.brief]
cron = "0 3 * * *"
command = ["sleep", "5"]
[schedules.own_brief]
cron = "0 3 * * *"
scope = "node"
command = ["true"]
[schedules.own]
cron = "0 3 * * *"
scope = "node"
command = ["sleep", "600"]
"""


@dataclass
class Two:
    """Two nodes, of which either may lead."""

    a: Machine
    b: Machine
    server: Server
    database: str

    def leader(self) -> Machine:
        return eventually(
            lambda: next((m for m in (self.a, self.b) if state(m) == "leading"), None),
            "one of them leads",
            20,
        )

    def other(self) -> Machine:
        return self.b if self.leader() is self.a else self.a

    def run(self, name: str, standing: str = "running") -> dict[str, Any]:
        """The newest run of a schedule, once it stands so."""
        return eventually(
            lambda: next((r for r in self.a.runs(name, 1) if r["standing"] == standing), None),
            f"{name} {standing}",
        )

    def sql(self, text: str) -> list[tuple[object, ...]]:
        return self.server.execute(text, self.database)


def state(it: Machine) -> str:
    answer = it.ask("status", check=False)
    return answer["status"]["state"] if answer else ""


@contextlib.contextmanager
def two_nodes(server: Server) -> Iterator[Two]:
    database = server.new_database()
    config = CONFIG.format(url=f"postgresql://postgres@/{database}?host={server.directory}")
    with machine(config, "a") as a, machine(config, "b") as b:
        a.lead()
        b.start()
        eventually(lambda: state(b) == "standing by", "b stands by")
        yield Two(a, b, server, database)


@pytest.fixture(scope="module")
def two(pg18: Server) -> Iterator[Two]:
    with two_nodes(pg18) as found:
        yield found


def test_a_trigger_typed_on_the_other_node_runs_and_its_outcome_is_the_exit_code(two: Two):
    done = two.other().tell("trigger", "daily", "--wait", "--note", "look & see")
    assert done.returncode == 0
    assert done.stdout.startswith("daily run ")
    assert done.stdout.endswith(": succeeded\n")
    failed = two.other().tell("trigger", "failing")
    assert failed.returncode == 0, "it began"
    two.other().tell("cancel", two.run("failing", "retrying")["run_id"])
    [row] = two.sql(
        "SELECT actor, detail ->> 'note' FROM singd.audit_event WHERE event = 'trigger' AND detail ->> 'target' = 'daily'"
    )
    assert row == (f"uid {os.geteuid()} on {two.other().name}", "look & see")


def test_the_same_request_over_the_socket_again_is_the_same_run(two: Two):
    paths = find(config=str(two.a.config), state=str(two.a.state))
    answers = [ask(paths, "trigger", name="daily", request="again and again")["trigger"] for _ in range(3)]
    assert len({answer["run_id"] for answer in answers}) == 1
    assert two.sql("SELECT count(*) FROM singd.occurrence WHERE request = 'again and again'") == [(1,)]


def test_a_trigger_beside_a_run_is_judged_by_overlap_and_a_cancel_ends_it_from_anywhere(two: Two):
    it = two.other()
    began = it.ask("trigger", "sleeper")["trigger"]
    skipped = it.tell("trigger", "sleeper")
    assert skipped.returncode == 1
    assert f"skipped: overlap = skip: run {began['run_id']} still runs" in skipped.stdout
    tree = two.leader().tree()
    ended = it.tell("cancel", f"{began['run_id']}.1", "--note", "enough")
    assert ended.returncode == 0
    assert "of sleeper: cancelled by uid " in ended.stdout
    assert ended.stdout.endswith(f"on {it.name}: enough\n")
    assert it.tell("cancel", began["run_id"]).returncode == 0, "asked twice is asked once"
    assert len(alive(tree)) < len(tree)


def test_what_does_not_heed_term_is_killed_and_the_client_waits_for_that(two: Two):
    began = two.other().ask("trigger", "stubborn")["trigger"]
    two.run("stubborn")
    since = time.monotonic()
    done = two.other().tell("cancel", began["run_id"])
    assert done.returncode == 0, done.stderr
    assert 4 < time.monotonic() - since < 10


def test_a_run_that_is_over_cannot_be_cancelled(two: Two):
    two.a.tell("trigger", "daily", "--wait")
    run = two.run("daily", "succeeded")["run_id"]
    done = two.b.tell("cancel", run)
    assert done.returncode == 1
    assert f"run {run} of daily is over: succeeded" in done.stderr


def test_a_retry_that_waits_is_dropped(two: Two):
    two.a.tell("trigger", "failing")
    run = two.run("failing", "retrying")["run_id"]
    done = two.b.tell("cancel", run)
    assert done.returncode == 0
    assert "failed, and nothing follows: cancelled by uid " in done.stdout
    assert two.run("failing", "failed")["retry_at"] is None


def test_a_pause_skips_every_instant_with_who_and_why_until_it_is_resumed(two: Two):
    assert (
        two.b.tell("pause", "tick", "--note", "deploy").stdout == "tick is paused until `singd resume tick`\n"
    )
    skipped = two.run("tick", "skipped")
    assert skipped["reason"].startswith("paused by uid ")
    assert skipped["reason"].endswith("on b: deploy")
    assert two.a.tell("trigger", "tick", "--wait").returncode == 0, "by hand it runs all the same"
    assert "it was paused since" in two.a.tell("resume", "tick").stdout
    assert two.b.tell("resume", "tick").stdout == "tick was not paused\n"
    since = len(two.a.runs("tick"))
    eventually(lambda: len(two.a.runs("tick")) > since + 1, "further instants")
    assert two.a.runs("tick")[0]["verdict"] == "ran"


def test_a_pause_ends_by_itself(two: Two):
    found = two.b.ask("pause", "tick", "--until", "+3s")["pause"]
    eventually(lambda: two.a.runs("tick", 1)[0]["verdict"] == "skipped", "a skipped instant")
    eventually(lambda: two.a.runs("tick", 1)[0]["verdict"] == "ran", "it runs again", 10)
    skipped = [r for r in two.a.runs("tick") if r["verdict"] == "skipped" and "until" in r["reason"]]
    assert all(found["since"] <= r["due_at"] < found["until"] for r in skipped)
    assert two.a.tell("pause", "tick", "--until", "-1h").returncode == 2


def test_a_resignation_hands_over_and_what_runs_goes_on(two: Two):
    leader, other = two.leader(), two.other()
    run = other.ask("trigger", "sleeper")["trigger"]["run_id"]
    two.run("sleeper")
    done = other.tell("resign", leader.name)
    assert done.returncode == 0
    assert f"{leader.name} resigned (epoch " in done.stdout
    assert f"; {other.name} leads (epoch " in done.stdout
    assert state(other) == "leading"
    assert two.run("sleeper")["run_id"] == run
    assert other.tell("cancel", run).returncode == 0, "where it runs, which is not where the leader is"
    refused = other.tell("resign", leader.name)
    assert refused.returncode == 1
    assert f"it does not lead: {other.name} does" in refused.stderr


def test_a_run_that_another_node_never_had_is_not_said_to_have_ended(two: Two):
    done = two.a.tell("cancel", "b:99999")
    assert done.returncode == 1, done.stdout
    assert "node b has no run b:99999 that runs or waits" in done.stderr


def test_a_schedule_of_each_node_is_triggered_and_cancelled_on_the_node_that_is_meant(two: Two):
    here = two.a.ask("trigger", "own")["trigger"]
    there = two.a.ask("trigger", "own", "--node", "b")["trigger"]
    assert (here["owner"], there["owner"]) == ("a", "b")
    assert here["run_id"].startswith("a:")
    for run in (here["run_id"], there["run_id"]):
        assert two.a.tell("cancel", run).returncode == 0
    gone = two.b.ask("cancel", there["run_id"])["cancel"]
    assert (gone["standing"], gone["cancelled"]) == ("cancelled", True)
    assert two.a.tell("trigger", "own", "--node", "c").returncode == 1


def test_another_nodes_own_run_is_waited_for_though_it_is_told_of_only_once_it_is_over(two: Two):
    for _ in range(3):
        done = two.a.tell("trigger", "own_brief", "--node", "b", "--wait")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith(": succeeded\n")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("trigger", "dayly"), 1, "did you mean daily?"),
        (
            ("trigger", "daily", "bucket=5m"),
            2,
            "bucket=5m: arguments on the command line come in a later version",
        ),
        (("trigger", "daily", "--node", "a"), 2, "daily is the cluster's"),
        (("pause", "tik"), 1, "did you mean tick?"),
        (("resume", "nothing"), 1, "there is no schedule 'nothing'"),
        (("cancel", "daily"), 2, "'daily' is no run's id"),
        (("cancel", "999999"), 1, "there is no run 999999"),
        (("cancel", "c:1"), 1, "there is no node 'c'"),
        (("resign", "c"), 1, "there is no node 'c'"),
    ],
)
def test_what_cannot_be_is_told_with_a_cure_and_asks_for_nothing(
    two: Two, words: tuple[str, ...], code: int, said: str
):
    [(before,)] = two.sql("SELECT count(*) FROM singd.override")
    done = two.b.tell(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert two.sql("SELECT count(*) FROM singd.override") == [(before,)]


def test_asked_while_the_leader_is_frozen_a_trigger_is_accepted_and_begins_once_under_the_next(pg18: Server):
    with two_nodes(pg18) as two:
        two.a.kill(signal.SIGSTOP)
        done = two.b.tell("trigger", "daily", "--json")
        accepted = json.loads(done.stdout)["trigger"]
        assert done.returncode == 0
        assert accepted["run_id"] is None
        assert accepted["waits_for"] == "the leader, a"
        assert "accepted: daily; it waits for the leader, a (request " in done.stderr
        eventually(lambda: state(two.b) == "leading", "b leads", 15)
        two.a.kill(signal.SIGCONT)
        request = accepted["request"]
        count = f"SELECT count(*) FROM singd.occurrence o JOIN singd.attempt ON id = occurrence_id WHERE request = '{request}'"
        eventually(lambda: two.sql(count) == [(1,)], "one attempt")
        eventually(lambda: state(two.a) == "standing by", "a stands by", 15)
        assert two.sql(count) == [(1,)]


def test_without_the_ledger_nothing_is_asked_and_it_is_said(pg18: Server):
    with two_nodes(pg18) as two:
        two.server.execute(f"ALTER DATABASE {two.database} ALLOW_CONNECTIONS false")
        two.server.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{two.database}'"
        )
        for words in (("trigger", "daily"), ("pause", "tick"), ("resign",)):
            done = two.b.tell(*words)
            assert done.returncode == 69, done
            assert "the ledger cannot be reached" in done.stderr


def test_a_ledger_that_is_away_for_a_moment_is_no_outcome_of_a_run_that_is_waited_for(pg18: Server):
    with two_nodes(pg18) as two, ThreadPoolExecutor(1) as beside:
        it = two.other()
        waiting = beside.submit(it.tell, "trigger", "brief", "--wait")
        two.run("brief")
        two.server.execute(f"ALTER DATABASE {two.database} ALLOW_CONNECTIONS false")
        two.server.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{two.database}'"
        )
        eventually(lambda: it.tell("runs").returncode == 69, "the ledger is away")
        two.server.execute(f"ALTER DATABASE {two.database} ALLOW_CONNECTIONS true")
        done = waiting.result(60)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith(": succeeded\n")
