"""The two tasks, which are one loader: the system they come from had two, and both wrote the same files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from singd.plugin import Context, GiveUp, Skip, task
from singd_knowledge.loader import Tree, fingerprint, load
from singd_knowledge.verdicts import Limits, Unsound, Verdicts

DATABASE = "singularity"
MIGRATIONS = (DATABASE, Path(__file__).parent / "migrations")
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "kB": 10**3, "MB": 10**6}
MOST_FILE = 16 << 20


def tree_fingerprint(*, path: Path, max_file: str = "1MiB", **other: Any) -> str:
    """What `once` compares: the names and contents of the tree's files."""
    return fingerprint(path.resolve(), size(max_file))


@task(
    placement=("instance", "central"), databases=[DATABASE], migrations=MIGRATIONS, input=tree_fingerprint, timeout="10m"
)  # fmt: skip
def knowledge_migrate(
    ctx: Context, *, path: Path, source: str = "local", max_vanished: float = 0.2, max_refused: float = 0.2,
    max_file: str = "1MiB",
) -> dict[str, Any]:  # fmt: skip
    """Load a tree of JSON templates into knowledge.knowledge_artifact, one row a file."""
    return run(ctx, Tree(path.resolve(), source, size(max_file)), Limits(max_vanished, max_refused))


@task(
    placement=("instance", "central"), databases=[DATABASE], migrations=MIGRATIONS, input=tree_fingerprint, timeout="10m"
)  # fmt: skip
def templates_data_load(
    ctx: Context, *, path: Path, source: str = "local", max_vanished: float = 0.2, max_refused: float = 0.2,
    max_file: str = "1MiB",
) -> dict[str, Any]:  # fmt: skip
    """Load templates_data: the same loader as knowledge_migrate, so the second finds everything unchanged."""
    return run(ctx, Tree(path.resolve(), source, size(max_file)), Limits(max_vanished, max_refused))


def run(ctx: Context, tree: Tree, limits: Limits) -> dict[str, Any]:
    """One run in one transaction.

    Raises:
        Skip: Neither files nor rows: nothing to do.
        GiveUp: The run would do harm or loaded nothing; trying again cannot help.
    """
    try:
        with ctx.database(DATABASE).connect() as connection:
            verdicts = load(connection, tree, limits, ctx.progress)
    except Unsound as unsound:
        raise GiveUp(str(unsound)) from unsound
    if not verdicts.of:
        raise Skip(f"no JSON files below {tree.root}, and none were loaded before")
    tell(ctx, verdicts)
    return verdicts.result()


def tell(ctx: Context, verdicts: Verdicts) -> None:
    """Log what is worth a line: everything but unchanged files."""
    for path, (verdict, reason) in verdicts.of.items():
        if verdict == "refused":
            ctx.log.warning("%s refused: %s", path, reason)
        elif verdict != "unchanged":
            ctx.log.info("%s %s", path, verdict)


def size(text: str) -> int:
    """Bytes of a size with a unit, such as "1MiB".

    Raises:
        GiveUp: It is no size, or more than MOST_FILE.
    """
    match = re.fullmatch(r"(\d{1,12}) ?(B|KiB|MiB|kB|MB)", text)
    found = int(match[1]) * UNITS[match[2]] if match else 0
    if not 0 < found <= MOST_FILE:
        raise GiveUp(f"max_file = {text!r} is no size from 1B to {MOST_FILE >> 20}MiB, such as 1MiB")
    return found
