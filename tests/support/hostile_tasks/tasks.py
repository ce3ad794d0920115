"""Tasks of every temper: `hostile_tasks.tasks:<name>`."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from singd.plugin import Context, DatabaseName, GiveUp, RetryAfter, Skip, task

here = task(placement="node")


@here
def noop(ctx: Context) -> None: ...


@here
async def async_noop(ctx: Context) -> None: ...


@here
def hello(ctx: Context, *, name: str = "world") -> dict[str, int]:
    print(f"hello {name}")
    ctx.log.info("from %s at %s", ctx.schedule, ctx.due_at.isoformat())
    return {"greetings": 1}


@here
def tell(ctx: Context) -> dict[str, Any]:
    return {
        "schedule": ctx.schedule, "due_at": ctx.due_at.isoformat(), "attempt": ctx.attempt, "epoch": ctx.epoch,
        "key": ctx.idempotency_key, "node": ctx.node, "role": ctx.role, "state_dir": str(ctx.state_dir),
        "state_dir_mode": ctx.state_dir.stat().st_mode & 0o777, "databases": sorted(ctx.databases),
        "left_s": (ctx.deadline - datetime.now(ctx.deadline.tzinfo)).total_seconds(), "pid": os.getpid(),
        "environment": sorted(os.environ), "cwd": os.getcwd(),
    }  # fmt: skip


@here
def typed(
    ctx: Context, *, wait: timedelta, path: Path, at: datetime, mode: Literal["a", "b"], many: list[timedelta],
    table: dict[str, int], database: DatabaseName, share: float = 0.5, maybe: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    return {"repr": repr((wait, path, at, mode, many, table, database, share, maybe))}


@here
def reach(ctx: Context) -> dict[str, Any]:
    """What a curious plugin can get at."""
    import resource

    return {
        "descriptors": sorted(int(n) for n in os.listdir("/proc/self/fd")),
        "core": resource.getrlimit(resource.RLIMIT_CORE), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
        "session": os.getsid(0) == os.getpid(),
        "no_new_privs": "NoNewPrivs:\t1" in Path("/proc/self/status").read_text(),
        "argv": Path("/proc/self/cmdline").read_text().split("\0"), "environment": dict(os.environ),
    }  # fmt: skip


@here
def segfault(ctx: Context) -> None:
    print("about to", flush=True)
    ctypes.string_at(1)


@here
def exit_zero(ctx: Context) -> None:
    os._exit(0)


@here
def exit_three(ctx: Context) -> None:
    os._exit(3)


@here
def abort(ctx: Context) -> None:
    os.abort()


@here
def system_exit(ctx: Context) -> None:
    sys.exit(0)


@here
def interrupt(ctx: Context) -> None:
    raise KeyboardInterrupt


@here
def group(ctx: Context) -> None:
    raise BaseExceptionGroup("many", [SystemExit(1), ValueError("inner")])


@here
async def async_group(ctx: Context) -> None:
    import trio

    async def fail() -> None:
        raise SystemExit(3)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


@here
def unprintable(ctx: Context) -> None:
    raise Unprintable


@here
def huge_error(ctx: Context) -> None:
    raise ValueError("x" * 10_000_000)


@here
def endless(ctx: Context) -> None:
    while True:
        pass


@here
def holds_the_gil(ctx: Context) -> None:
    ctypes.PyDLL(None).sleep(100)


@here
def stubborn(ctx: Context) -> None:
    """Swallows what it is sent."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("begun", flush=True)
    time.sleep(300)


@here
def tidy(ctx: Context, *, note: Path) -> None:
    try:
        print("begun", flush=True)
        time.sleep(300)
    finally:
        note.write_text("tidied")


@here
async def async_tidy(ctx: Context, *, note: Path) -> None:
    import trio

    try:
        print("begun", flush=True)
        await trio.sleep(300)
    finally:
        note.write_text("tidied")


