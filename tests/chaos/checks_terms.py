"""I3, I4, I17: who leads, who believes to, and for how long nobody does."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from chaos.history import Fault, History, Said
from chaos.plan import LEASE_S
from chaos.violation import BUSIEST, Violation, found, terms_of

GAP_S = {"kill": 0.5, "stop": 0.5, "freeze": LEASE_S + 1, "partition": LEASE_S + 1}
"""Leaderless at most, as promised. The next instant after that is up to `NEXT_S` away."""
NEXT_S = 0.5
BUSY_S = 1.0
"""What a machine adds that has as many runnable processes as cores; twice as many add twice that, up to `BUSIEST`."""
KNOWS_S = 0.5
"""A leader whose link alone is cut gives up a second before the server gives its lock away; a loaded machine takes half back."""


def i3_one_holder_an_epoch(history: History) -> list[Violation]:
    """Epochs rise by one, have one holder, and attempts belong to the holder of theirs."""

    def wrong() -> Iterator[str]:
        terms = terms_of(history)
        for epoch, changes in terms.items():
            if len({change.key for change in changes}) > 1 or len(changes) > 1:
                yield f"epoch {epoch} was won {len(changes)} times: {[c.became for c in changes]}"
        ordered = sorted((c for changes in terms.values() for c in changes), key=lambda c: c.committed)
        for before, after in pairwise(ordered):
            if after.epoch != (before.epoch or 0) + 1:
                yield f"epoch {after.epoch} followed {before.epoch}"
        for said in history.terms:
            holders = {change.became for change in terms.get(said.epoch, [])}
            if said.node not in holders:
                yield f"node {said.node} said that it leads epoch {said.epoch}: {holders or 'nobody'} won it"
        for epoch, count in Counter(said.epoch for said in history.terms).items():
            if count > 1:
                yield f"{count} daemons said that they lead epoch {epoch}"
        for attempt in history.attempts:
            holders = {change.key for change in terms.get(attempt.epoch, [])}
            if attempt.epoch and attempt.process not in holders:
                yield f"attempt {attempt.id}.{attempt.number} of epoch {attempt.epoch} belongs to another process"

    return found("I3", wrong())


def i4_no_stale_writes(history: History) -> list[Violation]:
    """No scheduling write of an epoch was committed after the next epoch was, nor before its own."""

    def wrong() -> Iterator[str]:
        won = {epoch: min(c.committed for c in changes) for epoch, changes in terms_of(history).items()}
        for change in history.changes:
            if change.what not in ("occurrence", "attempt") or change.was != "new" or not change.epoch:
                continue  # epoch 0: nodes write for themselves
            over = won.get(change.epoch + 1)
            if over is not None and change.committed > over:
                late = change.committed - over
                yield f"{change.what} {change.key} of epoch {change.epoch} committed {late:.4f} s after {change.epoch + 1} began"
            if change.epoch not in won or change.committed < won[change.epoch]:
                yield f"{change.what} {change.key} of epoch {change.epoch}, which nobody had won"

    return found("I4", wrong())


def i4_nobody_leads_on(history: History) -> list[Violation]:
    """A daemon that runs knows that its term is over: before the next begins where only its link was cut, else soon after."""

    def wrong() -> Iterator[str]:
        won = {epoch: min(c.committed for c in changes) for epoch, changes in terms_of(history).items()}
        for said in history.terms:
            over = won.get(said.epoch + 1)
            if over is None or _could_not_know(history, said, over):
                continue
            late = (said.until or history.end_us / 1e6) - over
            alone = _only_links(history, said.node, over - LEASE_S - 3, over)
            if late > (KNOWS_S if alone else LEASE_S):
                yield f"node {said.node} believed in epoch {said.epoch} for {late:.2f} s after {said.epoch + 1} began"

    return found("I4", wrong())


def _could_not_know(history: History, said: Said, over: float) -> bool:
    """Whether its daemon was dead or stood still about then: what does not run cannot do harm."""
    end = max(said.until or 0.0, over + LEASE_S)
    return any(
        fault.node in (said.node, "")
        and fault.begin < end
        and fault.end > over - 3 * LEASE_S
        and _stills(fault)
        for fault in history.faults
    )


def _stills(fault: Fault) -> bool:
    words = ("kill -9", "SIGSTOP", "SIGTERM", "freeze", "garbage", "state directory full")
    return (
        any(word in fault.kind for word in words)
        and "backend" not in fault.kind
        and "Postgres" not in fault.kind
    )


def _only_links(history: History, node: str, begin: float, end: float) -> bool:
    near = [fault for fault in history.faults if fault.begin < end and fault.end > begin]
    return bool(near) and all(fault.family in ("partition", "link") and fault.node == node for fault in near)


def gaps(history: History) -> dict[str, list[float]]:
    """Seconds from a fault on the leader to its successor's first claim, by family, where no other fault was near."""
    found: dict[str, list[float]] = defaultdict(list)
    for fault, gap in _gaps(history):
        found[fault.family].append(gap)
    return dict(found)


def _gaps(history: History) -> Iterator[tuple[Fault, float]]:
    claims = sorted(
        (c.committed, c.epoch) for c in history.changes if c.what == "attempt" and c.was == "new" and c.epoch
    )
    for fault in history.faults:
        if fault.family in GAP_S and fault.epoch is not None:
            claim = next((at for at, epoch in claims if epoch > fault.epoch), None)
            if claim is not None and claim > fault.begin and not _disturbed(history, fault, claim):
                yield fault, claim - fault.begin


def _disturbed(history: History, fault: Fault, until: float) -> bool:
    """Whether another fault may have had a part in the gap: a node that just came back waits for nothing, but a sick one may."""
    margin = 2 * LEASE_S
    return any(
        other is not fault and other.begin < until and other.end > fault.begin - margin
        for other in history.faults
    )


def i17_gaps(history: History) -> list[Violation]:
    """Leaderless no longer than its class allows, and than a busy machine explains."""

    def wrong() -> Iterator[str]:
        for fault, gap in _gaps(history):
            allowed = GAP_S[fault.family] + NEXT_S + BUSY_S * min(max(fault.load, 1.0), BUSIEST)
            if gap > allowed:
                yield f"{fault.kind}: leaderless for {gap:.2f} s, allowed {allowed:.1f}"

    return found("I17", wrong())


def i17_no_change_in_the_calm(history: History) -> list[Violation]:
    """Leadership does not change without a cause."""

    def wrong() -> Iterator[str]:
        for epoch, changes in terms_of(history).items():
            for change in changes:
                if any(begin < change.committed < end for begin, end in history.calms):
                    yield f"epoch {epoch} began in a calm, on node {change.became}"

    return found("I17", wrong())
