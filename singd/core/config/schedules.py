"""One schedule's table: exactly one trigger, exactly one thing to run, policies over defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from singd.core.config.keys import CALLS, POLICY, SCHEDULE, TRIGGERS
from singd.core.config.lints import lint_cron
from singd.core.config.places import Path
from singd.core.config.problems import Findings, did_you_mean, listing, shown
from singd.core.config.readers import NAME, NAME_RULE, kind
from singd.core.config.tables import as_table, read_table, unbuilt
from singd.core.cron import Cron, CronError
from singd.core.values import (
    At,
    Call,
    CommandCall,
    Delivery,
    Every,
    Policy,
    Schedule,
    Scope,
    SqlCall,
    Startup,
    TaskCall,
    Trigger,
)  # fmt: skip

_FIRST_YEAR, _LAST_YEAR = 1971, 2199
"""Of `at`; with a day to spare for any offset."""
_NO_POLICY = Policy()


@dataclass(slots=True)
class ScheduleReader:
    """Reads schedules of one configuration; remembers expressions and zones, which repeat."""

    findings: Findings
    defaults: Mapping[str, Any]
    databases: Mapping[str, Any]
    names: Mapping[str, Any]
    _crons: dict[tuple[str, str, bool], Cron] = field(default_factory=dict)
    _zones: dict[str, bool] = field(default_factory=dict)
    _policies: dict[tuple[tuple[str, Any], ...], Policy] = field(default_factory=dict)

    def read(self, name: str, raw: Any) -> Schedule | None:
        """The schedule, or None where a problem was noted that leaves nothing to make one of."""
        path: Path = ("schedules", name)
        if not NAME.match(name):
            self.findings.add(
                "SG0106", path, f"a schedule cannot be called {shown(name)}", *NAME_RULE, at_key=True
            )
        table = as_table(self.findings, path, raw, "a schedule")
        if table is not raw:
            return None
        values = read_table(self.findings, path, table, SCHEDULE, "a schedule")
        unbuilt(self.findings, path, values)
        self._references(path, values)
        trigger, call = self._trigger(path, table, values, name), self._call(path, table, values, name)
        policy = self._policy(path, values)
        if trigger is None or call is None:
            return None
        return Schedule(
            name, _word(call), call, trigger, policy,
            scope=values.get("scope", self.defaults.get("scope", Scope.CLUSTER)),
            role=values.get("role", self.defaults.get("role", "")),
            enabled=values.get("enabled", self.defaults.get("enabled", True)),
        )  # fmt: skip

    def zone(self, path: Path, zone: str) -> bool:
        """Whether the zone exists; if not, that is noted once for each place."""
        if zone not in self._zones:
            self._zones[zone] = _zone_exists(zone)
        if not self._zones[zone]:
            cure = did_you_mean(zone, available_timezones()) or 'write an IANA name such as "Europe/Berlin"'
            self.findings.add(
                "SG0204", path, f"unknown time zone {shown(zone)}", "tzdata does not have it", cure
            )
        return self._zones[zone]

    def _references(self, path: Path, values: Mapping[str, Any]) -> None:
        for index, needed in enumerate(values.get("needs", ())):
            self._known_schedule((*path, "needs", index), needed)
        if "after" in values:
            self._known_schedule((*path, "after"), values["after"])

    def _known_schedule(self, path: Path, name: str) -> None:
        if name not in self.names or name == path[1]:
            reason = "a schedule cannot wait for itself" if name == path[1] else "no schedule has this name"
            others = [other for other in self.names if other != path[1]]
            self.findings.add(
                "SG0401", path, f"unknown schedule {shown(name)}", reason, did_you_mean(name, others)
            )

    def _trigger(
        self, path: Path, table: Mapping[str, Any], values: Mapping[str, Any], name: str
    ) -> Trigger | None:
        used = [key for key in TRIGGERS if key in table]
        if not used:
            cure = f'add exactly one of {listing(TRIGGERS, "or")}, for example cron = "0 3 * * *"'
            self.findings.add(
                "SG0201",
                path,
                f"the schedule {shown(name)} has no trigger",
                "nothing says when it runs",
                cure,
                at_key=True,
            )
            return None
        if len(used) > 1:
            where = self.findings.sources.place((*path, used[0]), at_key=True)
            reason = f"a schedule has exactly one trigger, and {used[0]} is at {where}"
            self.findings.add(
                "SG0202",
                (*path, used[1]),
                f"{listing(used)} are {_all(used)} triggers",
                reason,
                "keep one of them",
                at_key=True,
            )
        if "seconds" in values and "cron" not in table:
            self.findings.add(
                "SG0110",
                (*path, "seconds"),
                "seconds goes with cron",
                f"the trigger is {used[0]}",
                "remove it",
                at_key=True,
            )
        zone, zoned = values.get("timezone", self.defaults.get("timezone", "UTC")), True
        if "timezone" in values:
            zoned = self.zone((*path, "timezone"), zone)
        reader = _TRIGGERS.get(used[0])
        return (
            reader(self, (*path, used[0]), values, zone if zoned else "UTC")
            if reader and used[0] in values
            else None
        )

    def _cron(self, path: Path, values: Mapping[str, Any], zone: str) -> Trigger | None:
        expression, seconds = values["cron"], values.get("seconds", False)
        zone = zone if self._zones.get(zone, True) else "UTC"
        cron = self._crons.get((expression, zone, seconds))
        if cron is None:
            try:
                cron = Cron.parse(expression, timezone=zone, name=str(path[1]), seconds=seconds)
            except CronError as error:
                message = str(error).removesuffix(f": {error.cure}")
                self.findings.add(
                    "SG0203", path, f"cron {shown(expression)} is not understood", message, error.cure
                )
                return None
            if not cron.name:
                self._crons[expression, zone, seconds] = cron
        lint_cron(self.findings, path, expression, seconds)
        return cron

    def _at(self, path: Path, values: Mapping[str, Any], zone: str) -> Trigger | None:
        instant = values["at"]
        if not isinstance(instant, datetime):
            cure = f"write at = {_instant_hint(instant)}"
            self.findings.add(
                "SG0101", path, f"at must be a date-time with an offset, not {kind(instant)}", "", cure
            )
        elif not _FIRST_YEAR <= instant.year <= _LAST_YEAR:
            self.findings.add(
                "SG0102", path, f"at must be in {_FIRST_YEAR} to {_LAST_YEAR}", f"it is in {instant.year}"
            )
        elif instant.tzinfo is None:
            there = instant.replace(tzinfo=ZoneInfo(zone)).isoformat().replace("+00:00", "Z")
            self.findings.add(
                "SG0205",
                path,
                "at has no offset",
                "whose clock is meant is not said",
                f"write at = {there} for {zone}",
            )
        else:
            return At(instant)
        return None

    def _startup(self, path: Path, values: Mapping[str, Any], zone: str) -> Trigger | None:
        if values["startup"]:
            return Startup()
        self.findings.add(
            "SG0201",
            path,
            "startup = false is no trigger",
            "nothing says when it runs",
            "remove it, or write startup = true",
        )
        return None

    def _every(self, path: Path, values: Mapping[str, Any], zone: str) -> Trigger | None:
        return Every(values["every"])

    def _call(
        self, path: Path, table: Mapping[str, Any], values: Mapping[str, Any], name: str
    ) -> Call | None:
        used = [key for key in CALLS if key in table]
        if len(used) > 1:
            reason = f"a schedule runs exactly one of {listing(CALLS, 'or')}"
            self.findings.add(
                "SG0301",
                (*path, used[1]),
                f"{listing(used)} {_all(used)} say what to run",
                reason,
                "keep one of them",
                at_key=True,
            )
            return None
        what = used[0] if used else "task"
        self._fits(path, table, values, what)
        if what in table and what not in values:
            return None
        if what == "task":
            return TaskCall(
                values.get("task", name),
                dict(as_table(self.findings, (*path, "args"), values.get("args"), "args")),
            )
        return CommandCall(values["command"]) if what == "command" else self._sql(path, table, values)

    def _fits(self, path: Path, table: Mapping[str, Any], values: Mapping[str, Any], what: str) -> None:
        """Keys that mean nothing beside this `what`."""
        wrong = {"args": "task", "database": "sql", "isolation": "task"}
        for key, home in wrong.items():
            if key in table and what != home:
                cure = "remove it" if key != "args" else "remove it, or name a task"
                self.findings.add(
                    "SG0110",
                    (*path, key),
                    f"{key} goes with {home}",
                    f"this schedule runs a {what}",
                    cure,
                    at_key=True,
                )
        if values.get("executor") == "database" and what != "sql":
            cure = "write sql and database, or remove executor"
            self.findings.add(
                "SG0110",
                (*path, "executor"),
                "a database can only run sql",
                f"this is a {what}",
                cure,
                at_key=True,
            )

    def _sql(self, path: Path, table: Mapping[str, Any], values: Mapping[str, Any]) -> Call | None:
        if "database" not in table:
            cure = (
                f"add database = {listing(self.databases, 'or')}"
                if self.databases
                else "add [databases.NAME] and database = NAME"
            )
            self.findings.add(
                "SG0302",
                (*path, "sql"),
                "sql needs a database",
                "nothing says where it runs",
                cure,
                at_key=True,
            )
        elif "database" in values:
            self.database((*path, "database"), values["database"])
            return SqlCall(values["sql"], values["database"])
        return None

    def database(self, path: Path, name: str) -> None:
        """Note it where no database of the configuration has this name."""
        if name not in self.databases:
            cure = did_you_mean(name, self.databases) or f"add [databases.{name}]"
            self.findings.add(
                "SG0303", path, f"unknown database {shown(name)}", "[databases] does not have it", cure
            )

    def _policy(self, path: Path, values: Mapping[str, Any]) -> Policy:
        chosen = {**self.defaults, **values}
        if chosen.get("once") and "delivery" not in values:
            chosen["delivery"] = Delivery.AT_LEAST_ONCE
        if values.get("once") and values.get("delivery") is Delivery.AT_MOST_ONCE:
            reason = "once promises that it happens"
            self.findings.add(
                "SG0110",
                (*path, "delivery"),
                "once and at_most_once contradict",
                reason,
                "remove delivery",
                at_key=True,
            )
        key = tuple((name, chosen[name]) for name in POLICY if name in chosen)
        if key not in self._policies:
            self._policies[key] = Policy(**dict(key)) if key else _NO_POLICY
        return self._policies[key]


_Maker = Callable[[ScheduleReader, Path, Mapping[str, Any], str], Trigger | None]
_TRIGGERS: Mapping[str, _Maker] = {
    "cron": ScheduleReader._cron,
    "every": ScheduleReader._every,
    "at": ScheduleReader._at,
    "startup": ScheduleReader._startup,
}


def _word(call: Call) -> str:
    if isinstance(call, TaskCall):
        return call.task
    return "command" if isinstance(call, CommandCall) else "sql"


def _zone_exists(zone: str) -> bool:
    try:
        Cron.parse("0 0 1 1 *", timezone=zone)
    except CronError:
        return False
    return True


def _instant_hint(value: Any) -> str:
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00Z"
    if isinstance(value, str):
        try:
            there = datetime.fromisoformat(value)
        except ValueError:
            return "2030-01-31T18:00:00Z"
        return there.isoformat().replace("+00:00", "Z") + ("" if there.tzinfo else "Z")
    return "2030-01-31T18:00:00Z"


def _all(words: Sequence[str]) -> str:
    return "both" if len(words) == 2 else "all"
