"""Cron expressions to sets of numbers. croniter parses and expands; the rules around it are ours.

croniter is asked for one term of one field at a time, with `*` in all the other fields. So an error names
its term, and ten thousand distinct expressions cost a few hundred expansions (0.15 ms each) plus dictionary
look-ups: there are 1,440 ways to write a daily entry, made of 60 minutes and 24 hours.

What stands between the operator's text and croniter, and why:

* `R` is refused: a random instant differs on each node, and the instant is the identity of an occurrence.
* `H` is hashed here, with SHA-256 from the schedule's name and the field. croniter takes minute and hour
  from one CRC, shifted by a bit, so only 240 of a day's 1,440 minutes can ever come out; and with a
  hash id it also moves `@daily` away from midnight.
* `5-5` is the value 5, as in Debian cron; croniter reads it as the whole field.
* `5L` and `friL` are accepted beside croniter's own `L5`: the last Friday of the month.
* `W` (nearest weekday) and a year column are refused: no Vixie cron has them.
* What can never fire is refused. Not by searching the calendar: a month has one of 28 shapes (length and
  weekday of the first), each comes round within 40 years, so an entry that matches in none of the shapes
  of its months never fires, and this is exact.

Whether a field *starts* with `*` decides two things in Vixie's and Debian's cron (flags MIN_STAR, HR_STAR,
DOM_STAR and DOW_STAR in its entry.c), and does so here, for `*/2` and `*,5` too:

* minute or hour: the entry follows real time; otherwise it is a fixed-time entry (see `cron.py`);
* day of month or day of week: both must match; otherwise either is enough.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from croniter import CroniterError, croniter

MAX_LENGTH = 256
"""Longest accepted expression, in characters. croniter takes 0.1 s for 100 kB."""

LAST = -1
"""As a day of the month: its last day. As the n of a weekday: its last one in the month."""

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class CronError(ValueError):
    """The operator wrote a cron expression or a zone that cannot be.

    Attributes:
        problem: What is wrong.
        cure: What to write instead. The message is both.
    """

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem, cure)
        self.problem, self.cure = problem, cure

    def __str__(self) -> str:
        return f"{self.problem}: {self.cure}"


@dataclass(frozen=True, slots=True)
class DayRule:
    """Which days of a month match; comparable, so that equal rules share their months.

    Attributes:
        days: Days of the month, 1 to 31, and `LAST`.
        weekdays: (weekday, n): Sunday is 0; n is 1 to 5, `LAST`, or 0 for each of them in the month.
        either: Vixie's OR rule: one of the two is enough. Otherwise both must match.
    """

    days: frozenset[int]
    weekdays: frozenset[tuple[int, int]]
    either: bool

    def matches(self, day: int, weekday: int, length: int) -> bool:
        """Whether a day (1..) that is a `weekday` matches, in a month of `length` days."""
        by_day = day in self.days or (day == length and LAST in self.days)
        nths = (0, (day + 6) // 7, LAST if day + 7 > length else 0)
        by_weekday = any((weekday, nth) in self.weekdays for nth in nths)
        return (by_day or by_weekday) if self.either else (by_day and by_weekday)


@lru_cache(maxsize=16_384)
def days_of(rule: DayRule, first_weekday: int, length: int) -> tuple[int, ...]:
    """The matching days, ascending, of a month of `length` days that begins on `first_weekday`."""
    weekday = first_weekday - 1
    return tuple(day for day in range(1, length + 1) if rule.matches(day, (weekday + day) % 7, length))


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """An expanded expression: ascending values, ready to step on.

    Attributes:
        offsets: Seconds after the hour, of every minute and second that match.
        fixed: Neither the minute nor the hour field starts with `*`.
    """

    offsets: tuple[int, ...]
    hours: tuple[int, ...]
    months: tuple[int, ...]
    rule: DayRule
    fixed: bool


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of an expression: where croniter has it, its bounds, and what an error says of it.

    `high` is croniter's; a bare `H` draws from low to `hashed_high`, so that a day of the month exists in
    every month.
    """

    name: str
    position: int
    low: int
    high: int
    hashed_high: int
    takes: str


