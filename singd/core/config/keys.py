"""Every key of the contract (docs/configuration.md), with its reader; and which of them are not built yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from singd.core.config import readers as read
from singd.core.config.problems import Wrong
from singd.core.config.references import secret, url
from singd.core.values import CatchUp, Delivery, Isolation, Overlap, Scope

ROLES = ("singularity", "centralcloud")
TRIGGERS = ("cron", "every", "at", "startup", "after", "on")
CALLS = ("task", "command", "sql")
TICK = timedelta(milliseconds=100)
"""Nothing repeats or times out faster than this."""


def _as_is(value: Any) -> Any:
    return value


def _event(value: Any) -> Any:
    if not isinstance(value, dict) or set(value) != {"nats"} or not isinstance(value["nats"], str):
        raise Wrong(
            "SG0101",
            f"{{key}} must be one event, not {read.kind(value)}",
            "",
            'write {key} = {nats = "subject"}',
        )
    return value["nats"]


def _role(value: Any) -> Any:
    return "" if value == "" else read.one_of(ROLES)(value)


def _nats_url(value: Any) -> Any:
    return "" if value == "" else url("nats", "tls")(value)


_names = read.texts
_postgres = url("postgresql", "postgres")

POLICY: Mapping[str, read.Reader] = {
    "timeout": read.duration(TICK),
    "retries": read.integer(0, 1_000),
    "backoff": read.backoff,
    "overlap": read.choice(Overlap),
    "grace": read.duration(),
    "catch_up": read.choice(CatchUp),
    "catch_up_window": read.duration(),
    "catch_up_max": read.integer(1, 10_000),
    "delivery": read.choice(Delivery),
    "isolation": read.choice(Isolation),
}
DEFAULTS: Mapping[str, read.Reader] = {
    **POLICY,
    "timezone": read.text,
    "scope": read.choice(Scope),
    "role": _role,
    "needs_timeout": read.duration(TICK),
    "splay": read.duration(),
    "on_failure": read.texts,
    "enabled": read.boolean,
}
SCHEDULE: Mapping[str, read.Reader] = {
    **DEFAULTS,
    "cron": read.text,
    "every": read.duration(TICK),
    "at": _as_is,
    "startup": read.boolean,
    "after": read.name,
    "on": _event,
    "seconds": read.boolean,
    "once": read.boolean,
    "needs": _names,
    "task": read.name,
    "args": _as_is,
    "command": read.command,
    "sql": read.text,
    "database": read.identifier,
    "executor": read.one_of(("singd", "database")),
}
SERVICE: Mapping[str, read.Reader] = {
    "restart": read.one_of(("permanent", "transient", "temporary")),
    "intensity": read.intensity,
    "scope": read.choice(Scope),
    "role": _role,
    "enabled": read.boolean,
    "args": _as_is,
}
NODE: Mapping[str, read.Reader] = {"name": read.node_name, "role": _role}
LEDGER: Mapping[str, read.Reader] = {"url": _postgres, "password": secret, "schema": read.identifier}
DATABASE: Mapping[str, read.Reader] = {"url": _postgres, "password": secret}
NATS: Mapping[str, read.Reader] = {"url": _nats_url}
SECTIONS = ("node", "database", "databases", "nats", "defaults", "schedules", "services")

ELSEWHERE: Mapping[str, str] = {
    "schedule": "cron", "interval": "every", "tz": "timezone", "run_at": "at", "max_retries": "retries", "depends_on": "needs",
    "parameters": "args", "params": "args", "arguments": "args", "cmd": "command", "exec": "command", "concurrency": "overlap",
    "catchup": "catch_up", "jitter": "splay", "run_on_start": "startup", "db": "database", "query": "sql", "when": "cron",
}  # fmt: skip
"""What other schedulers call a key of ours."""
ELSEWHERE_SECTIONS: Mapping[str, str] = {
    "schedule": "schedules", "task": "schedules", "tasks": "schedules", "jobs": "schedules", "job": "schedules", "cron": "schedules",
    "service": "services", "default": "defaults", "ledger": "database",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unbuilt:
    """A key (or a value of it) that is part of the contract and refused in this version.

    Attributes:
        used: Whether a checked value makes use of it.
        what: Its name in the message.
    """

    code: str
    used: Callable[[Any], bool]
    what: str
    cure: str


UNBUILT: Mapping[str, Unbuilt] = {
    "needs": Unbuilt("SG0902", bool, "needs", "give the schedule a later time than what it needs"),
    "needs_timeout": Unbuilt("SG0902", lambda _: True, "needs_timeout", "leave it out, as there is no needs"),
    "after": Unbuilt("SG0903", lambda _: True, "after", "give the schedule a cron of its own, later than the other's"),
    "on": Unbuilt("SG0904", lambda _: True, "on", "poll with every instead"),
    "splay": Unbuilt("SG0905", bool, "splay", "choose another minute, or write H for it: cron = \"H * * * *\""),
    "once": Unbuilt("SG0906", bool, "once = true", "leave it out and make the task safe to repeat"),
    "on_failure": Unbuilt("SG0907", bool, "on_failure", "watch the journal instead"),
    "executor": Unbuilt("SG0908", lambda v: v == "database", 'executor = "database"', "leave executor out: singd then runs the sql"),
    "services": Unbuilt("SG0909", bool, "a service", "run it as a systemd unit of its own"),
    "nats": Unbuilt("SG0910", lambda v: v != "", "nats", 'leave [nats] out, or write url = ""'),
}  # fmt: skip
"""What is refused by name where it is used. Whoever builds one removes its line here."""
