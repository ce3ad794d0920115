"""TCP links between daemons and Postgres that can be hurt: a process of its own, told what to do line by line.

    daemon "a" ──▶ link "a" ──▶ primary        {"link": "a", "do": "set", "stall": ["up"]}      hold bytes back
    daemon "b" ──▶ link "b" ──▶ standby        {"link": "b", "do": "reset"}                     RST to both ends
    daemon "c" ──▶ link "c" ──▶ pgbouncer      {"link": "c", "do": "cut", "skip": 2}            lose an answer

A stalled way keeps what was sent, as the sender's kernel would in a partition, and delivers it when the link heals. It
is a process of its own so that nothing the harness does (and no GIL) slows the traffic down by accident.
"""

from __future__ import annotations

import itertools
import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trio

MOST = 1 << 16
PURPOSES = (b"singd ledger", b"singd lock", b"singd name")
"""What daemons call their sessions (`application_name`); the first bytes of a connection tell which it is."""


class Link:
    """One listening address and where it leads; `upstream` may change, what is open stays where it is."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.stall: frozenset[str] = frozenset()
        self.delay_s = 0.0
        self.cut_after: int | None = None
        self.cuts = 0
        self.open: set[Passage] = set()
        self._changed = trio.Event()

    def set(self, stall: tuple[str, ...] = (), delay_s: float = 0.0) -> None:
        """The link's whole condition; no argument = healthy."""
        self.stall, self.delay_s = frozenset(stall), delay_s
        self._changed.set()
        self._changed = trio.Event()

    async def let_pass(self, way: str) -> None:
        """Until bytes may go this way."""
        while way in self.stall:
            await self._changed.wait()
        until = trio.current_time() + self.delay_s
        while self.delay_s and trio.current_time() < until:
            with trio.move_on_at(until):
                await self._changed.wait()

    def take_cut(self) -> bool:
        """Whether the answer to this request is to be lost."""
        if self.cut_after is None:
            return False
        self.cut_after -= 1
        if self.cut_after >= 0:
            return False
        self.cut_after = None
        self.cuts += 1
        return True


class Passage:
    """One connection through a link."""

    def __init__(self, link: Link, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self.link, self.client, self.server = link, client, server
        self.purpose = b""
        self.scope = trio.CancelScope()
        self.lose_answer = self.deaf = False

    async def run(self) -> None:
        """To its end."""
        self.link.open.add(self)
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, self.client, self.server, "up")
                    nursery.start_soon(self._pump, self.server, self.client, "down")
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            self.abort()
        finally:
            self.link.open.discard(self)

    def abort(self) -> None:
        """RST to both ends."""
        for end in (self.client, self.server):
            abort(end)
        self.scope.cancel()

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, way: str) -> None:
        while data := await source.receive_some(MOST):
            if way == "up":
                self._notice(data)
            elif self.lose_answer:
                self.abort()
                return
            await self.link.let_pass(way)
            if not self.deaf:
                await sink.send_all(data)
        await self.link.let_pass(way)
        if not self.deaf:
            self.scope.cancel()

    def _notice(self, data: bytes) -> None:
        if not self.purpose:
            self.purpose = next((word for word in PURPOSES if word in data), b"")
        elif self.purpose == PURPOSES[0] and self.link.take_cut():
            self.lose_answer = True

    def half_open(self) -> None:
        """The server is told that the client is gone; the client is told nothing."""
        self.deaf = True
        abort(self.server)


def abort(stream: trio.SocketStream) -> None:
    """Close with RST."""
    try:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()
    except OSError:
        pass  # it is gone already


async def _accept(link: Link, listener: trio.SocketListener) -> None:
    async def one(client: trio.SocketStream) -> None:
        try:
            await link.let_pass("up")
            server = await trio.open_tcp_stream(*link.upstream)
        except OSError:
            abort(client)
            return
        async with client, server:
            await Passage(link, client, server).run()

    await trio.serve_listeners(one, [listener])


async def _obey(order: Mapping[str, Any], links: dict[str, Link], nursery: trio.Nursery) -> Any:
    link = links.get(order["link"])
    match order["do"]:
        case "listen":
            links[order["link"]] = made = Link(tuple(order["upstream"]))
            listeners = await trio.open_tcp_listeners(order.get("port", 0), host=order["host"])
            nursery.start_soon(_accept, made, listeners[0])
            return listeners[0].socket.getsockname()[1]
        case _ if link is None:
            return None
        case "set":
            link.set(tuple(order.get("stall", ())), order.get("delay_s", 0.0))
        case "upstream":
            link.upstream = tuple(order["upstream"])
        case "reset":
            for passage in list(link.open):
                passage.abort()
        case "half_open":
            for passage in list(link.open):
                passage.half_open()
        case "cut":
            link.cut_after = order.get("skip", 0)
        case "cuts":
            return link.cuts
    return None


async def serve() -> None:
    """Obey the lines of stdin until it ends."""
    links: dict[str, Link] = {}
    async with trio.open_nursery() as nursery:
        stream = trio.lowlevel.FdStream(0)
        buffer = b""
        while data := await stream.receive_some(MOST):
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                answer = await _obey(json.loads(line), links, nursery)
                sys.stdout.write(json.dumps(answer) + "\n")
                sys.stdout.flush()
        nursery.cancel_scope.cancel()


class Proxy:
    """The process, from outside; may be used by any thread."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )  # fmt: skip
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def tell(self, link: str, do: str, **values: Any) -> Any:
        """An order and its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps({"link": link, "do": do, **values}).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it, and every connection through it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


if __name__ == "__main__":
    trio.run(serve)
