"""`scope = "node"` with the real daemon: a node's own schedules run with and without the ledger, each instant once.

The ledger is a private server by URL, so that it can be taken away and brought back. A witness that no daemon
writes to tells what really ran: each body appends its schedule and instant to a file.
"""

from __future__ import annotations

import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Machine, eventually, machine
from support.postgres import BINARIES, Server, running

SECOND = timedelta(seconds=1)
WITNESS = "import os,sys; open(sys.argv[1],'a').write(os.environ['SINGD_SCHEDULE']+' '+os.environ['SINGD_DUE_AT']+'\\n')"


def schedule(name: str, trigger: str, witness: Path, scope: str = "node") -> str:
    command = [sys.executable, "-I", "-S", "-c", WITNESS, str(witness)]
    return f'[schedules.{name}]\n{trigger}\nscope = "{scope}"\ncommand = {command!r}\n'


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(BINARIES["pg18"]) as server:
        yield server


class Node:
    """A machine, the file its bodies write to, and its server."""

    def __init__(self, it: Machine, server: Server, witness: Path) -> None:
        self.it, self.server, self.witness = it, server, witness

    def begun(self, name: str) -> Counter[str]:
        """Instant -> how often its body began."""
        lines = self.witness.read_text().splitlines() if self.witness.exists() else []
        return Counter(due for one, due in (line.split() for line in lines) if one == name)

    def journal(self, name: str) -> list[tuple[Any, ...]]:
        """(instant, verdict, shipped) of the local journal."""
        with sqlite3.connect(f"file:{self.it.state / 'journal.db'}?mode=ro", uri=True) as connection:
            found = connection.execute(
                "SELECT due_at, verdict, shipped_at IS NOT NULL FROM occurrence WHERE schedule = ? ORDER BY due_at",
                (name,),
            ).fetchall()
        connection.close()
        return [
            (datetime.fromtimestamp(due / 1e6, UTC), verdict, bool(shipped))
            for due, verdict, shipped in found
        ]

    def ledger(self, name: str) -> list[tuple[Any, ...]]:
        """(instant, instants, verdict, owner) of the ledger; nothing before it was migrated."""
        if self.server.execute("SELECT to_regclass('singd.occurrence')", self.database) == [(None,)]:
            return []
        return self.server.execute(
            "SELECT due_at, count, verdict, owner FROM singd.occurrence "
            f"WHERE schedule = '{name}' ORDER BY due_at", self.database
        )  # fmt: skip

    @property
    def database(self) -> str:
        return f"d_{self.it.directory.name.replace('-', '_').lower()}"


@contextmanager
def node(server: Server, *schedules: tuple[str, str, str]) -> Iterator[Node]:
    with machine("") as it:
        witness = it.directory / "witness"
        found = Node(it, server, witness)
        server.execute(f'CREATE DATABASE "{found.database}"')
        url = f'[database]\nurl = "postgresql:///{found.database}?host={server.directory}&user=postgres"\n'
        it.configure(
            url + "".join(schedule(name, trigger, witness, scope) for name, trigger, scope in schedules)
        )
        yield found


@pytest.fixture
def stopped(server: Server) -> Iterator[Server]:
    """A server that a test may stop; it runs again afterwards."""
    yield server
    if server.process is None:
        server.start()


TICK = ("tick", 'every = "1s"', "node")


def test_node_schedules_run_while_the_ledger_is_away_and_are_shipped_once_on_return(stopped: Server) -> None:
    with node(stopped, TICK, ("tock", 'every = "1s"', "cluster")) as here:
        here.it.lead()
        eventually(
            lambda: len(here.ledger("tick")) >= 2 and here.ledger("tock"), "what is shipped while all is well"
        )
        stopped.stop(signal.SIGQUIT)
        away = datetime.now(UTC)
        eventually(
            lambda: len([1 for due, *_ in here.journal("tick") if due > away + SECOND]) >= 4, "4 runs alone"
        )
        assert not [due for due in here.begun("tock") if datetime.fromisoformat(due) > away + 2 * SECOND]
        stopped.start()
        back = datetime.now(UTC)
        eventually(
            lambda: [1 for due, *_ in here.ledger("tick") if due > back + 3 * SECOND], "shipping again"
        )
        here.it.stop()
        in_ledger = here.ledger("tick")
        instants = [due for due, *_ in in_ledger]
        assert instants == [instants[0] + n * SECOND for n in range(len(instants))]
        assert {(count, verdict, owner) for _, count, verdict, owner in in_ledger} == {(1, "ran", "it")}
        journal = [due for due, *_ in here.journal("tick")]
        assert instants == journal[: len(instants)]
        assert set(here.begun("tick").values()) == {1}
        assert len(here.begun("tick")) == len(journal)


