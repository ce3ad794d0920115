"""`singd why NAME --at T`: what became of any instant of a schedule, in sentences."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from singd.cli.client import ask
from singd.cli.instants import parse_instant
from singd.cli.output import (
    ABANDONED,
    instant,
    local,
    paint,
    print_json,
    printable,
    relative,
    rfc3339,
    span,
    style_of,
)
from singd.cli.paths import find

Why = Mapping[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("name", metavar="NAME", help="the schedule")
    parser.add_argument(
        "--at", required=True, metavar="T",
        help='the instant: 2026-03-01T03:00:00Z, "yesterday 03:00", "sunday 02:30", -2h; local time without an offset',
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Say what is so; 0 whatever it is, as long as there is an answer."""
    at = parse_instant(args.at, datetime.now(UTC))
    why = ask(find(config=args.config, state=args.state), "why", name=args.name, at=rfc3339(at))["why"]
    sentences = explain(why)
    if args.json:
        print_json("why", dict(why) | {"explanation": sentences})
        return 0
    first, *others = sentences
    print(paint(printable(first), style_of(_word(why)) or "bold"))
    for sentence in others:
        print(f"  {printable(sentence)}")
    return 0


def explain(why: Why) -> list[str]:
    """The answer as sentences: the first says what became of the instant, the others why and what to do."""
    return _TELL[why["state"]](why)


def _word(why: Why) -> str:
    row = why["occurrence"]
    return str(row["standing"] if row and why["state"] == "ran" else why["state"])


def _when(text: str | None) -> str:
    at = instant(text)
    return f"{local(at)} ({rfc3339(at)})" if at else "never"


def _head(why: Why, what: str) -> str:
    return f"{why['schedule']} at {_when(why['at'])}: {what}"


def _ran(why: Why) -> list[str]:
    row = why["occurrence"]
    ends = {"succeeded": "ran and succeeded", "failed": "ran and failed", "timed_out": "ran and timed out"}
    ends |= {"cancelled": "was cancelled", "lost": "ran, and how it ended is not known (its node went away)"}
    ends |= {
        "running": "is running now",
        "claimed": "is about to start",
        "retrying": "failed so far; another attempt follows",
    }
    return [
        _head(why, ends.get(row["standing"], row["standing"])),
        *_reason(row),
        *_late(why),
        *map(_attempt, why["attempts"]),
        *([f"{ABANDONED[0].upper()}{ABANDONED[1:]}."] if row["abandoned"] else []),
        *_run(row),
    ]


def _late(why: Why) -> list[str]:
    """Why it began long after it was due, as far as the ledger tells."""
    first = why["attempts"][0] if why["attempts"] else {}
    due, begin = instant(why["at"]), instant(first.get("started_at"))
    if due is None or begin is None or begin - due < timedelta(seconds=1):
        return []
    waited = f"It began {_length(begin - due)} after it was due"
    if behind := why["behind"]:
        return [
            f"{waited}: it waited behind run {behind['run_id']}, which ended at {_when(behind['until'])}."
        ]
    return [f"{waited}: it waited for a free slot or its turn, or nobody led at the time."]


def _not_run(why: Why) -> list[str]:
    row = why["occurrence"]
    words = {
        "skipped": "skipped",
        "missed": "missed",
        "superseded": "did not run: a later instant stands for it",
    }
    return [
        _head(why, words[why["state"]]),
        *_reason(row),
        *_range(row),
        *map(_attempt, why["attempts"]),
        f"Recorded as number {row['run_id']}.",
    ]


def _open(why: Why) -> list[str]:
    row = why["occurrence"]
    waiting = "came due and waits for its turn" if not why["attempts"] else "is not over"
    later = [f"Its next attempt is due at {_when(row['retry_at'])}."] if row["retry_at"] else []
    return [_head(why, waiting), *_reason(row), *map(_attempt, why["attempts"]), *later, *_run(row)]


def _reason(row: Mapping[str, Any]) -> list[str]:
    return [f"Reason: {row['reason']}."] if row["reason"] else []


def _range(row: Mapping[str, Any]) -> list[str]:
    if row.get("due_until") is None:
        return []
    return [
        f"So it was with {row['count']} instants in a row, from {_when(row['due_at'])} to {_when(row['due_until'])}."
    ]


