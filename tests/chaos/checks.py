"""The invariants (reliability goals I1 to I22, as far as daemons can show them): pure functions over a history.

Each returns what it found wrong, with the evidence; nothing found = it holds. `tests/chaos/test_checks.py` feeds every one
of them a history that it must refuse.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from chaos.history import TERMINAL, Body, Change, Fault, History, Row, instant
from chaos.plan import LEASE_S

EXIT_S = 31.0
EVEN_IF_FROZEN_S = 3.0
"""A whole group that was frozen may live so long after its thaw before it notices and ends itself: the one exception."""
GAP_S = {"kill": 2.0, "stop": 2.0, "freeze": LEASE_S + 2.0, "partition": LEASE_S + 2.0}
"""Leaderless at most: the promise (0.5, 0.5, lease + 1), and what a loaded two-core machine adds."""
EARLY_S = 0.002
"""Of the witness's clock: reading two clocks takes a moment."""


@dataclass(frozen=True)
class Violation:
    """Which invariant, and the evidence."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


Check = Callable[[History], list[Violation]]


def _found(invariant: str, texts: Iterator[str]) -> list[Violation]:
    return [Violation(invariant, text) for text in texts]


def _covered(history: History, row: Row) -> Iterator[int]:
    """The instants of a row."""
    if row.until_us is None:
        return iter((row.due_us,))
    return history.lines[row.schedule].instants(row.due_us - 1, row.until_us)


def i1_every_instant_has_one_row(history: History) -> list[Violation]:
    """The oracle's instants against the ledger's, both ways."""

    def wrong() -> Iterator[str]:
        covered: dict[str, Counter[int]] = defaultdict(Counter)
        for row in history.rows:
            instants = list(_covered(history, row))
            covered[row.schedule].update(instants)
            if len(instants) != row.count:
                yield f"{row.schedule}: row {row.id} covers {len(instants)} instants and counts {row.count}"
        for name, line in history.lines.items():
            expected = set(line.instants(history.begin_us, history.end_us))
            known = covered[name]
            for due in sorted(expected - known.keys()):
                yield f"{name} {instant(due)}: no row"
            for due, count in sorted(known.items()):
                if count > 1:
                    yield f"{name} {instant(due)}: {count} rows"
                if due % (line.every_ms * 1000):
                    yield f"{name} {instant(due)}: this schedule has no such instant"
                if due <= history.from_us:
                    yield f"{name} {instant(due)}: before the schedule was accepted"

    return _found("I1", wrong())


def i2_one_start_an_attempt(history: History) -> list[Violation]:
    """A body for an attempt that the ledger opened and let start, and never a second one."""

    def wrong() -> Iterator[str]:
        ids = {(row.schedule, row.due_us): row.id for row in history.rows if row.until_us is None}
        attempts = {(attempt.id, attempt.number): attempt for attempt in history.attempts}
        seen: dict[tuple[str, int, int], Body] = {}
        for body in history.bodies:
            key = (body.schedule, body.due_us, body.attempt)
            if key in seen:
                yield f"started twice: {seen[key]} and {body}"
            seen[key] = body
            attempt = attempts.get((ids.get((body.schedule, body.due_us), -1), body.attempt))
            if attempt is None:
                yield f"started without an attempt in the ledger: {body}"
            elif not attempt.started:
                yield f"started, but the ledger says {attempt.state} and never started: {body}"

    return _found("I2", wrong())


def i2_no_start_after_the_end(history: History) -> list[Violation]:
    """What another daemon has settled does not begin any more."""

    def wrong() -> Iterator[str]:
        ids = {row.id: (row.schedule, row.due_us) for row in history.rows}
        over = {
            (*ids[c.id], c.number): c
            for c in history.changes
            if c.what == "attempt" and c.became in TERMINAL and c.was not in TERMINAL and c.id in ids
        }
        for body in history.bodies:
            change = over.get((body.schedule, body.due_us, body.attempt))
            if change is not None and body.begin_wall > change.committed + EARLY_S:
                late = body.begin_wall - change.committed
                yield f"began {late:.3f} s after it was {change.became}: {body}"

    return _found("I2", wrong())


def _terms(history: History) -> dict[int, list[Change]]:
    terms: dict[int, list[Change]] = defaultdict(list)
    for change in history.changes:
        if change.what == "leader" and change.epoch is not None:
            terms[change.epoch].append(change)
    return terms


def i3_one_holder_an_epoch(history: History) -> list[Violation]:
    """Epochs rise by one, have one holder, and attempts belong to the holder of theirs."""

    def wrong() -> Iterator[str]:
        terms = _terms(history)
        for epoch, changes in terms.items():
            if len({change.key for change in changes}) > 1 or len(changes) > 1:
                yield f"epoch {epoch} was won {len(changes)} times: {[c.became for c in changes]}"
        ordered = sorted((c for changes in terms.values() for c in changes), key=lambda c: c.committed)
        for before, after in pairwise(ordered):
            if after.epoch != (before.epoch or 0) + 1:
                yield f"epoch {after.epoch} followed {before.epoch}"
        for node, epoch in history.terms:
            if epoch not in terms or node not in {c.became for c in terms[epoch]}:
                yield f"node {node} said that it leads epoch {epoch}: {[c.became for c in terms.get(epoch, [])]}"
        for epoch, count in Counter(epoch for _, epoch in history.terms).items():
            if count > 1:
                yield f"{count} daemons said that they lead epoch {epoch}"
        for attempt in history.attempts:
            holders = {change.key for change in terms.get(attempt.epoch, [])}
            if attempt.process not in holders:
                yield f"attempt {attempt.id}.{attempt.number} of epoch {attempt.epoch} belongs to another process"

    return _found("I3", wrong())


def i4_no_stale_writes(history: History) -> list[Violation]:
    """No scheduling write of an epoch was committed after the next epoch was, nor before its own."""

    def wrong() -> Iterator[str]:
        won = {epoch: min(c.committed for c in changes) for epoch, changes in _terms(history).items()}
        for change in history.changes:
            if change.what not in ("occurrence", "attempt") or change.was != "new" or change.epoch is None:
                continue
            over = won.get(change.epoch + 1)
            if over is not None and change.committed > over:
                late = change.committed - over
                yield f"{change.what} {change.key} of epoch {change.epoch} committed {late:.4f} s after {change.epoch + 1} began"
            if change.epoch not in won or change.committed < won[change.epoch]:
                yield f"{change.what} {change.key} of epoch {change.epoch}, which nobody had won"

    return _found("I4", wrong())


def i5_nothing_unfinished(history: History) -> list[Violation]:
    """After the last fault healed and time enough, every row is final."""

    def wrong() -> Iterator[str]:
        due = {row.id: row for row in history.rows if row.due_us <= history.end_us}
        for row in due.values():
            if row.verdict is None or row.retrying:
                yield f"{row.schedule} {instant(row.due_us)}: still {'to be retried' if row.retrying else 'open'}"
            elif (row.verdict == "ran") != (row.attempts > 0) and row.verdict == "ran":
                yield f"{row.schedule} {instant(row.due_us)}: ran without an attempt"
        for attempt in history.attempts:
            if attempt.id in due and attempt.state not in TERMINAL:
                row = due[attempt.id]
                yield f"{row.schedule} {instant(row.due_us)} attempt {attempt.number}: still {attempt.state}"

    return _found("I5", wrong())


def i6_the_end_is_the_end(history: History) -> list[Violation]:
    """One finalisation; only `lost` gives way, once, and only where no attempt may follow it."""

    def wrong() -> Iterator[str]:
        lines = {row.id: history.lines[row.schedule] for row in history.rows}
        changed: Counter[tuple[int | None, int | None]] = Counter()
        for change in history.changes:
            if change.what == "attempt" and change.was in TERMINAL:
                changed[change.id, change.number] += 1
                again = change.id in lines and lines[change.id].at_least_once
                if change.was != "lost" or again or changed[change.id, change.number] > 1:
                    yield f"attempt {change.id}.{change.number} was {change.was} and became {change.became}"
            settled = change.what == "occurrence" and change.was not in ("new", "open")
            if settled and (change.was, change.became) != ("ran", "skipped"):
                yield f"{change.key} was {change.was} and became {change.became}"

    return _found("I6", wrong())


def i7_delivery(history: History) -> list[Violation]:
    """at_most_once: one start beyond known failures. at_least_once: a success, or its attempts used up."""

    def wrong() -> Iterator[str]:
        states = defaultdict(dict)
        for attempt in history.attempts:
            states[attempt.id][attempt.number] = attempt.state
        bodies = defaultdict(list)
        for body in history.bodies:
            bodies[body.schedule, body.due_us].append(body)
        for row in history.rows:
            if row.verdict != "ran" or row.due_us > history.end_us:
                continue
            line, own = history.lines[row.schedule], bodies[row.schedule, row.due_us]
            known = sum(state in ("failed", "timed_out") for state in states[row.id].values())
            what = f"{row.schedule} {instant(row.due_us)}: {len(own)} starts, attempts {list(states[row.id].values())}"
            if not line.at_least_once and len(own) > 1 + min(known, line.retries):
                yield f"{what} under at_most_once with {line.retries} retries"
            last = states[row.id].get(row.attempts, "none")
            if line.at_least_once and last != "succeeded" and known <= line.retries and last != "cancelled":
                yield f"{what} under at_least_once"
            if last == "succeeded" and not any(body.ended and body.attempt == row.attempts for body in own):
                yield f"{what}, and nobody saw the success"

    return _found("I7", wrong())


def i9_no_overlap(history: History) -> list[Violation]:
    """Bodies of one schedule never run at once, unless `overlap = allow`; an attempt counted as lost is let alone."""

    def wrong() -> Iterator[str]:
        ids = {(row.schedule, row.due_us): row.id for row in history.rows if row.until_us is None}
        lost = {(c.id, c.number) for c in history.changes if c.what == "attempt" and c.became == "lost"}
        frozen = [fault for fault in history.faults if fault.family == "freeze all"]
        by_schedule = defaultdict(list)
        for body in history.bodies:
            if history.lines[body.schedule].overlap != "allow":
                by_schedule[body.schedule].append(body)
        for name, bodies in by_schedule.items():
            bodies.sort(key=lambda body: body.begin_boot)
            newest = bodies[0]
            for body in bodies[1:]:
                key = (ids.get((name, newest.due_us)), newest.attempt)
                forgiven = key in lost and not history.lines[name].at_least_once
                if body.begin_boot < newest.last_boot and not forgiven and not _was_frozen(newest, frozen):
                    yield f"{newest} runs beside {body}"
                newest = max(newest, body, key=lambda item: item.last_boot)

    return _found("I9", wrong())


def _was_frozen(body: Body, faults: Sequence[Fault]) -> bool:
    """Whether it stood still with its whole group, and ended soon after the thaw: outside of what can be promised."""
    shift = body.begin_wall - body.begin_boot
    begin, last = body.begin_wall, body.last_boot + shift
    return any(
        fault.node == body.node and begin <= fault.end and fault.begin <= last <= fault.end + EVEN_IF_FROZEN_S
        for fault in faults
    )


def i10_never_early(history: History) -> list[Violation]:
    """No body begins before its instant, by the witness's clock."""

    def wrong() -> Iterator[str]:
        for body in history.bodies:
            early = body.due_us / 1e6 - body.begin_wall
            if early > EARLY_S:
                yield f"{early:.3f} s early: {body}"

    return _found("I10", wrong())


