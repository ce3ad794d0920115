"""Bytes of files in, a configuration or every problem out; pure, total, and bounded by the guard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from singd.core.config import keys
from singd.core.config.guard import MAX_BYTES, decode
from singd.core.config.merge import content_hash, merged
from singd.core.config.model import EMBEDDED, Config, Database, LedgerDatabase, Loaded, Node, Service
from singd.core.config.places import Document, Sources
from singd.core.config.problems import Findings, Problem, Severity, failed, listing, shown
from singd.core.config.readers import IDENTIFIER, IDENTIFIER_RULE, NAME, NAME_RULE, Reader
from singd.core.config.schedules import ScheduleReader
from singd.core.config.syntax import parse
from singd.core.config.tables import as_table, read_table, refuse_unbuilt
from singd.core.config.triggers import TriggerReader
from singd.core.values import Place, Schedule

MAX_SCHEDULES = 1_000
MAX_DATABASES = 100
RESERVED_DATABASE = "ledger"
"""What a backup task calls the ledger's own database."""
RESERVED_DATABASES = {
    RESERVED_DATABASE: "it is what backups call the ledger's own database",
    "singd": "it is the ledger's own in the embedded server",
    **dict.fromkeys(("postgres", "template0", "template1"), "Postgres has one of its own with this name"),
}
"""Names that no [databases] table may have, and why."""


def load(
    files: Sequence[tuple[str, bytes]], *, max_bytes: int = MAX_BYTES, max_schedules: int = MAX_SCHEDULES,
    directory: str | None = None,
) -> Loaded:  # fmt: skip
    """Read a configuration.

    Args:
        files: (name, bytes) of the main file, then of the drop-ins in lexical order; names are only for places.
        max_bytes: Of all files together.
        directory: What relative paths are meant from; the main file's by default.

    Returns:
        The configuration, or None if any problem is an error; every problem, in the order of the files; the draft.
    """
    documents, problems = _documents(files, max_bytes)
    findings = Findings(Sources(documents), problems)
    if len(documents) < len(files):
        return Loaded(None, findings.in_order())
    content = merged(document.values for document in documents)
    base = PurePath(directory) if directory is not None else PurePath(files[0][0] if files else ".").parent
    config = _config(findings, content, base, max_schedules)
    found = findings.in_order()
    findings.sources.forget()
    return Loaded(None if failed(found) else config, found, config)


def _documents(files: Sequence[tuple[str, bytes]], max_bytes: int) -> tuple[list[Document], list[Problem]]:
    """The files that are TOML, and what is wrong with the others."""
    documents: list[Document] = []
    problems: list[Problem] = []
    left = max_bytes
    for index, (name, raw) in enumerate(files):
        text = decode(name, raw, left, max_bytes)
        left = max(0, left - len(raw))
        if isinstance(text, Problem):
            problems.append(text)
        elif not index and not text.strip():
            cut = "a file that was just cut looks like this"
            problems.append(
                Problem(
                    "SG0010",
                    Severity.ERROR,
                    Place(name),
                    "the file is empty",
                    cut,
                    "a comment alone is enough",
                )
            )
        else:
            read, values, errors = parse(name, text, max_bytes)
            problems.extend(errors)
            if values is not None:
                documents.append(Document(name, read, values))
    return documents, problems


def _config(
    findings: Findings, content: Mapping[str, Any], directory: PurePath, max_schedules: int
) -> Config:
    _unknown_sections(findings, content)
    node = read_table(findings, ("node",), content.get("node"), keys.NODE, "[node]")
    ledger = read_table(findings, ("database",), content.get("database"), keys.LEDGER, "[database]")
    _password_alone(findings, ("database",), ledger)
    nats = read_table(findings, ("nats",), content.get("nats"), keys.NATS, "[nats]").get("url", "")
    refuse_unbuilt(findings, ("nats", "url"), "nats", nats)
    databases = _databases(findings, content)
    tables = as_table(findings, ("schedules",), content.get("schedules"), "[schedules]")
    return Config(
        node=Node(**node), database=LedgerDatabase(**ledger), databases=databases, nats_url=nats,
        schedules=_schedules(findings, content, tables, max_schedules), services=_services(findings, content),
        content_hash=content_hash(content), directory=directory, tables=tables,
        defaults=as_table(findings, ("defaults",), content.get("defaults"), "[defaults]"), sources=findings.sources,
    )  # fmt: skip


