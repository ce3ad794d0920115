"""What a drill says: one line a round, the account at the end, and the same as JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from singd.core.units import counted
from singd.drill.gaps import PROMISES, Fault, Figures, broken, figures, histogram, misses
from singd.drill.tally import Tally


@dataclass(frozen=True, slots=True)
class Round:
    """One fault and what followed.

    Attributes:
        fault: What was done, to `leader`, in its term `epoch`.
        successor, next_epoch: Who claimed first afterwards, and in which term.
        gap_s: From the fault to that claim, on the database's clock.
    """

    number: int
    fault: Fault
    leader: str
    epoch: int
    successor: str
    next_epoch: int
    gap_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole drill.

    Attributes:
        where: The database, for people.
        clock_s: How exactly the two clocks were compared: at most so many seconds wrong.
        failure: Why it could not go on to its end; "" = it did.
        unsettled: Whether it was left before everything was settled.
        left: What could not be cleaned up, each with its cure.
    """

    where: str
    schema: str
    nodes: int
    rounds: Sequence[Round]
    tally: Tally
    clock_s: float = 0.0
    elapsed_s: float = 0.0
    failure: str = ""
    unsettled: bool = False
    cleaned: Sequence[str] = ()
    left: Sequence[str] = ()
    gaps: Mapping[Fault, Sequence[float]] = field(init=False)

    def __post_init__(self) -> None:
        gaps = {fault: [item.gap_s for item in self.rounds if item.fault is fault] for fault in Fault}
        object.__setattr__(self, "gaps", {fault: found for fault, found in gaps.items() if found})

    @property
    def figures(self) -> Mapping[Fault, Figures]:
        """Of each kind that there was."""
        return {fault: figures(found) for fault, found in self.gaps.items()}

    def violations(self) -> Sequence[str]:
        """What broke a promise."""
        late = [line for fault, found in self.gaps.items() for line in broken(fault, found)]
        return [*self.tally.violations(), *late]

    def warnings(self) -> Sequence[str]:
        """Figures above what is promised, on a machine that may be busy."""
        return [line for fault, found in self.figures.items() for line in misses(fault, found)]


def round_line(item: Round, of: int) -> str:
    """One line a round."""
    width = len(str(of))
    return (
        f"{item.number:>{width}}/{of}  {item.fault:<6}  {item.leader} -> {item.successor}"
        f"  epoch {item.next_epoch:<4}  {item.gap_s:7.3f} s"
    )


def account_lines(outcome: Outcome) -> Iterator[str]:
    """The account, without the verdict."""
    yield from _counts(outcome.tally)
    yield ""
    yield from _figures(outcome)
    for fault, found in outcome.gaps.items():
        yield ""
        yield f"{fault}: how many took how long"
        yield from histogram(found)
    yield ""
    yield f"cleaned up: {', '.join(outcome.cleaned) or 'nothing'}"


def _counts(tally: Tally) -> Iterator[str]:
    facts = {
        "expected": tally.expected,
        "recorded": tally.recorded,
        "lost": len(tally.lost),
        "started": tally.started,
        "doubled": len(tally.doubled),
        "let go": tally.skipped,
        "cut off": tally.cut_off,
    }
    width = max(len(f"{number:,}") for number in facts.values())
    meaning = {
        "expected": "instants, counted from the intervals alone",
        "recorded": "of them in the ledger",
        "lost": "expected, and not in the ledger",
        "started": f"began; {tally.witnessed:,} of them told the witness",
        "doubled": "began more than once",
        "let go": "not run, with a reason",
        "cut off": "runs that a fault ended or hid, recorded as lost, not repeated (at_most_once)",
    }
    yield from (f"{name:<9} {number:>{width},}  {meaning[name]}" for name, number in facts.items())


def _figures(outcome: Outcome) -> Iterator[str]:
    yield (
        f"no leader for (s), from the fault to the successor's first claim, clocks compared within {outcome.clock_s:.3f}"
    )
    yield f"{'':<7} {'n':>4} {'median':>8} {'p95':>8} {'p99':>8} {'max':>8}   promised"
    for fault, found in outcome.figures.items():
        yield (
            f"{fault:<7} {found.n:>4} {found.median:>8.3f} {found.p95:>8.3f} {found.p99:>8.3f} {found.longest:>8.3f}"
            f"   {PROMISES[fault]}"
        )


def verdict_line(outcome: Outcome) -> str:
    """The last line."""
    if bad := outcome.violations():
        return f"FAILED: {counted(len(bad), 'violation')}"
    if outcome.failure:
        return f"NOT PROVED: {outcome.failure}"
    changes, instants = counted(len(outcome.rounds), "change"), counted(outcome.tally.expected, "instant")
    if not outcome.rounds or not outcome.tally.started:
        return "NOT PROVED: nothing happened that could have failed"
    return f"PASSED: {instants} over {changes} of leader, each recorded once; none lost, none doubled"


def passed(outcome: Outcome) -> bool:
    """Whether it proved what it was to prove: an idle drill cannot pass."""
    return verdict_line(outcome).startswith("PASSED")


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The drill for machines; instants are datetimes, spans are seconds."""
    tally = asdict(outcome.tally)
    instants = ("lost", "doubled", "twice", "strange", "open", "unclaimed")
    for name in instants:
        tally[name] = [{"schedule": schedule, "due_at": at} for schedule, at in tally[name]]
    return {
        "passed": passed(outcome),
        "verdict": verdict_line(outcome),
        "violations": list(outcome.violations()),
        "warnings": list(outcome.warnings()),
        "database": outcome.where,
        "schema": outcome.schema,
        "nodes": outcome.nodes,
        "elapsed_s": round(outcome.elapsed_s, 3),
        "clock_s": round(outcome.clock_s, 6),
        "instants": tally,
        "gaps": {fault.value: _gap_json(outcome, fault) for fault in outcome.gaps},
        "rounds": [{**asdict(item), "fault": item.fault.value} for item in outcome.rounds],
        "cleaned": list(outcome.cleaned),
        "left": list(outcome.left),
    }


def _gap_json(outcome: Outcome, fault: Fault) -> dict[str, Any]:
    found = outcome.figures[fault]
    return {
        **asdict(found),
        "promised": str(PROMISES[fault]),
        "values": [round(gap, 4) for gap in outcome.gaps[fault]],
    }
