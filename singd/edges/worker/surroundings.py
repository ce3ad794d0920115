"""What surrounds the bodies in a worker process: its descriptors, its standard streams, its children."""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import json
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from singd.edges.worker import proctree, wire
from singd.edges.worker.wire import Ordered

SETTLE_S = 0.1
"""Children that are just ending when their task returns get this long."""


class Orders:
    """The worker's side of stream and tickets."""

    def __init__(self) -> None:
        for fd in (wire.STREAM_FD, wire.TICKETS_FD):
            os.set_inheritable(fd, False)
        self._stream = socket.socket(fileno=wire.STREAM_FD)
        self._buffer = b""
        self._works: dict[int, Ordered] = {}

    def ticket(self) -> int:
        """Take the next ticket.

        Raises:
            BlockingIOError: There is none.
            SystemExit: There will be none.
        """
        ticket = os.read(wire.TICKETS_FD, wire.TICKET)
        if not ticket:
            raise SystemExit(0)
        return int.from_bytes(ticket, "little")

    def wait(self) -> None:
        """Until there may be a ticket.

        Raises:
            SystemExit: The daemon is gone.
        """
        poller = select.poll()
        poller.register(wire.TICKETS_FD, select.POLLIN)
        poller.register(self._stream, select.POLLRDHUP)
        if any(fd == wire.STREAM_FD for fd, _ in poller.poll()):
            raise SystemExit(0)

    def work(self, index: int) -> Ordered:
        """The work of a ticket, which was sent before it."""
        while index not in self._works:
            ordered = Ordered(self.read_line())
            self._works[ordered.index] = ordered
        for old in [number for number in self._works if number < index]:
            del self._works[old]  # recalled, somebody else's now
        return self._works.pop(index)

    def read_line(self) -> Any:
        """The next value on the stream.

        Raises:
            SystemExit: The daemon is gone.
        """
        while b"\n" not in self._buffer:
            data = self._stream.recv(1 << 18)
            if not data:
                raise SystemExit(0)
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def send(self, frame: wire.Frame) -> None:
        """One frame to the daemon."""
        self._stream.sendall(json.dumps(frame).encode() + b"\n")


class Surroundings:
    """Standard streams, signals and directory, as every attempt finds them."""

    def __init__(self) -> None:
        # A descriptor of our own: a task may close or replace 1 and 2, the marks must go on.
        self.output = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 10)
        faulthandler.enable(file=self.output)  # a crash in C leaves its stack in the attempt's log
        self.stdout, self.stderr = sys.stdout, sys.stderr = _text(1), _text(2)
        logging.getLogger().setLevel(logging.INFO)
        logging.raiseExceptions = False
        _log_to(self.stderr)

    def restore(self, on_term: Callable[[int, FrameType | None], None]) -> None:
        """Undo what the attempt before may have done to what all attempts share."""
        signal.signal(signal.SIGTERM, on_term)
        os.dup2(self.output, 1)
        os.dup2(self.output, 2)
        os.chdir("/")
        if self.stdout.closed or self.stderr.closed:
            self.stdout, self.stderr = _text(1), _text(2)
            _log_to(self.stderr)
        sys.stdout, sys.stderr = self.stdout, self.stderr

    def write(self, mark: bytes) -> None:
        """Put a mark into the output: below PIPE_BUF, so whole or not at all."""
        while True:
            try:
                os.write(self.output, mark)
                return
            except BlockingIOError:  # the task made it non-blocking, and it is full
                select.select([], [self.output], [])

    def flush(self) -> None:
        """What Python still holds of the output."""
        for file in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                file.flush()


def left_behind() -> int:
    """How many children are still alive after a short wait; the dead ones are reaped."""
    give_up = 0.0
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 0
        if pid:
            continue
        now = time.monotonic()
        give_up = give_up or now + SETTLE_S
        if now > give_up:
            return _count_children()
        _stop_helpers()
        time.sleep(0.002)


def _count_children() -> int:

    return max(1, len(proctree.tree(set(proctree.children(os.getpid())))))


def _stop_helpers() -> None:
    """multiprocessing keeps a helper process for as long as its parent lives; it is nobody's leftover."""
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    if tracker is not None:
        with contextlib.suppress(Exception):
            tracker._resource_tracker._stop()


def _text(fd: int) -> Any:
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _log_to(stream: Any) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.getLogger().handlers[:] = [handler]
