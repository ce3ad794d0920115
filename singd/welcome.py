"""The first lines a starting daemon prints: where things are, what runs next, how to look."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from singd.core.units import counted, format_duration
from singd.events import Armed, Emit, Event, Notice
from singd.ports import Clock


class Where(Protocol):
    """The paths it tells."""

    @property
    def config(self) -> object: ...

    @property
    def state(self) -> object: ...


class Welcome:
    """An `Emit` in front of another: tells once, when the first term is armed, how things stand.

    Attributes:
        database: Says where the ledger is; each life of the daemon has its own.
    """

    def __init__(
        self,
        emit: Emit,
        clock: Clock,
        paths: Where,
        options: str,
        warning: str,
    ) -> None:
        self._emit = emit
        self._clock = clock
        self._paths = paths
        self._options = options
        self.database: Callable[[], str] = str
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
        program, options = _program(), self._options
        return [
            f"configuration  {self._paths.config}: {counted(armed.schedules, 'schedule')}",
            f"ledger         {self.database()}",
            f"state          {self._paths.state}",
            f"next           {self._next(armed)}",
            f"look           {program} status{options}   {program} runs{options}   {program} why NAME --at T{options}",
        ]

    def _next(self, armed: Armed) -> str:
        if armed.next_at is None:
            return "nothing is scheduled"
        wait = timedelta(seconds=round((armed.next_at - self._clock.now()).total_seconds()))
        if wait <= timedelta():
            return f"{armed.next_schedule}, now"
        return f"{armed.next_schedule} at {armed.next_at:%H:%M:%S} UTC, in {format_duration(wait)}"


def _program() -> str:
    """How this program was called, as short as it can be said from here."""
    near = os.path.relpath(sys.argv[0])
    return "singd" if near.startswith("..") or os.path.isabs(near) else near
