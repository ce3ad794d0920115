"""How far a node's clock is from the database's, and how far it may be.

What is due is computed from nominal instants, but whether its time has come each node reads from its own clock. A clock
that is off by as much as the grace of a schedule would start instants early, or call the next one's backlog old.
"""

from __future__ import annotations

from datetime import datetime, timedelta

MOST = timedelta(seconds=30)
"""A clock further off than this does not lead: the default grace of a schedule."""

CURE = "synchronise the clocks of this node and of the database's host (NTP)"


def ahead(sent: datetime, received: datetime, server: datetime) -> timedelta:
    """By how much this node's clock is ahead, if the server read its own half-way between question and answer."""
    return sent + (received - sent) / 2 - server


def refusal(ahead: timedelta, server: datetime) -> str | None:
    """Why a node with such a clock may not lead; None if it may."""
    if abs(ahead) <= MOST:
        return None
    return (
        f"this node's clock says {server + ahead:%H:%M:%S} where the database's says {server:%H:%M:%S} UTC: "
        f"{abs(ahead).total_seconds():.1f} s apart, {MOST.total_seconds():.0f} s is the most"
    )
