"""Asks the daemon, over its control socket. Imports neither trio nor plugins nor psycopg: a question takes milliseconds.

The client checks who answers: itself, root, or the owner of the daemon's state or runtime directory. Anyone could
listen in a directory that anyone can write to.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Any

from singd.cli.output import NO_PERMISSION, TRY_AGAIN, UNAVAILABLE, CommandError
from singd.cli.paths import Paths
from singd.edges import control_wire as wire

_BUSY_WAIT_S = 0.2


class _Busy(CommandError):
    """It has no place for us this moment."""


def ask(paths: Paths, verb: str, **arguments: Any) -> dict[str, Any]:
    """The daemon's answer to one question.

    Args:
        paths: Where to look for it.
        verb: A verb of the socket's table.
        arguments: JSON values; those that are None are left out.

    Raises:
        CommandError: No daemon (exit 69), not allowed (77), it is busy (75), or whatever it answers itself.
    """
    request = {"verb": verb, **{key: value for key, value in arguments.items() if value is not None}}
    give_up = time.monotonic() + 2 * wire.TIMEOUT_S  # those who hold all its places up are thrown out sooner
    while True:
        try:
            return _ask_once(paths, request)
        except _Busy:
            if time.monotonic() > give_up:
                raise
        time.sleep(_BUSY_WAIT_S)


def _ask_once(paths: Paths, request: dict[str, Any]) -> dict[str, Any]:
    frame = wire.encode(request, wire.REQUEST_MAX)
    with _connect(paths) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(frame)  # if it was refused before it was read, what was answered says why
        try:
            answer = wire.decode(_receive(connection))
        except TimeoutError:
            raise CommandError(
                "the daemon did not answer in time", cure="try again; `singd status`", exit=TRY_AGAIN
            ) from None
        except (wire.BadFrame, OSError) as error:
            raise CommandError(f"the daemon's answer was cut off: {error}", exit=UNAVAILABLE) from None
    if (refused := answer.get("error")) is not None:
        kind = _Busy if refused.get("busy") else CommandError
        raise kind(str(refused["message"]), cure=str(refused.get("cure", "")), exit=int(refused["exit"]))
    return answer


def _receive(connection: socket.socket) -> bytes:
    header = _exactly(connection, wire.LENGTH.size)
    return _exactly(connection, wire.length_of(header, wire.ANSWER_MAX))


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise wire.BadFrame("it ended early")
        parts += part
    return bytes(parts)


def _connect(paths: Paths) -> socket.socket:
    """The first socket where somebody listens; the last problem decides what is said where nobody does."""
    denied = None
    for path in paths.sockets:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(
            wire.TIMEOUT_S * 2
        )  # the daemon ends what takes it longer than its own time-out
        try:
            with wire.address(path) as address:
                connection.connect(address)
            _check_peer(connection, path, paths)
        except PermissionError:
            denied = path
        except (
            BlockingIOError
        ):  # its queue of clients is full, which a connect with a time-out does not wait for
            connection.close()
            raise _Busy("the daemon is busy", cure="try again in a moment", exit=TRY_AGAIN) from None
        except OSError:
            pass  # not there, or left behind by a daemon that was killed: the same to a client
        except BaseException:
            connection.close()
            raise
        else:
            return connection
        connection.close()
    raise _nobody(paths, denied)


def _check_peer(connection: socket.socket, path: Path, paths: Paths) -> None:
    trusted = {0, os.geteuid()} | {
        place.stat().st_uid for place in (path.parent, paths.state) if place.exists()
    }
    uid = wire.peer_uid(connection)
    if uid not in trusted:
        raise CommandError(
            f"{path} is held by a process of user {uid}, which is not the daemon's", exit=NO_PERMISSION,
            cure="see who made it: ls -l, ss -xlp",
        )  # fmt: skip


def _nobody(paths: Paths, denied: Path | None) -> CommandError:
    if denied is not None:
        cure = f"be root, or in the group of {denied.parent} (ls -ld tells; log in again after usermod -aG)"
        return CommandError(f"you may not speak to the daemon at {denied}", cure=cure, exit=NO_PERMISSION)
    looked = " and ".join(map(str, paths.sockets))
    cure = "start it with `systemctl start singd` or `singd run`; if it keeps its state elsewhere, name that: --state DIR"
    return CommandError(f"no daemon answers (looked at {looked})", cure=cure, exit=UNAVAILABLE)
