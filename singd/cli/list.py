"""`singd list`: the schedules in force, with their last end and their next instant."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from singd.cli.client import ask
from singd.cli.output import instant, print_json, print_table, relative
from singd.cli.paths import find
from singd.cli.status import print_problems


def configure(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(args: argparse.Namespace) -> int:
    """Print a line a schedule."""
    answer = ask(find(config=args.config, state=args.state), "list")
    if args.json:
        print_json("list", answer["list"])
        return 0
    print_problems(answer["problems"])
    now = datetime.now(UTC)
    headers = ("LAST", "SCHEDULE", "NEXT", "TASK", "TRIGGER")
    print_table(headers, [_row(item, now) for item in answer["list"]], styled=0)
    return 0


def _row(item: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    return last_words(item, now), item["schedule"], next_words(item, now), item["task"], item["trigger"]


def last_words(item: Mapping[str, Any], now: datetime) -> str:
    """How the last one ended, and when it was due."""
    last = item["last"]
    if last is None:
        return "–"
    due = instant(last.get("due_until") or last["due_at"])
    return f"{last['standing']} {relative(due, now)}" if due else last["standing"]


def next_words(item: Mapping[str, Any], now: datetime) -> str:
    """When it comes due next, or why it does not."""
    if item["unavailable"]:
        return "unavailable"
    if not item["enabled"]:
        return "disabled"
    if not item["here"]:
        return f"only as {item['role']}"
    due = instant(item["next"])
    if item["paused"]:
        return f"paused, then {relative(due, now)}" if due else "paused"
    return relative(due, now) if due else "–"