_SECOND = _Column("second", 5, 0, 59, 59, "0-59")
_MINUTE = _Column("minute", 0, 0, 59, 59, "0-59")
_HOUR = _Column("hour", 1, 0, 23, 23, "0-23")
_DAY = _Column("day-of-month", 2, 1, 31, 28, "1-31 and L (the last day)")
_MONTH = _Column("month", 3, 1, 12, 12, "1-12 and jan-dec")
_WEEKDAY = _Column(
    "day-of-week", 4, 0, 6, 6, "0-7 and sun-sat (0 and 7 are Sunday), 1#2 (second Monday), 5L (last Friday)"
)
_COLUMNS = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)

_HASHED = re.compile(r"h(?:\((\d+)-(\d+)\))?(?:/(\d+))?", re.ASCII)
_USES_HASH = re.compile(r"(?:^|[\s,])h(?:$|[\s,(/])", re.IGNORECASE)
_RANDOM = re.compile(r"r(?:\(.*)?(?:/.*)?")
_RANGE = re.compile(r"(\w+)-(\w+)(?:/0*[1-9]\d*)?(#\d+)?", re.ASCII)
_LAST_WEEKDAY = re.compile(r"([a-z0-9]+)l", re.ASCII)
_MONTH_LENGTHS = {month: (30,) if month in (4, 6, 9, 11) else (31,) for month in range(1, 13)} | {2: (28, 29)}


def uses_hash(expression: str) -> bool:
    """Whether an `H` makes the expression depend on the schedule's name."""
    return _USES_HASH.search(expression) is not None


@lru_cache(maxsize=16_384)
def expand(expression: str, seconds: bool, name: str) -> Fields:
    """Parse an expression into the sets to step on.

    Args:
        expression: Without blanks around it: five columns, six with `seconds`, or an alias.
        seconds: Whether a column of seconds comes first.
        name: The schedule's name, which `H` is hashed from. Pass "" where no `H` is used, so that equal
            expressions share one entry of the cache.

    Raises:
        CronError: The text is not understood, ambiguous, too long, or can never fire.
    """
    columns = zip(_COLUMNS, _split(expression, seconds), strict=True)
    second, minute, hour, day, month, weekday = (_prepared(column, text, name) for column, text in columns)
    fields = Fields(
        offsets=_offsets(_values(_MINUTE, minute), _values(_SECOND, second)),
        hours=_values(_HOUR, hour),
        months=_values(_MONTH, month),
        rule=_day_rule(day, weekday),
        fixed=not (minute.startswith("*") or hour.startswith("*")),
    )
    if not any(_month_shapes(fields)):
        raise CronError(f"{expression!r} never fires", "name a day that exists in one of its months")
    return fields


def _split(expression: str, seconds: bool) -> list[str]:
    """The six columns, seconds first, in lower case."""
    if len(expression) > MAX_LENGTH:
        problem = f"the cron expression has {len(expression)} characters, more than {MAX_LENGTH}"
        raise CronError(problem, "split it into several schedules")
    text = expression.lower()
    if text.startswith("@"):
        return ["0", *_alias(text).split()]
    columns = text.split()
    if len(columns) == (6 if seconds else 5):
        return columns if seconds else ["0", *columns]
    _refuse_count(expression, len(columns), seconds)


def _alias(text: str) -> str:
    if text in ALIASES:
        return ALIASES[text]
    if text == "@reboot":
        raise CronError("'@reboot' is not an instant", "write startup = true instead of cron")
    if text.startswith("@every"):
        raise CronError("'@every' is not a cron expression", 'write every = "…" instead of cron')
    raise CronError(f"{text!r} is not known", f"use one of {', '.join(ALIASES)}")


def _refuse_count(expression: str, count: int, seconds: bool) -> NoReturn:
    wanted = "six, with the seconds first" if seconds else "five"
    cure = "write minute hour day-of-month month day-of-week"
    if count == 6:
        cure = "set seconds = true (the seconds come first), or drop one field"
    elif seconds:
        cure = "put the seconds first, or drop seconds = true"
    raise CronError(f"{expression!r} has {count} fields instead of {wanted}", cure)


def _prepared(column: _Column, text: str, name: str) -> str:
    """The column as croniter is to read it: `H`, `5L`, `5-5` and `?` made plain, `R` and `W` refused."""
    if text == "?" and column in (_DAY, _WEEKDAY):
        return "*"
    return ",".join([_prepared_term(column, term, name) for term in text.split(",")])