@here
def polls(ctx: Context) -> dict[str, int]:
    print("begun", flush=True)
    while True:
        try:
            time.sleep(300)
        except KeyboardInterrupt:
            return {"cancelled": int(ctx.cancelled())}


@here
def hog(ctx: Context) -> None:
    hoard = []
    while True:
        hoard.append(bytearray(16 << 20))


@here
def terminated(ctx: Context) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(300)


@here
def killed(ctx: Context) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@here
def forks_away(ctx: Context, *, mark: str) -> None:
    argv = [sys.executable, "-I", "-S", str(Path(__file__).with_name("clinger.py")), mark, "2", "--leave"]
    subprocess.run(argv, check=True)


@here
def clings(ctx: Context, *, mark: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.run(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("clinger.py")), mark, "2"], check=True
    )


@here
def brief_child(ctx: Context) -> None:
    subprocess.Popen(["sleep", "0.01"])  # not waited for, but gone by itself


@here
def floods(ctx: Context) -> None:
    block = b"x" * 65536
    for _ in range(1 << 14):
        os.write(1, block)


@here
def prints_much(ctx: Context, *, size: int) -> None:
    sys.stdout.write("<")
    for _ in range(size // 1000):
        sys.stdout.write("y" * 1000)
    sys.stdout.write(">")


@here
def closes_everything(ctx: Context) -> None:
    sys.stdout.close()
    os.close(1)
    os.close(2)
    os.chdir("/tmp")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@here
def forges(ctx: Context) -> None:
    for index in range(20):
        os.write(1, b"\0" + b"0" * 16 + b"%08x\n" % index)
    print('{"index": 0, "state": "succeeded"}')


@here
def breaks_the_protocol(ctx: Context, *, line: str, times: int = 1) -> None:
    os.write(3, line.encode() * times + b"\n")
    time.sleep(300)


@here
def sleeps(ctx: Context, *, seconds: float) -> None:
    print("begun", flush=True)
    time.sleep(seconds)


@here
async def async_sleeps(ctx: Context, *, seconds: float) -> None:
    import trio

    print("begun", flush=True)
    await trio.sleep(seconds)


@here
def sometimes_slow(ctx: Context, *, seconds: float = 0.0) -> dict[str, int]:
    time.sleep(seconds)
    return {"pid": os.getpid()}


@here
def skips(ctx: Context) -> None:
    raise Skip("nothing new")


@here
async def async_skips(ctx: Context) -> None:
    import trio

    async with trio.open_nursery():
        raise Skip("nothing new")


@here
def retry_later(ctx: Context) -> None:
    raise RetryAfter(12.5, "the server said so")


@here
def gives_up(ctx: Context) -> None:
    raise GiveUp("no use")


@here
def progresses(ctx: Context) -> None:
    ctx.progress(3, 10, "third")
    time.sleep(300)


RETURNS: dict[str, Callable[[], Any]] = {
    "number": lambda: 7,
    "object": lambda: {"x": object()},
    "nul": lambda: {"x": "a\0b"},
    "surrogate": lambda: {"x": "\ud800"},
    "nan": lambda: {"x": float("nan")},
    "large": lambda: {"x": "y" * 100_000},
    "recursive": lambda: (x := {}, x.update(x=x))[0],  # type: ignore[var-annotated]
}


@here
def returns(ctx: Context, *, what: str) -> Any:
    return RETURNS[what]()


@here
def pid(ctx: Context) -> dict[str, int]:
    return {"pid": os.getpid()}


@here
async def async_pid(ctx: Context) -> dict[str, int]:
    return {"pid": os.getpid()}


@here
async def swallows(ctx: Context, *, seconds: float) -> None:
    """An async task that ignores its cancellation for a while."""
    import trio

    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)


_last: list[str] = []


@here
def order(ctx: Context, *, note: Path) -> None:
    with note.open("a") as file:
        file.write(ctx.idempotency_key + "\n")
