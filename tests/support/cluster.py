"""Three real daemons on one ledger, each behind a link of its own, with a witness beside them.

    Cluster ── Pair (primary, standby)     tests/support/pg_pair.py
            ├─ Proxy (a link a node)       tests/support/tcp_proxy.py
            ├─ witness                     tests/support/witness.py
            └─ Node "a", "b", "c"          home/{singd.toml, state/, log, clock}; in a network namespace where root allows

The harness itself reaches Postgres by its unix socket, which no fault touches.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from support import false_clock, netns
from support.daemon import alive
from support.false_clock import VARIABLE
from support.pg_pair import Pair, binaries_for_pairs
from support.tcp_proxy import Proxy
from support.witness import witness

TESTS = Path(__file__).resolve().parent.parent
TREE = Path(os.environ.get("SINGD_CHAOS_TREE", TESTS.parent))
"""The checkout that is tested: the one the tests stand in, unless told otherwise."""
TASKS = TESTS / "chaos" / "tasks"
PLUGIN = "singd_chaos_tasks"
ENTRIES = ("chaos_inline", "chaos_worker")
DATABASE, ROLE = "ledger", "node"
START = "import sys; from singd.cli.main import main; sys.exit(main())"

LEADER = b"""
SELECT l.epoch, l.node, l.backend_pid FROM singd.leader l JOIN pg_locks k
    ON k.pid = l.backend_pid AND k.locktype = 'advisory' AND k.granted AND k.classid = 20944
"""


def python_with_tasks(directory: Path) -> Path:
    """An interpreter of a virtual environment over this one, in which the chaos tasks are installed."""
    site = directory / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    information = site / f"{PLUGIN}-1.0.dist-info"
    information.mkdir(parents=True)
    source = (TASKS / f"{PLUGIN}.py").read_bytes()
    (site / f"{PLUGIN}.py").write_bytes(source)
    entries = "".join(f"{name} = {PLUGIN}:{name}\n" for name in ENTRIES)
    (information / "entry_points.txt").write_text(f"[singd.tasks]\n{entries}")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: singd-chaos-tasks\nVersion: 1.0\n")
    digest = hashlib.sha256(source).hexdigest()
    (information / "RECORD").write_text(f"{PLUGIN}.py,sha256={digest},{len(source)}\n")
    packages = sysconfig.get_path("purelib")
    (site / "workspace.pth").write_text(f"{TREE}\nimport site; site.addsitedir({packages!r})\n")
    base = Path(sys._base_executable)  # type: ignore[attr-defined]
    (directory / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    python = directory / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(base)
    return python


@dataclass
class Node:
    """One daemon's place, and the daemon that lives there now."""

    name: str
    home: Path
    python: Path
    config: str
    namespace: netns.Namespace | None = None
    faked: bool = False
    program: Sequence[str] = ("-c", START)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def __post_init__(self) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        self.configure(self.config)
        if self.faked:
            self.step_clock(0)

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def file(self) -> Path:
        return self.home / "singd.toml"

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def configure(self, text: str) -> None:
        """Another file in the place of the configuration."""
        self.file.write_text(text)

    def step_clock(self, seconds: int) -> None:
        """Its wall clock is so far ahead from now on (not the steady clocks)."""
        fresh = self.home / "clock.new"
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self.home / "clock")

    def environment(self, state: Path | None = None) -> dict[str, str]:
        """Nothing of the caller's settings; a false clock where wanted."""
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("SINGD_", "XDG_", "PG"))
        }
        ours = {"SINGD_STATE": str(state or self.state), "SINGD_CONFIG": str(self.file), "SINGD_NODE_NAME": self.name}  # fmt: skip
        return {**kept, **ours, **({VARIABLE: str(self.home / "clock")} if self.faked else {})}

    def spawn(self, state: Path | None = None, log: Path | None = None) -> subprocess.Popen[bytes]:
        """A daemon under this name; another state directory makes it a second one."""
        prefix = self.namespace.prefix if self.namespace else []
        process = subprocess.Popen(
            [*prefix, self.python, *self.program, "run"], env=self.environment(state), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/", start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=_stamp, args=(process, log or self.log), daemon=True).start()
        return process

    def start(self) -> None:
        """Unless it is there."""
        if not self.lives():
            self.starts += 1
            self.process = self.spawn()

    def lives(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        """To the daemon; one that is gone is no error."""
        if self.lives():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and until it is gone."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(10)

    def stop(self, patience_s: float = 40.0) -> float:
        """SIGTERM, and until it is gone: the seconds it took.

        Raises:
            subprocess.TimeoutExpired: It did not.
        """
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        if self.process is not None:
            self.process.wait(patience_s)
        return time.monotonic() - began

    def tree(self) -> dict[int, str]:
        """Its processes, the daemon first: pid -> start time and words, which tell it from a later one's pid."""
        return process_tree(self.pid) if self.lives() else {}

    def keeper(self) -> int | None:
        """The pid of its keeper."""
        for pid, words in self.tree().items():
            if "keeper" in words and pid != self.pid:
                return pid
        return None


def _stamp(process: subprocess.Popen[bytes], log: Path) -> None:
    """Write down what a daemon says, each line with the true time of its arrival."""
    assert process.stdout is not None
    with process.stdout as said, log.open("ab", buffering=0) as out:
        for line in said:
            out.write(b"%.3f %s" % (time.time(), line))


def process_tree(root: int) -> dict[int, str]:
    """A process and its descendants: pid -> start time and command line."""
    parents, found = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                parents[int(entry.name)] = (int(fields[1]), f"{fields[19]} {words}")
    queue = [root]
    for pid in queue:
        if pid in parents:
            found[pid] = parents[pid][1]
            queue += [child for child, (parent, _) in parents.items() if parent == pid]
    return found


def still_there(tree: dict[int, str]) -> list[str]:
    """Of a tree seen earlier, who is alive now (a pid used again is somebody else)."""
    found = []
    for pid in alive(list(tree)):
        with contextlib.suppress(OSError):
            started = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
            if started == tree[pid].split()[0]:
                found.append(f"{pid} {tree[pid]}")
    return found


@dataclass
class Cluster:
    """Everything a chaos run needs, running."""

    directory: Path
    pair: Pair
    proxy: Proxy
    nodes: list[Node]
    witness_address: Path
    witness_file: Path
    missing: dict[str, str] = field(default_factory=dict)
    """What this machine cannot do, and why: "netns", "pgbouncer", "tmpfs"."""

    def leader(self) -> tuple[int, str, int] | None:
        """Epoch, node and backend of the leader, by the server's own locks; None = nobody, or no answer."""
        with (
            contextlib.suppress(psycopg.Error),
            psycopg.connect(
                self.pair.primary.conninfo(DATABASE), options="-c statement_timeout=1s"
            ) as asking,
        ):
            rows = asking.execute(LEADER).fetchall()
            if rows:
                epoch, node, pid = rows[0]
                return int(str(epoch)), str(node), int(str(pid))
        return None

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def point(self, port: int, nodes: Sequence[Node] | None = None) -> None:
        """New connections of these nodes (all) lead to this local port from now on."""
        for node in self.nodes if nodes is None else nodes:
            self.proxy.tell(node.name, "upstream", upstream=["127.0.0.1", port])

    def start(self) -> None:
        """All nodes."""
        for node in self.nodes:
            node.start()

    def end(self) -> None:
        """Whatever is left of anybody."""
        trees = {}
        for node in self.nodes:
            trees |= node.tree()
            for pid in node.tree():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.stop(15)
            node.kill()
        until = time.monotonic() + 10
        while (left := still_there(trees)) and time.monotonic() < until:
            time.sleep(0.05)
        for line in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)


def what_is_missing() -> dict[str, str]:
    """The parts that faults need and this machine does not have."""
    found = {"netns": netns.refusal()}
    found["pgbouncer"] = "" if Path("/usr/sbin/pgbouncer").exists() else "pgbouncer is not installed"
    found["tmpfs"] = "" if os.geteuid() == 0 and _mounts() else "not root, or mounts are refused"
    return {key: why for key, why in found.items() if why}


def _mounts() -> bool:
    with tempfile.TemporaryDirectory(prefix="singd-mount-") as directory:
        tried = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory], capture_output=True
        )
        if tried.returncode == 0:
            subprocess.run(["umount", directory], capture_output=True)
        return tried.returncode == 0


