"""What a simulation leaves: everything that was seen and written, and how to read it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import trio

from singd.core.trigger import identity
from singd.core.values import CLUSTER, Schedule, Trigger
from singd.edges.memory.rows import Change, Row
from singd.testing.cluster import SimulatedCluster, Told
from singd.testing.faults import Fault
from singd.testing.machine import Begun


@dataclass(frozen=True, slots=True)
class Journal:
    """A ledger as it was found: the cluster's, or the local journal of one state directory.

    Attributes:
        owner: Whose occurrences are planned there: `cluster`, or the node's name.
        machine: Where it is; two machines may have had one node's name.
        live: It is being planned for in the end.
        changes: What happened there, oldest first.
    """

    owner: str
    rows: Sequence[Row]
    changes: Sequence[Change]
    machine: str = CLUSTER
    live: bool = True


@dataclass(frozen=True, slots=True)
class History:
    """See the head of this module.

    Attributes:
        start: True time at the beginning; `end_s` seconds later the cluster was read.
        schedules: Of every configuration there was; name -> the schedule. Variants differ only in triggers.
        triggers: Identity of a trigger -> the trigger.
        ledger: The cluster's; `journals`: the nodes' own.
        begun: What the witness saw; `told`: the daemons' events.
        overdrawn: Leases that ended while their leader still trusted them.
        stuck: Daemons that fell over, or did not stop when asked to.
        faults: What was done to them.
        unit_s: What a second is: one, unless the machine is scaled.
    """

    start: datetime
    end_s: float
    schedules: Mapping[str, Schedule]
    triggers: Mapping[str, Trigger]
    ledger: Journal
    journals: Sequence[Journal]
    begun: Sequence[Begun]
    told: Sequence[Told] = ()
    overdrawn: Sequence[Change] = ()
    stuck: Sequence[str] = ()
    faults: Sequence[Fault] = ()
    unit_s: float = 1.0

    @property
    def end(self) -> datetime:
        """True time when it was read."""
        return self.start + timedelta(seconds=self.end_s)

    def verdicts(self, schedule: str, owner: str = CLUSTER) -> dict[datetime, str]:
        """Due instant -> what became of it: the outcome of its last attempt, else its verdict; a range is its first."""
        rows = [
            r for r in self.ledger.rows if (r.occurrence.schedule, r.occurrence.owner) == (schedule, owner)
        ]
        rows.sort(key=lambda row: row.occurrence.due_at)
        return {
            r.occurrence.due_at: str(r.attempts[-1].state if r.attempts else r.verdict or "open")
            for r in rows
        }

    def violations(self) -> list[str]:
        """What of singd's promises was broken, each with the invariant's id; empty if none was."""
        from singd.testing.invariants import check

        return check(self)

    def digest(self) -> str:
        """Equal for equal histories: every begin and end, every row with its attempts, every change of leader."""
        hashed = hashlib.sha256()
        for line in self._lines():
            hashed.update(line.encode() + b"\n")
        return hashed.hexdigest()

    def _lines(self) -> Iterable[str]:
        for b in self.begun:
            yield f"{b.schedule} {b.due_at} {b.attempt} {b.node} {b.epoch} {b.began_s} {b.ended_s} {b.state}"
        for journal in (self.ledger, *self.journals):
            for row in journal.rows:
                tries = [
                    (one.state, one.node, one.attempt.epoch, one.claimed_at, one.finished_at)
                    for one in row.attempts
                ]
                yield f"{row.number} {row.occurrence} {row.verdict} {row.reason} {row.recording.count} {tries}"
            for change in journal.changes:
                yield f"{change.at} {change.what} {change.epoch} {change.current}"


def history_of(
    cluster: SimulatedCluster,
    faults: Sequence[Fault],
    variants: Iterable[Mapping[str, Schedule]],
    unit_s: float,
) -> History:
    """What there is to be read now."""
    schedules = dict(cluster.schedules)
    triggers = {}
    for each in (schedules, *variants):
        schedules = {**each, **schedules}
        triggers.update({identity(item.trigger): item.trigger for item in each.values()})
    return History(
        start=cluster.start, end_s=trio.current_time(), schedules=schedules, triggers=triggers,
        ledger=Journal(CLUSTER, list(cluster.database.rows.values()), cluster.changes),
        journals=[Journal(node.name, list(node.disk.rows.values()), node.changes, node.machine, node.alive is not None)
            for node in cluster.nodes.values()
        ],
        begun=cluster.witness, told=cluster.told, overdrawn=cluster.overdrawn, stuck=cluster.stuck, faults=faults, unit_s=unit_s,
    )  # fmt: skip