def _unknown_sections(findings: Findings, content: Mapping[str, Any]) -> None:
    for section in content.keys() - set(keys.SECTIONS):
        meant = keys.ELSEWHERE_SECTIONS.get(section)
        cure = (
            f'here it is called "{meant}"'
            if meant
            else findings.near(section, keys.SECTIONS) or f"there are {listing(keys.SECTIONS)}"
        )
        if section in keys.SCHEDULE:
            cure = "write it below a header such as [schedules.NAME] or [defaults]"
        findings.add(
            "SG0104",
            (section,),
            f"unknown key {shown(section)}",
            "no part of a configuration has this name",
            cure,
            at_key=True,
        )


def _named_tables(
    findings: Findings, content: Mapping[str, Any], section: str, readers: Mapping[str, Reader], what: str
) -> dict[str, dict[str, Any]]:
    tables = as_table(findings, (section,), content.get(section), f"[{section}]")
    return {
        name: read_table(findings, (section, name), table, readers, what) for name, table in tables.items()
    }


def _databases(findings: Findings, content: Mapping[str, Any]) -> dict[str, Database]:
    tables = _named_tables(findings, content, "databases", keys.DATABASE, "a database")
    for name, values in tables.items():
        path = ("databases", name)
        if name in RESERVED_DATABASES:
            reason = RESERVED_DATABASES[name]
            findings.add(
                "SG0106",
                path,
                f"a database cannot be called {shown(name)}",
                reason,
                "choose another name",
                at_key=True,
            )
        elif not IDENTIFIER.match(name):
            findings.add(
                "SG0106", path, f"a database cannot be called {shown(name)}", *IDENTIFIER_RULE, at_key=True
            )
        if "url" not in as_table(findings, path, content["databases"][name], "a database"):
            cure = 'add url = "embedded", or url = "postgresql://…"'
            findings.add(
                "SG0107",
                path,
                f"the database {shown(name)} has no url",
                "nothing says where it is",
                cure,
                at_key=True,
            )
        _password_alone(findings, path, values)
    if len(tables) > MAX_DATABASES:
        findings.add(
            "SG0102",
            ("databases",),
            f"there are more than {MAX_DATABASES} databases",
            "",
            "use fewer",
            at_key=True,
        )
    return {name: Database(**values) for name, values in tables.items()}


def _password_alone(findings: Findings, path: tuple[str, ...], values: Mapping[str, Any]) -> None:
    if "password" in values and values.get("url", EMBEDDED) == EMBEDDED:
        reason = "singd keeps the passwords of an embedded database itself"
        findings.add(
            "SG0110",
            (*path, "password"),
            "password goes with a url",
            reason,
            "remove it, or write the url",
            at_key=True,
        )


def _services(findings: Findings, content: Mapping[str, Any]) -> dict[str, Service]:
    services = {}
    for name, values in _named_tables(findings, content, "services", keys.SERVICE, "a service").items():
        if not NAME.match(name):
            findings.add(
                "SG0106",
                ("services", name),
                f"a service cannot be called {shown(name)}",
                *NAME_RULE,
                at_key=True,
            )
        refuse_unbuilt(findings, ("services", name), "services", name)
        services[name] = Service(
            name, **{key: value for key, value in values.items() if key not in ("enabled", "args")}
        )
    return services


def _schedules(
    findings: Findings, content: Mapping[str, Any], tables: Mapping[str, Any], max_schedules: int
) -> dict[str, Schedule]:  # fmt: skip
    defaults = read_table(findings, ("defaults",), content.get("defaults"), keys.DEFAULTS, "[defaults]")
    for key, value in defaults.items():
        refuse_unbuilt(findings, ("defaults", key), key, value)
    databases = as_table(findings, ("databases",), content.get("databases"), "[databases]")
    triggers = TriggerReader(findings, defaults)
    reader = ScheduleReader(findings, triggers, defaults, databases, tables)
    if "timezone" in defaults:
        triggers.zone(("defaults", "timezone"), defaults["timezone"])
    if len(tables) > max_schedules:
        first = list(tables)[max_schedules]
        reason = f"there are {len(tables):,}, and at most {max_schedules:,} are read"
        findings.add(
            "SG0108",
            ("schedules", first),
            "there are too many schedules",
            reason,
            "raise the limit, or use fewer",
            at_key=True,
        )
        return {}
    read = ((name, reader.read(name, table)) for name, table in tables.items())
    return {name: schedule for name, schedule in read if schedule}
