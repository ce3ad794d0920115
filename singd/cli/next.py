"""`singd next`: upcoming instants, without a daemon."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

from singd.cli.arguments import count
from singd.cli.configured import add_limits, good, node_role
from singd.cli.instants import parse_instant
from singd.cli.output import FAILED, USAGE, CommandError, local, print_json, print_table, relative, rfc3339
from singd.cli.paths import find
from singd.core.cron import Cron, CronError
from singd.core.trigger import upcoming
from singd.core.values import Schedule, Startup, Trigger

DEFAULT_COUNT = 5


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument(
        "schedule", nargs="?", metavar="SCHEDULE", help="only this one; else the next instant of each"
    )
    parser.add_argument("--cron", metavar="EXPR", help="of this expression rather than of the configuration")
    parser.add_argument("--timezone", metavar="ZONE", help="what --cron is meant in (UTC)")
    parser.add_argument("--seconds", action="store_true", help="--cron has six fields, seconds first")
    parser.add_argument("--from", dest="from_", metavar="T", help="from then on rather than from now")
    parser.add_argument(
        "-n", "--count", type=count, metavar="N", help="so many instants (5; 1 of each of several)"
    )
    add_limits(parser)


@dataclass(frozen=True, slots=True)
class Upcoming:
    """One line: an instant of a schedule, or why it has none."""

    schedule: str
    due_at: datetime | None = None
    zone: str = "UTC"
    reason: str = ""


def run(args: argparse.Namespace) -> int:
    """Print the instants, in order of time; those without one last."""
    now = datetime.now(UTC)
    begin = parse_instant(args.from_, now) if args.from_ else now
    found = _of_expression(args, begin) if args.cron else _of_configuration(args, begin)
    lines = sorted(found, key=lambda line: (line.due_at is None, line.due_at or begin, line.schedule))
    if args.json:
        print_json("next", [_as_json(line) for line in lines])
    else:
        print_table(("SCHEDULE", "LOCAL", "UTC", "IN"), [_row(line, now) for line in lines])
    return 0


def _of_expression(args: argparse.Namespace, begin: datetime) -> Iterator[Upcoming]:
    try:
        cron = Cron.parse(
            args.cron, timezone=args.timezone or "UTC", name=args.schedule or "", seconds=args.seconds
        )
    except CronError as error:
        raise CommandError(error.problem, cure=error.cure, exit=USAGE) from None
    return _instants(args.schedule or args.cron, cron, begin, args.count or DEFAULT_COUNT)


def _of_configuration(args: argparse.Namespace, begin: datetime) -> Iterator[Upcoming]:
    config = good(args, find(config=args.config, state=args.state))
    role = node_role(config)
    for schedule in _chosen(config.schedules, args.schedule):
        if reason := _why_none(schedule, role):
            yield Upcoming(schedule.name, reason=reason)
        else:
            most = args.count or (DEFAULT_COUNT if args.schedule else 1)
            yield from _instants(schedule.name, schedule.trigger, begin, most)


def _chosen(schedules: object, name: str | None) -> list[Schedule]:
    assert isinstance(schedules, dict)
    if name is None:
        return list(schedules.values())
    if name not in schedules:
        from difflib import get_close_matches

        close = get_close_matches(name, schedules, n=1)
        cure = f"did you mean {close[0]}?" if close else "`singd next` lists them all"
        raise CommandError(f"there is no schedule {name!r}", cure=cure, exit=FAILED)
    return [schedules[name]]


def _why_none(schedule: Schedule, role: str) -> str:
    if not schedule.enabled:
        return "enabled = false"
    if schedule.role not in ("", role):
        return f"only where the role is {schedule.role}"
    return "at startup" if isinstance(schedule.trigger, Startup) else ""


def _instants(name: str, trigger: Trigger, begin: datetime, most: int) -> Iterator[Upcoming]:
    zone = trigger.timezone if isinstance(trigger, Cron) else "UTC"
    found = [Upcoming(name, due_at, zone) for due_at in islice(upcoming(trigger, begin), most)]
    yield from found or [Upcoming(name, reason="never again")]


def _row(line: Upcoming, now: datetime) -> tuple[str, str, str, str]:
    if line.due_at is None:
        return line.schedule, line.reason, "", ""
    return line.schedule, local(line.due_at), rfc3339(line.due_at), relative(line.due_at, now)


def _as_json(line: Upcoming) -> dict[str, object]:
    there = line.due_at and line.due_at.astimezone(ZoneInfo(line.zone)).isoformat()
    here = line.due_at and line.due_at.astimezone().isoformat()
    return {
        "schedule": line.schedule, "due_at": line.due_at, "local": here, "timezone": line.zone, "in_timezone": there,
        "reason": line.reason,
    }  # fmt: skip
