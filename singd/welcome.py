"""The first lines a starting daemon prints: where things are, what runs next, how to look."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Protocol

from singd.core.trigger import next_after
from singd.core.units import counted, format_duration
from singd.core.values import Schedule
from singd.events import Armed, Emit, Event, LedgerAway, NameInUse, Notice, Registered
from singd.ports import Clock


class Where(Protocol):
    """The paths it tells."""

    @property
    def config(self) -> object: ...

    @property
    def state(self) -> object: ...


class Welcome:
    """An `Emit` in front of another: tells once, when the first schedules are armed, how things stand.

    Attributes:
        database: Says where the ledger is; each life of the daemon has its own.
        schedules: All that may run on this node: the node's own are armed before the cluster's, or without them.
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
        self.schedules: Collection[Schedule] = ()
        self._warning = warning
        self._told = False

    def __call__(self, event: Event) -> None:
        """Pass the event on."""
        self._emit(event)
        if self._warning and isinstance(event, Armed | Registered | LedgerAway | NameInUse):
            warning, self._warning = self._warning, ""  # also by a node that only stands by
            self._emit(Notice("error", warning))
        if isinstance(event, Armed) and not self._told:
            self._told = True
            for line in self._lines():
                self._emit(Notice("info", line))

    def _lines(self) -> list[str]:
        program, options = _program(), self._options
        return [
            f"configuration  {self._paths.config}: {counted(len(self.schedules), 'schedule')}",
            f"ledger         {self.database()}",
            f"state          {self._paths.state}",
            f"next           {self._next()}",
            f"look           {program} status{options}   {program} runs{options}   {program} why NAME --at T{options}",
        ]

    def _next(self) -> str:
        now = self._clock.now()
        enabled = (one for one in self.schedules if one.enabled)
        first = min(((at, one.name) for one in enabled if (at := next_after(one.trigger, now))), default=None)
        if first is None:
            return "nothing is scheduled"
        wait = timedelta(seconds=round((first[0] - now).total_seconds()))
        if wait <= timedelta():
            return f"{first[1]}, now"
        return f"{first[1]} at {first[0]:%H:%M:%S} UTC, in {format_duration(wait)}"


def _program() -> str:
    """How this program was called, as short as it can be said from here."""
    near = os.path.relpath(sys.argv[0])
    return "singd" if near.startswith("..") or os.path.isabs(near) else near
