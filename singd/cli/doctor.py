"""`singd doctor`: whether everything that singd stands on can bear it. Works with and without a daemon; changes nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import trio

from singd.cli.check import passed
from singd.cli.client import ask
from singd.cli.configured import add_limits, load
from singd.cli.databases import EMBEDDED_LEDGER, Databases
from singd.cli.output import FAILED, OK, CommandError, paint, print_json, printable, style_of
from singd.cli.paths import Paths, find
from singd.core.catalogue import Catalogue
from singd.core.config import EMBEDDED, Config, Loaded, Severity, bind
from singd.core.health import Finding, Standing, ok, warning, wrong
from singd.core.units import counted
from singd.edges import machine
from singd.edges.catalogue import read_catalogue
from singd.edges.embedded import running
from singd.edges.postgres.doctor import examine
from singd.errors import ConfigError, EdgeError


def configure(parser: argparse.ArgumentParser) -> None:
    """Only the caps that the daemon has too."""
    add_limits(parser)


def run(args: argparse.Namespace) -> int:
    """Check everything; 1 where something is wrong, 0 with warnings alone.

    Raises:
        CommandError: There is no configuration, so nothing says what to check (66).
    """
    paths = find(config=args.config, state=args.state)
    loaded, _ = load(args, paths)
    found = list(_findings(paths, loaded))
    told = as_json(found)
    if args.json:
        print_json("doctor", told)
    else:
        _print(found)
        print(_verdict(told["wrong"], told["warnings"]))
    return OK if told["ok"] else FAILED


def as_json(found: Sequence[Finding]) -> dict[str, Any]:
    """What `--json` prints."""
    counts = {kind: sum(one.standing is kind for one in found) for kind in Standing}
    return {
        "ok": not counts[Standing.WRONG], "wrong": counts[Standing.WRONG], "warnings": counts[Standing.WARNING],
        "findings": [asdict(one) for one in found],
    }  # fmt: skip


def _findings(paths: Paths, loaded: Loaded) -> Iterator[Finding]:
    catalogue = read_catalogue(None, paths.plugins)
    yield _configuration(paths, loaded, catalogue)
    yield from _plugins(catalogue)
    status = _status(paths)
    yield status if isinstance(status, Finding) else _daemon(status)
    if loaded.config is not None:
        yield from _databases(loaded.config, paths, not isinstance(status, Finding))
    yield from machine.examine(paths.state, paths.socket)


def _configuration(paths: Paths, loaded: Loaded, catalogue: Catalogue) -> Finding:
    """As `singd check` judges it."""
    problems = list(loaded.problems)
    if loaded.draft is not None:
        problems += [*passed(loaded.draft, datetime.now(UTC)), *bind(loaded.draft, catalogue)[1]]
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    cure = f"singd check {paths.config}"
    if errors or loaded.config is None:
        return wrong("configuration", f"{paths.config} has {counted(errors, 'error')}", cure)
    if problems:
        return warning("configuration", f"{paths.config} has {counted(len(problems), 'warning')}", cure)
    return ok("configuration", f"{paths.config}: {counted(len(loaded.config.schedules), 'schedule')}")


def _plugins(catalogue: Catalogue) -> Iterator[Finding]:
    for broken in catalogue.broken.values():
        first = broken.reason.strip().split("\n")[0]
        yield warning(
            "plugins", f"{broken.name} of {broken.plugin} cannot be loaded: {first}", "singd plugins"
        )
    if not catalogue.broken:
        yield ok("plugins", f"{counted(len(catalogue.tasks), 'task')} offered, none broken")


def _status(paths: Paths) -> dict[str, Any] | Finding:
    """What a daemon says of itself; the finding where none answers."""
    try:
        return dict(ask(paths, "status")["status"])
    except CommandError as error:
        return warning("daemon", str(error), error.cure)


def _daemon(status: dict[str, Any]) -> Finding:
    state = f"{status['node']}: {status['state']}"
    if status["problems"]:
        return warning(
            "daemon", f"{state}, with {counted(len(status['problems']), 'problem')}", "singd status"
        )
    return ok("daemon", state)


def _databases(config: Config, paths: Paths, answers: bool) -> Iterator[Finding]:
    """The ledger; the embedded server's programs where any database needs them."""
    if EMBEDDED in (config.database.url, *(one.url for one in config.databases.values())):
        yield machine.embedded()
    if config.database.url == EMBEDDED and not answers:
        yield ok("ledger", "embedded: it is started with the daemon, and was not asked")
        return
    try:
        conninfo = _ledger(config, paths)
    except (EdgeError, ConfigError) as error:
        yield wrong("ledger", str(error), error.cure)
        return
    yield from trio.run(examine, conninfo, config.database.schema, _where(config))


def _ledger(config: Config, paths: Paths) -> str:
    if config.database.url == EMBEDDED:
        return running.conninfo(paths.state, EMBEDDED_LEDGER, "runtime")
    return Databases(config).ledger("runtime")


def _where(config: Config) -> str:
    return "embedded PostgreSQL" if config.database.url == EMBEDDED else Databases(config).describe()


def _print(found: Sequence[Finding]) -> None:
    """A line a finding; what to do stands under it."""
    width = max(len(one.check) for one in found)
    for one in found:
        standing = str(one.standing)
        mark = paint(standing.ljust(7), style_of(standing))
        print(f"{mark}  {one.check.ljust(width)}  {printable(one.text)}")
        if one.cure:
            print(f"{' ' * (11 + width)}{printable(one.cure)}")


def _verdict(errors: int, warnings: int) -> str:
    if not errors and not warnings:
        return paint("all is well", "green")
    parts = [counted(errors, "thing") + " wrong"] if errors else []
    parts += [counted(warnings, "warning")] if warnings else []
    return paint(", ".join(parts), "red" if errors else "yellow")
