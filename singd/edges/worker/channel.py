"""The daemon's ends of one worker's pipes (what flows through them: `wire`). Nothing here knows what an attempt is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator

import trio

from singd.edges.worker import wire
from singd.edges.worker.output import PIPE_SIZE, drain
from singd.errors import EdgeError

F_SETPIPE_SZ = 1031
READ = 1 << 18
READS_MOST = 8
"""Reads of the stream in one turn: a worker that floods it must not hold up the loop."""


class Channel:
    """Stream, tickets and output of one worker. `close` it."""

    def __init__(self) -> None:
        self._fds: list[int] = []
        try:
            self._stream, self._theirs = socket.socketpair()
            self._take, self._put = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._fds += [self._take, self._put]
            self._output, self._writer = output_pipe()
            self._fds += [self._output, self._writer]
        except OSError as error:
            self.close()
            raise EdgeError(f"no pipes for a worker: {error}") from error
        self._stream.setblocking(False)
        self._buffer = bytearray()
        self._outgoing = bytearray()
        self._writable = trio.Event()

    def theirs(self) -> dict[int, int]:
        """The worker's descriptor -> ours, for the keeper."""
        return {
            1: self._writer,
            2: self._writer,
            wire.STREAM_FD: self._theirs.fileno(),
            wire.TICKETS_FD: self._take,
        }

    def handed(self) -> None:
        """The worker has its ends: give up ours (but not the tickets': we read them too)."""
        self._theirs.close()
        os.close(self._writer)
        self._fds.remove(self._writer)

    def close(self) -> None:
        """Give everything back."""
        for end in ("_stream", "_theirs"):
            if hasattr(self, end):
                getattr(self, end).close()
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    # ------------------------------------------------------------------ down

    def put(self, lines: bytes | bytearray, tickets: bytes | bytearray = b"") -> None:
        """Send lines, then the tickets that make them count (at most 64: far below the pipe's size)."""
        self._outgoing += lines
        self._flush()
        if tickets:
            os.write(self._put, tickets)

    def take_back(self) -> list[int]:
        """The indexes of the tickets that the worker has not taken; it never will."""
        back: list[int] = []
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._take, wire.TICKET * 512):
                back += [
                    int.from_bytes(data[i : i + wire.TICKET], "little")
                    for i in range(0, len(data), wire.TICKET)
                ]
        return back

    def _flush(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: self._stream.send(self._outgoing)]
        except BlockingIOError:
            self._writable.set()
        except OSError:
            self._outgoing.clear()  # the worker is gone: its exit tells

    async def write(self) -> None:
        """Send what did not fit at once, for ever."""
        while True:
            await self._writable.wait()
            self._writable = trio.Event()
            await trio.lowlevel.wait_writable(self._stream)
            self._flush()

    # ------------------------------------------------------------------ up

    async def readable(self) -> None:
        """Until there is something on the stream."""
        await trio.lowlevel.wait_readable(self._stream)

    async def output_readable(self) -> None:
        """Until there is output."""
        await trio.lowlevel.wait_readable(self._output)

    def lines(self) -> tuple[list[bytearray], bool]:
        """Whole lines that have come, and False if no more will.

        Raises:
            ValueError: A line is longer than `wire.FRAME_MOST`.
        """
        alive = True
        for _ in range(READS_MOST):
            try:
                data = self._stream.recv(READ)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self._buffer += data
            if not data:
                alive = False
                break
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > wire.FRAME_MOST:
            raise ValueError("a line without an end")
        return lines, alive

    def output(self) -> Iterator[bytes]:
        """What has been printed; b"" last if nothing more will be."""
        return drain(self._output)


def output_pipe() -> tuple[int, int]:
    """A pipe for a child's output: our end does not block, theirs does; large where the kernel allows it."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reader, False)
    with contextlib.suppress(OSError):  # a small pipe only means more turns
        fcntl.fcntl(reader, F_SETPIPE_SZ, PIPE_SIZE)
    return reader, writer
