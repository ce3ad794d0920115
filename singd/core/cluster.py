"""The cluster as the ledger knows it: nodes, who leads, what changes of leader cost. Values, and what follows from them alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

FORGOTTEN_AFTER = timedelta(days=7)
"""A node that is not live and registered longer ago is not shown: machines come and go."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node that has ever registered under its name.

    Attributes:
        live: Its name's lock is held now.
        address: Where the session that holds it comes from; "" = a local socket, or not to be seen.
        content_hash: Of the configuration it would lead with; "" = a version that did not say.
    """

    name: str
    role: str
    version: str
    process: str
    registered_at: datetime
    live: bool
    content_hash: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class LeaderRow:
    """Who led last.

    Attributes:
        silent_s: Seconds since its last heartbeat, by the server's clock.
        held: It has the leader's lock now: it leads, or nobody does.
    """

    epoch: int
    node: str
    process: str
    elected_at: datetime
    silent_s: float
    held: bool


@dataclass(frozen=True, slots=True)
class TermRow:
    """A change of leader. `last_seen_at`: the last heartbeat of the term before, None where there was none."""

    epoch: int
    node: str
    elected_at: datetime
    last_seen_at: datetime | None

    @property
    def gap(self) -> timedelta | None:
        """For how long nobody led at most: the last heartbeat is up to a second older than the end of that leader."""
        return None if self.last_seen_at is None else max(self.elected_at - self.last_seen_at, timedelta())


@dataclass(frozen=True, slots=True)
class Cluster:
    """All of it at one moment.

    Attributes:
        terms: The newest changes of leader, newest first.
        generation, content_hash: Of the configuration in force; None and "" where none was ever accepted.
    """

    leader: LeaderRow | None = None
    nodes: Sequence[NodeRow] = ()
    terms: Sequence[TermRow] = ()
    generation: int | None = None
    content_hash: str = ""

    @property
    def leading(self) -> LeaderRow | None:
        """Who leads now."""
        return self.leader if self.leader and self.leader.held else None

    @property
    def live(self) -> Sequence[NodeRow]:
        """The nodes that are there."""
        return [node for node in self.nodes if node.live]

    def leads(self, node: NodeRow) -> bool:
        """Whether this node is the leader."""
        return node.live and self.leading is not None and self.leading.process == node.process

    def shown(self, now: datetime) -> Sequence[NodeRow]:
        """The nodes worth a line: live ones first, then those gone not long ago, by name."""
        kept = [node for node in self.nodes if node.live or now - node.registered_at <= FORGOTTEN_AFTER]
        return sorted(kept, key=lambda node: (not node.live, node.name))

    def configurations(self) -> dict[str, list[str]]:
        """Content hash -> names of the live nodes that have it: more than one hash is an alarm."""
        found: dict[str, list[str]] = {}
        for node in sorted(self.live, key=lambda node: node.name):
            if node.content_hash:
                found.setdefault(node.content_hash, []).append(node.name)
        return found
