"""Instants as people type them: `2026-03-01T03:00:00Z`, `2026-03-01 03:00`, `yesterday 03:00`, `sunday 02:30`, `-2h`, `now`.

What has no offset is local time of this machine. A local time that came twice, or never was, when the
clock changed is refused with the two instants it may mean: at 3 a.m. nobody should have to wonder.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from singd.cli.output import USAGE, CommandError, rfc3339
from singd.core.units import parse_duration

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NEAR = {"today": 0, "yesterday": -1, "tomorrow": 1}
_OFFSET = re.compile(r"([+-])\s*(.+)|(.+?)\s+ago", re.ASCII)
_EXAMPLES = (
    'write 2026-03-01T03:00:00Z, "yesterday 03:00", "sunday 02:30" or -2h; without an offset it is local time'
)


def parse_instant(text: str, now: datetime, zone: tzinfo | None = None) -> datetime:
    """The instant that `text` says.

    Args:
        text: As typed.
        now: Aware; what relative ones are counted from.
        zone: Of local times; None = this machine's.

    Returns:
        Aware, UTC.

    Raises:
        CommandError: It is not understood, or a local time that is ambiguous or never was; exit 2.
    """
    words = " ".join(text.split()).lower()
    try:
        if words == "now":
            return now.astimezone(UTC)
        if match := _OFFSET.fullmatch(words):
            length = parse_duration(match[2] or match[3])
            return now.astimezone(UTC) + (length if match[1] == "+" else -length)
        return _absolute(words, now, zone)
    except (ValueError, OverflowError):
        raise CommandError(f"{text!r} is not an instant", cure=_EXAMPLES, exit=USAGE) from None


def _absolute(words: str, now: datetime, zone: tzinfo | None) -> datetime:
    first, _, rest = words.removeprefix("last ").partition(" ")
    if first in _NEAR or first in _DAYS:
        today = now.astimezone(zone).date()
        back = _NEAR[first] if first in _NEAR else -((today.weekday() - _DAYS.index(first)) % 7)
        at = _on(today + timedelta(days=back), rest, zone)
        return at if first in _NEAR or at <= now else _on(today + timedelta(days=back - 7), rest, zone)
    if re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?", words):
        return _on(now.astimezone(zone).date(), words, zone)
    parsed = datetime.fromisoformat(words.upper())
    return parsed.astimezone(UTC) if parsed.tzinfo else _local(parsed, zone)


def _on(day: date, clock: str, zone: tzinfo | None) -> datetime:
    padded = clock if clock[1:2] != ":" else f"0{clock}"
    return _local(datetime.combine(day, time.fromisoformat(padded) if padded else time()), zone)


def _local(naive: datetime, zone: tzinfo | None) -> datetime:
    """A wall clock's reading as an instant; `fold` is Python's word for which of two is meant (PEP 495)."""
    first, second = (naive.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second:
        return first
    what = "came twice" if first < second else "never was"
    either = " or ".join(rfc3339(at) for at in sorted((first, second)))
    raise CommandError(
        f"{naive:%Y-%m-%d %H:%M} {what}: the clock was changed then", cure=f"say which: {either}", exit=USAGE
    )
