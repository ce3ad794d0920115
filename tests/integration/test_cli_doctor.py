"""`singd doctor` against real servers, real directories and a real daemon: what is well, what is not, and its cure."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.daemon import Machine, machine
from support.pgbouncer import PORT, pooling
from support.postgres import RUNTIME, Server, pg18

__all__ = ["pg18"]

ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TZ": "UTC"}
SCHEDULE = '[schedules.often]\nevery = "1s"\ncommand = ["/bin/true"]\n'


def url(server: Server, database: str, user: str = "postgres") -> str:
    return f"postgresql://{user}@{quote(str(server.directory), safe='')}/{database}"


def singd(directory: Path, *words: str, descriptors: int = 0) -> subprocess.CompletedProcess[str]:
    code = "import sys; from singd.cli.main import main; sys.exit(main())"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    places = ["--config", str(directory / "singd.toml"), "--state", str(directory / "state")]
    return subprocess.run(
        [sys.executable, "-c", code, "doctor", *places, *words], capture_output=True, text=True, timeout=60,
        env=ENVIRONMENT, check=False, preexec_fn=limit if descriptors else None,
    )  # fmt: skip


def examined(directory: Path, config: str) -> tuple[int, Mapping[str, Any]]:
    """The exit code, and the worst finding of each check."""
    (directory / "singd.toml").write_text(config)
    done = singd(directory, "--json")
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)["doctor"]
    order = ("ok", "warning", "wrong")
    return done.returncode, {
        one["check"]: one for one in sorted(found["findings"], key=lambda one: order.index(one["standing"]))
    }


def ledger(server: Server, database: str, user: str = "postgres") -> str:
    return f'[database]\nurl = "{url(server, database, user)}"\n' + SCHEDULE


@pytest.fixture
def database(pg18: Server) -> str:
    return pg18.new_database()


def test_a_fit_ledger_is_said_to_be_fit_and_nothing_is_changed_in_it(
    pg18: Server, database: str, tmp_path: Path
) -> None:
    code, found = examined(tmp_path, ledger(pg18, database))
    well = {check for check, one in found.items() if one["standing"] == "ok"}
    assert code == 0
    assert well >= {
        "configuration", "plugins", "ledger", "primary", "direct", "clock skew", "round trip", "connections", "schema",
        "locks", "notifications", "state", "file system", "disk", "descriptors", "boot clock",
    }  # fmt: skip
    assert "PostgreSQL 18" in found["ledger"]["text"]
    assert "fsync = off" in found["durability"]["text"]  # the tests' own servers do without
    assert pg18.execute("SELECT to_regnamespace('singd')", database) == [(None,)]
    assert not (tmp_path / "state").exists()


def test_a_login_that_may_not_create_the_schema_is_wrong(pg18: Server, database: str, tmp_path: Path) -> None:
    code, found = examined(tmp_path, ledger(pg18, database, RUNTIME))
    assert (code, found["schema"]["standing"]) == (1, "wrong")
    assert "singd db migrate" in found["schema"]["cure"]


def test_a_login_without_its_rights_is_told_which(pg18: Server, database: str, tmp_path: Path) -> None:
    config = ledger(pg18, database)
    (tmp_path / "singd.toml").write_text(config)
    code = "import sys; from singd.cli.main import main; sys.exit(main())"
    words = [
        "db",
        "migrate",
        "--runtime-role",
        RUNTIME,
        "--config",
        str(tmp_path / "singd.toml"),
        "--state",
        str(tmp_path),
    ]
    subprocess.run([sys.executable, "-c", code, *words], env=ENVIRONMENT, check=True, capture_output=True)
    assert examined(tmp_path, ledger(pg18, database, RUNTIME))[1]["schema"]["standing"] == "ok"
    pg18.execute(f"REVOKE UPDATE ON singd.attempt FROM {RUNTIME}", database)
    exit_code, found = examined(tmp_path, ledger(pg18, database, RUNTIME))
    assert (exit_code, "singd.attempt (UPDATE)" in found["schema"]["text"]) == (1, True)


def test_a_schema_that_lacks_migrations_is_wrong(pg18: Server, database: str, tmp_path: Path) -> None:
    pg18.execute("CREATE SCHEMA singd", database)
    code, found = examined(tmp_path, ledger(pg18, database))
    assert (code, found["schema"]["text"]) == (1, "schema singd holds no ledger")


def test_a_read_only_server_is_wrong(pg18: Server, database: str, tmp_path: Path) -> None:
    pg18.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    code, found = examined(tmp_path, ledger(pg18, database))
    assert (code, found["primary"]["standing"]) == (1, "wrong")
    assert "primary" in found["primary"]["cure"]


def test_a_server_that_is_away_is_wrong_and_the_machine_is_examined_all_the_same(tmp_path: Path) -> None:
    config = '[database]\nurl = "postgresql://postgres@%2Fnonexistent/nowhere"\n'
    code, found = examined(tmp_path, config)
    assert (code, found["ledger"]["standing"], found["disk"]["check"]) == (1, "wrong", "disk")


def test_a_limit_of_connections_is_told(pg18: Server, database: str, tmp_path: Path) -> None:
    pg18.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 3")
    _, found = examined(tmp_path, ledger(pg18, database, "few"))
    assert (found["connections"]["standing"], found["connections"]["text"]) == (
        "warning", "1 of 3 used: a daemon that starts now needs 5",
    )  # fmt: skip


def test_a_transaction_pooler_is_wrong(pg18: Server, tmp_path: Path) -> None:
    with pooling(pg18, "postgres", "transaction") as pooler:
        door = f"postgresql://postgres@{quote(str(pooler.directory), safe='')}:{PORT}/postgres"
        code, found = examined(tmp_path, f'[database]\nurl = "{door}"\n' + SCHEDULE)
    assert (code, found["direct"]["standing"]) == (1, "wrong")
    assert "point [database] url at Postgres itself" in found["direct"]["cure"]


def test_a_wrong_configuration_is_wrong(tmp_path: Path) -> None:
    code, found = examined(tmp_path, '[schedules.a]\nevery = "1x"\n')
    assert (code, found["configuration"]["standing"]) == (1, "wrong")
    assert "singd check" in found["configuration"]["cure"]
    assert "ledger" not in found


def test_without_a_configuration_there_is_nothing_to_check(tmp_path: Path) -> None:
    done = singd(tmp_path)
    assert (done.returncode, done.stdout) == (66, "")


def test_a_state_directory_that_anybody_may_write_to_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    code, found = examined(tmp_path, SCHEDULE)
    assert (code, found["state"]["cure"]) == (1, f"chmod o-w {tmp_path / 'state'}")


def test_too_few_descriptors_are_told_in_words_for_people(tmp_path: Path) -> None:
    (tmp_path / "singd.toml").write_text(SCHEDULE)
    done = singd(tmp_path, descriptors=200)
    assert done.returncode == 1
    assert "wrong    descriptors" in done.stdout
    assert "LimitNOFILE" in done.stdout
    assert "1 thing wrong" in done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Machine]:
    with machine(SCHEDULE) as it:
        it.lead()
        yield it


def test_a_running_daemon_and_its_embedded_server_are_examined(daemon: Machine) -> None:
    found = {one["check"]: one for one in daemon.ask("doctor")["doctor"]["findings"]}
    assert (found["daemon"]["standing"], found["daemon"]["text"]) == ("ok", "it: leading")
    assert "embedded PostgreSQL: PostgreSQL 18" in found["ledger"]["text"]
    assert "as singd_runtime" in found["ledger"]["text"]
    assert (found["schema"]["standing"], found["durability"]["standing"]) == ("ok", "ok")
