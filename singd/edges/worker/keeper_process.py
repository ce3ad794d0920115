"""One process under the keeper, as the daemon sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from singd.errors import KeeperGone
from singd.ports import Exit


class KeeperProcess:
    """A child of the keeper (`ports.Process`).

    Attributes:
        started: Set once it runs, or cannot: then `error` says why.
        unwanted: Its owner was cancelled while it was being started: it is ended as soon as it is known.
    """

    def __init__(self, say: Callable[[dict[str, Any]], None], number: int) -> None:
        self._say, self._number = say, number
        self._pid = 0
        self._exit: Exit | None = None
        self.error: str | None = None
        self.started = trio.Event()
        self._gone = trio.Event()
        self.unwanted = False

    @property
    def pid(self) -> int:
        """Its process id, also its session."""
        return self._pid

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it, or anything of its tree, lives."""
        return self._exit

    def signal(self, number: int) -> None:
        """To the process alone; a process that is gone is no error."""
        self._say({"op": "signal", "id": self._number, "number": int(number)})

    def end(self, grace_s: float) -> None:
        """The whole tree: polite signal, `grace_s`, KILL. Returns at once; `wait` tells."""
        self._say({"op": "end", "id": self._number, "grace": grace_s})

    async def wait(self) -> Exit:
        """Until it and its whole tree are gone.

        Raises:
            KeeperGone: The keeper died first.
        """
        await self._gone.wait()
        if self._exit is None:
            raise KeeperGone("the keeper died; its processes end with it")
        return self._exit

    def hear(self, word: dict[str, Any]) -> None:
        """What the keeper says of it."""
        if word["op"] == "spawned":
            self._pid = word["pid"]
            if self.unwanted:
                self.end(0)
        elif word["op"] == "failed":
            self.error = str(word["error"])
        if word["op"] == "exited":
            self._exit = Exit(word["status"], word["rss"], word["strays"])
        if word["op"] != "spawned":
            self._gone.set()
        self.started.set()

    def lose(self) -> None:
        """The keeper died."""
        self.error = "gone"
        self.started.set()
        self._gone.set()
