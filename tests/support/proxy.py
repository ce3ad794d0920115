"""A proxy between a client and Postgres that breaks the connection at a chosen message.

    async with cutting_proxy(server_socket) as proxy:
        proxy.arm("reply", skip=2)

`request`: the message never arrives. `reply`: the server answered (so it committed) and the answer is lost.
`late`: the client sees a broken connection, and the server gets the message only when `deliver()` is called,
as bytes in a socket's buffer may.

`silence()` is a partition: every connection stays open on both sides, and nothing passes, not even that one side
closed its end.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import trio

Place = Literal["request", "reply", "late"]
SOCKET = ".s.PGSQL.5432"
MOST = 1 << 20
_KEY_DATA = re.compile(rb"(K\x00\x00\x00\x0c)....", re.DOTALL)


class CuttingProxy:
    """Relays everything, but for the one message it is armed for."""

    def __init__(self, upstream: Path, directory: Path) -> None:
        self.directory = directory
        self._upstream = upstream
        self._place: Place | None = None
        self._skip = 0
        self._late = trio.Event()
        self._delivered = trio.Event()
        self.cuts = 0
        self._left: int | None = None
        self.invent_pid = False
        """Tell clients another process id than the server's, as a pooler does."""

    def arm(self, place: Place, skip: int = 0) -> None:
        """Cut once, `skip` messages from now."""
        self._place, self._skip, self.cuts = place, skip, 0
        self._late, self._delivered = trio.Event(), trio.Event()

    def disarm(self) -> None:
        """Relay everything again."""
        self._place = None

    def silence(self, after: int = 0) -> None:
        """Let so many more of the server's answers pass, and then nothing any more, in neither direction."""
        self._left = after

    @property
    def silent(self) -> bool:
        """Whether nothing passes."""
        return self._left == 0

    async def deliver(self) -> None:
        """Let the late message arrive, and wait until the server has dealt with it."""
        self._late.set()
        await self._delivered.wait()

    async def serve(self, client: trio.SocketStream) -> None:
        """One connection, to its end."""
        server = await trio.open_unix_socket(str(self._upstream))
        async with client, server:
            place, data = None, b""
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._back, server, client, nursery.cancel_scope)
                    place, data = await self._forth(client, server)
                    nursery.cancel_scope.cancel()
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # one side hung up
            await self._cut(place, data, client, server)

    async def _forth(
        self, client: trio.SocketStream, server: trio.SocketStream
    ) -> tuple[Place | None, bytes]:
        while data := await client.receive_some(MOST):
            if (place := self._due()) is not None:
                return place, data
            if not self.silent:
                await server.send_all(data)
        if self.silent:
            await trio.sleep_forever()  # the server does not hear of it
        return None, b""

    async def _back(
        self, server: trio.SocketStream, client: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        while data := await server.receive_some(MOST):
            if self.invent_pid:
                data = _KEY_DATA.sub(lambda found: found[1] + b"\x12\x34\x56\x78", data)
            if self._left:
                self._left -= 1
            elif self.silent:
                continue
            await client.send_all(data)
        if self.silent:
            await trio.sleep_forever()
        scope.cancel()

    def _due(self) -> Place | None:
        if self._place is None:
            return None
        if self._skip:
            self._skip -= 1
            return None
        place, self._place = self._place, None
        self.cuts += 1
        return place

    async def _cut(
        self, place: Place | None, data: bytes, client: trio.SocketStream, server: trio.SocketStream
    ) -> None:
        if place in (None, "request"):
            return
        if place == "late":
            await client.aclose()
            await self._late.wait()
        with suppress(trio.BrokenResourceError):  # the server gave this session up meanwhile
            await server.send_all(data)
            await server.receive_some(MOST)
        self._delivered.set()


@asynccontextmanager
async def cutting_proxy(upstream: Path) -> AsyncIterator[CuttingProxy]:
    """A proxy before the socket `upstream`; `host={proxy.directory}` reaches it as it would Postgres."""
    listening = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    with tempfile.TemporaryDirectory(prefix="sgd-", dir="/tmp") as directory:
        proxy = CuttingProxy(upstream, Path(directory))
        await listening.bind(str(proxy.directory / SOCKET))
        listening.listen(16)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, proxy.serve, [trio.SocketListener(listening)])
            try:
                yield proxy
            finally:
                nursery.cancel_scope.cancel()
