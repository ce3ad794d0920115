"""Durations and sizes as people write them: "4m", "1h 30m", "1.5s", "64 KiB", "1 GB".

A number without a unit is refused everywhere: whether 30 means seconds or milliseconds is how outages begin.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal

LONGEST = timedelta(days=36_500)
"""No duration above 100 years: beyond it an instant plus a duration may not be an instant any more."""
LARGEST = 2**63 - 1
"""No size above what a file offset can say."""

_DURATIONS = {
    "us": 1, "ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86_400 * 10**6, "w": 604_800 * 10**6,
}  # fmt: skip
_DURATION_WORDS = {
    "µs": "us", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
    "hr": "h", "hrs": "h", "hour": "h", "hours": "h", "day": "d", "days": "d", "week": "w", "weeks": "w",
}  # fmt: skip
_SIZES = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_PART = re.compile(r"\s*([0-9]{1,80}(?:\.[0-9]{1,6})?)\s*([A-Za-zµ]{0,8})", re.ASCII)
_DURATION_CURE = 'write a number and a unit (us, ms, s, m, h, d, w), for example "30s" or "1h30m"'
_SIZE_CURE = 'write a number and a unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), for example "64 KiB"'


def parse_duration(text: str) -> timedelta:
    """The time span that `text` says: "250ms", "30s", "4m", "1h30m", "1.5h", "2 weeks".

    Args:
        text: One or several numbers, each with its unit; larger units first is not required, repeating one is refused.

    Returns:
        A span of 0 to 100 years, exact to the microsecond.

    Raises:
        ValueError: `text` is not a duration; the message says why and what to write instead.
    """
    seen: dict[str, Decimal] = {}
    for number, word in _parts(text, "duration", _DURATION_CURE):
        unit = _DURATION_WORDS.get(word, word)
        if unit not in _DURATIONS:
            raise ValueError(f'"{_short(text)}" has an unknown unit "{word}": {_DURATION_CURE}')
        if unit in seen:
            raise ValueError(f'"{_short(text)}" says "{unit}" twice: {_DURATION_CURE}')
        seen[unit] = number * _DURATIONS[unit]
    micros = sum(seen.values(), Decimal(0))
    if micros > LONGEST // timedelta(microseconds=1):
        raise ValueError(f'"{_short(text)}" is longer than 100 years: write a shorter duration')
    if micros != int(micros):
        raise ValueError(f'"{_short(text)}" is finer than a microsecond: write whole microseconds')
    return timedelta(microseconds=int(micros))


def format_duration(span: timedelta) -> str:
    """The shortest exact text that `parse_duration` reads back as `span`: "1h30m", "0s", "1d", "250ms".

    Raises:
        ValueError: `span` is negative.
    """
    left = span // timedelta(microseconds=1)
    if left < 0:
        raise ValueError(f"a duration cannot be negative: {span}")
    parts = []
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, left = divmod(left, _DURATIONS[unit])
        parts.append(f"{count}{unit}" if count else "")
    return "".join(parts) or "0s"


def parse_size(text: str) -> int:
    """The number of bytes that `text` says: "512 B", "64KiB", "1.5 GB".

    Raises:
        ValueError: `text` is not a size; the message says why and what to write instead.
    """
    parts = _parts(text, "size", _SIZE_CURE)
    number, unit = parts[0]
    if len(parts) > 1:
        raise ValueError(f'"{_short(text)}" is not a size: {_SIZE_CURE}')
    if unit not in _SIZES:
        raise ValueError(f'"{_short(text)}" has an unknown unit "{unit}": {_SIZE_CURE}')
    size = number * _SIZES[unit]
    if size != int(size):
        raise ValueError(f'"{_short(text)}" is not a whole number of bytes: {_SIZE_CURE}')
    if size > LARGEST:
        raise ValueError(f'"{_short(text)}" is larger than any file can be: write a smaller size')
    return int(size)


def _parts(text: str, kind: str, cure: str) -> list[tuple[Decimal, str]]:
    if text.strip().startswith("-"):
        raise ValueError(f'"{_short(text)}" is negative, which a {kind} cannot be: {cure}')
    parts: list[tuple[Decimal, str]] = []
    end = 0
    stripped = text.rstrip()
    while len(stripped) <= 80 and (match := _PART.match(stripped, end)):
        if not match[2]:
            raise ValueError(f'"{_short(text)}" has no unit: {cure}')
        parts.append((Decimal(match[1]), match[2]))
        end = match.end()
    if not parts or end != len(stripped):
        raise ValueError(f'"{_short(text)}" is not a {kind}: {cure}')
    return parts


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def counted(number: int, noun: str) -> str:
    """A number with its noun, as people say it: `1 schedule`, `2 processes`."""
    ending = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{ending}"
