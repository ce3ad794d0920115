"""From TOML values to what a task's annotations ask for.

The configuration was checked when it was accepted; this is the second half, done where the task's code lives:
"5m" becomes a timedelta, a string a Path or a datetime. A value that does not fit is an error that names it.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal, NewType, Union, get_args, get_origin

from singd.core.units import parse_duration

_TEXTUAL: dict[Any, Callable[[str], Any]] = {
    timedelta: parse_duration,
    Path: Path,
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
}


class Binder:
    """Makes the keyword arguments of one task function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        hints = typing.get_type_hints(function)
        parameters = inspect.signature(function).parameters.values()
        settings = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
        self._types = {p.name: hints.get(p.name, Any) for p in settings}
        self._required = frozenset(p.name for p in settings if p.default is p.empty)

    def bind(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Convert `args`.

        Raises:
            ValueError: One is unknown, missing or does not fit its annotation.
        """
        if not args and not self._required:
            return {}
        if missing := self._required - args.keys():
            raise ValueError(f"missing parameter: {', '.join(sorted(missing))}")
        if unknown := args.keys() - self._types.keys():
            raise ValueError(f"unknown parameter: {', '.join(sorted(unknown))}")
        return {name: convert(self._types[name], value, name) for name, value in args.items()}


def convert(wanted: Any, value: Any, name: str) -> Any:
    """`value` as the annotation `wanted` asks.

    Raises:
        ValueError: It does not fit; the message begins with `name`.
    """
    if isinstance(wanted, NewType):
        return convert(wanted.__supertype__, value, name)
    origin = get_origin(wanted)
    if origin is not None:
        return _convert_generic(origin, get_args(wanted), value, name)
    if wanted in _TEXTUAL and isinstance(value, str):
        try:
            return _TEXTUAL[wanted](value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if wanted is float and type(value) is int:
        return float(value)
    if wanted is Any or _fits(wanted, value):
        return value
    raise ValueError(f"{name}: expected {getattr(wanted, '__name__', wanted)}, got {value!r}")


def _fits(wanted: Any, value: Any) -> bool:
    if wanted is None or wanted is types.NoneType:
        return value is None
    if wanted is int:
        return type(value) is int  # a bool is no number here
    return isinstance(wanted, type) and isinstance(value, wanted)


def _convert_generic(origin: Any, args: tuple[Any, ...], value: Any, name: str) -> Any:
    if origin is Literal:
        if value in args:
            return value
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, args))}, got {value!r}")
    if origin in (Union, types.UnionType):
        return _convert_union(args, value, name)
    if isinstance(value, list) and issubclass(list, origin):
        return [convert(args[0], item, f"{name}[{n}]") for n, item in enumerate(value)]
    if isinstance(value, list) and origin is tuple:
        return tuple(convert(args[0], item, f"{name}[{n}]") for n, item in enumerate(value))
    if isinstance(value, dict) and issubclass(dict, origin):
        return {key: convert(args[1], item, f"{name}.{key}") for key, item in value.items()}
    raise ValueError(f"{name}: expected a {'table' if issubclass(dict, origin) else 'list'}, got {value!r}")


def _convert_union(args: tuple[Any, ...], value: Any, name: str) -> Any:
    first: ValueError | None = None
    for option in args:
        try:
            return convert(option, value, name)
        except ValueError as error:
            first = first or error
    assert first is not None
    raise first
