"""`singd drill`: proves failover on the operator's own database, in a scratch schema, with real daemons.

Where the configured ledger is embedded, a server like it is started in the drill's own temporary directory.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import cycle, islice
from pathlib import Path

import trio

from singd.cli.arguments import count
from singd.cli.configured import add_limits, good
from singd.cli.databases import EMBEDDED_LEDGER, RUNTIME_ROLE, Databases
from singd.cli.output import FAILED, OK, paint, print_json, printable, say
from singd.cli.paths import find
from singd.core.config import EMBEDDED, Config
from singd.core.units import parse_duration
from singd.drill import words
from singd.drill.gaps import MEANS, ROTATION, Fault
from singd.drill.rounds import Drill, Plan
from singd.drill.scratch import Login
from singd.edges.embedded.postgres import EmbeddedPostgres
from singd.edges.worker import proctree
from singd.edges.worker.keeper import KeeperClient
from singd.leadership import leaves

NODES_LEAST, NODES_MOST = 2, 9
EVERY_S = 5.0
"""Between two lines where nobody watches."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--nodes", type=_nodes, default=3, metavar="N", help="daemons to start, 2 to 9 (3)")
    parser.add_argument(
        "--rounds", type=count, default=20, metavar="N", help="faults, one after another (20)"
    )
    parser.add_argument(
        "--seconds", type=_seconds, metavar="TIME", help="no new fault after this long, e.g. 2m"
    )
    parser.add_argument(
        "--faults",
        type=_faults,
        default=ROTATION,
        metavar="KIND,…",
        help="of these kinds, in turn: " + ", ".join(f"{fault} ({MEANS[fault]})" for fault in Fault),
    )
    parser.add_argument("--url", metavar="URL", help="the database to drill on; else the configured ledger's")
    add_limits(parser)


def _nodes(text: str) -> int:
    number = count(text)
    if NODES_LEAST <= number <= NODES_MOST:
        return number
    raise argparse.ArgumentTypeError(f"a drill has {NODES_LEAST} to {NODES_MOST} nodes")


def _seconds(text: str) -> float:
    try:
        return parse_duration(f"{text}s" if text.isdigit() else text).total_seconds()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _faults(text: str) -> Sequence[Fault]:
    try:
        return [Fault(word.strip()) for word in text.split(",") if word.strip()]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; there are {', '.join(Fault)}") from None


def run(args: argparse.Namespace) -> int:
    """Drill; 0 if every promise was kept, 1 otherwise.

    Raises:
        EdgeError: There is no database to drill on (69).
        MayNot: The login may not make a schema there (77).
        KeyboardInterrupt: It was interrupted, and has cleaned up.
    """
    faults = tuple(islice(cycle(args.faults), args.rounds))
    plan, tell = Plan(args.nodes, faults, args.seconds), Teller(len(faults), args.json)
    try:
        outcome, interrupted = trio.run(_drill, args, plan, tell)
    except BaseExceptionGroup as group:
        raise leaves(group)[0] from None
    if args.json:
        print_json("drill", words.as_json(outcome))
    else:
        tell.account(outcome)
    if interrupted:
        raise KeyboardInterrupt
    return OK if words.passed(outcome) else FAILED


class Teller:
    """Says what happens: each round to a terminal, a line now and then to anything else."""

    def __init__(self, rounds: int, quiet: bool) -> None:
        self._rounds = rounds
        self._out = sys.stderr if quiet else sys.stdout
        self._watched = self._out.isatty()
        self._quiet = quiet and not self._watched
        self._next = 0.0

    def round(self, done: words.Round) -> None:
        """One round is over."""
        now = time.monotonic()
        if self._watched or now >= self._next or done.number == self._rounds:
            self._next = now + EVERY_S
            self.line(words.round_line(done, self._rounds))

    def line(self, text: str) -> None:
        """Anything else."""
        if not self._quiet:
            print(printable(text), file=self._out, flush=True)

    def account(self, outcome: words.Outcome) -> None:
        """All of it, the verdict last."""
        print()
        for line in words.account_lines(outcome):
            print(printable(line))
        for style, label, lines in (
            ("yellow", "left behind", outcome.left),
            ("yellow", "WARNING", outcome.warnings()),
            ("red", "VIOLATION", outcome.violations()),
        ):
            for line in lines:
                print(paint(printable(f"{label}: {line}"), style))
        print(
            paint(printable(words.verdict_line(outcome)), "green" if words.passed(outcome) else "red"),
            flush=True,
        )


async def _drill(args: argparse.Namespace, plan: Plan, tell: Teller) -> tuple[words.Outcome, bool]:
    with _directory() as directory:
        async with _login(args, directory) as login, trio.open_nursery() as nursery:
            drill = Drill(plan, login, directory, tell.round, tell.line)
            tell.line(f"{plan.nodes} daemons on {login.where}, schema {drill.scratch.schema}")
            heard = await nursery.start(_signals, drill)
            outcome = await drill.run()
            nursery.cancel_scope.cancel()
    return outcome, heard.is_set()


@contextmanager
def _directory() -> Iterator[Path]:
    """A temporary one, gone afterwards; an embedded server of root's runs as another account, which must pass."""
    directory = Path(tempfile.mkdtemp(prefix="singd-drill-"))
    try:
        directory.chmod(0o711)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _signals(drill: Drill, *, task_status: trio.TaskStatus[trio.Event]) -> None:
    """The first asks for an early end, the second does not wait for the daemons' clean stop either."""
    heard = trio.Event()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started(heard)
        async for _ in signals:
            if heard.is_set():
                drill.cluster.kill()
            else:
                say("singd: ending the drill; what it made is removed")
                heard.set()
                drill.interrupt()


@asynccontextmanager
async def _login(args: argparse.Namespace, directory: Path) -> AsyncIterator[Login]:
    """The database: by URL, or a server of the drill's own."""
    if args.url:
        yield Login(args.url, args.url, "the database of --url")
        return
    config = good(args, find(config=args.config, state=args.state))
    if config.database.url == EMBEDDED:
        async with _server(directory) as login:
            yield login
    else:
        yield _configured(config)


def _configured(config: Config) -> Login:
    databases = Databases(config)
    url = databases.ledger("runtime")
    return Login(url, url, databases.describe())


@asynccontextmanager
async def _server(directory: Path) -> AsyncIterator[Login]:
    """A private embedded server, like the one that the configured ledger is in."""
    keeper = KeeperClient()
    keeper.start()
    # The keepers of killed daemons are not ours to reap.
    proctree.prctl(proctree.PR_SET_CHILD_SUBREAPER, 0)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.serve)
            server = await EmbeddedPostgres.start(keeper, directory / "server", (), ledger=EMBEDDED_LEDGER)
            nursery.start_soon(server.serve)
            try:
                owner, runtime = (server.conninfo(EMBEDDED_LEDGER, role) for role in ("migrator", "runtime"))
                yield Login(owner, runtime, server.describe(), RUNTIME_ROLE)
            finally:
                await server.stop()
                nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await keeper.stop()
