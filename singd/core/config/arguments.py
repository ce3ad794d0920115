"""One argument against the type its task declares; the little language of types is `core/catalogue.py`'s."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Any

from singd.core.config.problems import Wrong, did_you_mean, listing, shown
from singd.core.config.readers import kind, text
from singd.core.config.syntax import BROKEN
from singd.core.units import parse_duration

WORDS: Mapping[str, str] = {
    "str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "datetime": "a date-time with an offset",
    "path": "a path", "duration": "a duration", "database": "the name of a database", "list": "an array", "table": "a table",
}  # fmt: skip
_CURES = {
    "int": "write it without quotes",
    "float": "write it without quotes",
    "bool": "write true or false",
    "duration": 'write "30s"',
}


def check_argument(type_: str, value: Any, databases: Sequence[str], directory: PurePath) -> Any:
    """The argument as the task is given it: as written, but paths absolute from `directory`.

    Raises:
        Wrong: It is not of the type; `inside` says where.
    """
    if value == BROKEN:
        return value
    outer, _, inner = type_.partition("[")
    if inner:
        return _container(outer, inner.removesuffix("]"), value, databases, directory)
    if type_.startswith("choice:"):
        return _choice(type_.removeprefix("choice:").split("|"), value)
    if type_ == "database":
        return _database(value, databases)
    if type_ == "path":
        _text("path", value)
        return str(directory / value)
    check = _CHECKS.get(type_)
    if check is None:
        raise Wrong(
            "SG0605",
            f"{{key}} has a type that singd does not know: {type_[:80]}",
            "the plugin is newer than singd",
            "upgrade singd",
        )
    check(type_, value)
    return value


def _container(outer: str, inner: str, value: Any, databases: Sequence[str], directory: PurePath) -> Any:
    expected = list if outer == "list" else dict
    if not isinstance(value, expected):
        raise _mistyped(outer, value)
    pairs = enumerate(value) if isinstance(value, list) else value.items()
    checked = {}
    for key, element in pairs:
        try:
            checked[key] = check_argument(inner, element, databases, directory)
        except Wrong as wrong:
            wrong.inside = (key, *wrong.inside)
            raise
    return list(checked.values()) if expected is list else checked


def _text(type_: str, value: Any) -> None:
    if not isinstance(value, str):
        raise _mistyped(type_, value)
    if "\0" in value or (type_ == "path" and not value):
        raise Wrong("SG0605", "{key} must not be empty or hold a NUL character")


def _int(type_: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        raise _mistyped(type_, value)


def _float(type_: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _mistyped(type_, value)


def _bool(type_: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _mistyped(type_, value)


def _datetime(type_: str, value: Any) -> None:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _mistyped(type_, value)


def _duration(type_: str, value: Any) -> None:
    if not isinstance(value, str):
        raise _mistyped(type_, value)
    try:
        parse_duration(value)
    except ValueError as error:
        problem, _, cure = str(error).rpartition(": ")
        raise Wrong("SG0605", f"{{key}} = {problem}", "", cure) from None


def _any(type_: str, value: Any) -> None:
    pass


_CHECKS: Mapping[str, Callable[[str, Any], None]] = {
    "str": _text, "int": _int, "float": _float, "bool": _bool, "datetime": _datetime, "duration": _duration, "any": _any,
}  # fmt: skip


def _choice(words: Sequence[str], value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong("SG0605", f"{{key}} must be {listing(words, 'or')}, not {kind(value)}")
    if value not in words:
        raise Wrong(
            "SG0605",
            f"{{key}} cannot be {shown(value)}",
            f"it is {listing(words, 'or')}",
            did_you_mean(value, words),
        )
    return value


def _database(value: Any, databases: Sequence[str]) -> str:
    if not isinstance(value, str):
        raise _mistyped("database", value)
    if value not in databases:
        reason = (
            "the ledger is given to backups only" if value == "ledger" else "[databases] does not have it"
        )
        cure = did_you_mean(value, databases) or f"add [databases.{shown(value)[1:-1]}]"
        raise Wrong("SG0606", f"{{key}} names an unknown database {shown(value)}", reason, cure)
    return text(value)


def _mistyped(type_: str, value: Any) -> Wrong:
    return Wrong(
        "SG0605", f"{{key}} must be {WORDS.get(type_, type_)}, not {kind(value)}", "", _CURES.get(type_, "")
    )
