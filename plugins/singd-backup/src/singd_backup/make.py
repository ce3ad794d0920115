"""Makes one set of several databases, and lets old ones go only afterwards.

    reuse? ─► room? ─► claim .partial ─► dump + verify each ─► manifest, fsync, rename ─► retention
                            └── any failure: the claim is removed, nothing else has changed

A database that fails fails the set: half a set would have to be told from a whole one for ever after. Databases
that must not wait for each other get a schedule each.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from singd.plugin import Context, Database
from singd_backup.counts import database_bytes
from singd_backup.dump import dump
from singd_backup.errors import BackupFailed
from singd_backup.sets import BackupSet, Manifest, claimed, complete_sets, publish, read_set, set_name

RESERVE = 16 << 20
"""Bytes to leave free beside what the set is expected to take."""
GROWTH = 1.25


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make, and where: the folder of one kind."""

    kind: str
    folder: Path
    databases: Sequence[Database]


def make_set(ctx: Context, plan: Plan) -> tuple[BackupSet, bool]:
    """Make the set of this occurrence, unless an earlier attempt of it already did.

    Returns:
        The set, and whether it was there before.

    Raises:
        BackupFailed, OSError, psycopg.Error: Nothing was made.
    """
    target = plan.folder / set_name(ctx.due_at, ctx.idempotency_key)
    attempt = f"{target.name}-{ctx.epoch}-{ctx.attempt}"
    with claimed(ctx.state_dir, f"private-{attempt}") as secrets, claimed(plan.folder, attempt) as partial:
        there = _reusable(target, plan)
        if there:
            return there, True
        check_room(plan)
        manifest = _dump_all(ctx, plan, partial, secrets)
        _publish(partial, target, manifest)
    made = read_set(target)
    if made is None:
        raise BackupFailed(f"{target} was made and cannot be read back")
    return made, False


def _reusable(target: Path, plan: Plan) -> BackupSet | None:
    there = read_set(target)
    wanted = {database.name for database in plan.databases}
    return there if there and set(there.manifest.databases) >= wanted else None


def _dump_all(ctx: Context, plan: Plan, partial: Path, secrets: Path) -> Manifest:
    done = {}
    for number, database in enumerate(plan.databases):
        ctx.progress(number, len(plan.databases), database.name)
        try:
            done[database.name] = dump(database, partial / f"{database.name}.dump", secrets)
        except BackupFailed as failed:
            raise BackupFailed(f"{database.name}: {failed}") from failed
        ctx.log.info("%s: %d bytes, verified", database.name, done[database.name].size)
    now = datetime.now(UTC).isoformat()
    return Manifest(plan.kind, ctx.due_at.isoformat(), ctx.idempotency_key, ctx.node, now, done)


def _publish(partial: Path, target: Path, manifest: Manifest) -> None:
    try:
        publish(partial, target, manifest)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or read_set(target) is None:
            raise
        # Another attempt of this occurrence was faster; its set is as good as ours, and ours goes with the claim.


def check_room(plan: Plan) -> None:
    """Refuse to begin what the disk cannot hold.

    Each database is expected to take what its last dump took, scaled by its growth since, or, without one, its size
    on the server.

    Raises:
        BackupFailed: With the figures.
    """
    last = next(iter(complete_sets(plan.folder)), None)
    need = sum(_expected(database, last) for database in plan.databases) + RESERVE
    found = os.statvfs(plan.folder)
    free = found.f_bavail * found.f_frsize
    if free < need:
        raise BackupFailed(
            f"{plan.folder} has {free / 2**20:,.0f} MiB free, this set needs about {need / 2**20:,.0f} MiB"
        )  # fmt: skip


def _expected(database: Database, last: BackupSet | None) -> int:
    with database.connect() as connection:
        now = database_bytes(connection)
    before = last.manifest.databases.get(database.name) if last else None
    if before is None or not before.database_bytes:
        return now
    return int(before.size * max(1.0, now / before.database_bytes) * GROWTH)
