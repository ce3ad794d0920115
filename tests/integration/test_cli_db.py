"""`singd db migrate` against a real Postgres: once, again, and by somebody who may not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from support.postgres import RUNTIME, Server, pg18

__all__ = ["pg18"]


def singd(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from singd.cli.main import main; sys.exit(main())"
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | environment
    return subprocess.run(
        [sys.executable, "-c", code, "db", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=env,
        check=False,
    )


def url(server: Server, database: str, user: str = "postgres") -> str:
    return f"postgresql://{user}@{quote(str(server.directory), safe='')}/{database}"


@pytest.fixture
def database(pg18: Server) -> str:
    return pg18.new_database()


def configuration(tmp_path: Path, ledger: str) -> str:
    file = tmp_path / "singd.toml"
    file.write_text(f'[database]\nurl = "{ledger}"\n')
    return str(file)


def test_migrate_applies_what_is_missing_and_then_nothing(
    pg18: Server, database: str, tmp_path: Path
) -> None:
    config = configuration(tmp_path, url(pg18, database))
    words = ("migrate", "--json", "--config", config, "--state", str(tmp_path))
    first, second = singd(*words), singd(*words)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    [applied] = json.loads(first.stdout)["migrations"]
    assert applied["of"] == "ledger"
    assert applied["applied"][0] == "0001_ledger"
    assert json.loads(second.stdout)["migrations"] == [{"of": "ledger", "applied": []}]
    assert "nothing was missing" in second.stderr


def test_the_owner_migrates_and_the_configured_login_is_granted_its_rights(
    pg18: Server, database: str, tmp_path: Path
) -> None:
    config = configuration(tmp_path, url(pg18, database, RUNTIME))
    common = ("--config", config, "--state", str(tmp_path))
    refused = singd("migrate", *common)
    assert (refused.returncode, refused.stdout) == (69, "")
    assert "permission denied" in refused.stderr
    done = singd("migrate", *common, "--runtime-role", RUNTIME, SINGD_URL=url(pg18, database))
    assert done.returncode == 0, done.stderr
    granted = pg18.execute(f"SELECT has_table_privilege('{RUNTIME}', 'singd.attempt', 'UPDATE')", database)
    assert granted == [(True,)]
    assert singd("migrate", *common).returncode == 0


def test_what_sql_prints_is_what_migrate_would_do(pg18: Server, database: str, tmp_path: Path) -> None:
    config = configuration(tmp_path, url(pg18, database))
    common = ("--config", config, "--state", str(tmp_path))
    pg18.execute(singd("sql", *common).stdout, database)
    assert json.loads(singd("migrate", "--json", *common).stdout)["migrations"] == [
        {"of": "ledger", "applied": []}
    ]


def test_a_database_that_is_away_is_69(tmp_path: Path) -> None:
    config = configuration(tmp_path, "postgresql://postgres@%2Fnonexistent/nowhere")
    result = singd("migrate", "--config", config, "--state", str(tmp_path))
    assert (result.returncode, result.stdout) == (69, "")
    assert "Traceback" not in result.stderr


def test_an_embedded_ledger_is_left_to_the_daemon(tmp_path: Path) -> None:
    file = tmp_path / "singd.toml"
    file.write_text("# nothing\n")
    result = singd("migrate", "--config", str(file), "--state", str(tmp_path))
    assert result.returncode == 0
    assert "the daemon brings it up to date" in result.stderr
