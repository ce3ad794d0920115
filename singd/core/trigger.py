"""Triggers as pure maps from an instant to the next ones.

A startup trigger has no instants of its own: the cluster's registrations make them
(`singd.scheduler`), so here it never comes due.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from singd.core.cron import Cron
from singd.core.values import At, Every, Startup, Trigger

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def next_after(trigger: Trigger, instant: datetime) -> datetime | None:
    """The first due instant strictly after `instant`, or None if there is none.

    Args:
        trigger: Any trigger.
        instant: Aware UTC.
    """
    match trigger:
        case Cron():
            return trigger.next_after(instant)
        case Every():
            return EPOCH + ((instant - EPOCH) // trigger.interval + 1) * trigger.interval
        case At():
            return trigger.instant if trigger.instant > instant else None
        case Startup():
            return None


def identity(trigger: Trigger) -> str:
    """A text that two triggers share only if they have the same instants: what the ledger compares."""
    match trigger:
        case Cron():
            return f"cron {trigger.expression} {trigger.timezone}"
        case Every():
            return f"every {trigger.interval.total_seconds()}"
        case At():
            return f"at {trigger.instant.isoformat()}"
        case Startup():
            return "startup"


def upcoming(trigger: Trigger, instant: datetime) -> Iterator[datetime]:
    """All due instants strictly after `instant`, rising; may be endless."""
    if isinstance(trigger, Cron):
        yield from trigger.upcoming(instant)
        return
    due = next_after(trigger, instant)
    while due is not None:
        yield due
        due = next_after(trigger, due)
