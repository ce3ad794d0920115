"""The daemons of a drill: real `singd run` processes, each with a state directory of its own.

They are children of the drill, and end with it whatever ends it: the kernel kills them (PR_SET_PDEATHSIG), their
keepers end what they ran. What they run writes a line into the witness, a file outside the ledger:

    schedule  due instant  attempt  epoch
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cache, partial
from itertools import count, islice
from math import isqrt
from pathlib import Path

import trio

import singd
from singd.cli.client import ask
from singd.cli.paths import find
from singd.core.units import format_duration
from singd.drill.tally import Instant
from singd.edges.worker import leftovers, proctree
from singd.errors import EdgeError

LEDGER_VARIABLE = "SINGD_DRILL_LEDGER"
"""Where a daemon of a drill finds the ledger's url: it is in no file and in no argument."""
TASKS, TASKS_FROM_MS = 100, 1601
COMMANDS, COMMANDS_FROM_MS = 8, 3001
"""So many schedules, every so many milliseconds: the primes from there on, so hardly two are ever due at once.

Together about 50 instants a second, so the next is never far. Most run a task inside the daemon, as cheap as a run can
be, for the database and the machine are the operator's; a few start a process."""
STOP_S = 35.0
"""A clean stop ends within 30 s; what does not is killed."""

TASK = "singd_drill_witness"
_RUN = "import sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[1:3]; from singd.cli.main import main; sys.exit(main())"
_OURS = str(Path(singd.__file__).parents[1])
"""What is drilled is the program that drills, wherever it was started from."""
_TELL = 'echo "$SINGD_SCHEDULE $SINGD_DUE_AT $SINGD_ATTEMPT $SINGD_EPOCH" >>"$0"'
_METADATA = {
    "METADATA": "Metadata-Version: 2.1\nName: singd-drill\nVersion: 1\n",
    "RECORD": "",
    "entry_points.txt": f"[singd.tasks]\n{TASK} = singd.drill.witness:witness\n",
}


@cache
def schedules() -> Mapping[str, timedelta]:
    """Schedule -> its interval."""
    tasks = {f"task_{ms}ms": ms for ms in islice(_primes(TASKS_FROM_MS), TASKS)}
    commands = {f"command_{ms}ms": ms for ms in islice(_primes(COMMANDS_FROM_MS), COMMANDS)}
    return {name: timedelta(milliseconds=ms) for name, ms in (tasks | commands).items()}


def _primes(least: int) -> Iterator[int]:
    return (n for n in count(least) if all(n % d for d in range(2, isqrt(n) + 1)))


def configuration(schema: str, witness: Path) -> str:
    """The daemons' file. A run of which nobody knows the end must not hold up the next: overlap is allowed."""
    file = _quoted(str(witness))
    call = {
        "task": f"task = {_quoted(TASK)}\nargs = {{file = {file}}}\n",
        "command": f'command = ["/bin/sh", "-c", {_quoted(_TELL)}, {file}]\n',
    }
    head = f'[database]\nurl = {{env = "{LEDGER_VARIABLE}"}}\nschema = "{schema}"\n'
    tables = (
        f'\n[schedules.{name}]\nevery = "{format_duration(step)}"\n{call[name.partition("_")[0]]}'
        'overlap = "allow"\ntimeout = "10s"\n'
        for name, step in schedules().items()
    )
    return head + "".join(tables)


def _quoted(text: str) -> str:
    """As a TOML string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def offer_task(site: Path) -> None:
    """Make the drill's task one that is installed, for its daemons only: what an installer would write."""
    information = site / "singd_drill-1.dist-info"
    information.mkdir(parents=True)
    for name, text in _METADATA.items():
        (information / name).write_text(text)


def witnessed(witness: Path) -> Sequence[Instant]:
    """What the bodies told; a body that was killed while it wrote leaves at most its last line unfinished."""
    lines = witness.read_text().splitlines(keepends=True) if witness.exists() else []
    words = [line.split() for line in lines if line.endswith("\n")]
    return [(word[0], datetime.fromisoformat(word[1])) for word in words if len(word) == 4]


