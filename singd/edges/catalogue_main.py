"""What one plugin offers, found out in a child process: this is where a plugin's code is imported.

The parent (`singd.edges.catalogue_child`) sends a request on stdin and reads one JSON line an entry point from the
descriptor it names, each written as soon as it is known: whatever the plugin does to its process, what was
said before stands. The plugin's own prints go elsewhere.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import signal
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from singd.plugin import DatabaseName, Task

_PLACEMENTS = ("node", "instance", "central", "database")
_PLAIN: dict[Any, str] = {
    str: "str", int: "int", float: "float", bool: "bool", datetime: "datetime", Path: "path", timedelta: "duration",
    DatabaseName: "database", Any: "any", object: "any", list: "list[any]", dict: "table[any]",
}  # fmt: skip
_LISTS, _TABLES = (list, Sequence, set, frozenset), (dict, Mapping)


class Unusable(Exception):
    """The entry point is there but is no task that singd can run; the text says why."""


def main(request: Mapping[str, Any]) -> None:
    """Describe every entry point of the request, in order.

    Args:
        request: `entries` (pairs of name and `module:attribute`), `answer` (descriptor to write to), `alarm`
            (seconds after which this process ends itself, should the parent be gone).
    """
    signal.alarm(int(request["alarm"]))
    answer = int(request["answer"])
    for name, value in request["entries"]:
        line = json.dumps({"name": name, **_outcome(value)}) + "\n"
        rest = line.encode("ascii")
        while rest:
            rest = rest[os.write(answer, rest) :]
    os._exit(0)  # nothing that the plugin left behind (threads, exit hooks) holds us up


def _outcome(value: str) -> dict[str, Any]:
    """The description, or the reason why there is none. Whatever an import may raise is the plugin's fault.

    SystemExit is no Exception, so a plugin that calls sys.exit() at import ends the process: the parent says so.
    """
    try:
        return {"task": describe(_load(value))}
    except Unusable as error:
        return {"reason": str(error)}
    except Exception as error:
        return {"reason": _cause(error)}


def _load(value: str) -> object:
    module_name, _, attributes = value.partition(":")
    found: object = importlib.import_module(module_name.strip())
    for attribute in filter(None, attributes.strip().split(".")):
        found = getattr(found, attribute)
    return found


def _cause(error: Exception) -> str:
    """The error, and the deepest place of the plugin's code that it came through."""
    frame = error.__traceback__
    place = ""
    while frame is not None:
        path = frame.tb_frame.f_code.co_filename
        if not path.startswith("<") and path not in (__file__, importlib.__file__):
            place = f" ({path}:{frame.tb_lineno})"
        frame = frame.tb_next
    return f"{type(error).__name__}: {str(error)[:2_000]}{place}"


def describe(function: object) -> dict[str, Any]:
    """What the decorated function declares, as the fields of `singd.core.catalogue.TaskInfo` that it decides.

    Raises:
        Unusable: It is no task, or one of its parameters cannot be set from TOML.
    """
    declared = getattr(function, "singd_task", None)
    if not isinstance(declared, Task) or not callable(function):
        raise Unusable("it is not a function decorated with @singd.plugin.task")
    _check(declared, function)
    migrations = declared.migrations and (declared.migrations[0], os.path.abspath(declared.migrations[1]))
    return {
        "placement": list(declared.placement), "version": declared.version, "params": _params(function),
        "databases": list(declared.databases), "database_role": declared.database_role, "isolation": declared.isolation,
        "is_async": inspect.iscoroutinefunction(function), "timeout": declared.timeout, "retries": declared.retries,
        "migrations": migrations, "has_input": declared.input is not None, "summary": declared.summary,
    }  # fmt: skip


def _check(declared: Task, function: Callable[..., object]) -> None:
    wrong = [place for place in declared.placement if place not in _PLACEMENTS]
    if wrong or not declared.placement:
        raise Unusable(f"its placement {wrong or '()'} is none of {', '.join(_PLACEMENTS)}")
    if declared.isolation == "inline" and not inspect.iscoroutinefunction(function):
        raise Unusable('isolation = "inline" is for an `async def` only: a `def` would hold up the daemon')


def _params(function: Callable[..., object]) -> list[dict[str, Any]]:
    hints = _hints(function)
    settings = []
    for index, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            settings.append(_param(name, parameter, hints))
        elif index > 0 or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            raise Unusable(f"its parameter {name!r} is not keyword-only: settings stand behind a `*`")
    return settings


def _hints(function: Callable[..., object]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except NameError as error:
        raise Unusable(
            f"its annotations cannot be read: {error} (imported for type checkers only?)"
        ) from None


def _param(name: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> dict[str, Any]:
    if name not in hints:
        raise Unusable(f"its parameter {name!r} has no annotation")
    required = parameter.default is inspect.Parameter.empty
    default = None if required else _as_toml(parameter.default)
    return {"name": name, "type": type_name(hints[name], name), "required": required, "default": default}


def type_name(annotation: Any, name: str = "") -> str:
    """An annotation in the small language of `singd.core.catalogue`.

    Raises:
        Unusable: No TOML value could be of this type.
    """
    if isinstance(annotation, type | typing.NewType) or annotation is Any:
        with_name = _PLAIN.get(annotation)
        if with_name:
            return with_name
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal and all(isinstance(choice, str) for choice in arguments):
        return "choice:" + "|".join(arguments)
    if (
        origin in (typing.Union, types.UnionType)
        and len(inner := [a for a in arguments if a is not type(None)]) == 1
    ):
        return type_name(inner[0], name)
    if origin in _LISTS or (origin is tuple and arguments[1:] == (...,)):
        return f"list[{type_name(arguments[0], name)}]"
    if origin in _TABLES and arguments[0] is str:
        return f"table[{type_name(arguments[1], name)}]"
    raise Unusable(f"its parameter {name!r} is of a type that TOML cannot give: {annotation}")


def _as_toml(value: Any) -> Any:
    """A default as somebody would write it in the configuration."""
    match value:
        case timedelta():
            return (
                f"{value / timedelta(milliseconds=1):.0f}ms"
                if value.microseconds
                else f"{value // timedelta(seconds=1)}s"
            )
        case datetime():
            return value.isoformat()
        case Path():
            return str(value)
        case dict():
            return {str(key): _as_toml(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_as_toml(item) for item in value]
        case None | bool() | int() | float() | str():
            return value
    return repr(value)
