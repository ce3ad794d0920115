"""How long nobody led: the figures of each kind of fault, what was promised of them, and their histogram.

A gap runs from the moment of the fault, on the database's clock, to the successor's first claim in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

LEASE_S = 5.0
"""What the server enforces on the lock session (`singd.ports.Term`)."""
LONGEST_S = LEASE_S + 1
"""No fault of one node may keep the cluster without a leader for longer."""


class Fault(StrEnum):
    """What is done to a leader."""

    KILL = "kill"
    FREEZE = "freeze"
    STOP = "stop"
    RESIGN = "resign"


MEANS: Mapping[Fault, str] = {
    Fault.KILL: "kill -9",
    Fault.FREEZE: "SIGSTOP, SIGCONT once it has a successor",
    Fault.STOP: "SIGTERM, a clean stop",
    Fault.RESIGN: "singd resign",
}

ROTATION = (
    Fault.KILL,
    Fault.RESIGN,
    Fault.KILL,
    Fault.STOP,
    Fault.KILL,
    Fault.FREEZE,
    Fault.KILL,
    Fault.RESIGN,
    Fault.KILL,
    Fault.STOP,
)
"""Of every ten rounds: five kills, one freeze, two clean stops, two resignations."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What is promised of a kind's gaps, in seconds; None = nothing."""

    longest: float
    median: float | None = None
    p99: float | None = None

    def __str__(self) -> str:
        if self.median is None:
            return f"at most {self.longest:g} s"
        return f"median {self.median:g}, p99 {self.p99:g} s"


PROMISES: Mapping[Fault, Promise] = {
    Fault.KILL: Promise(LONGEST_S, median=0.1, p99=0.5),
    Fault.FREEZE: Promise(LONGEST_S),
    Fault.STOP: Promise(LONGEST_S, median=0.1, p99=0.5),
    Fault.RESIGN: Promise(LONGEST_S, median=0.1, p99=0.5),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """The gaps of one kind, in seconds."""

    n: int
    median: float
    p95: float
    p99: float
    longest: float


def figures(gaps: Sequence[float]) -> Figures:
    """What to say of some gaps; there must be at least one."""
    return Figures(
        len(gaps), percentile(gaps, 0.5), percentile(gaps, 0.95), percentile(gaps, 0.99), max(gaps)
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Between the two nearest values, by distance."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * share
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def misses(fault: Fault, found: Figures) -> Sequence[str]:
    """Where the figures of a kind are above what is promised: worth a warning, for a busy machine is slow too."""
    promise = PROMISES[fault]
    checks = (("median", found.median, promise.median), ("p99", found.p99, promise.p99))
    return [
        f"{fault}: the {name} is {value:.3f} s, promised are {most:g} s"
        for name, value, most in checks
        if most is not None and value > most
    ]


def broken(fault: Fault, gaps: Iterable[float]) -> Sequence[str]:
    """Gaps longer than the lease allows: a violation."""
    most = PROMISES[fault].longest
    return [
        f"{fault}: nothing was claimed for {gap:.3f} s, and at most {most:g} s are promised"
        for gap in gaps
        if gap > most
    ]


EDGES = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 5.0, 6.0)
BAR = 40


@dataclass(frozen=True, slots=True)
class Bin:
    """So many gaps above `low` and at most `high`; None = no end."""

    low: float
    high: float | None
    count: int


def bins(gaps: Sequence[float], edges: Sequence[float] = EDGES) -> Sequence[Bin]:
    """The histogram, from the first bin that holds anything to the last."""
    lows, highs = (0.0, *edges), (*edges, None)
    counted = [
        Bin(low, high, sum(low < gap and (high is None or gap <= high) for gap in gaps))
        for low, high in zip(lows, highs, strict=True)
    ]
    full = [index for index, item in enumerate(counted) if item.count]
    return counted[full[0] : full[-1] + 1] if full else []


def histogram(gaps: Sequence[float]) -> Sequence[str]:
    """One line a bin, for people."""
    counted = bins(gaps)
    most = max((item.count for item in counted), default=1)
    return [
        f"{_upto(item):>12}  {item.count:>4}  {'#' * _width(item.count, most)}".rstrip() for item in counted
    ]


def _upto(item: Bin) -> str:
    return f"> {item.low:g} s" if item.high is None else f"<= {item.high:g} s"


def _width(count: int, most: int) -> int:
    return max(1, round(BAR * count / most)) if count else 0