class Node:
    """One daemon after another under one name; `ledger` is the url it is given."""

    def __init__(self, name: str, directory: Path, ledger: str) -> None:
        self.name = name
        self.state = directory / name
        self._config = directory / "singd.toml"
        self._site = directory / "site"
        self._log = directory / f"{name}.log"
        self.ledger = ledger
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether its process is there, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start a daemon; returns at once."""
        options = ["--config", str(self._config), "--state", str(self.state)]
        command = [sys.executable, "-c", _RUN, _OURS, str(self._site), "run", *options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        """Ours, without what would make it another daemon than the one meant."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SINGD_", "XDG_"))}
        return {**kept, LEDGER_VARIABLE: self.ledger, "SINGD_NODE_NAME": self.name}

    def kill(self) -> float:
        """SIGKILL; the moment it was sent, on this machine's clock."""
        return self._signal(signal.SIGKILL)

    def freeze(self) -> float:
        """SIGSTOP; as `kill`."""
        return self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def stop(self) -> float:
        """SIGTERM; as `kill`."""
        return self._signal(signal.SIGTERM)

    async def resign(self) -> float:
        """Ask it to hand leadership over, as `singd resign` does; as `kill`."""
        sent = time.time()
        paths = find(config=self._config, state=self.state, environ={})
        await trio.to_thread.run_sync(partial(ask, paths, "resign"), abandon_on_cancel=True)
        return sent

    def _signal(self, number: signal.Signals) -> float:
        if self._process is None:
            raise EdgeError(f"{self.name} is not running")
        sent = time.time()
        self._process.send_signal(number)
        return sent

    async def gone(self, within_s: float) -> None:
        """Until its process has ended; it is killed after so long."""
        with trio.move_on_after(within_s):
            while self.alive:  # noqa: ASYNC110 - a process has no event
                await trio.sleep(0.02)
        if self.alive and self._process is not None:
            self._process.kill()
            await trio.to_thread.run_sync(self._process.wait)

    def end_leftovers(self) -> None:
        """What a killed daemon's keeper has not ended yet. Blocks for up to two seconds."""
        leftovers.end_leftovers(leftovers.mark_of(self.state))

    def last_words(self) -> str:
        """The last line of its log, which is the error that ended it."""
        with suppress(OSError):
            lines = self._log.read_text(errors="replace").splitlines()
            return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return "it said nothing"


class Cluster:
    """All nodes of a drill."""

    def __init__(self, number: int, directory: Path, schema: str, ledger: str) -> None:
        self.witness = directory / "witness"
        self._config = directory / "singd.toml"
        self._config.write_text(configuration(schema, self.witness))
        offer_task(directory / "site")
        names = [f"drill-{nth}" for nth in range(1, number + 1)]
        self.nodes = {name: Node(name, directory, ledger) for name in names}

    def start(self) -> None:
        """All at once."""
        for node in self.nodes.values():
            node.start()

    def dead(self) -> Sequence[Node]:
        """Those whose process is not there."""
        return [node for node in self.nodes.values() if not node.alive]

    def kill(self) -> None:
        """All at once; whoever waits for their end has it."""
        for node in self._living():
            node.kill()

    async def end(self, patience_s: float = STOP_S) -> int:
        """A clean stop of all, then KILL; nothing of them is left afterwards.

        Returns:
            How many daemons there were to end.
        """
        living = self._living()
        for node in living:
            node.stop()
            node.thaw()
        async with trio.open_nursery() as nursery:
            for node in living:
                nursery.start_soon(node.gone, patience_s)
        for node in self.nodes.values():
            await trio.to_thread.run_sync(node.end_leftovers)
        return len(living)

    def _living(self) -> Sequence[Node]:
        return [node for node in self.nodes.values() if node.alive]


def _die_with_parent() -> None:
    """In the child, before the program: a drill that is killed leaves no daemon behind."""
    proctree.prctl(proctree.PR_SET_PDEATHSIG, signal.SIGKILL)
