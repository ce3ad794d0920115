"""The configuration as values: what an operator wrote, checked, with its defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import PurePath
from typing import Any, Literal

from singd.core.config.places import Sources
from singd.core.config.problems import Problem
from singd.core.values import Place, Schedule, Scope

EMBEDDED = "embedded"
"""The url of a database (or NATS) that singd brings itself."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A reference to a secret; the secret itself never enters the core.

    Attributes:
        kind: `credential` (a file of that name in $CREDENTIALS_DIRECTORY), `env` or `file`.
        name: The credential's or variable's name, or the file's path.
    """

    kind: Literal["credential", "env", "file"]
    name: str

    def __str__(self) -> str:
        return f'{{ {self.kind} = "{self.name}" }}'


@dataclass(frozen=True, slots=True)
class Node:
    """This node; `name` "" means the host's name, `role` "" means none."""

    name: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True)
class Database:
    """How to reach a database: a URL without a password (or a reference to a whole URL), and a reference to the password."""

    url: str | Secret = EMBEDDED
    password: Secret | None = None


@dataclass(frozen=True, slots=True)
class LedgerDatabase:
    """Where the ledger is: as `Database`, and the schema in it."""

    url: str | Secret = EMBEDDED
    password: Secret | None = None
    schema: str = "singd"


@dataclass(frozen=True, slots=True)
class Service:
    """A long-lived supervised child. Not built in this version; a configuration that has one is refused."""

    name: str
    restart: str = "permanent"
    intensity: tuple[int, timedelta] = (5, timedelta(seconds=60))
    scope: Scope = Scope.CLUSTER
    role: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """One whole configuration without errors.

    Attributes:
        databases: Name -> how to reach it; what tasks work on.
        nats_url: "" = none.
        schedules: Name -> schedule, in the order of the files. Arguments are not checked yet: see `bind`.
        content_hash: sha256 (hex) over the content without [node], [database], [databases] and [nats]; formatting,
            comments and the order of keys make no difference. Equal hash = same generation.
        directory: What relative paths are meant from.
        tables: Name -> the schedule's own table as written (TOML values).
        defaults: The table [defaults] as written.
    """

    node: Node
    database: LedgerDatabase
    databases: Mapping[str, Database]
    nats_url: str | Secret
    schedules: Mapping[str, Schedule]
    services: Mapping[str, Service]
    content_hash: str
    directory: PurePath
    tables: Mapping[str, Mapping[str, Any]] = field(repr=False, compare=False)
    defaults: Mapping[str, Any] = field(repr=False, compare=False)
    sources: Sources = field(repr=False, compare=False)

    def origin(self, schedule: str, key: str) -> Place | Literal["default"]:
        """Where the value in force of a schedule's key was set; `default` where nobody wrote one.

        A key of the arguments is `args.NAME`. What a task declares of itself also counts as default here.
        """
        path = ("schedules", schedule, *key.split(".", 1))
        if any(document.has(path) for document in self.sources.documents):
            return self.sources.place(path)
        if key in self.defaults:
            return self.sources.place(("defaults", key))
        return "default"

    def place(self, schedule: str) -> Place:
        """Where a schedule's table begins."""
        return self.sources.place(("schedules", schedule), at_key=True)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of the files.

    Attributes:
        config: None where any problem is an error: the files are refused.
        draft: What could be read all the same, with the schedules that are sound: for `bind` to find what else is
            wrong with those, and for nothing else. None where a file is no TOML at all.
    """

    config: Config | None
    problems: tuple[Problem, ...]
    draft: Config | None = None