Configure = Callable[[str, Path, Path], str]
"""(url of the ledger, the witness's address, the directory) -> the TOML of a node."""


@contextlib.contextmanager
def cluster(
    configure: Configure,
    *,
    names: Sequence[str] = ("a", "b", "c"),
    program: Sequence[str] = ("-c", START),
    with_standby: bool = True,
    prepare: Callable[[Pair], None] = lambda pair: None,
    keep: Callable[[], bool] = lambda: False,
) -> Iterator[Cluster]:
    """A cluster whose nodes are not started yet.

    Args:
        prepare: Called when the ledger's database is there and empty.
        keep: Asked at the end: whether to leave the directory for whoever looks into what went wrong.
    """
    directory = Path(tempfile.mkdtemp(prefix="singd-chaos-", dir="/tmp"))
    directory.chmod(0o755)
    missing = what_is_missing()
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: None if keep() else shutil.rmtree(directory, ignore_errors=True))
        pair = Pair(binaries_for_pairs(directory), directory, with_standby=with_standby)
        stack.callback(pair.stop)
        pair.start()
        pair.primary.execute(f"CREATE ROLE {ROLE} LOGIN")
        pair.primary.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
        prepare(pair)
        proxy = Proxy()
        stack.callback(proxy.close)
        address, file = stack.enter_context(witness(directory))
        spaces = stack.enter_context(netns.namespaces(0 if "netns" in missing else len(names)))
        python = python_with_tasks(directory / "venv")
        nodes = []
        for number, name in enumerate(names):
            space = spaces[number] if spaces else None
            host = space.host if space else "127.0.0.1"
            port = proxy.tell(name, "listen", host=host, upstream=["127.0.0.1", pair.primary.port])
            url = f"postgresql://{ROLE}@{host}:{port}/{DATABASE}"
            home = directory / name
            if "tmpfs" not in missing:
                (home / "state").mkdir(parents=True)
                mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", home / "state"]
                subprocess.run(mount, check=True, capture_output=True)
                stack.callback(subprocess.run, ["umount", "-l", home / "state"], capture_output=True)
            faked = name == names[-1] and program[-1] == START
            starting = (false_clock.__file__,) if faked else program
            config = configure(url, address, directory)
            nodes.append(Node(name, home, python, config, space, faked, starting))
        made = Cluster(directory, pair, proxy, nodes, address, file, missing)
        stack.callback(made.end)
        yield made
