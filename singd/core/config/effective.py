"""Every value in force of one schedule, as the operator would write it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from typing import Any

from singd.core.cron import Cron
from singd.core.units import format_duration
from singd.core.values import At, Backoff, CommandCall, Every, Schedule, SqlCall, TaskCall

POLICY_KEYS = (
    "timeout", "retries", "backoff", "overlap", "grace", "catch_up", "catch_up_window", "catch_up_max",
    "delivery", "isolation",
)  # fmt: skip


def effective(schedule: Schedule) -> Iterator[tuple[str, Any]]:
    """(key, value) pairs in the order of the documentation; arguments are `args.NAME`."""
    yield from _trigger(schedule)
    yield from _call(schedule)
    yield "scope", str(schedule.scope)
    yield "role", schedule.role
    yield "enabled", schedule.enabled
    for key in POLICY_KEYS:
        yield key, written(getattr(schedule.policy, key))
    if isinstance(schedule.call, TaskCall):
        for name, value in schedule.call.args.items():
            yield f"args.{name}", written(value)


def written(value: Any) -> Any:
    """A value as TOML would have it: durations with units, words for enumerations."""
    match value:
        case timedelta():
            return format_duration(value)
        case Backoff():
            return f"{format_duration(value.first)}..{format_duration(value.most)}"
        case Enum():
            return value.value
        case list() | tuple():
            return [written(item) for item in value]
        case str() | int() | float() | bool() | None:
            return value
        case _:
            return str(value)


def _trigger(schedule: Schedule) -> Iterator[tuple[str, Any]]:
    match schedule.trigger:
        case Cron(expression=expression, timezone=zone):
            yield "cron", expression
            yield "timezone", zone
        case Every(interval=interval):
            yield "every", format_duration(interval)
        case At(instant=instant):
            yield "at", instant.isoformat()
        case _:
            yield "startup", True


def _call(schedule: Schedule) -> Iterator[tuple[str, Any]]:
    match schedule.call:
        case TaskCall(task=task):
            yield "task", task
        case CommandCall(argv=argv):
            yield "command", list(argv)
        case SqlCall(sql=sql, database=database):
            yield "sql", sql
            yield "database", database
