"""The configuration for verbs that need no daemon: read, judged, and told where it is wrong."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from singd.cli.arguments import count
from singd.cli.output import BAD_CONFIG, NO_INPUT, CommandError, coloured
from singd.cli.paths import Paths
from singd.core.config import MAX_BYTES, MAX_SCHEDULES, Config, Loaded, Problem, render
from singd.core.units import parse_size
from singd.edges.config_files import load_config_files

Files = Sequence[tuple[str, bytes]]


def add_limits(parser: argparse.ArgumentParser) -> None:
    """The caps of `singd run`, so that both judge alike."""
    parser.add_argument(
        "--max-config-size", type=_size, default=MAX_BYTES, metavar="SIZE", help="cap on the files (1MiB)"
    )
    parser.add_argument(
        "--max-schedules", type=count, default=MAX_SCHEDULES, metavar="N", help="cap on schedules (1000)"
    )


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def load(args: argparse.Namespace, paths: Paths) -> tuple[Loaded, Files]:
    """What became of the configuration.

    Raises:
        CommandError: There is none (66).
    """
    if not paths.config.exists():
        cure = "name one: --config FILE, or SINGD_CONFIG"
        raise CommandError(f"there is no configuration at {paths.config}", cure=cure, exit=NO_INPUT)
    return load_config_files(paths.config, max_bytes=args.max_config_size, max_schedules=args.max_schedules)


def good(args: argparse.Namespace, paths: Paths) -> Config:
    """The configuration, for a verb that can do nothing with a wrong one.

    Raises:
        CommandError: There is none (66), or it is wrong (65); the problems were printed.
    """
    loaded, files = load(args, paths)
    if loaded.config is None:
        print_problems(loaded.problems, files, sys.stderr)
        raise CommandError(f"{paths.config} is wrong", cure=f"singd check {paths.config}", exit=BAD_CONFIG)
    return loaded.config


def print_problems(problems: Sequence[Problem], files: Files, stream: TextIO | None = None) -> None:
    """Each with its place, line, caret, reason and cure; to stdout by default."""
    out = stream or sys.stdout
    out.write(render(problems, files, color=coloured(out)))


def node_role(config: Config) -> str:
    """This node's role: the variable wins over the file."""
    return os.environ.get("SINGD_NODE_ROLE") or config.node.role
