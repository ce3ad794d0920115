"""What `singd status` says of the cluster: who is there, who leads, what changes of leader cost, and what is wrong with it.

Pure. Everything here is the ledger's word, but for the clock and the local journal, which only the node itself knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

from singd.answers import entry, text
from singd.core.cluster import Cluster, LeaderRow, NodeRow
from singd.core.history import OccurrenceRow
from singd.core.units import counted
from singd.views import Snapshot, Trouble

SILENT_S = 6.0
"""A leader that was not heard for so long is none: lease and a second. Somebody else should lead by then."""
SKEWED_S, REFUSED_SKEW_S = 2.0, 30.0
"""Clocks that differ by so much are told of; those that differ by the second keep a node from leading."""
UNSHIPPED_FOR = timedelta(minutes=1)
HASH_SHOWN = 12


def cluster_facts(found: Snapshot, cluster: Cluster | None) -> dict[str, Any]:
    """Nodes, leader and gaps, as `status` has them; null where the ledger could not be read."""
    leader, leading = (cluster.leader, cluster.leading) if cluster else (None, None)
    return {
        "leader": found.leader or (leading.node if leading else ""), "led_last": leader.node if leader else "",
        "leader_epoch": leader and leader.epoch, "leader_since": text(leader.elected_at) if leader else None,
        "leader_silent_s": leader and round(leader.silent_s, 3), "clock_skew_s": round(found.skew_s, 3),
        "generation": found.generation if cluster is None else cluster.generation,
        "unshipped": found.unshipped.count, "unshipped_since": text(found.unshipped.since),
        "nodes": None if cluster is None else [_node(row, cluster) for row in cluster.shown(found.now)],
        "nodes_left_out": None if cluster is None else len(cluster.nodes) - len(cluster.shown(found.now)),
        "gaps": None if cluster is None else _gaps(cluster),
    }  # fmt: skip


def _node(row: NodeRow, cluster: Cluster) -> dict[str, Any]:
    return {
        "name": row.name, "role": row.role, "version": row.version, "live": row.live, "leads": cluster.leads(row),
        "registered_at": text(row.registered_at), "address": row.address, "configuration": row.content_hash[:HASH_SHOWN],
        "differs": bool(row.content_hash and cluster.content_hash) and row.content_hash != cluster.content_hash,
    }  # fmt: skip


def _gaps(cluster: Cluster) -> list[dict[str, Any]]:
    """The newest changes of leader first; `gap_s`: nobody led for at most so long."""
    return [
        {
            "epoch": term.epoch, "node": term.node, "before": before.node if before else None,
            "elected_at": text(term.elected_at), "last_seen_at": text(term.last_seen_at),
            "gap_s": None if term.gap is None else round(term.gap.total_seconds(), 3),
        }
        for term, before in pairwise((*cluster.terms, None)) if term is not None
    ]  # fmt: skip


def in_progress(found: Snapshot, rows: Sequence[OccurrenceRow]) -> dict[str, Any]:
    """What other nodes run, and what nobody runs any more though the ledger has it as running."""
    entries = [entry(row) for row in rows]
    return {
        "elsewhere": [one for one in entries if one["node"] != found.node and not one["abandoned"]],
        "abandoned": [one for one in entries if one["abandoned"]],
    }


def node_problems(found: Snapshot) -> Iterator[Trouble]:
    """What only this node knows of itself."""
    yield from _skewed(found.skew_s)
    late, since = found.unshipped, found.unshipped.since
    if late.count and (since is None or found.now - since > UNSHIPPED_FOR):
        yield Trouble(
            f"{counted(late.count, 'result')} of this node's own schedules not in the ledger yet, the oldest of {text(since)}",
            "nothing to do: the local journal keeps them, and they follow when the ledger can be reached",
        )


def _skewed(skew_s: float) -> Iterator[Trouble]:
    if abs(skew_s) <= SKEWED_S:
        return
    side = "ahead of" if skew_s > 0 else "behind"
    never = "" if abs(skew_s) <= REFUSED_SKEW_S else ": this node does not lead"
    yield Trouble(
        f"this node's clock is {abs(skew_s):.1f} s {side} the database's{never}",
        f"see to both clocks: `timedatectl`, `chronyc tracking`; with over {REFUSED_SKEW_S:.0f} s between them a node may not lead",
    )


def cluster_problems(found: Snapshot, cluster: Cluster) -> Iterator[Trouble]:
    """What is wrong with the cluster."""
    yield from _taken(found, cluster)
    yield from _leaderless(found, cluster.leader)
    yield from _different_files(cluster)


def _taken(found: Snapshot, cluster: Cluster) -> Iterator[Trouble]:
    if found.state != "name taken":
        return
    for row in cluster.live:
        if row.name == found.node:
            where = f"from {row.address}" if row.address else "over a socket of the database's own machine"
            yield Trouble(
                f"the daemon that has the name {row.name} is connected {where}, since {text(row.registered_at)}"
            )


def _leaderless(found: Snapshot, leader: LeaderRow | None) -> Iterator[Trouble]:
    if found.epoch is not None or (leader and leader.silent_s <= SILENT_S):
        return
    own = {
        "standing by": "this node takes over as soon as the lock is free",
        "starting": "this node is starting",
    }
    cure = own.get(
        found.state, "see the problem of this node; another healthy node would lead: `singd run` there"
    )
    if leader is None:
        yield Trouble("nobody has led this cluster yet: cluster schedules wait", cure)
        return
    silent = f"{leader.node} led last and was heard {leader.silent_s:.0f} s ago"
    yield Trouble(f"nobody leads: cluster schedules wait; {silent}", cure)


def _different_files(cluster: Cluster) -> Iterator[Trouble]:
    found = cluster.configurations()
    if len(found) < 2:
        return
    sides = [
        f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} {hash_[:HASH_SHOWN]}"
        + (" (in force)" if hash_ == cluster.content_hash else "")
        for hash_, names in found.items()
    ]
    yield Trouble(
        f"live nodes have different configurations: {'; '.join(sides)}",
        "make the files alike and restart; [node], [database], [databases] and [nats] may differ",
    )
