"""Tasks that say to the witness when they begin, that they live, and when they end; and do as they are ordered between.

    begin ── tick, tick, … (each 0.1 s) ── end          a datagram each; what is killed says nothing more

`orders` is a file that the harness writes to make the next bodies of a node misbehave: "segfault", "exit", "hang",
"orphan", "flood". Without it they are good.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import trio

from singd.plugin import Context, task

TICK_S = 0.1
PLACES = ("node", "instance", "central")


class Voice:
    """What one attempt says."""

    def __init__(self, ctx: Context, witness: Path) -> None:
        self._words = {
            "schedule": ctx.schedule, "due_at": ctx.due_at.isoformat(), "attempt": ctx.attempt, "epoch": ctx.epoch,
            "node": ctx.node, "pid": os.getpid(), "home": str(ctx.state_dir.parents[1]),
        }  # fmt: skip
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.connect(str(witness))

    def say(self, at: str) -> None:
        boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._socket.send(json.dumps({"at": at, **self._words, "boot": round(boot, 6)}).encode())

    def close(self) -> None:
        self._socket.close()


def fails(ctx: Context, of_ten: int) -> bool:
    """The same for the same instant and attempt, on whatever node."""
    return (int(ctx.due_at.timestamp() * 10) * 7 + ctx.attempt * 3) % 10 < of_ten


@task(placement=PLACES, isolation="inline", summary="Say begin, wait, say end; inside the daemon.")
async def chaos_inline(ctx: Context, *, witness: Path, seconds: float = 0.0, fail: int = 0) -> None:
    voice = Voice(ctx, witness)
    try:
        voice.say("begin")
        left = seconds
        while left > 0:
            await trio.sleep(min(left, TICK_S))
            left -= TICK_S
            voice.say("tick")
        voice.say("end")
    finally:
        voice.close()
    if fails(ctx, fail):
        raise RuntimeError("as planned")


@task(placement=PLACES, summary="Say begin, obey, wait, say end; in a worker process.")
def chaos_worker(
    ctx: Context, *, witness: Path, seconds: float = 0.0, fail: int = 0, orders: Path | None = None
) -> None:
    voice = Voice(ctx, witness)
    try:
        voice.say("begin")
        seconds += obey(orders / ctx.node if orders else None)
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, TICK_S))
            voice.say("tick")
        voice.say("end")
    finally:
        voice.close()
    if fails(ctx, fail):
        raise RuntimeError("as planned")


def obey(orders: Path | None) -> float:
    """Misbehave as ordered; seconds to stay longer."""
    try:
        order = orders.read_text() if orders else ""
    except OSError:
        return 0.0
    match order:
        case "segfault":
            ctypes.string_at(1)
        case "exit":
            os._exit(0)
        case "hang":
            return 3600.0
        case "orphan":
            subprocess.Popen(["setsid", "sleep", "300"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        case "flood":
            for _ in range(200):
                sys.stdout.write("x" * 8191 + "\n")
    return 0.0
