"""One schedule's table: exactly one trigger, exactly one thing to run, policies over defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from singd.core.config.calls import read_call, word
from singd.core.config.keys import POLICY, SCHEDULE
from singd.core.config.places import Path
from singd.core.config.problems import Findings, shown
from singd.core.config.readers import NAME, NAME_RULE
from singd.core.config.tables import as_table, read_table, unbuilt
from singd.core.config.triggers import TriggerReader
from singd.core.values import Delivery, Policy, Schedule, Scope


@dataclass(slots=True)
class ScheduleReader:
    """Reads the schedules of one configuration.

    Attributes:
        defaults: The checked values of [defaults].
        databases: The tables of [databases], by name.
        names: The tables of [schedules], by name.
    """

    findings: Findings
    triggers: TriggerReader
    defaults: Mapping[str, Any]
    databases: Mapping[str, Any]
    names: Mapping[str, Any]
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
        trigger = self.triggers.read(path, table, values)
        call = read_call(self.findings, self.databases, path, table, values)
        policy = self._policy(path, values)
        if trigger is None or call is None:
            return None
        scope, role, enabled = (
            self._value(values, *item) for item in (("scope", Scope.CLUSTER), ("role", ""), ("enabled", True))
        )
        return Schedule(name, word(call), call, trigger, policy, scope=scope, role=role, enabled=enabled)

    def _value(self, values: Mapping[str, Any], key: str, default: Any) -> Any:
        return values[key] if key in values else self.defaults.get(key, default)

    def _references(self, path: Path, values: Mapping[str, Any]) -> None:
        for index, needed in enumerate(values.get("needs", ())):
            self._known(path, (*path, "needs", index), needed)
        if "after" in values:
            self._known(path, (*path, "after"), values["after"])

    def _known(self, path: Path, at: Path, name: str) -> None:
        if name in self.names and name != path[1]:
            return
        reason = "a schedule cannot wait for itself" if name == path[1] else "no schedule has this name"
        others = [other for other in self.names if other != path[1]]
        self.findings.add(
            "SG0401", at, f"unknown schedule {shown(name)}", reason, self.findings.near(name, others)
        )

    def _policy(self, path: Path, values: Mapping[str, Any]) -> Policy:
        chosen = {**self.defaults, **values}
        if values.get("once"):
            if values.get("delivery") is Delivery.AT_MOST_ONCE:
                message, reason = (
                    "once and at_most_once contradict each other",
                    "once promises that it happens",
                )
                self.findings.add(
                    "SG0110", (*path, "delivery"), message, reason, "remove delivery", at_key=True
                )
            chosen["delivery"] = Delivery.AT_LEAST_ONCE
        key = tuple((name, chosen[name]) for name in POLICY if name in chosen)
        if key not in self._policies:
            self._policies[key] = Policy(**dict(key))
        return self._policies[key]
