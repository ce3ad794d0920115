"""What became of a body: its value or its exception as the fields of a report. Shared by worker and inline executor.

Nothing that a task raises gets past here: SystemExit, KeyboardInterrupt, groups of them and exceptions whose own
`__str__` raises are all just failures with a cause.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from singd.edges.worker.wire import ERROR_MOST, RESULT_MOST, clip
from singd.plugin import GiveUp, RetryAfter, Skip

_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


class Ended(KeyboardInterrupt):
    """Raised inside a `def` task that is asked to end. A KeyboardInterrupt, because libraries tidy up on that."""


class Unacceptable(Exception):
    """The task returned what it may not."""


def check_result(value: Any) -> dict[str, Any] | None:
    """What a task returned, if the ledger can keep it.

    Raises:
        Unacceptable: It is no mapping, is not JSON, or is larger than 64 kB.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise Unacceptable(f"returned {type(value).__name__}, expected a mapping of counts")
    plain = dict(value)
    if plain:
        try:
            text = _encode(plain)
            size = len(text.encode())  # refuses half a surrogate pair, as Postgres would
        except (TypeError, ValueError, RecursionError) as error:
            raise Unacceptable(f"returned a mapping that is not JSON: {error}") from None
        if size > RESULT_MOST:
            raise Unacceptable(f"returned {size} bytes of result, more than {RESULT_MOST}")
        if "\\u0000" in text.replace("\\\\", ""):
            raise Unacceptable("returned a text with a NUL in it, which Postgres cannot keep")
    return plain


def fields_of(error: BaseException) -> dict[str, Any]:
    """The report's fields for an exception: state, error, and skipped, retry_after_s or give_up where they apply."""
    error = _alone(error)
    if isinstance(error, Skip):
        return {"state": "succeeded", "skipped": clip(_text(error), 1024)}
    fields: dict[str, Any] = {"state": "failed", "error": describe(error)}
    if isinstance(error, RetryAfter):
        fields["retry_after_s"] = max(0.0, min(error.seconds, 1e9))
    elif isinstance(error, GiveUp):
        fields["give_up"] = True
    elif isinstance(error, Ended):
        fields = {"state": "cancelled", "error": ""}
    return fields


def describe(error: BaseException) -> str:
    """One line for people, at most 8 kB: what was raised and where."""
    if isinstance(error, Unacceptable | GiveUp | RetryAfter):
        return clip(_text(error))
    text = f"{type(error).__name__}: {_text(error)}".removesuffix(": ")
    if isinstance(error, BaseExceptionGroup):
        text += " (" + "; ".join(describe(e)[:500] for e in error.exceptions[:5]) + ")"
    place = _place(error)
    return clip(text, ERROR_MOST - 200) + (f" [{clip(place, 180)}]" if place else "")


def print_traceback(error: BaseException) -> None:
    """To standard error, which is the attempt's log."""
    if isinstance(_alone(error), Skip | RetryAfter | GiveUp | Ended | Unacceptable):
        return
    try:
        text = "".join(traceback.format_exception(error, limit=-50))
        print(clip(text, 64 * 1024), file=sys.stderr)
    except Exception as problem:
        print(f"{type(error).__name__} (no traceback: {type(problem).__name__})", file=sys.stderr)


def _alone(error: BaseException) -> BaseException:
    """The one exception inside nested groups of one, since every trio nursery wraps what it raises."""
    for _ in range(100):
        if not isinstance(error, BaseExceptionGroup) or len(error.exceptions) != 1:
            break
        error = error.exceptions[0]
    return error


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as problem:
        return f"<its __str__ raised {type(problem).__name__}>"


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    return (
        f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    )