def noted(history: History) -> list[Violation]:
    """What the harness itself saw: slow exits (I13), orphans (I14), daemons that ended by themselves (I11)."""

    def wrong() -> Iterator[Violation]:
        for note in history.notes:
            if note["note"] == "exit" and note["seconds"] > note.get("limit", EXIT_S):
                yield Violation(
                    "I13", f"node {note['node']}: {note['seconds']:.1f} s from {note['how']} to its end"
                )
            if note["note"] == "orphans":
                yield Violation("I14", f"5 s after node {note['node']} was killed: {note['left']}")
            if note["note"] == "gone":
                yield Violation(
                    "I11", f"node {note['node']} ended by itself with {note['code']}: {note['tail']}"
                )

    return list(wrong())


def no_tracebacks(history: History) -> list[Violation]:
    """A daemon says what is wrong in words."""
    wrong = (
        f"node {node}: {text[at : at + 3000]}"
        for node, text in history.logs.items()
        if (at := text.find("Traceback")) >= 0
    )
    return _found("I11", wrong)


def gaps(history: History) -> dict[str, list[float]]:
    """Seconds from a fault on the leader to its successor's first claim, by family, where no other fault was near."""
    found: dict[str, list[float]] = defaultdict(list)
    claims = sorted(
        (c.committed, c.epoch) for c in history.changes if c.what == "attempt" and c.was == "new" and c.epoch
    )
    for fault in history.faults:
        if fault.family in GAP_S and fault.epoch is not None:
            claim = next((at for at, epoch in claims if epoch > fault.epoch), None)
            if claim is not None and claim > fault.begin and not _disturbed(history, fault, claim):
                found[fault.family].append(claim - fault.begin)
    return dict(found)


