"""What an operator sees of several nodes: real daemons on one private Postgres, asked by the real program."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import quote

import pytest
from support.daemon import Machine, eventually, machine
from support.pgbouncer import PORT, pooling
from support.postgres import RUNTIME, Server, pg18

__all__ = ["pg18"]

FILE = """
[database]
url = "{url}"

[schedules.often]
every = "1s"
command = ["/bin/true"]
"""
LONG = """
[schedules.long]
startup = true
command = ["/bin/sh", "-c", "echo begun; sleep 60"]
"""


def url(server: Server, database: str, user: str = "postgres") -> str:
    return f"postgresql://{user}@{quote(str(server.directory), safe='')}/{database}"


def status(node: Machine) -> dict[str, Any]:
    answer = node.ask("status", check=False)
    return answer["status"] if answer else {}


def reaches(node: Machine, state: str) -> dict[str, Any]:
    """Its status, once it is in this state."""
    found: dict[str, Any] = {}

    def there() -> bool:
        found.update(status(node))
        return found.get("state") == state

    try:
        eventually(there, "", 30)
    except AssertionError:
        raise AssertionError(f"{node.name} is not {state}: {found}\n{node.log.read_text()[-2000:]}") from None
    return found


def says(node: Machine, words: str) -> dict[str, Any]:
    """Its status, once a problem has these words."""
    found: dict[str, Any] = {}

    def told() -> bool:
        found.update(status(node))
        return bool(found) and words in problems(found)

    eventually(told, f"{node.name} says {words!r}", 30)
    return found


def elsewhere(node: Machine) -> list[dict[str, Any]]:
    return [one for one in status(node).get("elsewhere", ()) if one["schedule"] == "long"]


def killed(node: Machine) -> None:
    node.kill()
    assert node.process is not None
    node.process.wait(10)


def problems(status: dict[str, Any]) -> str:
    return "\n".join(f"{one['text']} | {one['cure']}" for one in status["problems"])


@contextmanager
def nodes(config: str, *names: str) -> Iterator[list[Machine]]:
    """Machines of one cluster."""
    with ExitStack() as stack:
        yield [stack.enter_context(machine(config, name)) for name in names]


@pytest.fixture
def file(pg18: Server) -> str:
    return FILE.format(url=url(pg18, pg18.new_database()))


def test_every_node_knows_who_is_there_who_leads_and_what_a_change_cost(file: str) -> None:
    with nodes(file, "a", "b") as (a, b):
        a.start()
        reaches(a, "leading")
        b.start()
        standing = reaches(b, "standing by")
        for one in (status(a), standing):
            assert [(row["name"], row["live"], row["leads"], row["differs"]) for row in one["nodes"]] == [
                ("a", True, True, False), ("b", True, False, False),
            ]  # fmt: skip
            assert (one["leader"], one["leader_epoch"], one["generation"], problems(one)) == ("a", 1, 1, "")
        assert (standing["epoch"], standing["trust_s"]) == (None, None)
        assert standing["leader_silent_s"] < 3
        print(b.tell("status").stdout)

        killed(a)
        led = reaches(b, "leading")
        assert [(row["name"], row["live"], row["leads"]) for row in led["nodes"]] == [
            ("b", True, True), ("a", False, False),
        ]  # fmt: skip
        newest, first = led["gaps"]
        assert (newest["epoch"], newest["node"], newest["before"], first["before"]) == (2, "b", "a", None)
        assert 0 <= newest["gap_s"] < 10
        text = b.tell("status").stdout
        print(text)
        assert "epoch 2, b after a: nobody led for at most" in text
        a.start()
        assert reaches(a, "standing by")["leader"] == "b"
        assert problems(status(a)) == ""


def test_what_another_node_runs_is_shown_here_and_is_not_abandoned_until_that_node_is_gone(
    file: str,
) -> None:
    with nodes(file + LONG, "a", "b") as (a, b):
        a.start()
        reaches(a, "leading")
        b.start()
        reaches(b, "standing by")
        eventually(lambda: elsewhere(b), "b sees what a runs")
        time.sleep(8)  # longer than an attempt may be silent whose node is gone
        [run] = elsewhere(b)
        assert (run["node"], run["abandoned"], status(b)["abandoned"]) == ("a", False, [])
        assert f"long run {run['run_id']} attempt 1, due" in b.tell("status").stdout
        assert ", on a" in b.tell("status").stdout
        assert [one["abandoned"] for one in b.runs("long")] == [False]
        assert "it runs on a" in b.tell("logs", run["run_id"]).stderr
        assert "begun" in a.tell("logs", run["run_id"]).stdout
        assert "is running now" in b.tell("why", "long", "--at", run["due_at"]).stdout

        killed(a)
        left = eventually(lambda: status(b).get("abandoned"), "b sees that a is gone")
        assert [(one["run_id"], one["node"]) for one in left] == [(run["run_id"], "a")]
        assert "its daemon is gone" in b.tell("status").stdout
        assert "Its daemon is gone" in b.tell("why", "long", "--at", run["due_at"]).stdout


def test_a_name_that_is_taken_is_said_with_who_has_it(file: str) -> None:
    with nodes(file, "a", "a") as (first, second):
        first.start()
        reaches(first, "leading")
        second.start()
        refused = reaches(second, "name taken")
        assert "nothing runs on this node: node 'a' is already running" in problems(refused)
        assert "the daemon that has the name a is connected over a socket" in problems(refused)
        assert "another [node] name" in problems(refused)
        assert problems(status(first)) == ""
        first.stop()
        assert problems(reaches(second, "leading")) == ""


def test_different_files_are_an_alarm_on_every_node(file: str) -> None:
    with nodes(file, "a", "b") as (a, b):
        b.configure(file.replace("1s", "2s"))
        a.start()
        reaches(a, "leading")
        b.start()
        reaches(b, "standing by")
        for one in (a, b):
            told = says(one, "live nodes have different configurations: a has ")
            assert [row["differs"] for row in told["nodes"]] == [False, True]
        assert ", differs" in a.tell("status").stdout
        b.stop()
        assert problems(status(a)) == ""


def test_a_node_that_loses_the_ledger_says_so_and_recovers(pg18: Server, file: str) -> None:
    with nodes(file, "a") as (a,):
        a.start()
        reaches(a, "leading")
        pg18.stop()
        try:
            lost = reaches(a, "no ledger")
        finally:
            pg18.start()
        assert "cluster work waits on this node" in problems(lost)
        assert (lost["nodes"], lost["gaps"]) == (None, None)
        assert problems(reaches(a, "leading")) == ""


def test_a_read_only_ledger_is_refused_with_its_cure(pg18: Server) -> None:
    database = pg18.new_database()
    config = FILE.format(url=url(pg18, database))
    with nodes(config, "a", "b") as (a, b):
        a.start()
        reaches(a, "leading")
        pg18.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        a.stop()
        b.start()
        refused = reaches(b, "refused")
        assert "read-only" in problems(refused)
        assert "point [database] url at the primary" in problems(refused)
        b.runs()  # so a session of the pool began while the database was read-only: it may not stay so
        assert "nobody leads: cluster schedules wait; a led last" in problems(says(b, "nobody leads"))
        assert "nobody; a led last, heard" in b.tell("status").stdout
        pg18.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        assert problems(reaches(b, "leading")) == ""


def test_a_login_that_may_not_create_is_told_to_migrate(pg18: Server) -> None:
    config = FILE.format(url=url(pg18, pg18.new_database(), RUNTIME))
    with nodes(config, "a") as (a,):
        a.start()
        refused = reaches(a, "refused")
        assert "singd db migrate" in problems(refused)


def test_behind_a_pooler_a_node_is_refused_and_every_verb_answers(pg18: Server) -> None:
    with pooling(pg18, "postgres", "transaction") as pooler, nodes("", "a", "b") as (a, b):
        a.configure(FILE.format(url=url(pg18, "postgres")))
        b.configure(
            FILE.format(url=f"postgresql://postgres@{quote(str(pooler.directory), safe='')}:{PORT}/postgres")
        )
        a.start()
        reaches(a, "leading")
        b.start()
        refused = reaches(b, "refused")
        assert "a connection pooler stands between singd and Postgres" in problems(refused)
        for words in (["status"], ["list"], ["runs"], ["doctor"]) * 2:
            told = b.tell(*words)
            assert told.returncode != 70, told.stderr
        assert "stands between" in b.tell("doctor").stdout
        assert problems(status(a)) == ""
