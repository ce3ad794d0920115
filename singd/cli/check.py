"""`singd check`: every error and warning of a configuration at once, without a database or a daemon."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from singd.cli.configured import add_limits, load, print_problems
from singd.cli.output import BAD_CONFIG, OK, paint, print_json, printable
from singd.cli.paths import find
from singd.core.config import Config, Loaded, Problem, Severity, as_json, bind
from singd.core.values import At
from singd.edges.catalogue import read_catalogue


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="the main file; drop-ins beside it are read too"
    )
    add_limits(parser)


def run(args: argparse.Namespace) -> int:
    """Print every problem; 65 if any is an error, 0 with warnings alone."""
    paths = find(config=args.file or args.config, state=args.state)
    loaded, files = load(args, paths)
    problems = list(loaded.problems)
    if loaded.draft is not None:
        problems += passed(loaded.draft, datetime.now(UTC))
        problems += bind(loaded.draft, read_catalogue(paths.state / "cache", paths.plugins))[1]
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    if args.json:
        print_json("check", _summary(str(paths.config), loaded, problems, errors))
    else:
        print_problems(problems, files)
        print(_verdict(str(paths.config), loaded, errors, len(problems) - errors))
    return BAD_CONFIG if errors else OK


def passed(config: Config, now: datetime) -> Iterator[Problem]:
    """An `at` that has passed: here and not with the other lints, because the core has no clock."""
    for name, schedule in config.schedules.items():
        if isinstance(schedule.trigger, At) and schedule.enabled and schedule.trigger.instant < now:
            place = config.sources.place(("schedules", name, "at"))
            yield Problem(
                "SG0804", Severity.WARNING, place, "at has passed", "a schedule that is new now never runs",
                "remove the schedule if it has run, or mend the date", name,
            )  # fmt: skip


def _summary(file: str, loaded: Loaded, problems: Sequence[Problem], errors: int) -> dict[str, object]:
    return {
        "file": file, "ok": not errors, "errors": errors, "warnings": len(problems) - errors,
        "schedules": len(loaded.config.schedules) if loaded.config else None,
        "problems": [as_json(problem) for problem in problems],
    }  # fmt: skip


def _verdict(file: str, loaded: Loaded, errors: int, warnings: int) -> str:
    counts = " and ".join(
        _plural(number, word) for number, word in ((errors, "error"), (warnings, "warning")) if number
    )
    if errors or loaded.config is None:
        return f"{printable(file)}: {paint(counts, 'red')}"
    schedules = _plural(len(loaded.config.schedules), "schedule")
    return f"{printable(file)}: {paint('good', 'green')}, {schedules}" + (f", {counts}" if counts else "")


def _plural(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
