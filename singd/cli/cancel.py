"""`singd cancel RUN`: end a run wherever it is, and whatever would follow it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from singd.cli.logs import parse_run
from singd.cli.operate import ended_as, until_over, wish
from singd.cli.output import FAILED, OK, TRY_AGAIN, CommandError, print_json, printable
from singd.cli.paths import Paths, find

SHIPPED_S = 5.0
"""A node ships what is over within a second, if the ledger answers."""
PATIENCE_S = 10.0
"""TERM, 5 s of kill grace, KILL, and the way there and back."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.epilog = (
        "What runs is given TERM, 5 s, then KILL, its whole tree; no retry follows. What waits does not begin.\n\n"
        "exit: 0 it has ended; 1 it had ended otherwise; 75 it has not ended yet, the request stands"
    )
    parser.add_argument("run", metavar="RUN", help="its id, as `singd runs` shows it: 4711, or node:12")
    parser.add_argument("--note", default="", metavar="TEXT", help="why: it becomes part of the run's reason")


def run(args: argparse.Namespace) -> int:
    """Ask, and wait until it has ended."""
    paths = find(config=args.config, state=args.state)
    run_id, _ = parse_run(args.run)
    found = wish(paths, "cancel", run=run_id, note=args.note)
    if not found["schedule"] and found["over"]:
        over = _shipped(paths, run_id, found["node"])
        found |= {key: over[key] for key in ("schedule", "node")}
    elif not found["over"] and found["schedule"]:
        over = until_over(paths, run_id, PATIENCE_S)
    else:
        over = None
    if over is not None:
        ended = {
            "over": over["over"],
            "cancelled": over["over"] and over["standing"] in ("cancelled", "skipped"),
        }
        found |= ended | {"standing": over["standing"], "reason": over["reason"] or over["error"] or ""}
    if args.json:
        print_json("cancel", found)
    if not found["over"]:
        raise CommandError(
            f"run {run_id} has not ended yet: it waits for {found['waits_for'] or found['node']}", exit=TRY_AGAIN,
            cure="the request stands; a silent node's run counts as lost after 20 s, and no retry follows",
        )  # fmt: skip
    if not args.json:
        name = f" of {found['schedule']}" if found["schedule"] else ""
        print(printable(f"run {run_id}{name}: {ended_as(found['standing'] or 'ended', found['reason'])}"))
    return OK if found["cancelled"] else FAILED


def _shipped(paths: Paths, run_id: str, node: str) -> Mapping[str, Any]:
    """What became of another node's own run, once that node has told the ledger.

    Raises:
        CommandError: It tells nothing: there was no such run.
    """
    try:
        return until_over(paths, run_id, SHIPPED_S)
    except CommandError as error:
        if error.exit != FAILED:
            raise
        raise CommandError(
            f"node {node} has no run {run_id} that runs or waits",
            cure=f"`singd runs` on node {node} lists its own",
        ) from None
