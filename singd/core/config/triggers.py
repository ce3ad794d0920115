"""When a schedule runs: exactly one of the keys of triggers, read to a trigger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from singd.core.config.keys import TRIGGERS
from singd.core.config.lints import lint_cron
from singd.core.config.places import Path
from singd.core.config.problems import Findings, listing, shown
from singd.core.config.readers import kind
from singd.core.cron import Cron, CronError
from singd.core.values import At, Every, Startup, Trigger

_FIRST_YEAR, _LAST_YEAR = 1971, 2199
"""Of `at`; with a day to spare for any offset."""
_SOME_INSTANT = "2030-01-31T18:00:00Z"


@dataclass(slots=True)
class TriggerReader:
    """Reads triggers of one configuration; remembers expressions and zones, which repeat."""

    findings: Findings
    defaults: Mapping[str, Any]
    _crons: dict[tuple[str, str, bool], Cron] = field(default_factory=dict)
    _zones: dict[str, bool] = field(default_factory=dict)

    def read(self, path: Path, table: Mapping[str, Any], values: Mapping[str, Any]) -> Trigger | None:
        """The trigger of a schedule, or None where a problem was noted.

        Args:
            table: The schedule's keys as written.
            values: Those of them that were read without a problem.
        """
        zone = self._zone_of(path, values)
        used = [key for key in table if key in TRIGGERS]
        self._exactly_one(path, used)
        if used and "seconds" in values and "cron" not in table:
            reason = f"the trigger is {used[0]}"
            self.findings.add(
                "SG0110", (*path, "seconds"), "seconds goes with cron", reason, "remove it", at_key=True
            )
        maker = _MAKERS.get(used[0]) if used else None
        return maker(self, (*path, used[0]), values, zone) if maker and used[0] in values else None

    def zone(self, path: Path, zone: str) -> bool:
        """Whether the zone exists; if not, that is noted."""
        if zone not in self._zones:
            self._zones[zone] = _exists(zone)
        if not self._zones[zone]:
            cure = (
                self.findings.near(zone, available_timezones())
                or 'write an IANA name such as "Europe/Berlin"'
            )
            self.findings.add(
                "SG0204", path, f"unknown time zone {shown(zone)}", "tzdata does not have it", cure
            )
        return self._zones[zone]

    def _zone_of(self, path: Path, values: Mapping[str, Any]) -> str:
        """The zone in force; UTC for one that was complained about, so that the rest can be judged."""
        if "timezone" in values:
            return values["timezone"] if self.zone((*path, "timezone"), values["timezone"]) else "UTC"
        default: str = self.defaults.get("timezone", "UTC")
        return default if self._zones.get(default, True) else "UTC"

    def _exactly_one(self, path: Path, used: list[str]) -> None:
        if not used:
            message = f"the schedule {shown(str(path[1]))} has no trigger"
            cure = f'add exactly one of {listing(TRIGGERS, "or")}, for example cron = "0 3 * * *"'
            self.findings.add("SG0201", path, message, "nothing says when it runs", cure, at_key=True)
        elif len(used) > 1:
            where = self.findings.sources.place((*path, used[0]), at_key=True)
            message = f"{listing(used)} are {'both' if len(used) == 2 else 'all'} triggers"
            reason = f"a schedule has exactly one, and {used[0]} stands at {where}"
            self.findings.add("SG0202", (*path, used[1]), message, reason, "keep one of them", at_key=True)

    def _cron(self, path: Path, values: Mapping[str, Any], zone: str) -> Trigger | None:
        expression, seconds = values["cron"], values.get("seconds", False)
        cron = self._crons.get((expression, zone, seconds))
        if cron is None:
            try:
                cron = Cron.parse(expression, timezone=zone, name=str(path[1]), seconds=seconds)
            except CronError as error:
                said = f"cron {shown(expression)} is not understood"
                self.findings.add("SG0203", path, said, error.problem, error.cure)
                return None
            if not cron.name:
                self._crons[expression, zone, seconds] = cron
        lint_cron(self.findings, path, expression, seconds)
        return cron

    def _at(self, path: Path, values: Mapping[str, Any], zone: str) -> Trigger | None:
        instant, add = values["at"], self.findings.add
        if not isinstance(instant, datetime):
            message = f"at must be a date-time with an offset, not {kind(instant)}"
            add("SG0101", path, message, "", f"write at = {_hint(instant)}")
        elif not _FIRST_YEAR <= instant.year <= _LAST_YEAR:
            add("SG0102", path, f"at must be in {_FIRST_YEAR} to {_LAST_YEAR}", f"it is in {instant.year}")
        elif instant.tzinfo is None:
            there = _rfc3339(instant.replace(tzinfo=ZoneInfo(zone)))
            add(
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
        cure = "remove it and add a trigger, or write startup = true"
        self.findings.add("SG0201", path, "startup = false is no trigger", "nothing says when it runs", cure)
        return None

    def _every(self, path: Path, values: Mapping[str, Any], zone: str) -> Trigger | None:
        return Every(values["every"])


_MAKERS: Mapping[str, Callable[[TriggerReader, Path, Mapping[str, Any], str], Trigger | None]] = {
    "cron": TriggerReader._cron,
    "every": TriggerReader._every,
    "at": TriggerReader._at,
    "startup": TriggerReader._startup,
}


def _exists(zone: str) -> bool:
    try:
        Cron.parse("0 0 1 1 *", timezone=zone)
    except CronError:
        return False
    return True


def _hint(value: Any) -> str:
    """What was probably meant by something that is no date-time."""
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00Z"
    try:
        there = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return _SOME_INSTANT
    return _rfc3339(there) + ("" if there.tzinfo else "Z")


def _rfc3339(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
