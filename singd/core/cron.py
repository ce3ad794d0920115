"""When a cron entry fires: stepping on the expanded sets, with Debian cron's rules for the clock change.

Two kinds of entry (Debian cron, cron.c and the notes in cron(8)), told apart by the minute and hour fields:

* A *wildcard* entry (minute or hour starts with `*`) means "every so often" and follows real time: it runs
  in both passes of an hour that comes twice, and an hour that never was has no runs.
* A *fixed-time* entry means "once, at this time of day". One whose time is jumped over runs at once, when
  the gap ends; several of one entry in one gap are one run, since an instant is one occurrence. In an hour
  that comes twice it runs in the first pass only.

Both become one picture when time is cut into *spans* of constant UTC offset. In a span, local seconds are
UTC seconds plus the offset, so the calendar is walked in plain integers and a zone is asked for nothing.
What differs is only where in local time a span's walk begins. Berlin, autumn (the clock goes 03:00 -> 02:00):

    UTC     ...................... 01:00 ......................
    span        offset +2           |          offset +1
    local   01:00 ......... 03:00   | 02:00 ......... 03:00 ...
    wildcard  walks all of it    -->| walks all of it       -->
    fixed     walks all of it    -->|                 ^ goes on where local time had got to

and spring (02:00 -> 03:00), where the fixed entry's walk begins before its span does:

    span        offset +1           |          offset +2
    local   ............... 02:00   | 03:00 ...................
    fixed     walks all of it    -->^ 02:00-03:00 is walked too, and lands on the first instant of the span

So a fixed entry keeps `reached`, the latest local second that any span has come to (Debian cron calls it
virtual time), and an instant before its span's start is moved up to it. Nothing here knows about summers,
hours or midnights: half-hour changes (Lord Howe), changes at midnight (Cairo), two hours (Troll) and a
day that vanished (Apia, 2011) take the same path. One comparison keeps results strictly increasing.

Spans are found by asking zoneinfo for the offset every other day of a year and bisecting where it differs,
to the second, and kept by year. The two closest changes in tzdata are four days apart.

Where this differs from cronsim 2.8, which follows Debian cron too and is what the tests compare with:

* cronsim looks for a wildcard entry's next hour in steps of sixty minutes from the last one, and so passes
  over matches where a change is not of whole hours on the hour (Lord Howe, Chatham): `0 */2 * * *` has no
  02:00 at Lord Howe on the autumn Sunday. Debian cron has it, and so has this.
* With seconds, cronsim treats every entry as a wildcard entry. Here minute and hour decide, as ever.
* In the day-of-week field `5/2` ends with Saturday (croniter); cronsim counts a second Sunday, 7.

And from Debian cron itself: where the clock goes forward by more than three hours it believes the new time
and drops what lay between (a day, at Apia); this runs it once at the end of the gap, as in any other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from singd.core.cron_fields import CronError, Fields, days_of, expand, uses_hash

__all__ = ["Cron", "CronError"]

FIRST_YEAR, LAST_YEAR = 1900, 2200
"""What is planned at all; both inclusive."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_SECOND = timedelta(seconds=1)
_HOUR_S = 3_600
_DAY_S = 86_400
_PROBE_S = 2 * _DAY_S


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron trigger: a pure map from an instant to the next ones. Equal when it fires alike by its text.

    Attributes:
        expression: As written, with single spaces.
        timezone: IANA name of the zone that the expression is meant in.
        seconds: Whether there are six fields, seconds first.
        name: What `H` was hashed from; "" where there is no `H`.
    """

    expression: str
    timezone: str
    seconds: bool
    name: str
    _fields: Fields = field(repr=False, compare=False)
    _zone: ZoneInfo = field(repr=False, compare=False)

    @classmethod
    def parse(cls, expression: str, *, timezone: str = "UTC", name: str = "", seconds: bool = False) -> Cron:
        """Read a cron expression.

        Five fields (minute, hour, day of month, month, day of week), or six with `seconds`, which come
        first. `*`, lists, ranges (also over the end: `22-4`, `fri-mon`), steps, names, `L` (last day of
        the month; `5L`: last Friday), `#` (`1#2`: second Monday), `H`, `H(0-29)`, `H/15`, and the aliases
        `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`.

        Day of month and day of week follow Vixie's and Debian's cron: when both are restricted, either is
        enough; a field that *starts* with `*` counts as unrestricted for this rule, `*/2` too, and then
        both must match. (`0 0 */2 * 1`: Mondays with an odd date.) cronsim does the same.

        A zone is read from tzdata once a process; `zoneinfo.ZoneInfo.clear_cache()` makes later calls read
        it again.

        Args:
            expression: At most 256 characters.
            timezone: IANA name.
            name: The schedule's name; needed for `H` only.
            seconds: Whether the expression has a field of seconds.

        Raises:
            CronError: It is not understood, too long, random (`R`), never fires, or the zone is unknown.
        """
        zone = _zone(timezone)
        text = " ".join(expression.split())
        hashed_from = name if uses_hash(text) else ""
        return cls(text, timezone, seconds, hashed_from, expand(text, seconds, hashed_from), zone)

    def fixed_time(self) -> bool:
        """Whether it names times of day (Debian cron's distinction): runs once however the clock changes."""
        return self._fields.fixed

    def next_after(self, instant: datetime) -> datetime | None:
        """The first instant strictly after this one.

        Args:
            instant: Aware.

        Returns:
            Aware, in UTC, whole seconds; None where there is none until the end of the year 2200.

        Raises:
            TypeError: The instant is naive.
        """
        return next(self.upcoming(instant), None)

    def upcoming(self, instant: datetime) -> Iterator[datetime]:
        """Every instant strictly after this one, in order, as `next_after` would give them one by one."""
        last = max((instant - _EPOCH) // _SECOND, _year_start(FIRST_YEAR) - 1)
        fixed = self._fields.fixed
        reached = _reached(self._zone, last) if fixed else 0
        for start, end, offset in _spans_after(self._zone, last):
            begin = reached if fixed else start + offset
            for local in _matches(self._fields, begin, end + offset):
                at = max(local - offset, start)
                if at > last:
                    last = at
                    yield _EPOCH + timedelta(seconds=at)
            reached = max(reached, end + offset)


class Span(NamedTuple):
    """A stretch of constant offset: UTC seconds since the epoch (end excluded), and seconds east of UTC."""

    start: int
    end: int
    offset: int


def _zone(name: str) -> ZoneInfo:
    """The zone; `localtime` and the like are refused, as they are another zone on another machine."""
    if name != "localtime" and not name.startswith(("posix/", "right/")):
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    raise CronError(f"the time zone {name!r} is not known", _zone_cure(name))


def _zone_cure(name: str) -> str:
    """The nearest name, whatever its case and with or without the continent.

    Bare names and Etc/ are not offered: CEST is not EST, and Etc/GMT+5 lies west of Greenwich.
    """
    zones = {
        spelling.casefold(): zone
        for zone in available_timezones()
        if zone == "UTC" or ("/" in zone and not zone.startswith("Etc/"))
        for spelling in (zone, zone.rpartition("/")[2])
    }
    close = get_close_matches(name.casefold(), zones, n=1, cutoff=0.8)
    return f"did you mean {zones[close[0]]}?" if close else "use an IANA name such as Europe/Berlin or UTC"


def _spans_after(zone: ZoneInfo, after: int) -> Iterator[Span]:
    """Spans from the second after `after` on, without holes. A year's end cuts a span, which changes nothing."""
    begin = after + 1
    for year in range(_year_of(after), LAST_YEAR + 1):
        for start, end, offset in _spans(zone, year):
            if end > begin:
                yield Span(max(start, begin), end, offset)


def _reached(zone: ZoneInfo, after: int) -> int:
    """The first local second that has not been when `after` is over. No overlap is longer than a day."""
    year, begin = _year_of(after), after + 1
    if year > LAST_YEAR:
        return begin
    spans = (*_spans(zone, year - 1), *_spans(zone, year))
    return max(min(span.end, begin) + span.offset for span in spans if span.start <= after)


@lru_cache(maxsize=8_192)
def _spans(zone: ZoneInfo, year: int) -> tuple[Span, ...]:
    """The spans that make up a UTC year."""
    start, end = _year_start(year), _year_start(year + 1)
    probes = [*range(start, end, _PROBE_S), end]
    offsets = [_offset(zone, at) for at in probes]
    changes = [
        _change(zone, left, right)
        for (left, before), (right, behind) in pairwise(zip(probes, offsets, strict=True))
        if before != behind
    ]
    cuts = [start, *changes, end]
    return tuple(Span(left, right, _offset(zone, left)) for left, right in pairwise(cuts) if left < right)


def _change(zone: ZoneInfo, left: int, right: int) -> int:
    """The first second with another offset than `left` has; `right` has another."""
    before = _offset(zone, left)
    return left + bisect_left(range(left, right), True, key=lambda at: _offset(zone, at) != before)


def _offset(zone: ZoneInfo, at: int) -> int:
    offset = (_EPOCH + timedelta(seconds=at)).astimezone(zone).utcoffset()
    assert offset is not None, "a ZoneInfo always knows its offset"
    return offset // _SECOND


def _matches(fields: Fields, begin: int, end: int) -> Iterator[int]:
    """Local seconds in [begin, end) that match, ascending."""
    offsets = fields.offsets
    for midnight in _midnights(fields, begin, end):
        for hour in fields.hours:
            base = midnight + hour * _HOUR_S
            if base + _HOUR_S <= begin:
                continue
            for offset in offsets[bisect_left(offsets, begin - base) :]:
                at = base + offset
                if at >= end:
                    return
                yield at


def _midnights(fields: Fields, begin: int, end: int) -> Iterator[int]:
    """Local midnights of the matching days that overlap [begin, end), as local seconds."""
    first = begin // _DAY_S
    begins = date.fromordinal(first + _EPOCH_DAY)
    for year in range(begins.year, LAST_YEAR + 2):
        for month in fields.months:
            origin, weekday, length = _month(year, month)
            if origin * _DAY_S >= end:
                return
            for day in days_of(fields.rule, weekday, length) if origin + length > first else ():
                if origin + day > first:
                    yield (origin + day - 1) * _DAY_S


@lru_cache(maxsize=4_096)
def _month(year: int, month: int) -> tuple[int, int, int]:
    """Its first day (days since the epoch), the weekday of that (Sunday is 0), and its length in days."""
    first = date(year, month, 1).toordinal()
    following = date(year + month // 12, month % 12 + 1, 1).toordinal()
    return first - _EPOCH_DAY, first % 7, following - first


def _year_of(at: int) -> int:
    return (_EPOCH + timedelta(seconds=at)).year


@lru_cache(maxsize=512)
def _year_start(year: int) -> int:
    return (datetime(year, 1, 1, tzinfo=UTC) - _EPOCH) // _SECOND