def _disturbed(history: History, fault: Fault, until: float) -> bool:
    """Whether another fault may have had a part in the gap: a node that just came back waits for nothing, but a sick one may."""
    margin = 2 * LEASE_S
    return any(
        other is not fault and other.begin < until and other.end > fault.begin - margin
        for other in history.faults
    )


def i17_gaps(history: History) -> list[Violation]:
    """Leaderless no longer than its class allows."""

    def wrong() -> Iterator[str]:
        for family, seconds in gaps(history).items():
            for gap in seconds:
                if gap > GAP_S[family]:
                    yield f"{family}: leaderless for {gap:.2f} s, allowed {GAP_S[family]:.1f}"

    return _found("I17", wrong())


def i22_alive(history: History) -> list[Violation]:
    """In the calm, at least 95 % of what is due runs: a system that does nothing breaks no other rule."""
    ran = {(body.schedule, body.due_us) for body in history.bodies}
    due = [
        (line.name, at)
        for begin, end in history.calms
        for line in history.lines.values()
        if line.steady
        for at in line.instants(round(begin * 1e6), round(end * 1e6))
    ]
    if not due:
        return [Violation("I22", "there was no calm in which anything was due")]
    missed = [item for item in due if item not in ran]
    if len(missed) > len(due) * 0.05:
        some = ", ".join(f"{name} {instant(at)}" for name, at in missed[:5])
        return [Violation("I22", f"of {len(due)} due in the calm {len(missed)} did not run: {some} …")]
    return []


CHECKS: tuple[Check, ...] = (
    i1_every_instant_has_one_row, i2_one_start_an_attempt, i2_no_start_after_the_end, i3_one_holder_an_epoch,
    i4_no_stale_writes, i5_nothing_unfinished, i6_the_end_is_the_end, i7_delivery, i9_no_overlap, i10_never_early,
    noted, no_tracebacks, i17_gaps, i22_alive,
)  # fmt: skip


def check(history: History) -> list[Violation]:
    """Every invariant."""
    return [violation for one in CHECKS for violation in one(history)]