def test_history_and_output_of_a_nodes_schedules_are_told_while_the_ledger_is_away(stopped: Server) -> None:
    with node(stopped, TICK, ("tock", 'every = "1s"', "cluster")) as here:
        here.it.configure(here.it.config.read_text() + TALKER)
        here.it.lead()
        eventually(lambda: len(here.ledger("tick")) >= 2, "shipping")
        stopped.stop(signal.SIGQUIT)
        away = datetime.now(UTC) + SECOND
        alone = eventually(lambda: _after(here.it.runs("tick"), away), "history of what runs alone")[-1]
        assert alone["run_id"].startswith("it:")
        assert (alone["owner"], alone["verdict"], alone["outcome"]) == ("it", "ran", "succeeded")
        assert (
            here.it.ask("why", "tick", "--at", alone["due_at"])["why"]["occurrence"]["run_id"]
            == alone["run_id"]
        )
        talk = here.it.ask("logs", "talk")["logs"]
        assert talk["text"] == "a word\n"
        assert here.it.ask("logs", talk["run_id"])["logs"]["text"] == "a word\n"
        listed = here.it.ask("list")
        last = {one["schedule"]: one["last"] for one in listed["list"]}
        assert last["tick"]["outcome"] == "succeeded"
        assert last["tock"] is None
        status = eventually(lambda: _unshipped(here.it), "what waits to be shipped")
        assert status["problems"]
        stopped.start()
        eventually(lambda: [1 for due, *_ in here.ledger("tick") if due > away + SECOND], "shipping again")
        eventually(lambda: here.it.ask("status")["status"]["unshipped"] == 0, "everything shipped")
        again = [run for run in here.it.runs("tick") if run["due_at"] == alone["due_at"]]
        assert [run["run_id"] for run in again] == [alone["run_id"]]
        shared = [row for row in here.it.runs() if row["schedule"] == "talk"]
        assert [row["run_id"] for row in shared] == [talk["run_id"]]


TALKER = '[schedules.talk]\nstartup = true\nscope = "node"\ncommand = ["echo", "a word"]\n'


def _after(runs: list[dict[str, Any]], at: datetime) -> list[dict[str, Any]]:
    return [run for run in runs if run["outcome"] and datetime.fromisoformat(run["due_at"]) > at]


def _unshipped(it: Machine) -> dict[str, Any] | None:
    status: dict[str, Any] = it.ask("status")["status"]
    return status if status["unshipped"] else None


def test_the_daemon_starts_without_postgres_and_ships_when_it_is_there(stopped: Server) -> None:
    with node(stopped, TICK, ("boot", "startup = true", "node"), ("tock", 'every = "1s"', "cluster")) as here:
        stopped.stop()
        here.it.start()
        eventually(lambda: len(here.begun("tick")) >= 3 and here.begun("boot"), "runs without a ledger")
        assert not here.begun("tock")
        stopped.start()
        here.it.wait_leading()
        eventually(lambda: here.begun("tock") and len(here.ledger("tick")) >= 4, "all of it")
        assert [(count, verdict, owner) for _, count, verdict, owner in here.ledger("boot")] == [
            (1, "ran", "it")
        ]
        assert set(here.begun("tick").values()) == set(here.begun("boot").values()) == {1}


def test_a_startup_of_scope_node_runs_at_each_start_of_a_process(stopped: Server) -> None:
    with node(stopped, ("boot", "startup = true", "node")) as here:
        for turn in range(3):
            if turn == 2:
                stopped.stop()
            here.it.start()
            eventually(lambda many=turn + 1: len(here.begun("boot")) == many, f"start {turn + 1}")
            here.it.stop()
        assert [verdict for _, verdict, _ in here.journal("boot")] == ["ran"] * 3
        assert set(here.begun("boot").values()) == {1}


