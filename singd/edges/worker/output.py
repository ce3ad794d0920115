"""What attempts print: read from a pipe without starving the loop, kept by its head and tail."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from singd.core.values import NO_LOG, Log
from singd.edges.worker import wire

HEAD_MOST = 256 * 1024
TAIL_MOST = 768 * 1024
OUTPUT_MOST = 64 * 1024 * 1024
"""An attempt that prints more than this is ended."""
PIPE_SIZE = 1024 * 1024
"""Asked of the kernel, and the most that is read at a time: whatever was in the pipe is then read."""
READ = 256 * 1024


class Kept:
    """The kept part of one attempt's output."""

    __slots__ = ("_head", "_tail", "total")

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        """Append; beyond head and tail the oldest of the tail goes."""
        self.total += len(data)
        fits = HEAD_MOST - len(self._head)
        if fits > 0:
            self._head += data[:fits]
            data = data[fits:]
        self._tail += data
        if len(self._tail) > TAIL_MOST + READ:  # not at each byte: every cut moves the whole tail
            del self._tail[:-TAIL_MOST]

    def log(self) -> Log:
        """As a value: at most 1 MiB."""
        if not self.total:
            return NO_LOG
        head, tail = bytes(self._head), bytes(self._tail[-TAIL_MOST:])
        return Log(head, tail, self.total - len(head) - len(tail))


class Splitter:
    """Finds the marks of one worker in its output."""

    def __init__(self, nonce: bytes) -> None:
        self._mark = re.compile(b"\0" + nonce + b"([0-9a-f]{8})\n")
        self._begin = b"\0" + nonce
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes | int]:
        """The plain bytes, and the index wherever a mark stands; the beginning of a mark at the end waits for more."""
        data = self._rest + data
        end = 0
        for found in self._mark.finditer(data):
            if found.start() > end:
                yield data[end : found.start()]
            yield int(found[1], 16)
            end = found.end()
        data = data[end:]
        cut = self._partial(data)
        self._rest = data[cut:]
        if data[:cut]:
            yield data[:cut]

    def rest(self) -> bytes:
        """What waited for more that will not come."""
        rest, self._rest = self._rest, b""
        return rest

    def _partial(self, data: bytes) -> int:
        at = data.rfind(b"\0", -wire.MARK_LENGTH)
        if at < 0:
            return len(data)
        tail = data[at:]
        begun = self._begin.startswith(tail) or tail.startswith(self._begin)
        return at if begun and len(tail) < wire.MARK_LENGTH else len(data)


def drain(fd: int) -> Iterator[bytes]:
    """What is in a non-blocking pipe, at most `PIPE_SIZE` of it; b"" last if the other side is closed."""
    left = PIPE_SIZE
    while left > 0:
        try:
            data = os.read(fd, READ)
        except BlockingIOError:
            return
        yield data
        if not data:
            return
        left -= len(data)
