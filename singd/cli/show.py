"""`singd show NAME`: one schedule with every value in force, and where each was set."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from singd.cli.client import ask
from singd.cli.list import last_words, next_words
from singd.cli.output import instant, local, print_facts, print_json, print_table
from singd.cli.paths import find


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("name", metavar="NAME", help="the schedule")


def run(args: argparse.Namespace) -> int:
    """Print the schedule."""
    shown = ask(find(config=args.config, state=args.state), "show", name=args.name)["show"]
    if args.json:
        print_json("show", shown)
        return 0
    now = datetime.now(UTC)
    due = instant(shown["next"])
    print_facts(
        {
            "schedule": shown["schedule"], "task": shown["task"], "trigger": shown["trigger"],
            "next": f"{next_words(shown, now)}{f', {local(due)}' if due else ''}", "last": last_words(shown, now),
            "unavailable": shown["unavailable"],
        }
    )  # fmt: skip
    print()
    rows = [(setting["key"], _written(setting["value"]), setting["origin"]) for setting in shown["settings"]]
    print_table(("KEY", "VALUE", "SET AT"), rows)
    return 0


def _written(value: Any) -> str:
    """As TOML would have it: JSON's spelling of text, numbers, lists and booleans is the same."""
    return json.dumps(value, ensure_ascii=False)
