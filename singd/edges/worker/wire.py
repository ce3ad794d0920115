"""What daemon and worker say to each other. Both sides import this; it stays small and without trio.

    stream   SOCK_STREAM, one JSON value a line: hello and works down; ready, progress and results up
    tickets  a pipe of 8-byte indexes, read by the worker *and* by the daemon: whoever reads a ticket has it
    output   one pipe behind the worker's descriptors 1 and 2, with a mark in it where each attempt begins

The ticket pipe is the whole hand-over protocol. Works wait on the stream without meaning; taking a ticket is the
one atomic step that makes an attempt the worker's. To recall what has not begun the daemon simply reads the
remaining tickets back, which needs no answer from a worker that may be blocked, stopped or dead.
A worker sends the result of one attempt before it takes the next ticket.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from singd.core.values import CommandCall, SqlCall, TaskCall, Work

STREAM_FD, TICKETS_FD = 3, 4
TICKET = 8
FRAME_MOST = 256 * 1024
"""Bytes of one line, either way."""
RESULT_MOST = 64 * 1024
ERROR_MOST = 8 * 1024
LATEST_BEGIN_S = 5.0
"""A body does not begin later than this after `Work.go_at` (CLOCK_BOOTTIME)."""
SQL_ENTRY_POINT = "singd.edges.worker.sql:call"
BUILT_IN = "singd"
"""The plugin whose workers run SQL calls."""
MARK_LENGTH = 1 + 16 + 8 + 1


def mark(nonce: bytes, index: int) -> bytes:
    """The bytes that stand in the output where attempt `index` begins; `nonce` is 16 hexadecimal digits."""
    return b"\0%b%08x\n" % (nonce, index)


def _plain(value: Any) -> str:
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise TypeError(f"{type(value).__name__} is not a TOML value")


_encoder = json.JSONEncoder(separators=(",", ":"), default=_plain)


def encode_work(index: int, work: Work) -> bytes:
    """One line for the worker: an array, since there are thousands a second.

    Raises:
        ValueError: Its arguments are too large.
    """
    call, attempt = work.call, work.attempt
    if isinstance(call, TaskCall):
        entry_point, args = work.entry_point, call.args
    else:
        assert isinstance(call, SqlCall)
        entry_point, args = SQL_ENTRY_POINT, {"sql": call.sql, "database": call.database}
    occurrence = attempt.occurrence
    line = _encoder.encode([
        index, work_kind(work), entry_point, dict(args), work.schedule, occurrence.due_at.isoformat(), attempt.number,
        attempt.epoch, work.idempotency_key, work.timeout_s, work.node, work.role, str(work.state_dir),
        dict(work.databases), work.go_at,
    ]).encode()  # fmt: skip
    if len(line) >= FRAME_MOST:
        raise ValueError(f"its arguments take {len(line)} bytes, more than {FRAME_MOST}")
    return line + b"\n"


def work_kind(work: Work) -> str:
    """The task's name, or "command" or "sql"."""
    if isinstance(work.call, TaskCall):
        return work.call.task
    return "command" if isinstance(work.call, CommandCall) else "sql"


class Ordered:
    """A work as the worker sees it: the fields of `encode_work`, by name. It never sees the attempt's token."""

    __slots__ = (
        "args", "attempt", "databases", "due_at", "entry_point", "epoch", "go_at", "idempotency_key", "index", "node", "role",
        "schedule", "state_dir", "task", "timeout_s",
    )  # fmt: skip

    def __init__(self, fields: list[Any]) -> None:
        (
            self.index, self.task, self.entry_point, self.args, self.schedule, self.due_at, self.attempt, self.epoch,
            self.idempotency_key, self.timeout_s, self.node, self.role, self.state_dir, self.databases, self.go_at,
        ) = fields  # fmt: skip


def clip(text: str, most: int = ERROR_MOST) -> str:
    """`text` in at most `most` bytes of UTF-8, the middle left out; what cannot be encoded is escaped."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > most:
        half = most // 2 - 10
        data = data[:half] + b" [...] " + data[-half:]
    return data.decode("utf-8", "ignore").replace("\0", "")


Frame = Mapping[str, Any]
