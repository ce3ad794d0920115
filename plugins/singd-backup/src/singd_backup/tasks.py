"""The two tasks: `backup` makes a set, `backup_verify` proves that the newest one restores."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from singd.plugin import Context, Database, DatabaseName, GiveUp, Skip, task
from singd_backup.errors import BackupFailed
from singd_backup.make import Plan, make_set
from singd_backup.restore import Verified, verify_dump
from singd_backup.sets import BackupSet, claimed, complete_sets, expendable, reading, remove

Kind = Literal["hourly", "daily"]
SAFE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@task(placement=("instance", "central"), database_role="backup", timeout="1h")
def backup(
    ctx: Context, *, databases: list[DatabaseName], kind: Kind, keep: int, directory: Path | None = None
) -> dict[str, Any]:
    """Dump databases into one verified set, then keep the newest sets of its kind.

    Args:
        databases: Names of the configuration's databases.
        kind: "hourly" or "daily"; each has its own sets and its own retention.
        keep: How many complete sets stay, at least 1.
        directory: Where sets go; left out, the task's own state directory.

    Raises:
        GiveUp: The settings cannot be.
        BackupFailed: No set was made, and none was removed.
    """
    if keep < 1:
        raise GiveUp(f"keep = {keep} would keep no backup at all")
    plan = Plan(kind, folder(ctx, directory, kind), named(ctx, databases))
    made, reused = make_set(ctx, plan)
    ctx.progress(len(databases), len(databases))
    gone = [old for old in expendable(complete_sets(plan.folder), keep, made.path) if remove(old)]
    return {
        "set": str(made.path),
        "reused": reused,
        **figures(made),
        "kept": len(complete_sets(plan.folder)),
        "removed": len(gone),
    }


@task(placement=("instance", "central"), database_role="backup", timeout="1h")
def backup_verify(
    ctx: Context, *, databases: list[DatabaseName], kind: Kind = "daily", directory: Path | None = None,
    template: str = "template1", max_age: timedelta | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Restore the newest set into scratch databases and compare the row counts.

    Args:
        databases: Which databases of the set to restore, each on the server it came from.
        kind: Of the set.
        directory: Where sets are; left out, the state directory of the task `backup`.
        template: The scratch databases are copies of this one: it holds the extensions that a superuser must create.
        max_age: How old the newest set may be at this run's due time.

    Raises:
        Skip: There is no set yet.
        BackupFailed: The newest set is too old, or does not restore to what it says.
    """
    place = folder(ctx, directory, kind)
    one = next(iter(complete_sets(place)), None)
    if one is None:
        raise Skip(f"no complete {kind} set in {place}")
    age = ctx.due_at - datetime.fromisoformat(one.manifest.due_at)
    if max_age is not None and age > max_age:
        raise BackupFailed(f"the newest complete {kind} set is {age} old: {one.path}")
    results = verify_set(ctx, one, named(ctx, databases), template)
    return {"set": str(one.path), "age_s": int(age.total_seconds()), **totals(results)}


def verify_set(ctx: Context, one: BackupSet, databases: list[Database], template: str) -> list[Verified]:
    """Verify each database of the set in turn.

    Raises:
        BackupFailed: The set lacks one of the databases, or one does not restore.
    """
    absent = sorted({database.name for database in databases} - set(one.manifest.databases))
    if absent:
        raise BackupFailed(f"{one.path} does not hold {', '.join(absent)}")
    results = []
    with (
        reading(one),
        claimed(ctx.state_dir, f"private-{ctx.epoch}-{ctx.attempt}-{one.path.name}") as secrets,
    ):
        for number, database in enumerate(databases):
            ctx.progress(number, len(databases), database.name)
            results.append(verify_dump(database, one, template, secrets))
            ctx.log.info("%s: %s", database.name, results[-1])
    return results


def folder(ctx: Context, directory: Path | None, kind: Kind) -> Path:
    """Where the sets of a kind are. Tasks have their state side by side, so both tasks find the same place."""
    return (directory or ctx.state_dir.parent / "backup" / "sets") / kind


def named(ctx: Context, names: list[DatabaseName]) -> list[Database]:
    """The databases to work on, each once.

    Raises:
        GiveUp: There is none, or one has a name that cannot be a file's name.
    """
    unsafe = [name for name in names if not SAFE_NAME.fullmatch(name)]
    if unsafe or not names:
        raise GiveUp(f"databases = {names!r}: expected names of small letters, digits, '.', '_' and '-'")
    return [ctx.database(name) for name in dict.fromkeys(names)]


def figures(made: BackupSet) -> dict[str, int]:
    """What a set holds, in numbers."""
    dumps = made.manifest.databases.values()
    return {
        "databases": len(dumps), "bytes": sum(one.size for one in dumps),
        "tables": sum(len(one.rows) for one in dumps), "rows": sum(sum(one.rows.values()) for one in dumps),
    }  # fmt: skip


def totals(results: list[Verified]) -> dict[str, Any]:
    """What a verification proved, in numbers, and what it could not."""
    return {
        "databases": len(results), "tables": sum(one.tables for one in results), "rows": sum(one.rows for one in results),
        "tables_unverified": sum(len(one.unverified) for one in results),
        "extensions_missing": sorted({name for one in results for name in one.extensions_missing}),
    }  # fmt: skip
