"""An independent account of when a cron entry runs: Debian cron's main loop, stepped minute by minute.

Written from the rules of Debian's cron 3.0pl1 (the main loop and find_jobs of cron.c, get_range and the
flags of entry.c), not from `singd.core.cron`, and shares nothing with it: this one lives through every
minute, asks zoneinfo what a clock on the wall shows, and keeps Debian's virtual clock beside it. Slow and
plain on purpose.

The loop compares the wall clock with its virtual clock, in minutes:

    wall - virtual == 1       the common case: run everything for that minute
    2 .. 5                    woke up late: run everything for each minute missed
    6 .. 180                  the clock was put forward: wildcard entries for this minute only,
                              fixed-time entries for every minute missed
    -179 .. 0                 the clock was put back: wildcard entries only; virtual time waits
    otherwise                 a new time altogether: believe it
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
NICKNAMES = {"@daily": "0 0 * * *", "@hourly": "0 * * * *"}
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Change:
    """A change of a zone's offset: the first instant with the new one, and both offsets."""

    at: datetime
    before: timedelta
    after: timedelta


def changes(
    zone: ZoneInfo, begin: datetime, end: datetime, look: timedelta = timedelta(days=1)
) -> Iterator[Change]:
    """Every change of the offset in (begin, end], by a look at the clock once a day."""
    while begin < end:
        following = min(begin + look, end)
        if (before := _offset(zone, begin)) != (after := _offset(zone, following)):
            low, high = begin, following
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) // 2
                low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
            yield Change(high.replace(microsecond=0), before, after)
        begin = following


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


class Entry:
    """One line of a crontab, read as entry.c reads it, with `L`, `5L` and `1#2` added."""

    def __init__(self, expression: str, *, seconds: bool = False) -> None:
        texts = NICKNAMES.get(expression, expression).lower().split()
        second, minute, hour, day, month, weekday = texts if seconds else ["0", *texts]
        self.seconds = numbers(second, 0, 59)
        self.minutes = numbers(minute, 0, 59)
        self.hours = numbers(hour, 0, 23)
        self.months = numbers(month, 1, 12, MONTHS, 1)
        self.days = numbers(day.replace("l", "99"), 1, 31)
        self.weekdays = {n % 7 for n in numbers(_plain(weekday), 0, 7, WEEKDAYS)}
        self.nths = set(_nths(weekday))
        self.wild = minute[0] == "*" or hour[0] == "*"
        self.day_star, self.weekday_star = day[0] == "*", weekday[0] == "*"

    def on(self, wall: datetime) -> bool:
        """find_jobs' condition for one minute (or second) shown by the clock."""
        return (
            wall.minute in self.minutes
            and wall.hour in self.hours
            and wall.second in self.seconds
            and wall.month in self.months
            and self._on_day(wall)
        )

    def _on_day(self, wall: datetime) -> bool:
        last = monthrange(wall.year, wall.month)[1]
        day = wall.day in self.days or (99 in self.days and wall.day == last)
        name = wall.isoweekday() % 7
        weekday = (
            name in self.weekdays
            or (name, (wall.day - 1) // 7 + 1) in self.nths
            or ((name, "l") in self.nths and wall.day > last - 7)
        )
        return (day and weekday) if self.day_star or self.weekday_star else (day or weekday)


def numbers(text: str, low: int, high: int, names: Sequence[str] = (), first: int = 0) -> set[int]:
    """get_list and get_range: `*`, a, a-b, each perhaps with /n; a/n runs to the end of the field."""
    found: set[int] = set()
    for term in filter(None, text.split(",")):
        body, _, step = term.partition("/")
        start, _, stop = ("*", "", "") if body == "*" else body.partition("-")
        begin = low if start == "*" else _number(start, names, first)
        end = _number(stop, names, first) if stop else (high if start == "*" or step else begin)
        found.update(range(begin, end + 1, int(step or 1)))
    return found


def _number(text: str, names: Sequence[str], first: int) -> int:
    return names.index(text) + first if text in names else int(text)


def _plain(weekday: str) -> str:
    return ",".join(term for term in weekday.split(",") if "#" not in term and not term.endswith("l"))


def _nths(weekday: str) -> Iterator[tuple[int, int | str]]:
    for term in weekday.split(","):
        if "#" in term:
            name, _, nth = term.partition("#")
            yield _number(name, WEEKDAYS, 0) % 7, int(nth)
        elif term.endswith("l"):
            yield _number(term[:-1], WEEKDAYS, 0) % 7, "l"


def runs(
    entries: Sequence[Entry], zone: ZoneInfo, begin: datetime, end: datetime, tick: timedelta = MINUTE
) -> list[list[datetime]]:
    """Every instant in [begin, end) at which cron's main loop starts something, for each of the entries.

    Begin in a quiet hour: the loop cannot know of a clock that was put back before it started. A `tick` of
    one second makes a cron with seconds of it; the limits of 5 minutes and 3 hours stay what they are.
    """
    found: list[list[datetime]] = [[] for _ in entries]
    virtual, now = _wall(begin, zone) - tick, begin
    while now < end:
        wall = _wall(now, zone)
        ahead = wall - virtual
        if ahead == tick:
            virtual = wall
            started = [entry.on(wall) for entry in entries]
        elif timedelta(hours=-3) < ahead <= timedelta(0):
            started = [entry.wild and entry.on(wall) for entry in entries]
        elif timedelta(0) < ahead <= timedelta(hours=3):
            missed = [virtual + tick * n for n in range(1, ahead // tick + 1)]
            late = ahead <= timedelta(minutes=5)
            started = [
                any(map(entry.on, missed)) if late or not entry.wild else entry.on(wall) for entry in entries
            ]
            virtual = wall
        else:
            virtual = wall
            started = [entry.on(wall) for entry in entries]
        for instants, yes in zip(found, started, strict=True):
            if yes:
                instants.append(now)
        now += tick
    return found


def _wall(at: datetime, zone: ZoneInfo) -> datetime:
    """What a clock on the wall shows, without a zone."""
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def utc(text: str) -> datetime:
    """An aware UTC instant from ISO 8601."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
