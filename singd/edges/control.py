"""The daemon's side of the control socket. Whoever may connect may ask; nobody may hold the daemon up.

    accept -> room? -> who is it (SO_PEERCRED)? -> [frame -> handler -> frame]* -> close
              busy       refused                    5 s for each step

The directory is 0750 (or tighter), the socket 0660: the file system decides first. Then the kernel's word on the
peer: our own user, root, or a member of the socket's group. A request is at most 64 kB and names a verb of
a fixed table. Descriptors that somebody sends along are dropped by the kernel, as nobody receives them.
A lock file beside the socket is held for life, so what a killed daemon left behind may be removed and a live one's never.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import trio

from singd.edges import control_wire as wire
from singd.errors import EdgeError, SingdError

Handler = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
_LOG = logging.getLogger("singd.control")
_DIRECTORY_MODE, _SOCKET_MODE = 0o750, 0o660
_BACKLOG = 64
_OUT_OF_DESCRIPTORS_WAIT_S = 0.1


class _Refused(SingdError):
    """A request that is turned down; `exit` as the client will end. `busy`: asking again in a moment may do."""

    def __init__(self, message: str, exit: int, cure: str = "", *, busy: bool = False) -> None:
        super().__init__(message, cure=cure)
        self.exit, self.busy = exit, busy


async def serve_control(
    path: Path,
    handlers: Mapping[str, Handler],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer clients until cancelled; started once clients can connect.

    Args:
        path: Of the socket. Its directory is made if it is missing.
        handlers: The verbs. A SingdError that one raises is the client's answer; any other error is ours, is logged
            with its traceback and answered as such.

    Raises:
        EdgeError: The socket cannot be made: somebody else serves it, or its directory is not safe.
    """
    try:
        with _listening(path) as (listener, group):
            task_status.started()
            await _accept(listener, group, handlers)
    except OSError as error:
        raise EdgeError(f"the control socket {path} cannot be made: {error.strerror or error}") from error


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[tuple[trio.socket.SocketType, int]]:
    """The socket in its place and its group, removed afterwards. Connecting works only from `listen` on, when its mode is right."""
    path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    _check_directory(path.parent)
    with _lock(path), wire.address(path) as address:
        path.unlink(missing_ok=True)
        with trio.socket.from_stdlib_socket(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
            _bind(listener, address)
            try:
                path.chmod(_SOCKET_MODE)
                listener.listen(_BACKLOG)
                yield listener, path.stat().st_gid
            finally:
                path.unlink(missing_ok=True)


def _bind(listener: trio.socket.SocketType, address: str) -> None:
    """Bind at once: trio's own `bind` is a coroutine only for the names that it may have to look up."""
    duplicate = socket.socket(fileno=os.dup(listener.fileno()))
    with duplicate:
        duplicate.bind(address)


def _check_directory(directory: Path) -> None:
    """Ours or root's, and nobody else may write: else anyone could put their socket in place of ours."""
    found = directory.stat()
    if found.st_uid == os.geteuid():
        directory.chmod(stat.S_IMODE(found.st_mode) & _DIRECTORY_MODE)
    elif found.st_uid != 0 or found.st_mode & stat.S_IWOTH:
        raise EdgeError(
            f"the directory {directory} of the control socket is not ours",
            cure="remove it, or name another: --state DIR",
        )


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    descriptor = os.open(
        path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise EdgeError(
            f"another daemon serves {path}", cure="stop it first, or give this one its own --state DIR"
        ) from None
    finally:
        os.close(descriptor)


async def _accept(listener: trio.socket.SocketType, group: int, handlers: Mapping[str, Handler]) -> None:
    async with trio.open_nursery() as clients:
        while True:
            try:
                connection, _ = await listener.accept()
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ECONNABORTED):
                    raise
                await trio.sleep(_OUT_OF_DESCRIPTORS_WAIT_S)
                continue
            refusal = _refusal(connection, group, len(clients.child_tasks))
            clients.start_soon(_serve_client, connection, {} if refusal else handlers, refusal)


def _refusal(connection: trio.socket.SocketType, group: int, clients: int) -> _Refused | None:
    """Why this client is not served. It is still told so, which takes a moment and no waiting."""
    if not _allowed(connection, group):
        return _Refused("this socket is for the daemon's user, its group and root", 77)
    if clients >= wire.CLIENTS_MAX:
        return _Refused(
            f"{wire.CLIENTS_MAX} clients are being served already", 75, "try again in a moment", busy=True
        )
    return None


def _allowed(connection: trio.socket.SocketType, group: int) -> bool:
    return wire.peer_uid(connection) in (0, os.geteuid()) or group in wire.peer_groups(connection)


async def _serve_client(
    connection: trio.socket.SocketType, handlers: Mapping[str, Handler], refusal: _Refused | None
) -> None:
    """One client's life. Whatever it does or sends, only its own connection ends."""
    stream = trio.SocketStream(connection)
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async with stream:
            if refusal is not None:
                _tell_at_once(connection, refusal)
                return
            uid = wire.peer_uid(connection)
            more = True
            while more:
                more = await _serve_request(stream, handlers, uid)


def _tell_at_once(connection: trio.socket.SocketType, refusal: _Refused) -> None:
    """A fresh socket's buffer takes a short frame without waiting, so those we have no room for cost no room."""
    duplicate = socket.socket(fileno=os.dup(connection.fileno()))
    with duplicate, contextlib.suppress(OSError):
        duplicate.send(
            wire.encode(wire.error_answer(refusal), wire.ANSWER_MAX),
            socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL,
        )


async def _serve_request(stream: trio.SocketStream, handlers: Mapping[str, Handler], uid: int) -> bool:
    """One frame in, one frame out. False when the connection is to end: the client is done, or not to be understood."""
    more = False
    try:
        with trio.fail_after(wire.TIMEOUT_S):
            body = await _receive(stream)
        if body is None:
            return False
        request = {**wire.decode(body), "peer_uid": uid}  # the kernel's word, whatever the client says
        answer = await _answer(request, handlers)
        more = True
    except trio.TooSlowError:
        answer = wire.error_answer(_Refused(f"no whole request within {wire.TIMEOUT_S:g} s", 76))
    except wire.BadFrame as error:
        answer = wire.error_answer(_Refused(f"not a request: {error}", 76))
    with trio.move_on_after(wire.TIMEOUT_S) as patience:
        await stream.send_all(await trio.to_thread.run_sync(_frame, answer))  # it may be megabytes
    return more and not patience.cancelled_caught


async def _receive(stream: trio.SocketStream) -> bytes | None:
    """A frame's body; None at the clean end of the connection."""
    header = await _exactly(stream, wire.LENGTH.size)
    if not header:
        return None
    body = await _exactly(stream, wire.length_of(header, wire.REQUEST_MAX))
    if not body:
        raise wire.BadFrame("it ended early")
    return body


async def _exactly(stream: trio.SocketStream, size: int) -> bytes:
    """So many bytes, or none at the end of the connection."""
    parts = bytearray()
    while len(parts) < size:
        part = await stream.receive_some(size - len(parts))
        if not part and parts:
            raise wire.BadFrame("it ended early")
        if not part:
            return b""
        parts += part
    return bytes(parts)


async def _answer(request: Mapping[str, Any], handlers: Mapping[str, Handler]) -> Mapping[str, Any]:
    """What the verb's handler says, or what is said in its place."""
    verb = request.get("verb")
    handler = handlers.get(verb) if isinstance(verb, str) else None
    if handler is None:
        return wire.error_answer(
            _Refused(f"this daemon has no verb {str(verb)[:40]!r}", 2, f"it has {', '.join(handlers)}")
        )
    try:
        with trio.fail_after(wire.TIMEOUT_S):
            return await handler(request)
    except SingdError as error:
        return wire.error_answer(error)
    except trio.TooSlowError:
        return wire.error_answer(
            _Refused(f"no answer to {verb} within {wire.TIMEOUT_S:g} s", 75, "`singd status`")
        )
    except Exception:
        _LOG.exception("the verb %s failed", verb)
        return wire.error_answer(
            _Refused(f"{verb} failed in the daemon: its journal has the details", 70, "please report it")
        )


def _frame(answer: Mapping[str, Any]) -> bytes:
    try:
        return wire.encode(answer, wire.ANSWER_MAX)
    except wire.BadFrame as error:
        refused = _Refused(f"the answer is too long: {error}", 1, "ask for less: -n")
    except (TypeError, ValueError, RecursionError):
        _LOG.exception("an answer is not JSON")
        refused = _Refused(
            "the daemon's answer cannot be sent: its journal has the details", 70, "please report it"
        )
    return wire.encode(wire.error_answer(refused), wire.ANSWER_MAX)
