"""`singd drill` on real servers: real daemons die, the account adds up, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.daemon import SINGD, eventually
from support.postgres import RUNTIME, Server, pg18

__all__ = ["pg18"]

SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'singd_drill_%'"
ENDS_S = 110


class Started:
    """One drill, with a temporary directory of its own to look for leftovers in."""

    def __init__(self, temporary: Path, *words: str) -> None:
        self.temporary = temporary
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SINGD_", "XDG_"))}
        self.process = subprocess.Popen(
            [SINGD, "drill", *words], env={**kept, "TMPDIR": str(temporary)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/", start_new_session=True,
        )  # fmt: skip

    def ended(self) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)."""
        out, err = self.process.communicate(timeout=ENDS_S)
        return self.process.returncode, out, err

    def processes(self) -> list[str]:
        """Everything that lives in the temporary directory, by command line."""
        mark, found = os.fsencode(str(self.temporary)), []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) not in (os.getpid(), self.process.pid):
                try:
                    words, environ = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
                except OSError:
                    continue
                if mark in words or mark in environ:
                    found.append(words.replace(b"\0", b" ").decode(errors="replace"))
        return found


@pytest.fixture
def temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sd-", dir="/tmp") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


@pytest.fixture
def database(pg18: Server) -> str:
    return pg18.new_database()


def schemas(server: Server, database: str) -> list[str]:
    return [str(row[0]) for row in server.execute(SCHEMAS, database)]


def nothing_is_left(drill: Started, server: Server, database: str) -> None:
    assert schemas(server, database) == []
    assert drill.processes() == []
    assert list(drill.temporary.iterdir()) == []


def answer(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out)["drill"]
    return found


def at_work(server: Server, database: str, begun: int = 20) -> bool:
    """Whether the drill's daemons have begun so many runs."""
    for schema in schemas(server, database):
        try:
            rows = server.execute(
                f"SELECT count(*) FROM {schema}.attempt WHERE started_at IS NOT NULL", database
            )
        except psycopg.errors.UndefinedTable:
            continue
        if int(str(rows[0][0])) > begun:
            return True
    return False


@pytest.mark.slow
def test_a_drill_by_url_kills_stops_and_accounts_for_every_instant(
    pg18: Server, database: str, temporary: Path
) -> None:
    words = ("--url", pg18.conninfo(database), "--rounds", "4", "--faults", "kill,stop", "--json")
    drill = Started(temporary, *words)
    code, out, err = drill.ended()
    found = answer(out)
    assert code == 0, (found["verdict"], found["violations"], err)
    assert [item["fault"] for item in found["rounds"]] == ["kill", "stop", "kill", "stop"]
    assert all(item["next_epoch"] > item["epoch"] for item in found["rounds"])
    assert all(item["successor"] != item["leader"] and 0 < item["gap_s"] < 6 for item in found["rounds"])
    instants = found["instants"]
    assert instants["expected"] == instants["recorded"] > 100
    assert instants["witnessed"] > 0.9 * instants["expected"]
    assert not instants["lost"]
    assert not instants["doubled"]
    nothing_is_left(drill, pg18, database)


@pytest.mark.slow
def test_a_drill_where_the_ledger_is_embedded_freezes_a_leader_on_a_server_of_its_own(
    temporary: Path,
) -> None:
    config = temporary.parent / f"{temporary.name}.toml"
    config.write_text("# nothing: the ledger is embedded\n")
    try:
        drill = Started(temporary, "--config", str(config), "--rounds", "1", "--faults", "freeze")
        code, out, err = drill.ended()
    finally:
        config.unlink()
    assert code == 0, out + err
    last = out.splitlines()[-1]
    assert last.startswith("PASSED: ")
    assert "none lost, none doubled" in last
    assert drill.processes() == []
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_an_instant_that_vanishes_from_the_ledger_fails_the_drill(
    pg18: Server, database: str, temporary: Path
) -> None:
    words = ("--url", pg18.conninfo(database), "--rounds", "6", "--faults", "stop", "--json")
    drill = Started(temporary, *words)
    try:
        eventually(lambda: at_work(pg18, database, 150), "the drill at work", 60)
        (schema,) = schemas(pg18, database)
        one = f"SELECT id FROM {schema}.occurrence WHERE verdict = 'ran' ORDER BY id DESC OFFSET 5 LIMIT 1"
        pg18.execute(f"DELETE FROM {schema}.occurrence WHERE id = ({one})", database)
    finally:
        code, out, err = drill.ended()
    found = answer(out)
    assert code == 1, err
    assert len(found["instants"]["lost"]) == 1
    assert not found["passed"]
    nothing_is_left(drill, pg18, database)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_drill_ends_its_daemons_and_drops_its_schema(
    pg18: Server, database: str, temporary: Path, number: signal.Signals
) -> None:
    drill = Started(temporary, "--url", pg18.conninfo(database), "--rounds", "100", "--faults", "kill")
    eventually(lambda: at_work(pg18, database), "the drill at work", 60)
    drill.process.send_signal(number)
    code, out, err = drill.ended()
    assert code == 130, err
    assert out.splitlines()[-1] == "NOT PROVED: it was interrupted"
    assert "ending the drill" in err
    assert "VIOLATION" not in out
    nothing_is_left(drill, pg18, database)


@pytest.mark.slow
def test_a_drill_that_is_killed_leaves_no_daemon_behind(pg18: Server, database: str, temporary: Path) -> None:
    drill = Started(temporary, "--url", pg18.conninfo(database), "--rounds", "100", "--faults", "kill")
    eventually(lambda: at_work(pg18, database), "the drill at work", 60)
    drill.process.kill()
    drill.ended()
    eventually(lambda: not drill.processes(), "the end of its daemons", 15)
    (schema,) = schemas(pg18, database)
    pg18.execute(f"DROP SCHEMA {schema} CASCADE", database)


def test_a_login_that_may_not_make_a_schema_is_told_what_to_grant(
    pg18: Server, database: str, temporary: Path
) -> None:
    drill = Started(temporary, "--url", pg18.conninfo(database, RUNTIME))
    code, _, err = drill.ended()
    assert code == 77
    assert "GRANT CREATE ON DATABASE" in err
    nothing_is_left(drill, pg18, database)


def test_a_drill_without_a_database_ends_at_once(temporary: Path) -> None:
    drill = Started(temporary, "--url", f"host={temporary} dbname=nobody connect_timeout=2")
    code, _, err = drill.ended()
    assert code == 69, err
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--nodes", "1"), "2 to 9"),
        (("--faults", "kill,tickle"), "there are kill, freeze, stop, resign"),
        (("--seconds", "soon"), "--seconds"),
    ],
)
def test_a_wrong_option_is_a_usage_error(temporary: Path, words: tuple[str, ...], said: str) -> None:
    code, _, err = Started(temporary, *words).ended()
    assert code == 2
    assert said in err
