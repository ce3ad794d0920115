"""The journal: one line a fact, made from the events that tests and status read.

Lines are bounded: control characters are escaped, a line is at most `LINE_MOST` characters, and more than `BURST` lines a
second are counted instead of written. What is wrong has a budget of its own, so that ten thousand runs at
one instant cannot drown the one that failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TextIO

from singd.core.units import counted
from singd.core.values import State
from singd.events import (
    Armed,
    AttemptEnded,
    AttemptSettled,
    Campaigning,
    Draining,
    Event,
    FilesDiffer,
    KeeperLost,
    LedgerAway,
    NameInUse,
    Notice,
    NotRun,
    Registered,
    ResultRefused,
    TermBegan,
    TermEnded,
)
from singd.ports import Clock

LINE_MOST = 2_000
AGAIN_S = 60.0
"""The same trouble is told again after this long."""
BURST = 50
"""Lines a second of what is well, and as many of what is not."""


class Journal:
    """Writes events as lines for people; an instance is an `Emit`."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._second = 0
        self._lines = {True: 0, False: 0}
        self._swallowed = 0
        self._trouble = ("", 0.0)

    def __call__(self, event: Event) -> None:
        """Write the event's line, if it has one."""
        if isinstance(event, Armed | Campaigning) or self._said_already(event):
            return  # routine: `singd status` has them
        level, text = describe(event)
        if self._has_room(level):
            self._write(level, text)

    def _said_already(self, event: Event) -> bool:
        """Whether it is the same trouble again, tried again: told once a minute."""
        if not isinstance(event, LedgerAway | NameInUse):
            return False
        reason, told = self._trouble
        if event.reason == reason and self._clock.boot() - told < AGAIN_S:
            return True
        self._trouble = event.reason, self._clock.boot()
        return False

    def _has_room(self, level: str) -> bool:
        second, well = int(self._clock.boot()), level == "info"
        if second != self._second:
            self._second, self._lines = second, {True: 0, False: 0}
            swallowed, self._swallowed = self._swallowed, 0
            if swallowed:
                self._write("info", f"… and {swallowed} more lines: `singd runs` has them all")
        self._lines[well] += 1
        self._swallowed += self._lines[well] > BURST
        return self._lines[well] <= BURST

    def _write(self, level: str, text: str) -> None:
        mark = {"info": " ", "warning": "!", "error": "✗"}[level]
        print(f"{self._clock.now():%H:%M:%SZ} {mark} {printable(text)}", file=self._stream, flush=True)


def printable(text: str) -> str:
    """One line without control characters, cut at `LINE_MOST`."""
    clean = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return clean if len(clean) <= LINE_MOST else clean[: LINE_MOST - 1] + "…"


def describe(event: Event) -> tuple[str, str]:
    """The level and the words of an event."""
    describer: Callable[..., tuple[str, str]] = _DESCRIBERS[type(event)]
    return describer(event)


def _ended(event: AttemptEnded) -> tuple[str, str]:
    head = f"{event.schedule}: run {event.run_id}"
    if event.skipped is not None:
        return "info", f"{head} skipped: {event.skipped}"
    took = f"{event.state.replace('_', ' ')} after {event.seconds:.2f} s"
    tail = f", attempt {event.number}" if event.number > 1 else ""
    again = f"; next attempt at {event.retry_at:%H:%M:%SZ}" if event.retry_at else ""
    if event.state is State.SUCCEEDED:
        return "info", f"{head} {took}{tail}"
    return "error", f"{head} {took}{tail}: {event.error}{again}"


def _settled(event: AttemptSettled) -> tuple[str, str]:
    what = "never started" if event.state is State.CANCELLED else "was lost with its daemon"
    return "warning", f"{event.schedule}: run {event.run_id} attempt {event.number} {what}"


def _not_run(event: NotRun) -> tuple[str, str]:
    name, due = event.occurrence.schedule, f"{event.occurrence.due_at:%FT%TZ}"
    many = f" to {event.until:%FT%TZ} ({event.count} instants)" if event.until else ""
    return "info", f"{name}: {due}{many} {event.verdict}: {event.reason}"


def _cured(event: LedgerAway | NameInUse) -> str:
    return f"{event.reason} ({event.cure})" if event.cure else event.reason


def _named(nodes: Mapping[str, str]) -> str:
    return ", ".join(f"{node} {content_hash or 'none'}" for node, content_hash in sorted(nodes.items()))


_DESCRIBERS: dict[type, Callable[..., tuple[str, str]]] = {
    TermBegan: lambda event: ("info", f"this node leads (epoch {event.epoch})"),
    TermEnded: lambda event: (
        "info" if event.reason.startswith(("stopped", "resigned")) else "warning",
        f"no longer leading (epoch {event.epoch}): {event.reason}",
    ),
    Registered: lambda event: ("info", f"registered as node {event.node}"),
    Campaigning: lambda event: ("info", "standing by"),
    LedgerAway: lambda event: (
        "warning",
        f"cluster work waits: {_cured(event)} (next try in {event.retry_s:.1f} s)",
    ),
    NameInUse: lambda event: (
        "error",
        f"nothing runs here: {_cured(event)} (next try in {event.retry_s:.1f} s)",
    ),
    FilesDiffer: lambda event: (
        "warning",
        f"live nodes have different configurations: {_named(event.nodes)}; whichever leads, its own is in force",
    ),
    AttemptEnded: _ended,
    AttemptSettled: _settled,
    ResultRefused: lambda event: (
        "warning",
        f"{event.schedule}: run {event.run_id} attempt {event.number} ended, but had been settled before",
    ),
    NotRun: _not_run,
    Draining: lambda event: (
        "info",
        f"stopping: {counted(event.running, 'running attempt')} may finish for {event.seconds:.0f} s",
    ),
    KeeperLost: lambda event: ("error", f"the keeper is gone ({event.reason}); starting again"),
    Notice: lambda event: (event.level, event.text),
}
"""Event type -> its words; a test holds this table complete."""

__all__ = ["Journal", "describe", "printable"]
