from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from singd_knowledge.tasks import knowledge_migrate

from singd.testing import PostgresServer, ScratchDatabase, migrate, postgres, run_task

NAMES = count()


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with postgres() as found:
        yield found


@dataclass
class Store:
    """A migrated database and a tree, and the ways to work on them that these tests share."""

    database: ScratchDatabase
    tree: Path

    def load(self, task: Any = knowledge_migrate, **settings: Any) -> dict[str, Any]:
        given = {"path": self.tree, **settings}
        return dict(run_task(task, given, databases={"singularity": self.database}) or {})

    def write(self, path: str, text: str = '{"name": "one"}') -> Path:
        file = self.tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def rows(self, columns: str = "id") -> list[Any]:
        found = self.database.execute(
            f"select {columns} from knowledge.knowledge_artifact order by source, id"
        )
        return [row[0] if len(row) == 1 else row for row in found]


@pytest.fixture
def store(server: PostgresServer, tmp_path: Path) -> Store:
    database = server.create(f"knowledge_{next(NAMES)}")
    migrate(knowledge_migrate, {"singularity": database})
    tree = tmp_path / "templates"
    tree.mkdir()
    return Store(database, tree)
