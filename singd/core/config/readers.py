"""Readers of single values: a TOML value in, a checked value out, or `Wrong` with reason and cure.

They know neither the key nor the place; `{key}` in a message is filled in by whoever knows.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

from singd.core.config.problems import Wrong, did_you_mean, listing, shown
from singd.core.units import format_duration, parse_duration
from singd.core.values import CLUSTER, Backoff

E = TypeVar("E", bound=StrEnum)
Reader = Callable[[Any], Any]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
"""Names of schedules, tasks and nodes."""
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
"""Names that become identifiers in SQL."""
MOST_WORDS = 1_000
LONGEST_TEXT = 65_536
URL_PASSWORD = re.compile(r"(?<=://)([^\s/:@]*:)[^\s@]+(?=@)")
"""A user part of a url with a password in it."""
_cached_duration = lru_cache(maxsize=1024)(parse_duration)


def kind(value: Any) -> str:
    """What a TOML value is, in words: `the number 30`, `the text "x"`, `a table`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value:.12g}" if isinstance(value, float) or abs(value) < 10**15 else "a number"
    if isinstance(value, str):
        return f"the text {shown(value, 40)}"
    words = {dict: "a table", list: "an array", datetime: "a date-time", date: "a date", time: "a time"}
    return words.get(type(value), "something else")


def text(value: Any) -> str:
    """Text that may go to programs and databases: not empty, no NUL, at most 64 kB."""
    if not isinstance(value, str):
        raise Wrong("SG0101", f"{{key}} must be text, not {kind(value)}", "", _quoted(value))
    if not value.strip():
        raise Wrong("SG0102", "{key} must not be empty", "", "leave the key out, or say what it is")
    if "\0" in value or len(value) > LONGEST_TEXT:
        raise Wrong(
            "SG0102",
            "{key} holds a NUL character or is longer than 64 kB",
            "no program takes that",
            "shorten it",
        )
    return value


def _quoted(value: Any) -> str:
    simple = isinstance(value, int | float) and not isinstance(value, bool)
    return f'write {{key}} = "{value:.12g}"' if simple and abs(value) < 10**15 else 'write {key} = "…"'


def boolean(value: Any) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    right = "true" if str(value).lower() in ("true", "yes", "on", "1") else "false"
    raise Wrong("SG0101", f"{{key}} must be true or false, not {kind(value)}", "", f"write {{key}} = {right}")


def integer(least: int, most: int) -> Reader:
    """A reader of whole numbers of `least` to `most`."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(
                "SG0101",
                f"{{key}} must be a whole number, not {kind(value)}",
                "",
                _whole(value, least, most),
            )
        if not least <= value <= most:
            raise Wrong("SG0102", f"{{key}} must be {least:,} to {most:,}, not {kind(value).split()[-1]}")
        return value

    return read


def _whole(value: Any, least: int, most: int) -> str:
    """The cure for what is no whole number: the one that was probably meant, if it can be had."""
    try:
        meant = None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        meant = None
    if meant is not None and least <= meant <= most and meant.is_integer():
        return f"write {{key}} = {meant:.0f}"
    return f"write a whole number from {least:,} to {most:,}"


def duration(least: timedelta = timedelta(0)) -> Reader:
    """A reader of durations not shorter than `least`."""

    def read(value: Any) -> timedelta:
        span = _duration(value)
        if span < least:
            raise Wrong("SG0102", f'{{key}} must be at least "{format_duration(least)}", not {shown(value)}')
        return span

    return read


def _duration(value: Any) -> timedelta:
    if not isinstance(value, str):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number:
            cure = (
                f'write {{key}} = "{value:.12g}s" if seconds are meant'
                if 0 <= value < 10**12
                else "write it with its unit"
            )
            raise Wrong(
                "SG0103",
                f"{{key}} is {kind(value)} without a unit",
                "30 may be seconds or milliseconds",
                cure,
            )
        raise Wrong("SG0101", f"{{key}} must be a duration, not {kind(value)}", "", 'write {key} = "30s"')
    try:
        return _cached_duration(value)
    except ValueError as error:
        problem, _, cure = str(error).rpartition(": ")
        unit = "SG0103" if problem.endswith("no unit") else "SG0109"
        raise Wrong(unit, f"{{key}} = {_printable(problem)}", "", cure) from None


def _printable(message: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in message)


def backoff(value: Any) -> Backoff:
    """`"10s..5m"`: the first wait, doubled each time up to the last; one duration is a wait that stays the same."""
    if not isinstance(value, str):
        raise Wrong(
            "SG0101", f"{{key}} must be two durations, not {kind(value)}", "", 'write {key} = "10s..5m"'
        )
    first, dots, most = value.partition("..")
    waits = Backoff(_duration(first.strip()), _duration(most.strip()) if dots else _duration(first.strip()))
    if not timedelta(milliseconds=10) <= waits.first <= waits.most:
        raise Wrong(
            "SG0102",
            f"{{key}} goes from {shown(first)} to {shown(most)}",
            "",
            "the first wait is 10ms or more, the last not shorter",
        )
    return waits


def choice(words: type[E]) -> Callable[[Any], E]:
    """A reader of one word of an enumeration."""

    def read(value: Any) -> E:
        return words(one_of([str(word) for word in words])(value))

    return read


def one_of(words: Sequence[str]) -> Callable[[Any], str]:
    """A reader of one of some words."""

    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise Wrong("SG0101", f"{{key}} must be {listing(words, 'or')}, not {kind(value)}")
        if value not in words:
            raise Wrong(
                "SG0105",
                f"{{key}} cannot be {shown(value)}",
                f"it is {listing(words, 'or')}",
                did_you_mean(value, words),
            )
        return value

    return read


def name(value: Any) -> str:
    """A name of a schedule, task or node."""
    word = text(value)
    if not NAME.match(word):
        raise Wrong("SG0106", f"{{key}} cannot be {shown(word)}", *NAME_RULE)
    return word


def node_name(value: Any) -> str:
    """A node's name; `cluster` is who owns what no single node does."""
    word = name(value)
    if word == CLUSTER:
        raise Wrong(
            "SG0106", f"{{key}} cannot be {shown(word)}", "it stands for all nodes", "choose another name"
        )
    return word


