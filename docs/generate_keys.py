"""The tables of docs/configuration.md that list what the code knows: keys, codes, what is not built, limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import getclosurevars
from typing import Any

from generate_tables import Table, code

from singd.core.config import CODES, MAX_BYTES, MAX_SCHEDULES, guard, keys, load, loading, problems, readers
from singd.core.config.effective import effective, written
from singd.core.config.model import LedgerDatabase, Node, Service
from singd.core.units import format_duration
from singd.edges import config_files

TRIGGER = (*keys.TRIGGERS, "seconds", "timezone")
CALL = (*keys.CALLS, "args", "database", "executor")
OTHERS = tuple(key for key in keys.SCHEDULE if key not in {*TRIGGER, *CALL, *keys.POLICY})
_AS_IS = {"at": "date-time with an offset", "args": "table"}
_KINDS = {
    "text": "text", "boolean": "true or false", "name": "name", "node_name": "name", "identifier": "SQL name", "texts": "array of texts",
    "command": "array of texts", "backoff": "two durations", "intensity": '`"N in DURATION"`', "secret": "secret",
    "_event": '`{nats = "subject"}`', "_nats_url": '`""`; any other is not built',
}  # fmt: skip
_NOT_READ = {
    "seconds": False, "args": {}, "executor": "singd", "once": False, "needs": [], "splay": "0s", "on_failure": [],
    "task": "the schedule's name",
}  # fmt: skip
"""What holds without these keys and `effective` does not tell; the test writes each and finds nothing changed."""
_IN_WORDS = ("the schedule's name", "the host's name")


def kind(key: str, reader: readers.Reader) -> str:
    """What a key takes, from the reader that judges it: type, unit, bounds, words."""
    inside = getclosurevars(reader).nonlocals
    match reader.__qualname__.split(".")[0]:
        case "duration":
            return "duration" + (f", at least {format_duration(inside['least'])}" if inside["least"] else "")
        case "integer":
            return f"whole number, {inside['least']:,} to {inside['most']:,}"
        case "choice" | "one_of":
            return ", ".join(_words(key, reader, inside["words"]))
        case "_role":
            return ", ".join(_words(key, reader, keys.ROLES))
        case "url":
            return ", ".join(['`"embedded"`', *(f"`{scheme}://…`" for scheme in inside["schemes"]), "secret"])
        case "_as_is":
            return _AS_IS[key]
        case name:
            return _KINDS[name]


def _words(key: str, reader: readers.Reader, words: Iterable[Any]) -> Iterator[str]:
    rule = keys.UNBUILT.get(key)
    for word in map(str, words):
        yield code(f'"{word}"') + (" (not built)" if rule and rule.used(reader(word)) else "")


def _built(key: str, said: str) -> str:
    partly = "(not built)" in said
    return said if partly or key not in keys.UNBUILT else f"{said}; not built"


def schedule_defaults() -> Mapping[str, Any]:
    """What holds for a schedule that says nothing."""
    config = load([("singd.toml", b'[schedules.x]\ncron = "0 3 * * *"\ncommand = ["true"]\n')]).config
    assert config is not None
    found = dict(effective(config.schedules["x"]))
    return {key: value for key, value in found.items() if key not in ("cron", "command")} | _NOT_READ


def _default(key: str, defaults: Mapping[str, Any]) -> str:
    value = defaults.get(key)
    if value is None:
        return "–"
    return value if value in _IN_WORDS else code(json.dumps(value))


def _keys(names: Iterable[str], table: Mapping[str, readers.Reader], defaults: Mapping[str, Any]) -> Table:
    rows = [(code(key), _built(key, kind(key, table[key])), _default(key, defaults)) for key in names]
    return Table(("key", "value", "default", "meaning"), rows)


def _section(table: Mapping[str, readers.Reader], defaults: Mapping[str, Any]) -> Callable[[], Table]:
    return lambda: _keys(table, table, defaults)


def _of_schedule(names: Iterable[str]) -> Callable[[], Table]:
    return lambda: _keys(names, keys.SCHEDULE, schedule_defaults())


def _fields(value: Any, *names: str) -> dict[str, Any]:
    return {name: written(getattr(value, name)) for name in names}


def _service() -> Table:
    count, span = Service("x").intensity
    defaults = _fields(Service("x"), "restart", "scope", "role")
    more = {"intensity": f"{count} in {int(span.total_seconds())}s", "enabled": True, "args": {}}
    return _keys(keys.SERVICE, keys.SERVICE, defaults | more)


def _unbuilt() -> Table:
    rows = [(code(key), rule.what, rule.code, rule.cure) for key, rule in keys.UNBUILT.items()]
    return Table(("key", "what is refused", "code", "instead"), rows)


def _codes() -> Table:
    return Table(("code", "problem"), list(CODES.items()))


def _in_defaults() -> str:
    return ", ".join(map(code, keys.DEFAULTS)) + "\n"


def _elsewhere() -> Table:
    """A word of another scheduler, and what it is called here."""
    sections = [(f"[{word}]", f"[{ours}]") for word, ours in keys.ELSEWHERE_SECTIONS.items()]
    pairs = [*keys.ELSEWHERE.items(), *sections]
    ours = dict.fromkeys(word for _, word in pairs)
    rows = [(code(word), ", ".join(code(theirs) for theirs, own in pairs if own == word)) for word in ours]
    return Table(("here", "elsewhere"), rows)


def _limits() -> Table:
    return Table(("at most", "of"), [
        (f"{MAX_BYTES:,} bytes", "all files together; `--max-config-size` raises it"),
        (f"{MAX_SCHEDULES:,}", "schedules; `--max-schedules` raises it"),
        (f"{loading.MAX_DATABASES:,}", "databases"),
        (f"{config_files.MAX_DROP_INS:,}", "drop-ins"),
        (f"{guard.MAX_LINE:,} characters", "a line"),
        (f"{guard.MAX_DOTS}, {guard.MAX_NESTING}", "dots in a key; levels of nested values"),
        (f"{readers.LONGEST_TEXT:,} characters", "a text"),
        (f"{config_files.MAX_SECRET:,} bytes", "a secret"),
        (f"{problems.MOST_PROBLEMS:,}", "problems that are told; the rest is counted"),
    ])  # fmt: skip


BLOCKS: Mapping[str, Callable[[], Table | str]] = {
    "keys of [node]": _section(keys.NODE, {"name": "the host's name", **_fields(Node(), "role")}),
    "keys of [database]": _section(keys.LEDGER, _fields(LedgerDatabase(), "url", "schema")),
    "keys of [databases.NAME]": _section(keys.DATABASE, {}),
    "keys of [nats]": lambda: _keys(["url"], keys.NATS, {"url": ""}),
    "keys of triggers": _of_schedule(TRIGGER),
    "keys of calls": _of_schedule(CALL),
    "keys of policies": _of_schedule(keys.POLICY),
    "other keys": _of_schedule(OTHERS),
    "keys of [services.NAME]": _service,
    "keys of [defaults]": _in_defaults,
    "not built": _unbuilt,
    "codes": _codes,
    "elsewhere": _elsewhere,
    "limits": _limits,
}
