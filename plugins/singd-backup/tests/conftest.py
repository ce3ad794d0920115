from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from singd_backup.sets import complete_sets
from singd_backup.tasks import backup, backup_verify

from singd.testing import PostgresServer, ScratchDatabase, postgres, run_task

NAMES = count()
START = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 3000


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with postgres() as found:
        yield found


@dataclass
class Site:
    """One database with rows in it, a directory for sets, and the two tasks on them."""

    database: ScratchDatabase
    directory: Path
    state: Path

    def run(
        self, task: Any, hour: int = 0, settings: dict[str, Any] | None = None, **context: Any
    ) -> dict[str, Any]:
        given = {
            "databases": [self.database.name],
            "kind": "hourly",
            "directory": self.directory,
            **(settings or {}),
        }
        due_at = START + timedelta(hours=hour)
        databases = {self.database.name: self.database}
        return dict(
            run_task(task, given, databases=databases, state_dir=self.state, due_at=due_at, **context) or {}
        )

    def backup(
        self, hour: int = 0, *, keep: int = 6, settings: dict[str, Any] | None = None, **context: Any
    ) -> dict[str, Any]:
        return self.run(backup, hour, {"keep": keep, **(settings or {})}, **context)

    def verify(self, hour: int = 1, **settings: Any) -> dict[str, Any]:
        return self.run(backup_verify, hour, settings)

    @property
    def folder(self) -> Path:
        return self.directory / "hourly"

    def sets(self) -> list[str]:
        """Names of the complete sets, newest first."""
        return [one.path.name for one in complete_sets(self.folder)]

    def visible(self) -> list[str]:
        """Everything in the folder that is not a lock."""
        return (
            sorted(path.name for path in self.folder.iterdir() if path.name != ".lock")
            if self.folder.is_dir()
            else []
        )


@pytest.fixture
def site(server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("PATH", f"{server.bin_dir}:{os.environ['PATH']}")
    database = server.create(f"site{next(NAMES)}")
    database.execute("create table item (id int primary key, note text)")
    database.execute(f"insert into item select n, md5(n::text) from generate_series(1, {ROWS}) n")
    database.execute("create table empty (id int)")
    return Site(database, tmp_path / "backups", tmp_path / "state")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a program of this name and text first on PATH; {real} in the text is the real one."""
    folder = tmp_path / "fakes"
    folder.mkdir()

    def install(name: str, text: str) -> None:
        found = next(d for d in os.environ["PATH"].split(":") if Path(d, name).exists() and Path(d) != folder)
        path = folder / name
        path.write_text("#!/bin/sh\n" + text.replace("{real}", f"{found}/{name}"))
        path.chmod(0o755)
        if not os.environ["PATH"].startswith(f"{folder}:"):
            monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return install
