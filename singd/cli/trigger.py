"""`singd trigger NAME [--wait]`: run a schedule once, now, from any node."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any

from singd.cli.operate import POLL_S, ended_as, new_request, say_waiting, until_over, wish
from singd.cli.output import FAILED, OK, USAGE, CommandError, print_json, printable
from singd.cli.paths import Paths, find

ABOUT = (
    "The cluster's leader runs it, or the node itself where scope = \"node\". It is judged by the schedule's overlap, like an\n"
    "instant whose time comes; grace and catch-up do not apply. A disabled or paused schedule can be triggered too: that\n"
    "is about its own instants. Asked without a leader it waits for one.\n\n"
    "exit: 0 it began, waits, or (--wait) succeeded; 1 it was skipped, or (--wait) ended otherwise"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.epilog = ABOUT
    parser.add_argument("name", metavar="NAME", help="the schedule")
    parser.add_argument(
        "args", nargs="*", metavar="key=value", help="in a later version: other arguments than configured"
    )
    parser.add_argument(
        "--wait", action="store_true", help="until the run is over; its outcome is the exit code"
    )
    parser.add_argument(
        "--note", default="", metavar="TEXT", help="why, for those who read the journal and the audit"
    )
    parser.add_argument(
        "--request",
        default="",
        metavar="ID",
        help="asked again with the same ID it is the same run, whenever and wherever",
    )
    parser.add_argument(
        "--node",
        default="",
        metavar="NODE",
        help='where, if scope = "node" (default: the node that is asked)',
    )


def run(args: argparse.Namespace) -> int:
    """Ask, say what became of it, and with --wait how it ended."""
    if args.args:
        raise CommandError(
            f"{args.args[0]}: arguments on the command line come in a later version",
            cure=f"it runs with those of the configuration: `singd show {args.name}`", exit=USAGE,
        )  # fmt: skip
    paths = find(config=args.config, state=args.state)
    found = _asked(paths, args)
    over = until_over(paths, found["run_id"]) if args.wait and found["standing"] != "skipped" else None
    if args.json:
        print_json("trigger", found | ({"run": over} if over else {}))
    else:
        _tell(found, over)
    if over is not None:
        return OK if over["standing"] == "succeeded" else FAILED
    return FAILED if found["standing"] == "skipped" else OK


def _asked(paths: Paths, args: argparse.Namespace) -> dict[str, Any]:
    """The answer; with --wait asked again, as the same wish, until there is a run."""
    question = {
        "name": args.name,
        "note": args.note,
        "node": args.node,
        "request": args.request or new_request(),
    }
    found = wish(paths, "trigger", **question)
    if not found["run_id"]:
        say_waiting(found, f"accepted: {args.name}")
    while args.wait and not found["run_id"]:
        time.sleep(POLL_S)
        found = wish(paths, "trigger", **question)
    return found


def _tell(found: Mapping[str, Any], over: Mapping[str, Any] | None) -> None:
    if found["run_id"]:
        last = over or found
        reason = last["reason"] or last.get("error") or ""
        print(printable(f"{found['schedule']} run {found['run_id']}: {ended_as(last['standing'], reason)}"))
