"""`singd pause NAME [--until T]`: from now on the schedule's instants are skipped, on every node."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from singd.cli.instants import parse_instant
from singd.cli.operate import say_waiting, wish
from singd.cli.output import OK, instant, local, print_json, printable, rfc3339
from singd.cli.paths import find


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.epilog = (
        "Each instant that falls into the pause is recorded as skipped, with who paused it and why; none is caught up later.\n"
        "What runs or waits already goes on; `singd trigger` works meanwhile. A pause outlives restarts and changes of leader."
    )
    parser.add_argument("name", metavar="NAME", help="the schedule")
    parser.add_argument(
        "--until", metavar="T", help='when it ends by itself: an instant, "tomorrow 08:00", +2h'
    )
    parser.add_argument(
        "--note", default="", metavar="TEXT", help="why: it becomes part of the reason of what is skipped"
    )


def run(args: argparse.Namespace) -> int:
    """Ask, and say from when until when."""
    until = (
        rfc3339(parse_instant(args.until, datetime.now(UTC)).replace(microsecond=0)) if args.until else None
    )
    paths = find(config=args.config, state=args.state)
    question = {"name": args.name, "until": until, "note": args.note}
    found = wish(paths, "pause", **question)
    if args.json:
        print_json("pause", found)
        return OK
    ends = instant(found["until"])
    end = f"until {local(ends)}" if ends else f"until `singd resume {args.name}`"
    print(printable(f"{args.name} is paused {end}"))
    say_waiting(found, "it is written down")
    return OK
