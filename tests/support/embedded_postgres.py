"""Embedded Postgres for tests: a served server, a server in another process, and queries."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import psycopg.conninfo
import trio

from singd.edges.embedded import leftover
from singd.edges.embedded.postgres import EmbeddedPostgres
from singd.edges.worker.keeper import KeeperClient
from singd.ports import Keeper

DATABASES = ("alpha", "beta")


@contextlib.contextmanager
def unwrapped() -> Iterator[None]:
    """A group whose errors are all of one type is the first of them."""
    try:
        yield
    except BaseExceptionGroup as group:
        errors = list(_leaves(group))
        raise errors[0] if len({type(error) for error in errors}) == 1 else group from None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for part in error.exceptions:
        yield from _leaves(part)


@asynccontextmanager
async def kept(keeper: KeeperClient | None = None) -> AsyncIterator[KeeperClient]:
    """The real keeper for the length of the block."""
    keeper = keeper or KeeperClient()
    keeper.start()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(keeper.serve)
            yield keeper
            nursery.cancel_scope.cancel()
    finally:
        await keeper.stop()


@asynccontextmanager
async def running(state: Path, keeper: Keeper | None = None) -> AsyncIterator[EmbeddedPostgres]:
    """A served server for the length of the block, on the real keeper unless one is given."""
    with unwrapped():
        async with kept() if keeper is None else contextlib.nullcontext(keeper) as used:
            server = await EmbeddedPostgres.start(used, state, DATABASES)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.serve)
                try:
                    yield server
                finally:
                    await server.stop()


async def start_and_stop(state: Path, keeper: Keeper | None = None) -> None:
    async with running(state, keeper):
        pass


def query(
    server: EmbeddedPostgres | Daemon, database: str, role: str, *statements: str
) -> list[tuple[object, ...]]:
    """Rows of the last statement."""
    with psycopg.connect(server.conninfo(database, role), autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def members(state: Path) -> list[int]:
    data = state / "postgres" / "data"
    return leftover.members(data, data.stat().st_uid)


DAEMON = """
import sys, trio
from pathlib import Path
from support.embedded_postgres import DATABASES, kept
from support.local_keeper import local_keeper
from singd.edges.embedded.postgres import EmbeddedPostgres

async def main():
    async with (kept if sys.argv[2] == "kept" else local_keeper)() as keeper:
        server = await EmbeddedPostgres.start(keeper, Path(sys.argv[1]), DATABASES)
        print(server.pid, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        await server.stop()

trio.run(main)
"""


class Daemon:
    """Another process that runs a server on `state`, until `quit` or a signal.

    Attributes:
        keeper: "kept" for the real one, "local" for none that outlives the process.
    """

    def __init__(self, state: Path, keeper: str = "local") -> None:
        self.state = state
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)]),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", DAEMON, state, keeper],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if not said:
            self.kill()
            raise RuntimeError("the daemon did not start: see its standard error")
        self.postmaster = int(said)

    def quit(self) -> None:
        """Ask it to end, and wait."""
        self.process.communicate(timeout=30)

    def kill(self) -> None:
        """kill -9; without a real keeper its server stays."""
        self.process.kill()
        self.process.communicate()

    def sweep(self) -> None:
        """Leave nothing, whatever a failed test left."""
        self.kill()
        for pid in members(self.state):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def conninfo(self, database: str, role: str) -> str:
        home, login = self.state / "postgres", f"singd_{role}"
        password = json.loads((home / "credentials.json").read_text())[login]
        return psycopg.conninfo.make_conninfo(
            host=str(home / "run"), port=5432, dbname=database, user=login, password=password
        )
