"""The one loader behind both tasks: a tree of files becomes the rows of its source, in one transaction.

    lock -> rows known -> for each file: read, hash, classify, write if changed -> remove vanished -> judge -> commit

All or nothing, not one transaction a file: whether a run is sound (how much vanished, how much was refused) is only
known at its end, and readers must not see half a tree. A file that cannot be loaded is not an error of the run: it is
refused with a reason, alone, and the row of an earlier good version of it stays. What Postgres could refuse is
refused before it gets there (artifact.py).

Two runs at once take turns by an advisory lock; the second then finds every file unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

from singd_knowledge.artifact import Artifact, artifact_id, digest, read_artifact
from singd_knowledge.classify import RULES
from singd_knowledge.tree import Refused, list_files, read_file
from singd_knowledge.verdicts import Limits, Verdicts, judge

BATCH_BYTES = 4 * 1024 * 1024
LOCK_TIMEOUT = "2min"
"""How long a run waits for another one to finish."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Tree:
    """What to load.

    Attributes:
        root: The directory.
        source: Names the tree; its rows, and only those, are replaced and removed.
        max_file: Bytes; bigger files are refused.
    """

    root: Path
    source: str
    max_file: int


@dataclass(frozen=True, slots=True)
class Row:
    """What the table knows of a file."""

    path: str
    content_hash: str
    rules: int


@dataclass(slots=True)
class Load:
    """One run at work: what it knows, has seen, and has yet to write."""

    connection: Any
    tree: Tree
    known: dict[str, Row]
    seen: set[str] = field(default_factory=set)
    verdicts: Verdicts = field(default_factory=Verdicts)
    changed: list[Artifact] = field(default_factory=list)
    changed_bytes: int = 0


def load(
    connection: Any, tree: Tree, limits: Limits, progress: Progress = lambda done, total: None
) -> Verdicts:
    """Bring the rows of `tree.source` in line with the files.

    Args:
        connection: psycopg connection in a transaction that the caller commits, or rolls back on any error.
        progress: Told (files done, files in all).

    Returns:
        The verdict of every file.

    Raises:
        Unsound: The caller must roll back.
        OSError: The tree cannot be listed.
    """
    connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
    connection.execute(_sql("lock"))
    run = Load(connection, tree, _known(connection, tree.source))
    paths = list_files(tree.root)
    run.verdicts.files = len(paths)
    for done, path in enumerate(paths, 1):
        _load_file(run, path)
        progress(done, len(paths))
    _write(run)
    _remove(run)
    judge(run.verdicts, len(run.known), limits)
    return run.verdicts


def fingerprint(root: Path, max_file: int) -> str:
    """One hash for the whole tree: of every path and every content, in order."""
    lines = (f"{path}\0{_file_hash(root, path, max_file)}\n" for path in list_files(root))
    return digest("".join(lines).encode("utf-8", "surrogateescape"))


def _file_hash(root: Path, path: PurePosixPath, max_file: int) -> str:
    try:
        return digest(read_file(root, path, max_file))
    except Refused as refused:
        return str(refused)


def _known(connection: Any, source: str) -> dict[str, Row]:
    rows = connection.execute(_sql("known"), {"source": source})
    return {found[0]: Row(*found[1:]) for found in rows}


def _load_file(run: Load, path: PurePosixPath) -> None:
    shown = str(path).encode("utf-8", "backslashreplace").decode()
    try:
        verdict = _verdict(run, path)
        run.verdicts.add(shown, verdict)
    except Refused as refused:
        run.verdicts.add(shown, "refused", str(refused))


def _verdict(run: Load, path: PurePosixPath) -> str:
    identity = artifact_id(path)
    if identity in run.seen:
        raise Refused(f"has the id of another file: {identity}")
    run.seen.add(identity)
    data = read_file(run.tree.root, path, run.tree.max_file)
    before = run.known.get(identity)
    if before == Row(str(path), digest(data), RULES):
        return "unchanged"
    _queue(run, read_artifact(path, data))
    return "updated" if before else "loaded"


def _queue(run: Load, artifact: Artifact) -> None:
    run.changed.append(artifact)
    run.changed_bytes += len(artifact.content_raw)
    if run.changed_bytes > BATCH_BYTES:
        _write(run)


def _write(run: Load) -> None:
    rows = list(_rows(run.tree.source, run.changed))
    with run.connection.cursor() as cursor:
        cursor.executemany(_sql("upsert"), rows)
    run.changed, run.changed_bytes = [], 0


def _rows(source: str, artifacts: list[Artifact]) -> Iterator[dict[str, Any]]:
    for one in artifacts:
        yield {
            "source": source, "id": one.id, "path": one.path, "artifact_type": one.kind.artifact_type,
            "classified_by": one.kind.rule, "rules": RULES, "category": one.kind.category, "name": one.name,
            "version": one.version, "description": one.description, "declared_id": one.declared_id,
            "language": one.language, "tags": one.tags, "content_raw": one.content_raw, "content_hash": one.content_hash,
        }  # fmt: skip


def _remove(run: Load) -> None:
    gone = sorted(set(run.known) - run.seen)
    run.connection.execute(_sql("remove"), {"source": run.tree.source, "ids": gone})
    for identity in gone:
        run.verdicts.add(run.known[identity].path, "removed")


def _sql(name: str) -> str:
    return (files("singd_knowledge") / "sql" / f"{name}.sql").read_text()