def _run(row: Mapping[str, Any]) -> list[str]:
    return [f"This is run {row['run_id']}: `singd logs {row['run_id']}` has its output."]


def _attempt(attempt: Mapping[str, Any]) -> str:
    begin, end = instant(attempt["started_at"]), instant(attempt["finished_at"])
    head = f"Attempt {attempt['number']} on {attempt['node']} (epoch {attempt['epoch']}): {attempt['state'].replace('_', ' ')}"
    began = f", began {local(begin)}" if begin else ", never began"
    took = f", took {_length(end - begin)}" if begin and end else ""
    error = attempt["error"].strip().split("\n")[0]
    return f"{head}{began}{took}." + (f" {error}" if error else "")


def _length(length: timedelta) -> str:
    seconds = length.total_seconds()
    return f"{seconds:.1f} s" if seconds < 10 else span(length)


def _not_yet_due(why: Why) -> list[str]:
    at, now = instant(why["at"]), instant(why["now"])
    distance = f" {relative(at, now)}" if at and now else ""
    disabled = [] if why["enabled"] else ["It will be skipped then: the schedule has enabled = false."]
    paused = (
        [f"It will be skipped then: the schedule is paused by {why['paused']['actor']}."]
        if why["paused"]
        else []
    )
    return [
        _head(why, f"not yet due; it comes{distance}"),
        f"The schedule is {why['trigger']}.",
        *disabled,
        *paused,
    ]


def _not_an_instant(why: Why) -> list[str]:
    latest = ", ".join(map(str, why["recorded"]))
    if not why["configured"]:
        gone = "The schedule is not in the configuration any more"
        return [_head(why, "nothing is recorded"), f"{gone}; the latest instants it had: {latest or 'none'}."]
    near = [_one_before(why)] if why["before"] else []
    near += [f"The one after is {_when(why['after'])}."] if why["after"] else []
    if why["trigger"] == "startup":
        near = [f"It comes due when the cluster starts, the latest times at {latest or 'no time yet'}."]
    return [
        _head(why, f"nothing was due: {why['trigger']} has no such instant"),
        *near,
        *_earlier(why["occurrence"]),
    ]


def _one_before(why: Why) -> str:
    """What was probably meant, and its verdict in one line."""
    when, instead = _when(why["before"]), why["instead"]
    verdict, *others = explain(instead)
    reason = f" ({others[0].removesuffix('.')})" if others and others[0].startswith("Reason: ") else ""
    return f"The one before is {when}: {verdict.removeprefix(_head(instead, ''))}{reason}."


def _earlier(row: Mapping[str, Any] | None) -> list[str]:
    """A range of an earlier configuration spans the instant, and nobody can say now whether it was one of it."""
    if row is None:
        return []
    span_ = f"from {_when(row['due_at'])} to {_when(row.get('due_until'))}"
    return [
        f"{row['count']} instants {span_}, of the configuration of then, were {row['verdict']}: {row['reason']}."
    ]


def _before_known(why: Why) -> list[str]:
    return [
        _head(why, "nothing is recorded: the schedule was not known to this cluster then"),
        "The ledger begins with the moment that a leader first accepted the schedule; instants before it are not owed.",
    ]


def _beyond_retention(why: Why) -> list[str]:
    return [_head(why, "not known any more"), "The ledger's rows of that time were deleted by its retention."]


def _pending(why: Why) -> list[str]:
    led = (
        f"{why['leader']} leads, and its"
        if why["leader"]
        else "Nobody leads at the moment; the next leader's"
    )
    return [
        _head(why, "it came due, and nobody has dealt with it yet"),
        f"{led} plan covers it: within the grace it runs, later catch_up decides. `singd status` says more.",
    ]


def _unrecorded(why: Why) -> list[str]:
    return [
        _head(why, "nothing is recorded, though the configuration in force has this instant"),
        "Either the schedule was another one then (see `singd runs`), or the ledger has a hole, which it never should: please report it.",
    ]


_TELL: dict[str, Callable[[Why], list[str]]] = {
    "ran": _ran, "skipped": _not_run, "missed": _not_run, "superseded": _not_run, "open": _open,
    "not_yet_due": _not_yet_due, "not_an_instant": _not_an_instant, "before_known": _before_known,
    "beyond_retention": _beyond_retention, "pending": _pending, "unrecorded": _unrecorded,
}  # fmt: skip
