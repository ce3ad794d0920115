"""`singd run`: the composition root of the daemon, in the foreground.

configuration, catalogue ─ before trio, so that a wrong file ends with 78 and touches nothing
signals ─ the first task: a stop is heard from the first moment on
life ─ keeper ─ embedded server ─ daemon;  closed in the opposite order
       └── a life whose keeper died is over: orphans are ended and a new life begins in the same process; what ran in
           the old one is settled like any lost attempt
deadline ─ 27 s after the first signal, or at the second: the keeper is killed, and with it everything
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import trio

from singd.cli.accept import Limits, accept
from singd.cli.arguments import count
from singd.cli.compose import Setup, life
from singd.cli.configured import add_limits
from singd.cli.node_name import node_name_of
from singd.cli.output import NO_PERMISSION, UNAVAILABLE, CommandError
from singd.cli.paths import Paths, find
from singd.core.units import counted
from singd.edges.catalogue import read_catalogue
from singd.edges.clock import SystemClock
from singd.edges.state_lock import take_lock
from singd.edges.worker import leftovers
from singd.edges.worker.keeper import KeeperClient
from singd.errors import KeeperGone
from singd.events import KeeperLost, Notice
from singd.journal import Journal
from singd.leadership import leaves
from singd.welcome import Welcome


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's own options: caps with safe defaults."""
    add_limits(parser)
    parser.add_argument("--max-processes", type=count, default=16, metavar="N", help="worker processes (16)")
    parser.add_argument(
        "--max-inline", type=count, default=1_000, metavar="N", help="inline attempts at a time (1000)"
    )


SHUTDOWN_S = 27.0
"""From the first signal to the end of patience: what is left of the deadline of 30 s is for killing."""


def run(args: argparse.Namespace) -> int:
    """Be the daemon until it is asked to end; 0 then.

    Raises:
        CommandError: The configuration is wrong and no good one is known (78).
        EdgeError: The environment does not let it start (69).
    """
    paths = find(config=args.config, state=args.state)
    _make(paths)
    lock = take_lock(paths.state / "lock", paths.state)
    try:
        setup = _setup(args, paths)
        os.environ[leftovers.VARIABLE] = mark = leftovers.mark_of(paths.state)
        if ended := leftovers.end_leftovers(mark):
            setup.welcome(
                Notice("warning", f"ended {counted(ended, 'process')} that a killed daemon had left")
            )
        _calm_collector()
        with _unwrapped():
            trio.run(_serve, setup, strict_exception_groups=True)
    finally:
        lock.release()
    return 0


def _calm_collector() -> None:
    """What was made so far stays, and what a full minute makes is alive all at once: looking at it every 700 objects,
    as Python does by default, costs a quarter of the runs a second and finds nothing."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _make(paths: Paths) -> None:
    try:
        paths.make()
    except OSError as error:
        denied = isinstance(error, PermissionError)
        raise CommandError(
            f"the directory {error.filename} cannot be made: {error.strerror}",
            cure="give --state a directory that this user may write to",
            exit=NO_PERMISSION if denied else UNAVAILABLE,
        ) from error


def _setup(args: argparse.Namespace, paths: Paths) -> Setup:
    catalogue = read_catalogue(paths.state / "cache", paths.plugins)
    limits = Limits(args.max_config_size, args.max_schedules)
    accepted = accept(paths.config, paths.state, catalogue, limits)
    node_name_of(accepted.config)  # a name that cannot be is told before anything starts
    clock = SystemClock()
    options = f" --state {paths.state}" if args.state and not os.environ.get("SINGD_STATE") else ""
    welcome = Welcome(Journal(sys.stderr, clock), clock, paths, options, accepted.warning)
    return Setup(paths, accepted, args.max_processes, args.max_inline, welcome, uuid.uuid4(), clock.now())


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
    stop, keepers = trio.Event(), Keepers()
    async with trio.open_nursery() as nursery:
        await nursery.start(_signals, stop, keepers, nursery)
        while not stop.is_set():
            keeper = keepers.new()
            try:
                await life(setup, keeper, stop)
            except* KeeperGone as gone:
                if not stop.is_set():
                    setup.welcome(KeeperLost(str(leaves(gone)[0])))
                await keeper.kill_orphans()
        nursery.cancel_scope.cancel()


class Keepers:
    """The keeper of the present life, for whoever has to end everything at once."""

    def __init__(self) -> None:
        self._keeper: KeeperClient | None = None

    def new(self) -> KeeperClient:
        """The next life's."""
        self._keeper = KeeperClient()
        return self._keeper

    def kill(self) -> None:
        """SIGKILL the keeper, running or frozen: the kernel ends its children, and the life is over."""
        if self._keeper is not None and self._keeper.pid:
            with suppress(ProcessLookupError):
                os.kill(self._keeper.pid, signal.SIGKILL)


async def _signals(
    stop: trio.Event, keepers: Keepers, nursery: trio.Nursery, *, task_status: trio.TaskStatus[None]
) -> None:
    """The first asks for a clean end within the shutdown deadline, the second ends everything at once."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                continue  # reload: not built in this version, and no reason to die
            if stop.is_set():
                keepers.kill()
            else:
                nursery.start_soon(_deadline, keepers)
            stop.set()


async def _deadline(keepers: Keepers) -> None:
    await trio.sleep(SHUTDOWN_S)
    keepers.kill()