def _prepared_term(column: _Column, term: str, name: str) -> str:
    if not term:
        _refuse_term(column, term)
    if _RANDOM.fullmatch(term):
        problem = f"{term.upper()!r} in the {column.name} field would be another instant on every node"
        raise CronError(problem, f"write H{term[1:]}, which is hashed from the schedule's name and stays")
    if "w" in term and column is _DAY:
        raise CronError(f"{term.upper()!r}: the nearest weekday is not supported", "use a day-of-week field")
    if hashed := _HASHED.fullmatch(term):
        return _hashed_term(column, hashed, name)
    if column is _WEEKDAY and (last := _LAST_WEEKDAY.fullmatch(term)):
        return ",".join(f"l{weekday}" for weekday in _values(column, last[1]))
    return _plain_range(column, term)


def _plain_range(column: _Column, term: str) -> str:
    """`5-5` is 5, and so is `fri-5`. But 0-7 and sun-7 are the whole week, which croniter reads right."""
    bounds = _RANGE.fullmatch(term)
    if bounds is None:
        return term
    low, high, nth = bounds.groups(default="")
    same = low == high or (high != "7" and _expanded(column, low) == _expanded(column, high))
    return low + nth if same else term


def _hashed_term(column: _Column, hashed: re.Match[str], name: str) -> str:
    """`H` to a value, `H/15` to a hashed start and its steps, each within the range in brackets."""
    if not name:
        raise CronError("H is hashed from a schedule's name and there is none", "name the schedule")
    low, high = int(hashed[1] or column.low), int(hashed[2] or column.hashed_high)
    step = int(hashed[3] or high - low + 1)
    if not column.low <= low <= high <= column.high or not step:
        _refuse_term(column, hashed[0])
    start = low + _hash(name, column) % min(step, high - low + 1)
    return f"{start}-{high}/{step}" if start + step <= high else str(start)


def _hash(name: str, column: _Column) -> int:
    """Stable across versions, nodes and processes: it decides when things run."""
    return int.from_bytes(hashlib.sha256(f"{name}\n{column.name}".encode()).digest()[:8])


@lru_cache(maxsize=16_384)
def _values(column: _Column, text: str) -> tuple[int, ...]:
    """Every number that a column stands for, ascending; `L` as `LAST`."""
    values = frozenset[int | str]().union(*(_expanded(column, term)[0] for term in text.split(",")))
    if "*" in values:
        return tuple(range(column.low, column.high + 1))
    return tuple(sorted(LAST if value == "l" else int(value) for value in values))


@lru_cache(maxsize=16_384)
def _expanded(column: _Column, term: str) -> tuple[frozenset[int | str], frozenset[tuple[int, int]]]:
    """croniter's reading of one term: its values (also "*" and "l"), and which of them are nth weekdays."""
    columns = ["*"] * max(5, column.position + 1)
    columns[column.position] = term
    try:
        expanded, nths = croniter.expand(" ".join(columns))
    except CroniterError:
        _refuse_term(column, term)
    pairs = ((day, LAST if nth == "l" else nth) for day, some in nths.items() for nth in some)
    return frozenset(expanded[column.position]), frozenset(pairs)


def _refuse_term(column: _Column, term: str) -> NoReturn:
    cure = f"it takes {column.takes}, *, lists a,b, ranges a-b, steps */n and H"
    raise CronError(f"{term!r} in the {column.name} field is not understood", cure) from None


@lru_cache(maxsize=4_096)
def _offsets(minutes: tuple[int, ...], seconds: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(minute * 60 + second for minute in minutes for second in seconds)


@lru_cache(maxsize=4_096)
def _day_rule(days: str, weekdays: str) -> DayRule:
    either = not (days.startswith("*") or weekdays.startswith("*"))
    pairs = frozenset(pair for term in weekdays.split(",") for pair in _weekday_pairs(term))
    return DayRule(frozenset(_values(_DAY, days)), pairs, either)


def _weekday_pairs(term: str) -> Iterable[tuple[int, int]]:
    """Nth weekdays as (weekday, n), plain ones as (weekday, 0)."""
    _, nths = _expanded(_WEEKDAY, term)
    return nths or ((weekday, 0) for weekday in _values(_WEEKDAY, term))


def _month_shapes(fields: Fields) -> Iterator[tuple[int, ...]]:
    for month in fields.months:
        for length in _MONTH_LENGTHS[month]:
            for weekday in range(7):
                yield days_of(fields.rule, weekday, length)
