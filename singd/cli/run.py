"""`singd run`: the composition root of the daemon, in the foreground.

configuration, catalogue ─ before trio, so that a wrong file ends with 78 and touches nothing
signals ─ the first task: a stop is heard from the first moment on
life ─ keeper ─ embedded server ─ daemon;  closed in the opposite order
       └── a life whose keeper died is over: orphans are ended and a new life begins, with a new process uuid,
           so what ran in the old one is settled like any lost attempt
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import trio

from singd import __version__
from singd.cli.accept import Accepted, Limits, accept
from singd.cli.arguments import count
from singd.cli.configured import add_limits
from singd.cli.databases import Databases
from singd.cli.migrations import Migrations
from singd.cli.paths import Paths, find
from singd.control import ControlHandlers, Setting, Trouble
from singd.core.config.effective import effective
from singd.core.values import Isolation
from singd.daemon import Daemon, Parts
from singd.edges.catalogue import read_catalogue
from singd.edges.clock import SystemClock
from singd.edges.control import serve_control
from singd.edges.inline import InlineExecutor
from singd.edges.postgres.election import PostgresElection
from singd.edges.postgres.ledger import PostgresLedger
from singd.edges.postgres.pool import Pool
from singd.edges.postgres.reader import LedgerReader
from singd.edges.worker.executor import WorkerExecutor
from singd.edges.worker.keeper import KeeperClient
from singd.errors import KeeperGone
from singd.events import KeeperLost
from singd.journal import Journal
from singd.leadership import leaves
from singd.ports import NodeInfo
from singd.provide import Provider
from singd.view import View
from singd.welcome import Welcome


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's own options: caps with safe defaults."""
    add_limits(parser)
    parser.add_argument("--max-processes", type=count, default=16, metavar="N", help="worker processes (16)")
    parser.add_argument(
        "--max-inline", type=count, default=1_000, metavar="N", help="inline attempts at a time (1000)"
    )


@dataclass(frozen=True, slots=True)
class Setup:
    """What is known before trio starts."""

    paths: Paths
    accepted: Accepted
    max_processes: int
    max_inline: int


def run(args: argparse.Namespace) -> int:
    """Be the daemon until it is asked to end; 0 then.

    Raises:
        CommandError: The configuration is wrong and no good one is known (78).
        EdgeError: The environment does not let it start (69).
    """
    paths = find(config=args.config, state=args.state)
    paths.make()
    catalogue = read_catalogue(paths.state / "cache", paths.plugins)
    limits = Limits(args.max_config_size, args.max_schedules)
    setup = Setup(
        paths, accept(paths.config, paths.state, catalogue, limits), args.max_processes, args.max_inline
    )
    gc.freeze()  # what was made so far stays: no collection need look at it again
    with _unwrapped():
        trio.run(_serve, setup, strict_exception_groups=True)
    return 0


@contextmanager
def _unwrapped() -> Iterator[None]:
    """A group with one error is that error: the command line tells single ones."""
    try:
        yield
    except BaseExceptionGroup as group:
        errors = leaves(group)
        if len(errors) == 1:
            raise errors[0] from None
        raise


async def _serve(setup: Setup) -> None:
    journal = Journal(sys.stderr, SystemClock())
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(_signals, stop, nursery.cancel_scope)
        while not stop.is_set():
            keeper = KeeperClient()
            try:
                await _life(setup, keeper, stop, journal)
            except* KeeperGone as gone:
                journal(KeeperLost(str(leaves(gone)[0])))
                await keeper.kill_orphans()
        nursery.cancel_scope.cancel()


async def _signals(
    stop: trio.Event, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None]
) -> None:
    """The first asks for a clean end, the second ends at once."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                continue  # reload: not built in this version, and no reason to die
            if stop.is_set():
                everything.cancel()
            stop.set()


async def _life(setup: Setup, keeper: KeeperClient, stop: trio.Event, journal: Journal) -> None:
    """From the keeper's start to its end."""
    keeper.start()
    try:
        async with trio.open_nursery() as nursery:
            kept = await nursery.start(_keep, keeper)
            try:
                await _with_databases(setup, keeper, stop, journal)
            finally:
                kept.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await keeper.stop()


