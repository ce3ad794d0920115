"""No-op tasks for the benches: the body writes one line, `<schedule> <time> <pid>`, into the sink.

The sink is an `O_APPEND` file in the task's own state directory, so each line arrives whole from any number of
processes. The bodies cost the same few microseconds as those of the peers (`peers.py`).
"""

from __future__ import annotations

import os
import time

from singd.plugin import Context, task

SINK = "sink"
_sinks: dict[str, int] = {}


def write(ctx: Context) -> None:
    """Say that the run of this schedule has begun, first of all."""
    now = time.time()
    directory = str(ctx.state_dir)
    sink = _sinks.get(directory)
    if sink is None:
        path = os.path.join(directory, SINK)
        sink = _sinks[directory] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(sink, f"{ctx.schedule} {now:.6f} {os.getpid()}\n".encode())


@task(placement=("node", "instance", "central"), isolation="inline", summary="One line, inside the daemon.")
async def bench_inline(ctx: Context) -> None:
    write(ctx)


@task(placement=("node", "instance", "central"), summary="One line, in a worker process.")
def bench_worker(ctx: Context) -> None:
    write(ctx)
