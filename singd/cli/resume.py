"""`singd resume NAME`: end a schedule's pause."""

from __future__ import annotations

import argparse

from singd.cli.operate import say_waiting, wish
from singd.cli.output import OK, instant, local, print_json, printable
from singd.cli.paths import find


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.epilog = (
        "Instants of the pause stay skipped; the next one runs. A schedule that is not paused stays as it is."
    )
    parser.add_argument("name", metavar="NAME", help="the schedule")
    parser.add_argument(
        "--note", default="", metavar="TEXT", help="why, for those who read the journal and the audit"
    )


def run(args: argparse.Namespace) -> int:
    """Ask, and say what was."""
    paths = find(config=args.config, state=args.state)
    found = wish(paths, "resume", name=args.name, note=args.note)
    if args.json:
        print_json("resume", found)
        return OK
    since = instant(found["since"])
    was = (
        f"{args.name} goes on: it was paused since {local(since)} by {found['by']}"
        if since
        else f"{args.name} was not paused"
    )
    print(printable(was))
    say_waiting(found, "it is written down")
    return OK