async def _keep(keeper: KeeperClient, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    """Serve the keeper until the scope is cancelled by name: whoever ends its children needs it to the last."""
    with trio.CancelScope(shield=True) as scope:
        task_status.started(scope)
        await keeper.serve()


async def _with_databases(setup: Setup, keeper: KeeperClient, stop: trio.Event, journal: Journal) -> None:
    """The embedded server around the daemon, if any database needs it."""
    databases = Databases(setup.accepted.config)
    server = await databases.start_server(keeper, setup.paths.state)
    if server is None:
        await _daemon(setup, keeper, databases, stop, journal)
        return
    # Children find the server's own pg_dump and pg_restore first: another version's may not read it.
    _path_first(str(server.bin_dir))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve)
        try:
            await _daemon(setup, keeper, databases, stop, journal)
        finally:
            await server.stop()


def _path_first(directory: str) -> None:
    others = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([directory, *(item for item in others if item != directory)])


async def _daemon(
    setup: Setup, keeper: KeeperClient, databases: Databases, stop: trio.Event, journal: Journal
) -> None:
    """Compose one daemon and run it until it is asked to end."""
    config = setup.accepted.config
    pool = Pool(databases.ledger("runtime"), config.database.schema)
    parts = _parts(setup, keeper, databases, pool, journal)
    daemon = Daemon(parts)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_when, stop, daemon)
            await daemon.run()
            nursery.cancel_scope.cancel()
    finally:
        pool.close()


async def _stop_when(stop: trio.Event, daemon: Daemon) -> None:
    await stop.wait()
    daemon.stop()


def _parts(setup: Setup, keeper: KeeperClient, databases: Databases, pool: Pool, journal: Journal) -> Parts:
    config, bound, clock = setup.accepted.config, setup.accepted.bound, SystemClock()
    role = os.environ.get("SINGD_NODE_ROLE") or config.node.role
    name = os.environ.get("SINGD_NODE_NAME") or config.node.name or socket.gethostname()
    node = NodeInfo(name, uuid.uuid4(), role, __version__)
    here = {key: item.schedule for key, item in bound.items() if item.schedule.role in ("", role)}
    tasks = {item.task.name: item.task for item in bound.values() if item.task}
    migrations = Migrations(databases, config.database.schema, bound, journal)
    welcome = Welcome(journal, clock, setup.paths, databases.describe, setup.accepted.warning)
    return Parts(
        node=node,
        clock=clock,
        election=PostgresElection(databases.ledger("runtime"), config.database.schema),
        ledger=PostgresLedger(pool),
        executors={
            Isolation.PROCESS: WorkerExecutor(
                keeper, max_processes=setup.max_processes, plugin_paths=setup.paths.plugins
            ),
            Isolation.INLINE: InlineExecutor(max_attempts=setup.max_inline),
        },
        provide=Provider(node, tasks, databases.conninfo, setup.paths.state),
        schedules=here,
        content_hash=config.content_hash,
        emit=welcome,
        prepare=migrations.apply,
        control=partial(_control, setup, databases, pool),
    )


async def _control(
    setup: Setup, databases: Databases, pool: Pool, daemon: Daemon, task_status: trio.TaskStatus[None]
) -> None:
    """The control socket over this daemon and its ledger."""
    warning = setup.accepted.warning
    troubles = (Trouble(warning, f"singd check {setup.paths.config}"),) if warning else ()
    view = View(
        daemon,
        databases.describe,
        str(setup.paths.config),
        partial(_settings, setup.accepted),
        lambda: troubles,
        [item.schedule for key, item in setup.accepted.bound.items() if key not in daemon.parts.schedules],
    )
    handlers = ControlHandlers(view, LedgerReader(pool))
    await serve_control(setup.paths.socket, handlers.table(), task_status=task_status)


def _settings(accepted: Accepted, name: str) -> Sequence[Setting]:
    """A schedule's effective values with where each was set."""
    return [
        Setting(key, value, str(accepted.config.origin(name, key)))
        for key, value in effective(accepted.bound[name].schedule)
    ]
