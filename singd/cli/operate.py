"""What the verbs that change something share: a request's id, and what is said while nobody has answered."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from singd.cli.client import ask
from singd.cli.output import FAILED, TRY_AGAIN, UNAVAILABLE, CommandError, say
from singd.cli.paths import Paths

POLL_S = 0.3
TRIES = 3
AWAY_S = 60.0
"""So long may the daemon or its ledger be away while a run is waited for: a restart of either is no outcome."""


def new_request() -> str:
    """The id of a wish: asked again with it, it is the same one."""
    return str(uuid.uuid4())


def wish(paths: Paths, verb: str, **question: Any) -> dict[str, Any]:
    """The answer to a wish; asked again, as the same one, where nobody knows whether it was heard."""
    question = {"request": new_request(), **{key: value for key, value in question.items() if value}}
    for last in (False,) * (TRIES - 1) + (True,):
        try:
            found: dict[str, Any] = ask(paths, verb, **question)[verb]
        except CommandError as error:
            if last and verb == "trigger" and error.exit == TRY_AGAIN:
                error.cure = f"the same again with --request {question['request']}: it is asked once then"
            if last or error.exit != TRY_AGAIN:
                raise
            time.sleep(POLL_S)
        else:
            return found
    raise AssertionError("the last try returns or raises")


def say_waiting(found: Mapping[str, Any], what: str) -> None:
    """Nobody has taken it yet."""
    if found["waits_for"]:
        say(f"{what}; it waits for {found['waits_for']} (request {found['request']})")


def until_over(paths: Paths, run_id: str, patience_s: float | None = None) -> Mapping[str, Any]:
    """A run, once nothing follows any more, or as it is when patience ends; None = for as long as it takes.

    That somebody has named the run is known: another node's own may not have been shipped yet.
    """
    until = None if patience_s is None else time.monotonic() + patience_s
    heard = time.monotonic()
    while True:
        ended = until is not None and time.monotonic() > until
        try:
            found: Mapping[str, Any] = ask(paths, "run", run=run_id)["run"]
            heard = time.monotonic()
            if found["over"] or ended:
                return found
        except CommandError as error:
            heard = time.monotonic() if error.exit == FAILED else heard
            if ended or not _passes(error, heard):
                raise
        time.sleep(POLL_S)


def _passes(error: CommandError, heard: float) -> bool:
    """Whether it says nothing of the run: not shipped yet, or somebody is away, and not for long."""
    return error.exit in (FAILED, TRY_AGAIN, UNAVAILABLE) and time.monotonic() < heard + AWAY_S


def ended_as(standing: str, reason: str) -> str:
    """What became of a run, and why, without saying it twice."""
    first = reason.strip().split("\n")[0]
    if first.startswith("cancelled by") and standing not in ("cancelled", "skipped"):
        return f"{standing}, and nothing follows: {first}"
    return first if first.startswith(standing) else f"{standing}: {first}" if first else standing
