"""The invariants (reliability goals I1 to I22, as far as daemons can show them): pure functions over a history.

Each returns what it found wrong, with the evidence; nothing found = it holds. `tests/chaos/test_checks.py` feeds every one
of them a history that it must refuse.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from chaos.history import TERMINAL, Body, Change, Fault, History, Row, Said, instant
from chaos.plan import LEASE_S, Line

EXIT_S = 31.0
EVEN_IF_FROZEN_S = 3.0
"""A whole group that was frozen may live so long after its thaw before it notices and ends itself: the one exception."""
GAP_S = {"kill": 0.5, "stop": 0.5, "freeze": LEASE_S + 1, "partition": LEASE_S + 1}
"""Leaderless at most, as promised. The next instant after that is up to `NEXT_S` away."""
NEXT_S = 0.5
BUSY_S = 1.0
"""What a machine adds that has as many runnable processes as cores; twice as many add twice that, up to `BUSIEST`."""
BUSIEST = 4.0
KNOWS_S = 0.5
"""A leader whose link alone is cut gives up a second before the server gives its lock away; a loaded machine takes half back."""
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
        covered: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
        for row in history.rows:
            instants = list(_covered(history, row))
            covered[row.schedule, row.owner].update(instants)
            if len(instants) != row.count:
                yield f"{row.schedule}: row {row.id} covers {len(instants)} instants and counts {row.count}"
        for name, line in history.lines.items():
            expected = set(line.instants(history.begin_us, history.end_us))
            for owner in history.owners(line):
                yield from _compare(history, line, f"{name} of {owner}", expected, covered[name, owner])

    return _found("I1", wrong())


def _compare(
    history: History, line: Line, name: str, expected: set[int], known: Counter[int]
) -> Iterator[str]:
    for due in sorted(expected - known.keys()):
        yield f"{name} {instant(due)}: no row"
    for due, count in sorted(known.items()):
        if count > 1:
            yield f"{name} {instant(due)}: {count} rows"
        if due % (line.every_ms * 1000):
            yield f"{name} {instant(due)}: this schedule has no such instant"
        if due <= history.from_us:
            yield f"{name} {instant(due)}: before the schedule was accepted"


Key = tuple[str, str, int]
"""Identity of an occurrence: schedule, owner, instant."""


def _ids(history: History) -> dict[Key, int]:
    return {(row.schedule, row.owner, row.due_us): row.id for row in history.rows if row.until_us is None}


def _key(item: Body | Row) -> Key:
    return item.schedule, item.owner, item.due_us


def i2_one_start_an_attempt(history: History) -> list[Violation]:
    """A body for an attempt that the ledger opened and let start, and never a second one."""

    def wrong() -> Iterator[str]:
        ids = _ids(history)
        attempts = {(attempt.id, attempt.number): attempt for attempt in history.attempts}
        seen: dict[tuple[object, ...], Body] = {}
        for body in history.bodies:
            # Two directories with one node's name keep two journals; that they never run at once is another check.
            once = (*_key(body), body.attempt, body.home if body.owner != "cluster" else "")
            if once in seen:
                yield f"started twice: {seen[once]} and {body}"
            seen[once] = body
            attempt = attempts.get((ids.get(_key(body), -1), body.attempt))
            if attempt is None:
                yield f"started without an attempt in the ledger: {body}"
            elif not attempt.started:
                yield f"started, but the ledger says {attempt.state} and never started: {body}"
            elif body.epoch != attempt.epoch or body.node not in (attempt.node, ""):
                yield f"the ledger has it for node {attempt.node} in epoch {attempt.epoch}: {body}"

    return _found("I2", wrong())


def i2_one_daemon_a_name(history: History) -> list[Violation]:
    """Two state directories with one node's name never take turns: one waits until the other is gone."""

    def wrong() -> Iterator[str]:
        for name, line in history.lines.items():
            own = sorted(
                (b for b in history.bodies if b.schedule == name and b.owner != "cluster"),
                key=lambda b: b.begin_boot,
            )
            for node in history.nodes:
                mine = [body for body in own if body.owner == node]
                for before, between, after in zip(mine, mine[1:], mine[2:], strict=False):
                    near = after.begin_boot - before.begin_boot < line.every_ms / 1000 + 1.5
                    if near and before.home == after.home != between.home:
                        yield f"{between} ran beside a daemon with its name: {before}"

    return _found("I2", wrong())


def i2_no_start_after_the_end(history: History) -> list[Violation]:
    """What another daemon has settled does not begin any more."""

    def wrong() -> Iterator[str]:
        keys = {row.id: _key(row) for row in history.rows}
        over = {
            (*keys[c.id], c.number): c
            for c in history.changes
            if c.what == "attempt" and c.became in TERMINAL and c.was not in TERMINAL and c.id in keys
        }
        for body in history.bodies:
            change = over.get((*_key(body), body.attempt))
            if (
                change is not None
                and body.begin_wall > change.committed + EARLY_S
                and body.owner == "cluster"
            ):
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

    return _found("I3", wrong())


