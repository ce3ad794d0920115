"""I9 to I14, I22: what bodies and daemons did in time, as the witness and the harness saw it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from chaos.history import Body, Fault, History, instant
from chaos.violation import BUSIEST, EARLY_S, Violation, found, ids_of, key_of

EXIT_S = 31.0
EVEN_IF_FROZEN_S = 3.0
"""A whole group that was frozen may live so long after its thaw before it notices and ends itself: the one exception."""


def i9_no_overlap(history: History) -> list[Violation]:
    """Bodies of one schedule never run at once, unless `overlap = allow`; an attempt counted as lost is let alone."""

    def wrong() -> Iterator[str]:
        ids = ids_of(history)
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
                forgiven = (ids.get(key_of(newest)), newest.attempt) in lost and not history.lines[
                    name
                ].at_least_once
                if body.begin_boot < newest.last_boot and not forgiven and not _was_frozen(newest, frozen):
                    yield f"{newest} runs beside {body}"
                newest = max(newest, body, key=lambda item: item.last_boot)

    return found("I9", wrong())


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
            if early > EARLY_S and not _by_false_clock(history, body.owner, body.begin_wall):
                yield f"{early:.3f} s early: {body}"

    return found("I10", wrong())


def _by_false_clock(history: History, owner: str, at: float) -> bool:
    """Whether these are a node's own schedules and its clock was set forward: they go by it, and wait for it afterwards."""
    return any(
        fault.kind.startswith("clock +") and fault.node == owner and fault.begin <= at
        for fault in history.faults
    )


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
    return found("I11", wrong)


def i22_alive(history: History) -> list[Violation]:
    """In the calm, at least 95 % of what is due runs: a system that does nothing breaks no other rule.

    On a machine with several times as many runnable processes as cores it may be somewhat less.
    """
    ran = {key_of(body) for body in history.bodies}
    due = [
        (line.name, owner, at)
        for begin, end in history.calms
        for line in history.lines.values()
        if line.steady
        for owner in history.owners(line)
        for at in line.instants(round(begin * 1e6), round(end * 1e6))
        if not _by_false_clock(history, owner, at / 1e6)
    ]
    if not due:
        return [Violation("I22", "there was no calm in which anything was due")]
    missed = [item for item in due if item not in ran]
    busiest = min(max([1.0, *history.loads]), BUSIEST)
    if len(missed) > len(due) * 0.05 * busiest:
        some = ", ".join(f"{name} of {owner} {instant(at)}" for name, owner, at in missed[:5])
        return [Violation("I22", f"of {len(due)} due in the calm {len(missed)} did not run: {some} …")]
    return []
