"""One attempt on its way through an executor, from `hand_over` to its one report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import trio

from singd.core.values import NO_LOG, Report, SqlCall, State, Work
from singd.edges.worker import wire
from singd.edges.worker.output import Kept

if TYPE_CHECKING:
    from singd.edges.worker.warm import Warm

Key = tuple[str, str]
"""Plugin and version: what a worker is for."""


class Entry:
    """A work, when it began, what it printed, and why it is being ended if it is.

    Attributes:
        hand: How many attempts like it a worker may hold at once.
        begun_at: trio's clock when its begin was seen; None before.
        ending: The state to report once it is over, if somebody decided to end it; `reason` says why.
    """

    __slots__ = (
        "begun_at",
        "ending",
        "hand",
        "kept",
        "key",
        "kind",
        "progress",
        "reason",
        "started_at",
        "work",
    )

    def __init__(self, work: Work, hand: int = 1) -> None:
        self.work, self.kind, self.hand = work, wire.work_kind(work), hand
        sql = isinstance(work.call, SqlCall)
        self.key: Key = (wire.BUILT_IN, "") if sql else (work.plugin, work.plugin_version)
        self.begun_at: float | None = None
        self.started_at = 0.0
        self.kept: Kept | None = None
        self.ending: State | None = None
        self.reason = ""
        self.progress: tuple[int, int, str] | None = None

    @property
    def token(self) -> str:
        """Its attempt's."""
        return self.work.attempt.token

    def begin(self) -> None:
        """Its body has begun."""
        self.begun_at, self.started_at = trio.current_time(), time.time()

    def write(self, data: bytes) -> int:
        """Keep output; returns how much there was so far."""
        if self.kept is None:
            self.kept = Kept()
        self.kept.add(data)
        return self.kept.total

    def overdue(self, more_s: float) -> bool:
        """Whether its body may not begin any more, since at least `more_s`."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) > self.work.go_at + wire.LATEST_BEGIN_S + more_s

    def report(self, state: State, error: str = "", **fields: Any) -> Report:
        """The report of an attempt that began."""
        fields.setdefault("started_at", self.started_at)
        fields.setdefault("finished_at", time.time())
        log = self.kept.log() if self.kept is not None else NO_LOG
        return Report(self.token, state, wire.clip(error), log=log, **fields)

    def never_begun(self, reason: str, *, wanted: bool = False) -> Report:
        """The report of one that did not; `wanted`: somebody asked for that, so no other attempt follows."""
        now = time.time()
        return Report(
            self.token,
            State.CANCELLED,
            wire.clip(reason),
            begun=False,
            give_up=wanted,
            started_at=now,
            finished_at=now,
        )

    def ended(self, cause: str, *, unknown: bool = False) -> Report:
        """The report when its process is gone without an answer: as it was decided, or the given cause."""
        if self.begun_at is None:
            return self.never_begun(self.reason or cause, wanted=self.ending is State.CANCELLED)
        if unknown:
            return self.report(State.LOST, cause)
        if self.ending is not None:
            return self.report(self.ending, self.reason)
        return self.report(State.FAILED, cause)


class Owner(Protocol):
    """What a worker tells its executor."""

    def finished(self, entry: Entry, report: Report, seconds: float | None) -> None:
        """One attempt is over; `seconds` is how long its body took, if it ran to its end."""
        ...

    def returned(self, entries: Sequence[Entry]) -> None:
        """These have not begun and must run elsewhere."""
        ...

    def changed(self, worker: Warm) -> None:
        """It became ready, or has room again."""
        ...
