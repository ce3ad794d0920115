"""`singd runs`: what became of every instant, newest first."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from singd.bounds import RUNS_DEFAULT, RUNS_MAX
from singd.cli.arguments import count
from singd.cli.client import ask
from singd.cli.instants import parse_instant
from singd.cli.output import ABANDONED, instant, local, print_json, print_table, rfc3339, say, span
from singd.cli.paths import find


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="of this schedule only")
    parser.add_argument(
        "-n", "--limit", type=count, metavar="N", help="so many at most (20; with --since 10000)"
    )
    parser.add_argument("--since", metavar="T", help='due at T or later: an instant, "yesterday 03:00", -2h')


def run(args: argparse.Namespace) -> int:
    """Print a line an occurrence."""
    since = rfc3339(parse_instant(args.since, datetime.now(UTC))) if args.since else None
    paths = find(config=args.config, state=args.state)
    limit = args.limit or (RUNS_MAX if since else RUNS_DEFAULT)
    answer = ask(paths, "runs", name=args.name, limit=limit, since=since)
    found = answer["runs"]
    if args.json:
        print_json("runs", found)
    elif found:
        print_table(
            ("DUE", "WHAT", "SCHEDULE", "RUN", "NODE", "TOOK", "WHY"),
            [_row(item) for item in found],
            styled=1,
        )
    else:
        say("nothing came due" + (" since then" if since else " yet"))
    if answer["more"]:
        say(_more(len(found), limit))
    return 0


def _more(shown: int, limit: int) -> str:
    """A list that was cut says so: who counts its lines would count wrong."""
    if shown < limit or limit == RUNS_MAX:
        return f"more: only the newest {shown} are here; a NAME, or a later --since, shows the others"
    return f"more: -n {min(limit * 10, RUNS_MAX)}"


def _row(item: Mapping[str, Any]) -> tuple[str, ...]:
    due, until = instant(item["due_at"]), instant(item.get("due_until"))
    when = local(due) if due else "?"
    if due and until:
        when = f"{when} … {until.astimezone():%H:%M:%S} ({item['count']})"
    return (
        when,
        item["standing"],
        item["schedule"],
        _run(item),
        item["node"] or "",
        _took(item),
        reason_of(item),
    )


def _run(item: Mapping[str, Any]) -> str:
    return f"{item['run_id']}.{item['attempt']}" if item["attempt"] else str(item["run_id"])


def _took(item: Mapping[str, Any]) -> str:
    begin, end = instant(item["started_at"]), instant(item["finished_at"])
    if begin is None or end is None:
        return ""
    length = end - begin
    return f"{length.total_seconds():.1f} s" if length.total_seconds() < 10 else span(length)


def reason_of(item: Mapping[str, Any]) -> str:
    """One line: why it did not run, or what its last attempt died of, or what it counted."""
    if item["reason"]:
        return str(item["reason"])
    if item.get("abandoned"):
        return ABANDONED
    if item["error"]:
        return str(item["error"]).strip().split("\n")[0]
    counts = (item["result"] or {}).items()
    return " ".join(f"{key}={value}" for key, value in counts if not isinstance(value, dict | list))
