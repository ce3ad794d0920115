"""Looking for processes by a mark in their argv, and waiting for facts about them, with a bound."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable

import trio


def new_mark() -> str:
    """A word that only this test's processes carry."""
    return f"mark-{uuid.uuid4().hex}"


def marked(mark: str, but: int = 0) -> list[int]:
    """Pids of the living processes whose argv contains `mark`."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == but:
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if mark.encode() in file.read():
                    found.append(int(name))
        except OSError:
            continue
    return found


def kill_marked(mark: str) -> None:
    """For clean-up of a test that failed."""
    for pid in marked(mark):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


async def eventually(fact: Callable[[], object], within: float = 10.0) -> float:
    """Wait until `fact()` is true; returns the seconds it took, fails after `within`."""
    begun = trio.current_time()
    while not fact():
        took = trio.current_time() - begun
        assert took < within, f"not so after {took:.1f} s"
        await trio.sleep(0.01)
    return trio.current_time() - begun
