"""The task that a drill's schedules run: each body writes one line into a file outside the ledger."""

from __future__ import annotations

import os
from pathlib import Path

from singd.plugin import Context, task


@task(
    placement=("node", "instance", "central"), isolation="inline", summary="One line for the drill's account."
)
async def witness(ctx: Context, *, file: Path) -> None:
    """Tell that this run began. O_APPEND: each line arrives whole, whoever writes beside it."""
    line = f"{ctx.schedule} {ctx.due_at.isoformat()} {ctx.attempt} {ctx.epoch}\n"
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
