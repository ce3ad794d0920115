"""What a run left behind, read afterwards from three sources that no fault could touch together.

witness.jsonl ──▶ bodies          what really ran, when, in which process
ledger + audit ─▶ rows, attempts, changes with their commit times
faults.jsonl ───▶ faults, calms, exits (the harness's own notes);  daemons' logs ──▶ terms
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from chaos.plan import Line

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LEADS = re.compile(r"^([\d.]+) .*this node leads \(epoch (\d+)\)", re.MULTILINE)
LEFT = re.compile(r"^([\d.]+) .*no longer leading \(epoch (\d+)\)", re.MULTILINE)
TERMINAL = {"succeeded", "failed", "timed_out", "cancelled", "lost"}


def micros(at: datetime) -> int:
    """Microseconds since the epoch, exactly."""
    return (at - EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Body:
    """One execution of a task's code, as the witness heard it; times on the machine's boot clock, which no fault touches.

    `last_boot` is when it was heard last; `ended` whether that was its end.
    """

    schedule: str
    due_us: int
    attempt: int
    epoch: int
    node: str
    pid: int
    begin_boot: float
    begin_wall: float
    last_boot: float
    ended: bool
    home: str = ""
    owner: str = "cluster"

    def __str__(self) -> str:
        end = "end" if self.ended else "no end"
        heard = f"{self.begin_boot:.3f}..{self.last_boot:.3f} ({end})"
        return f"{self.schedule} {instant(self.due_us)} attempt {self.attempt} on {self.node} pid {self.pid} epoch {self.epoch} {heard}"


def instant(us: int) -> str:
    """For people."""
    return f"{EPOCH + timedelta(microseconds=us):%H:%M:%S.%f}"[:-3]


@dataclass(frozen=True)
class Row:
    """A row of `occurrence`."""

    id: int
    schedule: str
    due_us: int
    until_us: int | None
    count: int
    verdict: str | None
    reason: str
    attempts: int
    retrying: bool
    epoch: int
    owner: str = "cluster"


@dataclass(frozen=True)
class Attempt:
    """A row of `attempt`."""

    id: int
    number: int
    token: str
    epoch: int
    node: str
    process: str
    state: str
    started: bool
    error: str = ""


@dataclass(frozen=True)
class Change:
    """A line of the audit, with the commit time of its transaction (seconds, wall)."""

    n: int
    xid: int
    committed: float
    what: str
    epoch: int | None
    id: int | None
    number: int | None
    key: str
    was: str
    became: str


@dataclass(frozen=True)
class Fault:
    """What the harness did. `family` is for leaderless gaps; `epoch` of the leader, if it hit the leader's node.

    `load` of the machine, at its end: runnable processes a core.
    """

    kind: str
    family: str
    node: str
    epoch: int | None
    begin: float
    end: float
    load: float = 1.0


@dataclass(frozen=True)
class Said:
    """A daemon's own word that it leads; `until` when it said that it no longer does, None = it never did."""

    node: str
    epoch: int
    since: float
    until: float | None


@dataclass
class History:
    """Everything that the invariants read."""

    nodes: Sequence[str]
    lines: Mapping[str, Line]
    from_us: int
    """No instant up to here may be in the ledger."""
    begin_us: int
    """Every instant after this one, and ..."""
    end_us: int
    """... up to this one must be."""
    rows: Sequence[Row] = ()
    attempts: Sequence[Attempt] = ()
    changes: Sequence[Change] = ()
    bodies: Sequence[Body] = ()
    faults: Sequence[Fault] = ()
    calms: Sequence[tuple[float, float]] = ()
    loads: Sequence[float] = ()
    """Of the machine, in the calms."""
    terms: Sequence[Said] = ()
    notes: Sequence[Mapping[str, Any]] = ()
    """The harness's other findings: exits that took too long, processes that outlived their daemon."""
    logs: Mapping[str, str] = field(default_factory=dict)

    def owners(self, line: Line) -> Sequence[str]:
        """Whose occurrences a schedule makes: the cluster's, or each node's own."""
        return self.nodes if line.scope == "node" else ("cluster",)


