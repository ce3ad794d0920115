"""Works for the executors' tests and benchmarks, and a place where their reports arrive."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

from singd.core.values import (
    Attempt,
    Call,
    CommandCall,
    Isolation,
    Occurrence,
    Report,
    SqlCall,
    TaskCall,
    Work,
)

SUPPORT = Path(__file__).parent
TESTS = SUPPORT.parent
DUE = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def work_of(call: Call, **changes: Any) -> Work:
    """A work for any call, ready to go now."""
    token = uuid.uuid4().hex
    fields: dict[str, Any] = {
        "attempt": Attempt(7, Occurrence("a_schedule", DUE), 1, token, 42), "schedule": "a_schedule", "call": call,
        "isolation": Isolation.PROCESS, "timeout_s": 60.0, "node": "a_node", "role": "a_role",
        "idempotency_key": f"key-{token}", "databases": {}, "go_at": time.clock_gettime(time.CLOCK_BOOTTIME),
        "plugin": "" if isinstance(call, CommandCall | SqlCall) else "hostile",
    }  # fmt: skip
    return Work(**(fields | changes))


def hostile(task: str, args: Mapping[str, Any] | None = None, **changes: Any) -> Work:
    """An attempt of one of `hostile_tasks.tasks`."""
    return work_of(TaskCall(task, args or {}), entry_point=f"support.hostile_tasks.tasks:{task}", **changes)


def command(*argv: str, **changes: Any) -> Work:
    """An attempt of a plain program."""
    return work_of(CommandCall(argv), **changes)


class Inbox:
    """Collects reports; more than one for a token fails at once."""

    def __init__(self) -> None:
        self.reports: dict[str, Report] = {}
        self._arrived = trio.Event()

    def report(self, report: Report) -> None:
        """The sink."""
        assert report.token not in self.reports, "reported twice"
        self.reports[report.token] = report
        self._arrived.set()

    def room_changed(self) -> None:
        """The other callback."""

    async def of(self, *works: Work, within: float = 20.0) -> list[Report]:
        """The reports of these works, in order."""
        wanted = [work.attempt.token for work in works]
        with trio.fail_after(within):
            while any(token not in self.reports for token in wanted):
                self._arrived = trio.Event()
                await self._arrived.wait()
        return [self.reports[token] for token in wanted]
