"""Schedules meet what plugins offer: tasks exist, arguments fit their types, databases are there.

What a task declares of itself comes after what the schedule says. `timeout` and `retries` of a task come
before [defaults], since its author knows it better than a general rule; `isolation` comes after it, since
whether foreign code may live in the daemon is the operator's word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from singd.core.catalogue import Catalogue, TaskInfo
from singd.core.config.arguments import check_argument
from singd.core.config.keys import POLICY
from singd.core.config.loading import RESERVED_DATABASE
from singd.core.config.model import Config
from singd.core.config.places import Path
from singd.core.config.problems import Findings, Problem, Wrong, listing, shown
from singd.core.values import Isolation, Schedule, Scope, SqlCall, TaskCall


@dataclass(frozen=True, slots=True)
class Bound:
    """A schedule that can run: checked arguments, effective policy.

    Attributes:
        task: What its plugin declares; None for commands and sql.
        databases: Names of the databases it is given: those that the task declares, and those its arguments name.
    """

    schedule: Schedule
    task: TaskInfo | None = None
    databases: tuple[str, ...] = field(default=())


def bind(config: Config, catalogue: Catalogue) -> tuple[Mapping[str, Bound], tuple[Problem, ...]]:
    """Check every schedule against what plugins offer.

    Returns:
        Name -> bound schedule for those without an error (the others are `unavailable`, and a problem with
        their name in `schedule` says why); and every problem.
    """
    findings = Findings(config.sources)
    bound = {}
    for name, schedule in config.schedules.items():
        if result := _bind(config, catalogue, findings, schedule):
            bound[name] = result
    problems = findings.in_order()
    config.sources.forget()
    return bound, problems


def _bind(config: Config, catalogue: Catalogue, findings: Findings, schedule: Schedule) -> Bound | None:
    call = schedule.call
    if not isinstance(call, TaskCall):
        return Bound(schedule, databases=(call.database,) if isinstance(call, SqlCall) else ())
    task = _task(config, catalogue, findings, schedule.name, call.task)
    if task is None:
        return None
    errors = len(findings.problems) + findings.dropped
    args = _arguments(config, findings, schedule.name, task, call.args)
    _databases(config, findings, schedule.name, task)
    policy_of = _with_task_defaults(config, findings, schedule, task)
    if len(findings.problems) + findings.dropped > errors:
        return None
    _lint_placement(config, findings, schedule, task)
    given = dict.fromkeys([*task.databases, *_named_databases(task, args)])
    return Bound(replace(policy_of, call=TaskCall(call.task, args)), task, tuple(given))


def _task(config: Config, catalogue: Catalogue, findings: Findings, name: str, task: str) -> TaskInfo | None:
    if task in catalogue.tasks:
        return catalogue.tasks[task]
    said = "task" in config.tables[name]
    path: Path = ("schedules", name, "task") if said else ("schedules", name)
    if broken := catalogue.broken.get(task):
        message = f"the task {shown(task)} of the plugin {shown(broken.plugin)} could not be loaded"
        findings.add(
            "SG0602", path, message, broken.reason[:500], "mend or reinstall the plugin", at_key=not said
        )
        return None
    reason = (
        "no installed plugin offers it"
        if said
        else "a schedule's name is its task unless task says otherwise"
    )
    cure = findings.near(task, catalogue.tasks) or "singd plugins lists what is installed"
    findings.add("SG0601", path, f"unknown task {shown(task)}", reason, cure, at_key=not said)
    return None


def _arguments(
    config: Config, findings: Findings, name: str, task: TaskInfo, args: Mapping[str, Any]
) -> dict[str, Any]:
    path: Path = ("schedules", name, "args")
    params = {param.name: param for param in task.params}
    databases = [*config.databases, *([RESERVED_DATABASE] if task.database_role == "backup" else [])]
    checked = {}
    for key, value in args.items():
        if key not in params:
            reason = f"the task {task.name} has {listing(params) or 'no arguments'}"
            findings.add(
                "SG0603",
                (*path, key),
                f"unknown argument {shown(key)}",
                reason,
                findings.near(key, params) or "remove it",
                at_key=True,
            )
            continue
        try:
            checked[key] = check_argument(params[key].type, value, databases, config.directory)
        except Wrong as wrong:
            findings.wrong((*path, key), key, wrong)
    for param in task.params:
        if param.required and param.name not in args:
            cure = f"add {param.name} = … ({param.type}) to [schedules.{name}.args]"
            message = f"the argument {shown(param.name)} is missing"
            findings.add("SG0604", path, message, f"the task {task.name} needs it", cure, at_key=True)
    return checked


def _databases(config: Config, findings: Findings, name: str, task: TaskInfo) -> None:
    known = {*config.databases, *([RESERVED_DATABASE] if task.database_role == "backup" else [])}
    for database in task.databases:
        if database not in known:
            message = f"the task {shown(task.name)} needs the database {shown(database)}"
            findings.add(
                "SG0608",
                ("schedules", name),
                message,
                "[databases] does not have it",
                f"add [databases.{database}]",
                at_key=True,
            )


def _with_task_defaults(config: Config, findings: Findings, schedule: Schedule, task: TaskInfo) -> Schedule:
    stated = config.tables[schedule.name]
    isolation = None if "isolation" in config.defaults else task.isolation
    changes = {}
    for key, value in (("timeout", task.timeout), ("retries", task.retries), ("isolation", isolation)):
        if value is not None and key not in stated:
            try:
                changes[key] = POLICY[key](value)
            except Wrong as wrong:
                _bad_declaration(findings, schedule.name, task, key, wrong.message.replace("{key}", key))
    policy = replace(schedule.policy, **changes)
    if policy.isolation is Isolation.INLINE and not task.is_async:
        said = "isolation" in stated
        path: Path = ("schedules", schedule.name, "isolation") if said else ("schedules", schedule.name)
        message = f"the task {shown(task.name)} cannot run inline"
        reason = "it is a def; only an async def may live in the daemon"
        findings.add("SG0607", path, message, reason, 'write isolation = "process"', at_key=not said)
    return replace(schedule, policy=policy)


def _bad_declaration(findings: Findings, name: str, task: TaskInfo, key: str, error: str) -> None:
    message = f"the plugin {shown(task.plugin)} declares a {key} of {shown(task.name)} that cannot be"
    cure = f"write {key} here, and tell the plugin's author"
    findings.add("SG0609", ("schedules", name), message, error, cure, at_key=True)


def _lint_placement(config: Config, findings: Findings, schedule: Schedule, task: TaskInfo) -> None:
    role = schedule.role or config.node.role
    home = {"singularity": "instance", "centralcloud": "central"}.get(role)
    places = set(task.placement)
    against = ""
    if schedule.scope is Scope.NODE and "node" not in places:
        against = "every node on its own"
    elif schedule.scope is Scope.CLUSTER and places == {"node"}:
        against = "one node of the cluster only"
    elif home and home not in places and places <= {"instance", "central"}:
        against = f'a cluster of the role "{role}"'
    if against:
        message = f"the task {shown(task.name)} would run on {against}"
        reason = f"its plugin says that it belongs to {listing(task.placement)}"
        findings.add(
            "SG0802",
            ("schedules", schedule.name),
            message,
            reason,
            "schedule it where it belongs, or ignore this if you know better",
            at_key=True,
            warning=True,
        )


def _named_databases(task: TaskInfo, args: Mapping[str, Any]) -> Iterator[str]:
    for param in task.params:
        if "database" in param.type and param.name in args:
            yield from (
                _texts(args[param.name])
                if param.type.endswith("database" + "]" * param.type.count("["))
                else ()
            )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for element in value.values() if isinstance(value, dict) else value:
            yield from _texts(element)
