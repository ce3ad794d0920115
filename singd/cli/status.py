"""`singd status`: first what is wrong, then the calm facts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from singd.cli.client import ask
from singd.cli.output import (
    ABANDONED,
    instant,
    local,
    paint,
    print_facts,
    print_json,
    print_table,
    printable,
    relative,
    span,
)
from singd.cli.paths import find

RUNNING_SHOWN = 10
"""Lines about what runs, at most."""
NODES = ("NODE", "IS", "ROLE", "VERSION", "REGISTERED", "CONFIGURATION", "FROM")
"""Columns of the table of nodes; those without a word in them are left out."""
SHORT = 8
"""Characters of a configuration's hash: enough to see that two differ."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own."""


def run(args: argparse.Namespace) -> int:
    """Print the daemon's and its cluster's state; 0 whenever a daemon answered."""
    status = ask(find(config=args.config, state=args.state), "status")["status"]
    if args.json:
        print_json("status", status)
        return 0
    print_problems(status["problems"])
    print_facts(_facts(status))
    _print_nodes(status)
    return 0


def print_problems(problems: Sequence[Mapping[str, Any]]) -> None:
    """What is wrong, each with what to do about it."""
    for problem in problems:
        print(paint(f"! {printable(problem['text'])}", "red"))
        if problem["cure"]:
            print(f"  {printable(problem['cure'])}")
    if problems:
        print()


def _facts(status: Mapping[str, Any]) -> dict[str, str | Sequence[str]]:
    now = instant(status["at"])
    assert now is not None, "the daemon always says when it answered"
    role = f" ({status['role']})" if status["role"] else ""
    since = f"up {span(timedelta(seconds=status['uptime_s']))}, singd {status['version']}"
    return {
        "node": f"{status['node']}{role}, {since}",
        "state": _state(status),
        "leader": _leader(status),
        "database": status["database"],
        "config": f"{status['config_file']}{_generation(status)}",
        "schedules": str(status["schedules"]),
        "next": [_next(run, now) for run in status["next"]] or ["nothing"],
        "paused": [_paused(one, now) for one in status["paused"]],
        "running": _in_progress(status, now),
        "changes": [_change(gap) for gap in status["gaps"] or ()] if _several(status) else [],
    }


def _state(status: Mapping[str, Any]) -> str:
    if status["epoch"] is None:
        return str(status["state"])
    return f"{status['state']}, epoch {status['epoch']}, trusted for {status['trust_s']:.1f} s"


def _leader(status: Mapping[str, Any]) -> str:
    if status["nodes"] is None:
        return status["leader"] or "not known here: the ledger cannot be read"
    heard = f"heard {status['leader_silent_s'] or 0:.1f} s ago"
    if not status["leader"]:
        return f"nobody; {status['led_last']} led last, {heard}" if status["led_last"] else "nobody yet"
    here = status["epoch"] is not None
    return f"{status['leader']}{', this node' if here and _several(status) else ''}{'' if here else _term(status)}{'' if here else f', {heard}'}"


def _term(status: Mapping[str, Any]) -> str:
    since = instant(status["leader_since"])
    return f", epoch {status['leader_epoch']}" + (f" since {local(since)}" if since else "")


def _generation(status: Mapping[str, Any]) -> str:
    return "" if status["generation"] is None else f", generation {status['generation']}"


def _next(run: Mapping[str, Any], now: datetime) -> str:
    due = instant(run["due_at"])
    return f"{run['schedule']} {relative(due, now)}, {local(due)}" if due else run["schedule"]


def _paused(pause: Mapping[str, Any], now: datetime) -> str:
    since, until = instant(pause["since"]), instant(pause["until"])
    told = f"{pause['schedule']} by {pause['actor']} {relative(since, now) if since else ''}".rstrip()
    told += f", until {local(until)}" if until else ", until `singd resume`"
    return told + (f": {pause['note']}" if pause["note"] else "")


def _in_progress(status: Mapping[str, Any], now: datetime) -> list[str]:
    """What runs here, then elsewhere, then what a dead daemon left; a few lines, however much there is."""
    lines = [_running(run, now) for run in status["running"]]
    lines += [f"{_running(run, now)}, on {run['node']}" for run in status["elsewhere"]]
    lines += [f"{_running(run, now)}: {ABANDONED}" for run in status["abandoned"]]
    if len(lines) > RUNNING_SHOWN:
        lines[RUNNING_SHOWN:] = [f"… and {len(lines) - RUNNING_SHOWN} more: `singd runs`"]
    return lines or ["nothing"]


def _running(run: Mapping[str, Any], now: datetime) -> str:
    due = instant(run["due_at"])
    which = f"run {run['run_id']} attempt {run['attempt']}"
    if run.get("node_scope"):
        which = f"attempt {run['attempt']} of this node's own"
    return f"{run['schedule']} {which}, due {relative(due, now) if due else '?'}"


def _several(status: Mapping[str, Any]) -> bool:
    return len(status["nodes"] or ()) > 1


def _change(gap: Mapping[str, Any]) -> str:
    """Who came after whom; the honest bound, because a leader dies up to a second after its last heartbeat."""
    at = instant(gap["elected_at"])
    after = f" after {gap['before']}" if gap["before"] and gap["before"] != gap["node"] else ""
    after = after or (" again" if gap["before"] else "")
    cost = "" if gap["gap_s"] is None else f": nobody led for at most {_seconds(gap['gap_s'])}"
    return f"{local(at) if at else '?'}  epoch {gap['epoch']}, {gap['node']}{after}{cost}"


def _seconds(length: float) -> str:
    return f"{length:.1f} s" if length < 60 else span(timedelta(seconds=length))


def _print_nodes(status: Mapping[str, Any]) -> None:
    """One node needs no table."""
    if not _several(status):
        return
    now = instant(status["at"])
    assert now is not None
    print()
    columns = [
        column
        for column in zip(NODES, *(_node(node, status, now) for node in status["nodes"]), strict=True)
        if any(column[1:])
    ]
    headers, *rows = zip(*columns, strict=True)
    print_table(headers, rows, styled=1)
    if status["nodes_left_out"]:
        print(f"and {status['nodes_left_out']} more, gone for over a week")


def _node(node: Mapping[str, Any], status: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    since = instant(node["registered_at"])
    here = " (here)" if node["name"] == status["node"] and status["state"] != "name taken" else ""
    return (
        node["name"] + here, status["state"] if here and not node["live"] else _standing(node), node["role"], node["version"], relative(since, now) if since else "?",
        node["configuration"][:SHORT] + (", differs" if node["differs"] and node["live"] else ""), node["address"],
    )  # fmt: skip


def _standing(node: Mapping[str, Any]) -> str:
    if not node["live"]:
        return "gone"
    return "leads" if node["leads"] else "stands by"
