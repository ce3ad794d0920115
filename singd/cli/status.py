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
    printable,
    relative,
    span,
)
from singd.cli.paths import find


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
        "leader": f"{status['leader'] or 'not known here'}{_silence(status)}",
        "database": status["database"],
        "config": f"{status['config_file']}{_generation(status)}",
        "schedules": str(status["schedules"]),
        "next": [_next(run, now) for run in status["next"]] or ["nothing"],
        "running": [
            *(_running(run, now) for run in status["running"]),
            *(f"{_running(run, now)}: {ABANDONED}" for run in status["abandoned"]),
        ]
        or ["nothing"],
    }


def _state(status: Mapping[str, Any]) -> str:
    if status["epoch"] is None:
        return str(status["state"])
    return f"{status['state']}, epoch {status['epoch']}, trusted for {status['trust_s']:.1f} s"


def _silence(status: Mapping[str, Any]) -> str:
    silent = status.get("leader_silent_s")
    return "" if silent is None or silent < 3 else f", silent for {span(timedelta(seconds=silent))}"


def _generation(status: Mapping[str, Any]) -> str:
    return "" if status["generation"] is None else f", generation {status['generation']}"


def _next(run: Mapping[str, Any], now: datetime) -> str:
    due = instant(run["due_at"])
    return f"{run['schedule']} {relative(due, now)}, {local(due)}" if due else run["schedule"]


def _running(run: Mapping[str, Any], now: datetime) -> str:
    due = instant(run["due_at"])
    return f"{run['schedule']} run {run['run_id']} attempt {run['attempt']}, due {relative(due, now) if due else '?'}"