def read_bodies(lines: Iterable[str], of_nodes: Container[str] = ()) -> list[Body]:
    """From the witness's file; `of_nodes` names schedules that nodes run for themselves.

    A second `begin` of one attempt is a second body, whatever the process.
    """
    open_bodies: dict[tuple[str, str, int, int], dict[str, Any]] = {}
    bodies: list[dict[str, Any]] = []
    for line in lines:
        heard, wall, text = line.split(" ", 2)
        word = json.loads(text)
        boot = min(word["boot"], float(heard))  # said before it was heard; both read the machine's one clock
        key = (word["schedule"], word["due_at"], word["attempt"], word["pid"])
        if word["at"] == "begin":
            body = open_bodies[key] = {
                **word,
                "begin_boot": boot,
                "begin_wall": float(wall) - (float(heard) - boot),
                "ended": False,
            }
            bodies.append(body)
        else:
            body = open_bodies[key]
            body["ended"] = word["at"] == "end"
        body["last_boot"] = boot
    return [_body(body, of_nodes) for body in bodies]


def _body(word: Mapping[str, Any], of_nodes: Container[str]) -> Body:
    names = (
        "schedule",
        "attempt",
        "epoch",
        "node",
        "pid",
        "begin_boot",
        "begin_wall",
        "last_boot",
        "ended",
        "home",
    )
    due = micros(datetime.fromisoformat(word["due_at"]))
    owner = word["node"] if word["schedule"] in of_nodes else "cluster"
    return Body(due_us=due, owner=owner, **{name: word[name] for name in names})


def read_terms(logs: Mapping[str, str]) -> list[Said]:
    """Each time a daemon said that it leads; and when it said that it does so no longer."""
    said = []
    for node, text in logs.items():
        left = {int(epoch): float(at) for at, epoch in LEFT.findall(text)}
        said += [Said(node, int(epoch), float(at), left.get(int(epoch))) for at, epoch in LEADS.findall(text)]
    return said


ROWS = """
SELECT id, schedule, due_at, due_until, count, verdict, reason, attempts, retry_at IS NOT NULL, epoch, owner
FROM singd.occurrence ORDER BY id
"""
ATTEMPTS = """
SELECT occurrence_id, number, token::text, epoch, node, process::text, state, started_at IS NOT NULL, error
FROM singd.attempt ORDER BY occurrence_id, number
"""
CHANGES = """
SELECT n, xid::text::bigint, extract(epoch FROM pg_xact_commit_timestamp(xid::xid))::float8,
       what, epoch, id, number, key, was, became
FROM chaos.audit ORDER BY n
"""


def load_ledger(history: History, execute: Any) -> None:
    """Fill in what the database knows; `execute(sql)` answers rows."""
    history.rows = [Row(r[0], r[1], micros(r[2]), r[3] and micros(r[3]), *r[4:]) for r in execute(ROWS)]
    history.attempts = [Attempt(*row) for row in execute(ATTEMPTS)]
    history.changes = [Change(*row) for row in execute(CHANGES)]


def load_notes(history: History, file: Path) -> None:
    """Fill in the harness's own notes."""
    notes = [json.loads(line) for line in file.read_text().splitlines()]
    names = ("kind", "family", "node", "epoch", "begin", "end", "load")
    history.faults = [Fault(**{k: n[k] for k in names if k in n}) for n in notes if n["note"] == "fault"]
    history.calms = [(n["begin"], n["end"]) for n in notes if n["note"] == "calm"]
    history.loads = [n["load"] for n in notes if n["note"] == "calm" and "load" in n]
    history.notes = [n for n in notes if n["note"] not in ("fault", "calm")]
