"""A network namespace for one daemon, and its packets dropped by the kernel: what no proxy can imitate."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator

_numbers = itertools.count()


def _run(*words: str, check: bool = True) -> None:
    subprocess.run(words, check=check, capture_output=True, timeout=20)


def iptables() -> str:
    """The program: the legacy one where there is one, as the other needs nf_tables in the kernel."""
    return shutil.which("iptables-legacy") or shutil.which("iptables") or ""


class Namespace:
    """A namespace joined to the host by a pair of interfaces: `host` is the near end's address."""

    def __init__(self) -> None:
        number = next(_numbers)
        self.name = f"sgd{os.getpid()}n{number}"
        self._near = f"sg{os.getpid() % 1_000_000}a{number}"
        net = f"10.{200 + os.getpid() % 50}.{(os.getpid() // 50) % 250}.{number * 4}"
        stem, last = net.rsplit(".", 1)
        self.host, self.guest = f"{stem}.{int(last) + 1}", f"{stem}.{int(last) + 2}"

    @property
    def prefix(self) -> list[str]:
        """What makes a command run inside."""
        return ["ip", "netns", "exec", self.name]

    def open(self) -> None:
        far = self._near.replace("a", "b")
        _run("ip", "netns", "add", self.name)
        _run("ip", "link", "add", self._near, "type", "veth", "peer", "name", far, "netns", self.name)
        _run("ip", "addr", "add", f"{self.host}/30", "dev", self._near)
        _run("ip", "link", "set", self._near, "up")
        _run(*self.prefix, "ip", "addr", "add", f"{self.guest}/30", "dev", far)
        _run(*self.prefix, "ip", "link", "set", far, "up")
        _run(*self.prefix, "ip", "link", "set", "lo", "up")

    def close(self) -> None:
        _run("ip", "link", "del", self._near, check=False)
        _run("ip", "netns", "del", self.name, check=False)

    def rule(self, *words: str) -> None:
        """Add a rule, as in `rule("OUTPUT", "-j", "DROP")`."""
        _run(*self.prefix, iptables(), "-w", "5", "-A", *words)

    def heal(self) -> None:
        """Remove every rule."""
        _run(*self.prefix, iptables(), "-w", "5", "-F")


def refusal() -> str:
    """Why there can be no namespaces here; "" = there can."""
    if os.geteuid() != 0:
        return "not root"
    if not shutil.which("ip") or not iptables():
        return "iproute2 or iptables is not installed"
    trial = Namespace()
    try:
        trial.open()
        trial.rule("OUTPUT", "-p", "tcp", "-j", "DROP")
    except subprocess.CalledProcessError as error:
        return f"the kernel refuses: {error.stderr.decode(errors='replace').strip()[:100]}"
    finally:
        trial.close()
    return ""


@contextlib.contextmanager
def namespaces(count: int) -> Iterator[list[Namespace]]:
    """So many, removed afterwards."""
    made = [Namespace() for _ in range(count)]
    try:
        for namespace in made:
            namespace.open()
        yield made
    finally:
        for namespace in made:
            namespace.close()
