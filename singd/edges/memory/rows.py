"""The ledger's tables in memory, and what a watcher is told of their server."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime

from singd.core.values import NO_LOG, Attempt, Finish, Log, Occurrence, Recording, State, Verdict


@dataclass(slots=True)
class Try:
    """One attempt, as its table row."""

    attempt: Attempt
    node: str
    process: uuid.UUID
    claimed_at: datetime
    renewed: float
    state: State = State.CLAIMED
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str = ""
    finish: Finish | None = None

    @property
    def log(self) -> Log:
        return self.finish.log if self.finish else NO_LOG


@dataclass(slots=True)
class Row:
    """One occurrence, as its table row, with its attempts."""

    number: int
    recording: Recording
    generation: int
    verdict: Verdict | None
    reason: str
    retry_at: datetime | None = None
    attempts: list[Try] = field(default_factory=list)

    @property
    def occurrence(self) -> Occurrence:
        return self.recording.occurrence

    @property
    def live(self) -> Try | None:
        """The attempt that is claimed or running."""
        last = self.attempts[-1] if self.attempts else None
        return last if last and not last.state.terminal else None

    @property
    def waits(self) -> bool:
        """Whether an attempt of it is still to come, and none is alive."""
        return self.live is None and (self.verdict is None or self.retry_at is not None)


@dataclass(frozen=True, slots=True)
class Change:
    """What the server did, for a test that watches: at, what, and what it concerns.

    Attributes:
        what: "elected"; "expired" (a lease), "closed" (a session); "accepted" (a generation), "begun" and "gone" (its
            schedules); "wrote" (behind the fence); "ended" (an attempt).
        epoch: Of the term that wrote; None where no term did.
        current: The epoch in force at that moment.
        about: The node's name, a token, or what was written.
    """

    at: float
    what: str
    epoch: int | None
    current: int
    about: tuple[object, ...] = ()
