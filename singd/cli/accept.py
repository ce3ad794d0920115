"""Which configuration a starting daemon runs: the file's, or the last good one, or none (exit 78)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from singd.cli.output import CONFIG, CommandError, say
from singd.core.catalogue import Catalogue
from singd.core.config import Bound, Config, Loaded, Problem, bind, failed, load, render
from singd.edges import last_good
from singd.edges.config_files import load_config_files


@dataclass(frozen=True, slots=True)
class Accepted:
    """A configuration in force: every schedule of it can run.

    Attributes:
        warning: Not "" where it is not what the file says now, and why.
    """

    config: Config
    bound: Mapping[str, Bound]
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps on the configuration; raise them for thousands of schedules."""

    max_bytes: int
    max_schedules: int


def accept(main: Path, state_dir: Path, catalogue: Catalogue, limits: Limits) -> Accepted:
    """Read, check and keep the configuration; on errors fall back to the last good one.

    Raises:
        CommandError: It is wrong and there is no good one to run; exit 78.
    """
    loaded, files = load_config_files(main, max_bytes=limits.max_bytes, max_schedules=limits.max_schedules)
    accepted, problems = _bound(loaded, catalogue)
    if problems:
        sys.stderr.write(
            render(problems, files, color=sys.stderr.isatty() and not os.environ.get("NO_COLOR"))
        )
    if accepted is not None:
        last_good.save(state_dir, main, files)
        return accepted
    return _fall_back(main, state_dir, catalogue, limits)


def _bound(loaded: Loaded, catalogue: Catalogue) -> tuple[Accepted | None, tuple[Problem, ...]]:
    if loaded.config is None:
        return None, loaded.problems
    bound, found = bind(loaded.config, catalogue)
    problems = (*loaded.problems, *found)
    return (None if failed(problems) else Accepted(loaded.config, bound)), problems


def _fall_back(main: Path, state_dir: Path, catalogue: Catalogue, limits: Limits) -> Accepted:
    files = last_good.load(state_dir, main)
    if files is not None:
        directory = str(main.absolute().parent)
        loaded = load(
            files, max_bytes=limits.max_bytes, max_schedules=limits.max_schedules, directory=directory
        )
        if loaded.config is not None:
            bound, found = bind(loaded.config, catalogue)
            say(f"singd: {main} is wrong: RUNNING THE LAST GOOD CONFIGURATION of it instead")
            return Accepted(loaded.config, bound, _warning(main, loaded.config, bound, found))
    raise CommandError(
        f"{main} is wrong, and no earlier good version of it is known",
        cure=f"singd check {main}",
        exit=CONFIG,
    )


def _warning(main: Path, config: Config, bound: Mapping[str, Bound], problems: tuple[Problem, ...]) -> str:
    text = f"{main} is wrong: the last good configuration of it is in force"
    missing = sorted(set(config.schedules) - set(bound))
    return f"{text}; unavailable in it: {', '.join(missing)}" if missing and problems else text
