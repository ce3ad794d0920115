"""The real `singd run` for the integration ring: a private state directory, its own embedded Postgres."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SINGD = Path(sys.executable).with_name("singd")
PATIENCE_S = 60.0


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A directory with a short path that other accounts may pass, as sockets and root's embedded server need."""
    path = Path(tempfile.mkdtemp(prefix="singd-", dir="/tmp"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def eventually(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Poll until the condition answers something true; its answer."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not within {patience_s:g} s: {what}")


class Machine:
    """A place where daemons live one after another."""

    def __init__(self, directory: Path, config: str, name: str = "it") -> None:
        self.directory = directory
        self.name = name
        self.state = directory / "state"
        self.config = directory / "singd.toml"
        self.log = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.configure(config)

    def configure(self, config: str) -> None:
        self.config.write_text(config)

    def environment(self) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("SINGD_", "XDG_", "PG"))
        }
        return {
            **kept,
            "SINGD_STATE": str(self.state),
            "SINGD_CONFIG": str(self.config),
            "SINGD_NODE_NAME": self.name,
        }

    def start(self, *options: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [SINGD, "run", *options], env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd="/", start_new_session=True,
            )  # fmt: skip

    def lead(self, *options: str) -> None:
        """Start, and wait until it leads."""
        self.start(*options)
        self.wait_leading()

    def wait_leading(self) -> None:
        eventually(self._leads, f"leading\n{self.log.read_text()[-3000:]}")

    def _leads(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"it ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
        answer = self.ask("status", check=False)
        return bool(answer) and answer["status"]["state"] == "leading"

    def ask(self, *words: str, check: bool = True) -> Any:
        """The JSON answer of a verb; None where it failed and `check` is false."""
        done = subprocess.run(
            [SINGD, *words, "--json"], env=self.environment(), capture_output=True, text=True, timeout=60
        )
        if done.returncode and not check:
            return None
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def tell(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What a person sees of a verb."""
        return subprocess.run(
            [SINGD, *words], env=self.environment(), capture_output=True, text=True, timeout=60
        )

    def runs(self, name: str = "", most: int = 1000, *, check: bool = True) -> list[dict[str, Any]]:
        answer = self.ask("runs", *([name] if name else []), "-n", str(most), check=check)
        return list(answer["runs"]) if answer else []

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def stop(self) -> int:
        """A clean stop; the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(45)

    def processes(self) -> list[tuple[int, str]]:
        """Every process that names the directory, in its arguments, working directory or environment."""
        found, mark = [], os.fsencode(str(self.directory))
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes()
                    inside = os.readlink(entry / "cwd").startswith(str(self.directory))
                    if mark in words or inside or mark in (entry / "environ").read_bytes():
                        found.append((int(entry.name), words.replace(b"\0", b" ").decode(errors="replace")))
        return found

    def tree(self) -> list[int]:
        """The daemon and all its descendants."""
        assert self.process is not None
        parents: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        tree = [self.process.pid]
        for pid in tree:
            tree.extend(child for child, parent in parents.items() if parent == pid)
        return tree


def alive(pids: list[int]) -> list[int]:
    """Those that exist and are no zombies."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                found.append(pid)
    return found


@contextlib.contextmanager
def machine(config: str, name: str = "it") -> Iterator[Machine]:
    """A machine whose last daemon is ended, whatever happened."""
    with short_directory() as directory:
        it = Machine(directory, config, name)
        try:
            yield it
        finally:
            if it.process is not None and it.process.poll() is None:
                it.kill(signal.SIGCONT)
                tree = it.tree()
                try:
                    it.stop()
                except subprocess.TimeoutExpired:
                    it.kill()
                    it.process.wait(10)
                eventually(lambda: not alive(tree), f"the end of {tree}", 25)


def account() -> str:
    """Who runs the tests."""
    return pwd.getpwuid(os.geteuid()).pw_name
