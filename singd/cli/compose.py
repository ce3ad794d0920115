"""Composes one life of the daemon: which edges, in which order they are opened and closed.

life ─ keeper ─ embedded server ─ pool ─ daemon with its election, ledger, executors and control socket
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import trio

from singd import __version__
from singd.cli.accept import Accepted
from singd.cli.databases import Databases
from singd.cli.migrations import Migrations
from singd.cli.node_name import node_name_of
from singd.cli.paths import Paths
from singd.control import ControlHandlers, Setting, Trouble
from singd.control_verbs import OperatorHandlers
from singd.core.config.effective import effective
from singd.core.values import Isolation, Scope
from singd.daemon import Daemon, Parts
from singd.edges.clock import SystemClock
from singd.edges.control import serve_control
from singd.edges.inline import InlineExecutor
from singd.edges.local.ledger import LocalLedger
from singd.edges.local.reader import LocalReader
from singd.edges.postgres.election import PostgresElection
from singd.edges.postgres.intake import PostgresIntake
from singd.edges.postgres.ledger import PostgresLedger
from singd.edges.postgres.overrides import PostgresOverrides
from singd.edges.postgres.pool import Pool
from singd.edges.postgres.presence import PostgresPresence
from singd.edges.postgres.reader import LedgerReader
from singd.edges.worker.executor import WorkerExecutor
from singd.edges.worker.keeper import KeeperClient
from singd.errors import EdgeError
from singd.events import Emit, Notice
from singd.merged import Merged
from singd.ports import NodeInfo
from singd.provide import Provider
from singd.view import View
from singd.views import LedgerView, Unshipped
from singd.welcome import Welcome


@dataclass(frozen=True, slots=True)
class Setup:
    """What is known before trio starts, and holds for all lives of this process.

    Attributes:
        process: Identity of this process: a new keeper is no new start.
    """

    paths: Paths
    accepted: Accepted
    max_processes: int
    max_inline: int
    welcome: Welcome
    process: uuid.UUID
    started_at: datetime


async def life(setup: Setup, keeper: KeeperClient, stop: trio.Event) -> None:
    """From the keeper's start to its end."""
    keeper.start()
    try:
        async with trio.open_nursery() as nursery:
            kept = await nursery.start(_keep, keeper)
            try:
                await _with_databases(setup, keeper, stop)
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


async def _with_databases(setup: Setup, keeper: KeeperClient, stop: trio.Event) -> None:
    """The embedded server around the daemon, if any database needs it."""
    databases = Databases(setup.accepted.config)
    server = await databases.start_server(keeper, setup.paths.state)
    if server is None:
        await _daemon(setup, keeper, databases, stop)
        return
    # Children find the server's own pg_dump and pg_restore first: another version's may not read it.
    _path_first(str(server.bin_dir))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve)
        try:
            await _daemon(setup, keeper, databases, stop)
        finally:
            await server.stop()


def _path_first(directory: str) -> None:
    others = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([directory, *(item for item in others if item != directory)])


async def _daemon(setup: Setup, keeper: KeeperClient, databases: Databases, stop: trio.Event) -> None:
    """Compose one daemon and run it until it is asked to end."""
    config = setup.accepted.config
    pool = Pool(databases.ledger("runtime"), config.database.schema)
    parts, local = _parts(setup, keeper, databases, pool)
    await _open_journal(local, parts.emit)
    daemon = Daemon(parts)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_when, stop, daemon)
            await daemon.run()
            nursery.cancel_scope.cancel()
    finally:
        local.close()
        pool.close()


async def _open_journal(local: LocalLedger, emit: Emit) -> None:
    """A damaged one is replaced, loudly; one that cannot be opened is told by whoever needs it, again and again."""
    local.tell = lambda news: emit(Notice("error", news))
    with suppress(EdgeError):
        await local.open()


async def _stop_when(stop: trio.Event, daemon: Daemon) -> None:
    await stop.wait()
    daemon.stop()


def _parts(setup: Setup, keeper: KeeperClient, databases: Databases, pool: Pool) -> tuple[Parts, LocalLedger]:
    config, bound, clock = setup.accepted.config, setup.accepted.bound, SystemClock()
    role = os.environ.get("SINGD_NODE_ROLE") or config.node.role
    name = node_name_of(config)
    node = NodeInfo(name, setup.process, role, __version__, config.content_hash)
    here = {key: item.schedule for key, item in bound.items() if item.schedule.role in ("", role)}
    tasks = {item.task.name: item.task for item in bound.values() if item.task}
    migrations = Migrations(databases, config.database.schema, bound, setup.welcome)
    setup.welcome.database, setup.welcome.schedules = databases.describe, tuple(here.values())
    local = LocalLedger(setup.paths.state / "journal.db", node, clock)
    parts = Parts(
        node=node,
        clock=clock,
        presence=PostgresPresence(databases.ledger("runtime"), config.database.schema),
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
        emit=setup.welcome,
        prepare=migrations.apply,
        control=partial(_control, setup, databases, pool),
        started_at=setup.started_at,
        overrides=PostgresOverrides(pool),
        local=local,
        outbox=local,
        intake=PostgresIntake(pool),
    )
    return parts, local


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
        partial(_unshipped, daemon),
    )
    reader = _reader(daemon, LedgerReader(pool))
    operator = OperatorHandlers(view, reader, daemon.parts.overrides)
    handlers = {**ControlHandlers(view, reader).table(), **operator.table()}
    await serve_control(setup.paths.socket, handlers, task_status=task_status)


def _reader(daemon: Daemon, ledger: LedgerView) -> LedgerView:
    """The ledger with what this node has not shipped yet."""
    parts = daemon.parts
    if not isinstance(parts.local, LocalLedger):
        return ledger
    own = {name for name, schedule in parts.schedules.items() if schedule.scope is Scope.NODE}
    return Merged(ledger, LocalReader(parts.local), parts.node.name, lambda: own)


def _unshipped(daemon: Daemon) -> Unshipped:
    local = daemon.parts.local
    return Unshipped(*local.backlog) if isinstance(local, LocalLedger) else Unshipped()


def _settings(accepted: Accepted, name: str) -> Sequence[Setting]:
    """A schedule's effective values with where each was set."""
    return [
        Setting(key, value, str(accepted.config.origin(name, key)))
        for key, value in effective(accepted.bound[name].schedule)
    ]
