"""What a schedule runs: a task (its own name's, unless it says otherwise), a command, or sql."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from singd.core.config.keys import CALLS
from singd.core.config.lints import lint_command
from singd.core.config.places import Path
from singd.core.config.problems import Findings, listing, shown
from singd.core.config.tables import as_table
from singd.core.values import Call, CommandCall, SqlCall, TaskCall

_HOME = {"args": "task", "isolation": "task", "database": "sql"}
"""Keys that mean something beside one kind of call only."""


def read_call(
    findings: Findings, databases: Mapping[str, Any], path: Path, table: Mapping[str, Any], values: Mapping[str, Any]
) -> Call | None:  # fmt: skip
    """The call of a schedule, or None where a problem was noted.

    Args:
        table: The schedule's keys as written.
        values: Those of them that were read without a problem.
    """
    used = [key for key in table if key in CALLS]
    if len(used) > 1:
        message = f"{listing(used)} {'both' if len(used) == 2 else 'all'} say what to run"
        reason = f"a schedule runs exactly one of {listing(CALLS, 'or')}"
        findings.add("SG0301", (*path, used[1]), message, reason, "keep one of them", at_key=True)
        return None
    what = used[0] if used else "task"
    _fits(findings, path, table, values, what)
    if what in table and what not in values:
        return None
    if what == "command":
        lint_command(findings, (*path, "command"), values["command"])
        return CommandCall(values["command"])
    if what == "sql":
        return _sql(findings, databases, path, table, values)
    given = values.get("args", {})
    args = as_table(findings, (*path, "args"), given, "args")
    if ("args" in table and "args" not in values) or args is not given:
        return None
    return TaskCall(values.get("task", str(path[1])), dict(args))


def word(call: Call) -> str:
    """What is shown as a schedule's task."""
    if isinstance(call, TaskCall):
        return call.task
    return "command" if isinstance(call, CommandCall) else "sql"


def _fits(
    findings: Findings, path: Path, table: Mapping[str, Any], values: Mapping[str, Any], what: str
) -> None:
    for key, home in _HOME.items():
        if key in table and what != home:
            cure = "remove it, or name a task" if key == "args" else "remove it"
            reason = f"this schedule runs a {what}"
            findings.add("SG0110", (*path, key), f"{key} goes with {home}", reason, cure, at_key=True)
    if values.get("executor") == "database" and what != "sql":
        cure = "write sql and database, or remove executor"
        reason = f"this schedule runs a {what}"
        findings.add("SG0110", (*path, "executor"), "a database can only run sql", reason, cure, at_key=True)


def _sql(
    findings: Findings, databases: Mapping[str, Any], path: Path, table: Mapping[str, Any], values: Mapping[str, Any]
) -> Call | None:  # fmt: skip
    if "database" not in table:
        known = listing(databases, "or") if databases else '"NAME", and [databases.NAME]'
        findings.add(
            "SG0302",
            (*path, "sql"),
            "sql needs a database",
            "nothing says where it runs",
            f"add database = {known}",
            at_key=True,
        )
    if "database" not in values:
        return None
    name = values["database"]
    if name not in databases:
        cure = findings.near(name, databases) or f"add [databases.{name}]"
        findings.add(
            "SG0303",
            (*path, "database"),
            f"unknown database {shown(name)}",
            "[databases] does not have it",
            cure,
        )
    return SqlCall(values["sql"], name)
