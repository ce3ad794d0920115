"""What a worker says, checked, and what its death means. A worker's word is not trusted: its plugin may have written it."""

from __future__ import annotations

import json
import signal
from typing import Any

from singd.core.values import State
from singd.edges.worker import wire
from singd.edges.worker.outcome import Unacceptable, check_result
from singd.ports import Exit

LATEST_INSTANT = 1e11
"""No attempt ends after the year 5138."""


class ProtocolError(Exception):
    """A worker said what it may not."""


def parse(line: bytes | bytearray) -> dict[str, Any]:
    """One frame.

    Raises:
        ProtocolError: It is not one.
    """
    try:
        frame = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{type(error).__name__}: {error}") from None
    if not isinstance(frame, dict):
        raise ProtocolError("a frame that is no object")
    if len(line) > wire.RESULT_MOST + 4 * wire.ERROR_MOST:
        raise ProtocolError("a frame that is too large")
    return frame


def progress_of(frame: dict[str, Any]) -> tuple[int, int, str]:
    """The progress in a frame.

    Raises:
        ProtocolError: It is malformed.
    """
    try:
        done, total, note = frame["progress"]
        return int(done), int(total), wire.clip(str(note), 1000)
    except (ValueError, TypeError, OverflowError) as error:
        raise ProtocolError(f"a progress of {type(error).__name__}") from None


def fields_in(frame: dict[str, Any]) -> dict[str, Any]:
    """The report's fields in a frame.

    Raises:
        ProtocolError: Something is not as a worker of ours would send it.
    """
    try:
        return _fields(frame)
    except (ValueError, KeyError, TypeError, Unacceptable) as error:
        raise ProtocolError(f"{type(error).__name__}: {error}") from None


def _fields(frame: dict[str, Any]) -> dict[str, Any]:
    state = State(frame["state"])
    if state not in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
        raise ValueError(f"a worker cannot say {state}")
    skipped, retry = frame.get("skipped"), frame.get("retry_after_s")
    if skipped is not None and not isinstance(skipped, str):
        raise TypeError("a reason that is no text")
    return {
        "state": state, "error": str(frame.get("error", "")), "result": check_result(frame.get("result")),
        "skipped": skipped if skipped is None else wire.clip(skipped, 1024),
        "retry_after_s": None if retry is None else _number(retry, 1e9), "give_up": frame.get("give_up") is True,
        "started_at": _number(frame["from"], LATEST_INSTANT), "finished_at": _number(frame["to"], LATEST_INSTANT),
    }  # fmt: skip


def _number(value: Any, most: float) -> float:
    number = float(value)
    if not 0 <= number <= most:  # a NaN is not, either
        raise ValueError(f"{number} is out of range")
    return number


def cause(end: Exit) -> str:
    """How a process that owed a result ended, for people."""
    if end.status >= 0:
        return f"the process exited with status {end.status} without a result"
    return killed_by(-end.status)


def killed_by(number: int) -> str:
    """The name of the signal, and what it usually means."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    meaning = signal.strsignal(number)
    hint = " (out of memory?)" if number == signal.SIGKILL else f" ({meaning})" if meaning else ""
    return f"killed by {name}{hint}"
