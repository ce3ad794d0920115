"""I1, I2, I5, I6, I7: what the ledger says of every instant and attempt, against the oracle and the witness."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from chaos.history import TERMINAL, Body, History, instant
from chaos.plan import Line
from chaos.violation import EARLY_S, Violation, covered_by, found, ids_of, key_of


def i1_every_instant_has_one_row(history: History) -> list[Violation]:
    """The oracle's instants against the ledger's, both ways."""

    def wrong() -> Iterator[str]:
        covered: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
        for row in history.rows:
            instants = list(covered_by(history, row))
            covered[row.schedule, row.owner].update(instants)
            if len(instants) != row.count:
                yield f"{row.schedule}: row {row.id} covers {len(instants)} instants and counts {row.count}"
        for name, line in history.lines.items():
            expected = set(line.instants(history.begin_us, history.end_us))
            for owner in history.owners(line):
                yield from _compare(history, line, f"{name} of {owner}", expected, covered[name, owner])

    return found("I1", wrong())


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


def _thrown_away(body: Body) -> bool:
    """A second daemon of one name, started while the ledger was away, runs its own schedules; its journal goes with it."""
    return body.owner != "cluster" and Path(body.home).name == "double"


def i2_one_start_an_attempt(history: History) -> list[Violation]:
    """A body for an attempt that the ledger opened and let start, and never a second one."""

    def wrong() -> Iterator[str]:
        ids = ids_of(history)
        attempts = {(attempt.id, attempt.number): attempt for attempt in history.attempts}
        seen: dict[tuple[object, ...], Body] = {}
        for body in history.bodies:
            # Two directories with one node's name keep two journals; that they never run at once is another check.
            once = (*key_of(body), body.attempt, body.home if body.owner != "cluster" else "")
            if once in seen:
                yield f"started twice: {seen[once]} and {body}"
            seen[once] = body
            attempt = attempts.get((ids.get(key_of(body), -1), body.attempt))
            if attempt is None and not _thrown_away(body):
                yield f"started without an attempt in the ledger: {body}"
            elif attempt is None:
                continue
            elif not attempt.started:
                yield f"started, but the ledger says {attempt.state} and never started: {body}"
            elif body.epoch != attempt.epoch or body.node not in (attempt.node, ""):
                yield f"the ledger has it for node {attempt.node} in epoch {attempt.epoch}: {body}"

    return found("I2", wrong())


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

    return found("I2", wrong())


def i2_no_start_after_the_end(history: History) -> list[Violation]:
    """What another daemon has settled does not begin any more."""

    def wrong() -> Iterator[str]:
        keys = {row.id: key_of(row) for row in history.rows}
        over = {
            (*keys[c.id], c.number): c
            for c in history.changes
            if c.what == "attempt" and c.became in TERMINAL and c.was not in TERMINAL and c.id in keys
        }
        for body in history.bodies:
            change = over.get((*key_of(body), body.attempt))
            if (
                change is not None
                and body.begin_wall > change.committed + EARLY_S
                and body.owner == "cluster"
            ):
                late = body.begin_wall - change.committed
                yield f"began {late:.3f} s after it was {change.became}: {body}"

    return found("I2", wrong())


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

    return found("I5", wrong())


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

    return found("I6", wrong())


def i7_delivery(history: History) -> list[Violation]:
    """at_most_once: one start beyond known failures. at_least_once: a success, or its attempts used up."""

    def wrong() -> Iterator[str]:
        states = defaultdict(dict)
        for attempt in history.attempts:
            states[attempt.id][attempt.number] = attempt.state
        bodies = defaultdict(list)
        for body in history.bodies:
            bodies[key_of(body)].append(body)
        for row in history.rows:
            if row.verdict != "ran" or row.due_us > history.end_us:
                continue
            line, own = history.lines[row.schedule], bodies[key_of(row)]
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

    return found("I7", wrong())
