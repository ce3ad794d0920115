"""`singd logs RUN|NAME [-f]`: the output of an attempt; with -f until the attempt is over.

To a terminal control characters come escaped, so that no output can play tricks there; elsewhere bytes are bytes.
"""

from __future__ import annotations

import argparse
import base64
import sys
import time
from collections.abc import Mapping
from typing import Any

from singd.cli.client import ask
from singd.cli.output import ABANDONED, USAGE, CommandError, print_json, printable, say
from singd.cli.paths import Paths, find

POLL_S = 0.5


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument(
        "run", metavar="RUN|NAME", help="a run (4711), one attempt of it (4711.2), or a schedule's newest"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the attempt is over")


def run(args: argparse.Namespace) -> int:
    """Print the output, and how the attempt ended to stderr."""
    if args.json and args.follow:
        raise CommandError("--json and --follow do not go together", exit=USAGE)
    paths = find(config=args.config, state=args.state)
    name, attempt = parse_run(args.run)
    found = ask(paths, "logs", run=name, attempt=attempt)["logs"]
    if args.json:
        print_json("logs", _as_json(found))
        return 0
    say(
        f"{found['schedule']} run {found['run_id']} attempt {found['attempt']} on {found['node']}: {found['state']}"
    )
    _write(found)
    if args.follow and found["elsewhere"]:
        say(f"it runs on {found['node']}: its output comes here when it is over")
    if args.follow:
        found = _follow(paths, found)
    _epilogue(found, args.follow)
    return 0


def parse_run(text: str) -> tuple[str, int | None]:
    """A run's id and perhaps an attempt's number: `4711`, `4711.2` or `node:12.2`; anything else is a schedule's name."""
    run, dot, attempt = text.rpartition(".")
    if dot and run.rpartition(":")[2].isdigit() and attempt.isdigit():
        return run, int(attempt)
    return text, None


def _follow(paths: Paths, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Ask for what is new until the attempt is over; its end is asked for once more, for the last words."""
    while not found["over"]:
        time.sleep(POLL_S)
        question = {"run": found["run_id"], "attempt": found["attempt"], "offset": found["offset"]}
        found = ask(paths, "logs", **question)["logs"]
        if found["gap"]:
            say(f"[… {found['gap']} bytes are not kept …]")
        _write(found)
    return found


def _write(found: Mapping[str, Any]) -> None:
    data = base64.b64decode(found["data"])
    if sys.stdout.isatty():
        sys.stdout.write(printable(data.decode("utf-8", "backslashreplace"), keep="\n\t"))
    else:
        sys.stdout.buffer.write(data)
    sys.stdout.flush()


def _epilogue(found: Mapping[str, Any], followed: bool) -> None:
    if found["abandoned"]:
        say(ABANDONED)
    elif not found["kept"]:
        say(_missing(found))
    if found["error"]:
        say(found["error"])
    elif followed:
        say(f"{found['state']}")


def _missing(found: Mapping[str, Any]) -> str:
    if found["elsewhere"]:
        return f"it runs on {found['node']}: `singd logs {found['run_id']} -f` there shows its output, here it is only when it is over"
    return (
        "its output is not kept any more, or there was none"
        if found["over"]
        else "it has written nothing so far"
    )


def _as_json(found: Mapping[str, Any]) -> dict[str, Any]:
    text = base64.b64decode(found["data"]).decode("utf-8", "backslashreplace")
    return {key: value for key, value in found.items() if key not in ("data", "gap", "offset")} | {
        "text": text
    }
