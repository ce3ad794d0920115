"""The SQL of this package: one file a statement, read once."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def statement(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return (resources.files("singd.edges.local") / "sql" / f"{name}.sql").read_text("utf-8")