NAME_RULE = (
    "names go into paths, logs and keys",
    'use letters, digits, "_", "-" and ".", at most 63, a letter or digit first',
)


def identifier(value: Any) -> str:
    """A name that becomes an identifier in SQL."""
    word = text(value)
    if not IDENTIFIER.match(word) or word.startswith("pg_"):
        raise Wrong("SG0106", f"{{key}} cannot be {shown(word)}", *IDENTIFIER_RULE)
    return word


IDENTIFIER_RULE = (
    "it is an identifier in SQL",
    'use a-z, 0-9 and "_", at most 63, a letter first, not "pg_"',
)


def texts(value: Any) -> tuple[str, ...]:
    """An array of texts, which may be empty."""
    if not isinstance(value, list):
        raise Wrong(
            "SG0101", f"{{key}} must be an array of texts, not {kind(value)}", "", 'write {key} = ["…"]'
        )
    if len(value) > MOST_WORDS:
        raise Wrong("SG0102", f"{{key}} has more than {MOST_WORDS:,} elements")
    for index, element in enumerate(value):
        if not isinstance(element, str) or "\0" in element or len(element) > LONGEST_TEXT:
            raise Wrong(
                "SG0101",
                f"{{key}} must hold texts, not {kind(element)}",
                "",
                _quoted(element),
                inside=(index,),
            )
    return tuple(value)


def command(value: Any) -> tuple[str, ...]:
    """A program and its arguments."""
    if isinstance(value, str):
        raise Wrong(
            "SG0101",
            "{key} must be an array, not one text",
            "no shell stands in between",
            f"write {{key}} = {_argv(value)}",
        )
    argv = texts(value)
    if not argv or not argv[0].strip():
        raise Wrong("SG0102", "{key} names no program", "", 'write {key} = ["df", "-h"]')
    return argv


def _argv(line: str) -> str:
    try:
        words = shlex.split(line[:200])
    except ValueError:
        words = line[:200].split()
    return "[" + ", ".join(shown(URL_PASSWORD.sub(r"\1***", word)) for word in words) + "]"


def intensity(value: Any) -> tuple[int, timedelta]:
    """`"5 in 60s"`: so many restarts in so long a time."""
    match = re.match(r"\s*(\d{1,6})\s+in\s+(.+)\Z", value) if isinstance(value, str) else None
    if not match:
        raise Wrong("SG0101", f"{{key}} cannot be {kind(value)}", "", 'write {key} = "5 in 60s"')
    return int(match[1]), _duration(match[2])
