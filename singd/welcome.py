"""The first lines a starting daemon prints: where things are, what runs next, how to look."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from singd.core.units import format_duration
from singd.events import Armed, Emit, Event, Notice
from singd.ports import Clock


class Where(Protocol):
    """The paths it tells."""

    @property
    def config(self) -> object: ...

    @property
    def state(self) -> object: ...


class Welcome:
    """An `Emit` in front of another: tells once, when the first term is armed, how things stand."""

    def __init__(
        self,
        emit: Emit,
        clock: Clock,
        paths: Where,
        database: Callable[[], str],
        warning: str,
    ) -> None:
        self._emit = emit
        self._clock = clock
        self._paths = paths
        self._database = database
        self._warning = warning
        self._told = False

    def __call__(self, event: Event) -> None:
        """Pass the event on."""
        self._emit(event)
        if isinstance(event, Armed) and not self._told:
            self._told = True
            for line in self._lines(event):
                self._emit(Notice("info", line))
            if self._warning:
                self._emit(Notice("error", self._warning))

    def _lines(self, armed: Armed) -> list[str]:
        program = _program()
        return [
            f"configuration  {self._paths.config}: {armed.schedules} schedules",
            f"ledger         {self._database()}",
            f"state          {self._paths.state}",
            f"next           {self._next(armed)}",
            f"look           {program} status   {program} runs   {program} why NAME --at -5min",
        ]

    def _next(self, armed: Armed) -> str:
        if armed.next_at is None:
            return "nothing is scheduled"
        wait = timedelta(seconds=max(round((armed.next_at - self._clock.now()).total_seconds()), 0))
        return f"{armed.next_schedule} at {armed.next_at:%H:%M:%S} UTC, in {format_duration(wait)}"


def _program() -> str:
    """How this program was called, as short as it can be said from here."""
    near = os.path.relpath(sys.argv[0])
    return "singd" if near.startswith("..") or os.path.isabs(near) else near