def test_a_killed_daemon_neither_loses_nor_doubles_an_instant_of_its_node(server: Server) -> None:
    with node(server, TICK) as here:
        here.it.lead()
        for turn in range(4):
            many = len(here.begun("tick"))
            eventually(lambda most=many: len(here.begun("tick")) > most, "a run")
            time.sleep(0.07 * turn)
            here.it.kill()
            here.it.process.wait(10)
            here.it.start()
        many = len(here.begun("tick"))
        eventually(lambda: len(here.begun("tick")) > many + 2, "runs after the last kill")
        here.it.wait_leading()
        eventually(lambda: len(here.ledger("tick")) >= many, "shipping")
        here.it.stop()
        journal = here.journal("tick")  # of which the last may not have been shipped when the daemon ended
        instants = [due for due, *_ in journal]
        assert instants == [instants[0] + n * SECOND for n in range(len(instants))]
        shipped = [due for due, *_ in here.ledger("tick")]
        assert {due for due, _, done in journal if done} <= set(shipped) <= set(instants)
        assert len(shipped) == len(set(shipped))
        assert set(here.begun("tick").values()) == {1}


def test_a_damaged_journal_is_told_and_stops_nothing(server: Server) -> None:
    with node(server, TICK) as here:
        here.it.state.mkdir(parents=True)
        (here.it.state / "journal.db").write_bytes(b"no journal at all " * 1_000)
        here.it.lead()
        eventually(lambda: len(here.begun("tick")) >= 2, "runs")
        assert "the local journal was damaged" in here.it.log.read_text()
        [aside] = here.it.state.glob("journal.db.damaged-*")
        assert aside.read_bytes().startswith(b"no journal")


def test_a_journal_that_is_removed_under_the_daemon_is_told_and_stops_nothing(server: Server) -> None:
    with node(server, TICK) as here:
        here.it.lead()
        eventually(lambda: len(here.begun("tick")) >= 2, "runs")
        for file in here.it.state.glob("journal.db*"):
            file.unlink()
        words = "the local journal was removed under the daemon; a new one begins from now"
        eventually(lambda: words in here.it.log.read_text(), "the news")
        many = len(here.begun("tick"))
        eventually(lambda: len(here.begun("tick")) >= many + 3, "runs after it")
        assert len(here.journal("tick")) >= 2
        assert here.it.log.read_text().count(words) == 1
        assert set(here.begun("tick").values()) == {1}


def test_a_journal_of_a_newer_singd_makes_node_schedules_wait_and_nothing_else(server: Server) -> None:
    with node(server, TICK, ("tock", 'every = "1s"', "cluster")) as here:
        here.it.lead()
        eventually(lambda: here.begun("tick"), "a run")
        here.it.stop()
        with sqlite3.connect(here.it.state / "journal.db") as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        ticks, tocks = len(here.begun("tick")), len(here.begun("tock"))
        here.it.lead()
        eventually(lambda: len(here.begun("tock")) > tocks + 2, "cluster schedules")
        problems = here.it.ask("status")["status"]["problems"]
        [waits] = [problem for problem in problems if "own schedules wait" in problem["text"]]
        assert "format 99" in waits["text"]
        assert "newer" in waits["cure"]
        assert len(here.begun("tick")) == ticks


def test_two_machines_of_one_name_that_were_alone_keep_both_histories(stopped: Server) -> None:
    """Without the ledger neither can know of the other. Back with it one has the name; what the other then ships of
    the same instants becomes audit events, and holds up nothing."""
    with node(stopped, TICK) as first, node(stopped, TICK) as second:
        second.it.configure(first.it.config.read_text().replace(str(first.witness), str(second.witness)))
        stopped.stop()
        first.it.start()
        second.it.start()
        eventually(lambda: set(first.begun("tick")) & set(second.begun("tick")), "an instant that both ran")
        stopped.start()
        eventually(lambda: first.ledger("tick"), "shipping by the one that got the name")
        taken = eventually(
            lambda: [it for it in (first.it, second.it) if _state(it) == "name taken"], "the other"
        )
        winner, loser = (first, second) if taken == [second.it] else (second, first)
        winner.it.stop()
        eventually(lambda: _state(loser.it) == "leading", "the other has the name now")
        eventually(lambda: all(shipped for *_, shipped in loser.journal("tick")[:3]), "its journal shipped")
        audit = stopped.execute(
            "SELECT detail->>'due_at' FROM singd.audit_event WHERE event = 'identity_conflict'",
            first.database,
        )
        both = set(first.begun("tick")) & set(second.begun("tick"))
        assert {datetime.fromisoformat(str(due)) for (due,) in audit} == {
            datetime.fromisoformat(due) for due in both
        }
        assert len(audit) == len(both)
        assert "two daemons had this node's name" in loser.it.log.read_text()
        instants = [due for due, *_ in first.ledger("tick")]
        assert len(instants) == len(set(instants))


def _state(it: Machine) -> str:
    answer = it.ask("status", check=False)
    return answer["status"]["state"] if answer else ""