def i4_no_stale_writes(history: History) -> list[Violation]:
    """No scheduling write of an epoch was committed after the next epoch was, nor before its own."""

    def wrong() -> Iterator[str]:
        won = {epoch: min(c.committed for c in changes) for epoch, changes in _terms(history).items()}
        for change in history.changes:
            if change.what not in ("occurrence", "attempt") or change.was != "new" or not change.epoch:
                continue  # epoch 0: nodes write for themselves
            over = won.get(change.epoch + 1)
            if over is not None and change.committed > over:
                late = change.committed - over
                yield f"{change.what} {change.key} of epoch {change.epoch} committed {late:.4f} s after {change.epoch + 1} began"
            if change.epoch not in won or change.committed < won[change.epoch]:
                yield f"{change.what} {change.key} of epoch {change.epoch}, which nobody had won"

    return _found("I4", wrong())


def i4_nobody_leads_on(history: History) -> list[Violation]:
    """A daemon that runs knows that its term is over: before the next begins where only its link was cut, else soon after."""

    def wrong() -> Iterator[str]:
        won = {epoch: min(c.committed for c in changes) for epoch, changes in _terms(history).items()}
        for said in history.terms:
            over = won.get(said.epoch + 1)
            if over is None or _could_not_know(history, said, over):
                continue
            late = (said.until or history.end_us / 1e6) - over
            alone = _only_links(history, said.node, over - LEASE_S - 3, over)
            if late > (KNOWS_S if alone else LEASE_S):
                yield f"node {said.node} believed in epoch {said.epoch} for {late:.2f} s after {said.epoch + 1} began"

    return _found("I4", wrong())


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
            bodies[_key(body)].append(body)
        for row in history.rows:
            if row.verdict != "ran" or row.due_us > history.end_us:
                continue
            line, own = history.lines[row.schedule], bodies[_key(row)]
            known = sum(state in ("failed", "timed_out") for state in states[row.id].values())
            what = f"{row.schedule} {instant(row.due_us)}: {len(own)} starts, attempts {list(states[row.id].values())}"
            most = (
                1
                + min(known, line.retries)
                + len({body.home for body in own[1:]} - {own[0].home if own else ""})
            )
            if not line.at_least_once and len(own) > most:
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
        ids = _ids(history)
        lost = {(c.id, c.number) for c in history.changes if c.what == "attempt" and c.became == "lost"}
        frozen = [fault for fault in history.faults if fault.family == "freeze all"]
        by_schedule = defaultdict(list)
        for body in history.bodies:
            if history.lines[body.schedule].overlap != "allow":
                by_schedule[body.schedule, body.owner].append(body)
        for (name, _), bodies in by_schedule.items():
            bodies.sort(key=lambda body: body.begin_boot)
            newest = bodies[0]
            for body in bodies[1:]:
                forgiven = (ids.get(_key(newest)), newest.attempt) in lost and not history.lines[
                    name
                ].at_least_once
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
            if note["note"] == "sick":
                yield Violation("I5", note["text"])
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

    return _found("I17", wrong())


def i17_no_change_in_the_calm(history: History) -> list[Violation]:
    """Leadership does not change without a cause."""

    def wrong() -> Iterator[str]:
        for epoch, changes in _terms(history).items():
            for change in changes:
                if any(begin < change.committed < end for begin, end in history.calms):
                    yield f"epoch {epoch} began in a calm, on node {change.became}"

    return _found("I17", wrong())


def i22_alive(history: History) -> list[Violation]:
    """In the calm, at least 95 % of what is due runs: a system that does nothing breaks no other rule."""
    ran = {_key(body) for body in history.bodies}
    due = [
        (line.name, owner, at)
        for begin, end in history.calms
        for line in history.lines.values()
        if line.steady
        for owner in history.owners(line)
        for at in line.instants(round(begin * 1e6), round(end * 1e6))
    ]
    if not due:
        return [Violation("I22", "there was no calm in which anything was due")]
    missed = [item for item in due if item not in ran]
    if len(missed) > len(due) * 0.05:
        some = ", ".join(f"{name} of {owner} {instant(at)}" for name, owner, at in missed[:5])
        return [Violation("I22", f"of {len(due)} due in the calm {len(missed)} did not run: {some} …")]
    return []


CHECKS: tuple[Check, ...] = (
    i1_every_instant_has_one_row, i2_one_start_an_attempt, i2_one_daemon_a_name, i2_no_start_after_the_end, i3_one_holder_an_epoch,
    i4_no_stale_writes, i4_nobody_leads_on,
    i5_nothing_unfinished, i6_the_end_is_the_end, i7_delivery, i9_no_overlap, i10_never_early,
    noted, no_tracebacks, i17_gaps, i17_no_change_in_the_calm, i22_alive,
)  # fmt: skip


def check(history: History) -> list[Violation]:
    """Every invariant."""
    return [violation for one in CHECKS for violation in one(history)]
