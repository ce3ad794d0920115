"""What the chaos cluster runs, and an oracle that knows on its own which instants that makes.

The oracle shares no code with singd: `every` is a whole multiple since the epoch, and the only cron expressions used are
"every N seconds", so an instant is a multiple of the interval, and that is all there is to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LEASE_S = 5.0
MICRO = 1_000_000


@dataclass(frozen=True)
class Line:
    """A schedule of the run.

    Attributes:
        every_ms: Its interval.
        body: "inline", "worker" or "command".
        seconds: How long a good body takes.
        fail: Of ten instants, how many fail (always the same ones).
        obeys: Whether its bodies take orders to misbehave.
        policy: Keys of the configuration, as TOML values.
        cron: Written as a cron expression instead of `every`.
        scope: "node": every node runs its own, from its own journal.
    """

    name: str
    every_ms: int
    body: str
    seconds: float = 0.0
    fail: int = 0
    obeys: bool = False
    cron: bool = False
    scope: str = "cluster"
    policy: dict[str, str | int] = field(default_factory=dict)

    @property
    def at_least_once(self) -> bool:
        return self.policy.get("delivery") == "at_least_once"

    @property
    def overlap(self) -> str:
        return str(self.policy.get("overlap", "skip"))

    @property
    def retries(self) -> int:
        return int(self.policy.get("retries", 0))

    @property
    def steady(self) -> bool:
        """Whether every instant has to run when all is well: its body is done before the next."""
        return self.seconds * 1000 * 2 <= self.every_ms and not self.obeys

    def instants(self, after_us: int, until_us: int) -> Iterator[int]:
        """Its instants in (after, until], in microseconds since the epoch."""
        step = self.every_ms * 1000
        return iter(range((after_us // step + 1) * step, until_us + 1, step))

    def toml(self, witness: Path, directory: Path) -> str:
        """Its table."""
        trigger = (
            f'cron = "*/{self.every_ms // 1000} * * * * *"\nseconds = true'
            if self.cron
            else f'every = "{self.every_ms}ms"'
        )
        keys = [f"{key} = {_value(value)}" for key, value in self.policy.items()]
        lines = [f"[schedules.{self.name}]", trigger, f'scope = "{self.scope}"', *keys]
        if self.body == "command":
            tell = Path(__file__).with_name("tasks") / "tell.py"
            words = ["/usr/bin/python3", "-S", "-E", str(tell), str(witness), str(self.seconds)]
            return "\n".join([*lines, f"command = {_value(words)}", ""])
        lines += [f'task = "chaos_{self.body}"', f"[schedules.{self.name}.args]", f'witness = "{witness}"']
        lines += [f"seconds = {self.seconds:.2f}", f"fail = {self.fail}"]
        if self.obeys:
            lines.append(f'orders = "{directory / "orders"}"')
        return "\n".join([*lines, ""])


def _value(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


ALO = {"delivery": "at_least_once"}
NO_BACKLOG = {"grace": "2s", "catch_up": "latest"}
"""For bodies that are as long as their interval: backlog runs one after another, and would never end."""
LINES = (
    Line("inline_once", 500, "inline", 0.05),
    Line("inline_again", 1000, "inline", 0.2, policy={**ALO, "overlap": "queue"}),
    Line("inline_many", 1000, "inline", 1.5, policy={**ALO, **NO_BACKLOG, "overlap": "allow"}),
    Line("inline_all", 1000, "inline", 0.0, policy={"grace": "5s", "catch_up": "all", "overlap": "queue"}),
    Line("inline_latest", 1000, "inline", 0.0, policy={"grace": "2s", "catch_up": "latest"}),
    Line("inline_none", 1000, "inline", 0.0, policy={"grace": "2s", "catch_up": "none"}),
    Line("by_cron", 2000, "inline", 0.1, cron=True, policy={"overlap": "queue"}),
    Line("inline_flaky", 1000, "inline", 0.05, fail=3, policy={"retries": 2, "backoff": "100ms..1s", "overlap": "queue"}),
    Line("worker_once", 1000, "worker", 0.1),
    Line("worker_again", 2000, "worker", 0.4, policy={**ALO, "overlap": "queue"}),
    Line("worker_flaky", 2000, "worker", 0.2, fail=3, obeys=True, policy={**ALO, **NO_BACKLOG, "retries": 2, "backoff": "100ms..1s", "timeout": "3s"}),
    Line("worker_wild", 2000, "worker", 0.1, obeys=True, policy={**NO_BACKLOG, "timeout": "3s"}),
    Line("long_again", 5000, "worker", 4.0, policy={**ALO, **NO_BACKLOG}),
    Line("long_once", 3000, "worker", 2.5, policy=NO_BACKLOG),
    Line("replaced", 3000, "worker", 4.0, policy={**NO_BACKLOG, "overlap": "replace"}),
    Line("plain", 2000, "command", 0.2),
    Line("own_inline", 1000, "inline", 0.05, scope="node"),
    Line("own_worker", 2000, "worker", 0.3, scope="node", policy={**ALO, "overlap": "queue"}),
)  # fmt: skip


def configuration(url: str, witness: Path, directory: Path, lines: tuple[Line, ...] = LINES) -> str:
    """The file of a node."""
    head = f'[database]\nurl = "{url}"\n\n'
    return head + "\n".join(line.toml(witness, directory) for line in lines)
