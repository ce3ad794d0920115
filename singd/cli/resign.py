"""`singd resign [NODE]`: have the leader hand leadership over."""

from __future__ import annotations

import argparse

from singd.cli.operate import wish
from singd.cli.output import OK, print_json, printable
from singd.cli.paths import find


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.epilog = (
        "What runs goes on where it is. The node does not campaign for 2 s, so another one leads; where there is no other,\n"
        "it leads again after that."
    )
    parser.add_argument(
        "node", nargs="?", default="", metavar="NODE", help="only if it leads (default: whoever leads)"
    )
    parser.add_argument(
        "--note", default="", metavar="TEXT", help="why, for those who read the journal and the audit"
    )


def run(args: argparse.Namespace) -> int:
    """Ask, and say who leads now."""
    paths = find(config=args.config, state=args.state)
    found = wish(paths, "resign", node=args.node, note=args.note)
    if args.json:
        print_json("resign", found)
        return OK
    after = (
        f"{found['leader']} leads (epoch {found['leader_epoch']})"
        if found["leader"]
        else "nobody leads yet: `singd status`"
    )
    print(printable(f"{found['node']} resigned (epoch {found['epoch']}); {after}"))
    return OK
