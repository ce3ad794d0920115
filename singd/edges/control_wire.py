"""The control socket's frames and places, for both of its ends. Imports no trio: the client has to be quick.

A frame is four bytes of length, big-endian, and that many bytes of JSON, an object. A request is
`{"verb": …, …arguments}`; the answer is the handler's object, or `{"error": {"message", "cure", "exit"}}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from singd import errors

REQUEST_MAX = 64 * 1024
ANSWER_MAX = 16 * 1024 * 1024
TIMEOUT_S = 5.0
CLIENTS_MAX = 32
LENGTH = struct.Struct(">I")
_PEER = struct.Struct("3i")
_SO_PEERGROUPS = 59  # asm-generic/socket.h, Linux 4.13; Python has no name for it
_GROUPS_BYTES = 1024  # the most that Python's getsockopt takes: 256 groups
_EXITS = ((errors.ConfigError, 65), (errors.NameTaken, 75), (errors.EdgeError, 69))


class BadFrame(ValueError):
    """The other side sent something that is not a frame of ours."""


def encode(message: Mapping[str, Any], limit: int) -> bytes:
    """A message as a frame.

    Raises:
        BadFrame: It would be longer than `limit`.
    """
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    if len(body) > limit:
        raise BadFrame(f"a message of {len(body)} bytes; at most {limit} are allowed")
    return LENGTH.pack(len(body)) + body


def length_of(header: bytes, limit: int) -> int:
    """How long the body is.

    Raises:
        BadFrame: Longer than `limit`, or empty.
    """
    (length,) = LENGTH.unpack(header)
    if not 0 < length <= limit:
        raise BadFrame(f"a frame of {length} bytes; 1 to {limit} are allowed")
    return int(length)


def decode(body: bytes) -> dict[str, Any]:
    """The object that a frame's body holds.

    Raises:
        BadFrame: It is not JSON, not an object, nested too deep, or holds NaN or infinity.
    """
    try:
        message = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"not JSON: {type(error).__name__}") from None
    if not isinstance(message, dict):
        raise BadFrame("not a JSON object")
    return message


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def error_answer(error: Exception) -> dict[str, Any]:
    """What a client is told of an error."""
    told = {"message": str(error), "cure": getattr(error, "cure", ""), "exit": exit_code(error)}
    return {"error": told | ({"busy": True} if getattr(error, "busy", False) else {})}


def exit_code(error: Exception) -> int:
    """The exit code that fits an error: its own word, or by who is to blame (`singd.errors`)."""
    own = getattr(error, "exit", None)
    return (
        own if isinstance(own, int) else next((code for kind, code in _EXITS if isinstance(error, kind)), 1)
    )


@contextlib.contextmanager
def address(path: Path) -> Iterator[str]:
    """A name of the socket that fits into the 107 bytes a unix socket's address has, for bind and connect.

    Its directory is opened and reached through /proc/self/fd, so the socket stays in its place however deep
    that is, and both ends find it by the one path.

    Raises:
        OSError: The directory is not there, or may not be entered.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def peer_uid(connection: Any) -> int:
    """The uid of the process at the other end of a unix socket, as the kernel says."""
    return int(_PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[1])


def peer_groups(connection: Any) -> set[int]:
    """Every group of the other end's process; only its first one where it has too many to be told."""
    first = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[2]
    try:
        more = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:
        return {first}
    return {first, *struct.unpack(f"{len(more) // 4}I", more)}
