"""Admission: may an instant that is due start now, given what its schedule is already doing?

Backlog (instants that were already past when somebody looked: after a restart, a takeover, a clock step)
waits its turn whatever `overlap` says; `overlap` judges an instant whose time comes while an
earlier one is not done.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from singd.core.values import Overlap


class Admission(Enum):
    """What to do with a due instant."""

    START = auto()
    WAIT = auto()
    SKIP = auto()
    REPLACE = auto()
    """End what runs, then start this one; it waits until then."""


@dataclass(frozen=True, slots=True)
class Blocker:
    """The unfinished occurrence in the way: its run id and what it is doing ("runs", "waits", …)."""

    run_id: str
    doing: str = "runs"


def admit(overlap: Overlap, blocker: Blocker | None, *, backlog: bool) -> tuple[Admission, str]:
    """The decision and, for a skip, its reason.

    Args:
        overlap: The schedule's policy.
        blocker: The schedule's newest unfinished occurrence; None = there is none.
        backlog: Whether the instant was already past when somebody looked.
    """
    if blocker is None or (overlap is Overlap.ALLOW and not backlog):
        return Admission.START, ""
    if backlog or overlap is Overlap.QUEUE:
        return Admission.WAIT, ""
    if overlap is Overlap.REPLACE:
        return Admission.REPLACE, ""
    return Admission.SKIP, f"overlap = skip: run {blocker.run_id} still {blocker.doing}"
