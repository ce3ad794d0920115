"""The real `singd run` as a subprocess: its configuration, its state directory, its lines, its sink.

Home ── state directory, configuration, plugin site; outlives daemons, so a second start finds its caches
  └── Daemon ── one process from fork to exit; a thread reads its lines and notes when it said that it is armed
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import procs

HERE = Path(__file__).resolve().parent
PROGRAM = Path(sys.executable).with_name("singd")
TASKS = HERE / "singd_bench_tasks" / "singd_bench_tasks.py"
TASK = {"inline": "bench_inline", "workers": "bench_worker"}
ARMED = re.compile(r"configuration\s+\S+: \d+ schedules?")
"""The daemon's own word (`singd.welcome`), told when the first term is armed."""
CAPS = ("--max-schedules", "10000", "--max-config-size", "16MiB", "--max-inline", "10000")
LINES_KEPT = 40
STOP_S = 60.0

Run = tuple[str, float, int]
"""Schedule, when its body began, process."""


class Home:
    """Where one bench's daemons live.

    Args:
        directory: Empty; the caller removes it.
        triggers: One a schedule, as TOML.
        kind: "inline" or "workers".
        url: The ledger's.
    """

    def __init__(self, directory: Path, triggers: Iterable[str], kind: str, url: str) -> None:
        self.state = directory / "state"
        self.config = directory / "singd.toml"
        self.python = environment(directory / "venv")
        self.kind = kind
        self.config.write_text(configuration(triggers, kind, url))

    @property
    def sink(self) -> Path:
        return self.state / "tasks" / TASK[self.kind] / "sink"

    def runs(self) -> list[Run]:
        """What the bodies wrote."""
        text = self.sink.read_text() if self.sink.exists() else ""
        fields = (line.split() for line in text.splitlines())
        return [(name, float(began), int(pid)) for name, began, pid in fields]

    @contextlib.contextmanager
    def daemon(self) -> Iterator[Daemon]:
        """A started daemon, stopped afterwards."""
        daemon = Daemon(self)
        try:
            yield daemon
        finally:
            daemon.stop()


class Daemon:
    """One `singd run`."""

    def __init__(self, home: Home) -> None:
        command = [
            home.python,
            PROGRAM,
            "run",
            "--state",
            home.state,
            "--config",
            home.config,
            *CAPS,
        ]
        ours = {key: value for key, value in os.environ.items() if not key.startswith(("SINGD_", "XDG_"))}
        self.armed_at = 0.0
        self.stopped_s = 0.0
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._armed = threading.Event()
        self.forked_at = time.time()
        self.process = subprocess.Popen(
            command, env={**ours, "SINGD_NODE_NAME": "bench"}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None, "asked for above"
        for line in self.process.stderr:
            if not self.armed_at and ARMED.search(line):
                self.armed_at = time.time()
                self._armed.set()
            self.lines.append(line.rstrip())
        self._armed.set()  # it ended: whoever waits looks

    @property
    def pids(self) -> list[int]:
        """Of the daemon, its keeper, its workers and servers."""
        return procs.tree(self.process.pid)

    def wait_armed(self, timeout_s: float = 120) -> float:
        """Seconds from the fork until it was armed.

        Raises:
            RuntimeError: It ended, or took too long; with its last lines.
        """
        self._armed.wait(timeout_s)
        if not self.armed_at:
            raise RuntimeError("the daemon is not armed:\n" + "\n".join(self.lines))
        return self.armed_at - self.forked_at

    def stop(self) -> None:
        """As systemd would; it must leave nothing behind."""
        if self.process.poll() is None:
            begin = time.time()
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.stopped_s = time.time() - begin
        self._reader.join(10)
        if self.process.stderr is not None:
            self.process.stderr.close()


@contextlib.contextmanager
def home(triggers: Iterable[str], kind: str, url: str) -> Iterator[Home]:
    """A home in a temporary directory; an embedded server's own user must be able to reach it."""
    directory = Path(tempfile.mkdtemp(prefix="singd-bench-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        yield Home(directory, triggers, kind, url)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def configuration(triggers: Iterable[str], kind: str, url: str) -> str:
    """One schedule a trigger, s00000 and on."""
    isolation = "inline" if kind == "inline" else "process"
    head = f'[database]\nurl = "{url}"\n\n[defaults]\nisolation = "{isolation}"\n'
    tables = (
        f'\n[schedules.s{number:05}]\ntask = "{TASK[kind]}"\n{trigger}\n'
        for number, trigger in enumerate(triggers)
    )
    return head + "".join(tables)


def environment(directory: Path) -> Path:
    """A virtual environment with the bench's tasks, over the one that runs this; its interpreter."""
    site = directory / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    install_tasks(site)
    packages = sysconfig.get_path("purelib")
    # This working tree first: what is measured is the code beside the bench, wherever it is checked out.
    (site / "workspace.pth").write_text(f"{HERE.parent.parent}\nimport site; site.addsitedir({packages!r})\n")
    base = Path(sys._base_executable)  # type: ignore[attr-defined]
    (directory / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    python = directory / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(base)
    return python


def install_tasks(site: Path) -> None:
    """The tasks as an installed distribution: the module and what an installer would write beside it."""
    information = site / "singd_bench_tasks-1.0.dist-info"
    information.mkdir(parents=True)
    source = TASKS.read_bytes()
    (site / TASKS.name).write_bytes(source)
    entries = "".join(f"{task} = singd_bench_tasks:{task}\n" for task in TASK.values())
    (information / "entry_points.txt").write_text(f"[singd.tasks]\n{entries}")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: singd-bench-tasks\nVersion: 1.0\n")
    (information / "RECORD").write_text(
        f"{TASKS.name},sha256={hashlib.sha256(source).hexdigest()},{len(source)}\n"
    )
