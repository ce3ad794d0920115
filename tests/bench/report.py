"""One JSON line a figure: the median, every single value, what it was to reach, how busy the machine was."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any


def percentile(values: Sequence[float], share: float) -> float:
    """Between the two nearest values, by distance."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * share
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def figure(
    name: str, unit: str, values: Sequence[float], *, system: str = "singd",
    at_most: float | None = None, at_least: float | None = None, **more: Any,
) -> None:  # fmt: skip
    """Print a figure.

    Args:
        values: One a run; none at all is a figure that was not reached.
        at_most, at_least: The target for the median.
        more: What else is worth knowing: counts of what went wrong, settings, parts.
    """
    median = statistics.median(values) if values else None
    line: dict[str, Any] = {
        "t": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "figure": name, "system": system, "unit": unit,
        "median": median, "n": len(values), "values": list(values),
    }  # fmt: skip
    if at_most is not None or at_least is not None:
        line["target"] = f"<= {at_most:g}" if at_most is not None else f">= {at_least:g}"
        line["reached"] = median is not None and _within(median, at_most, at_least)
    line |= {"load1": os.getloadavg()[0], **more}
    print(json.dumps(_rounded(line)), flush=True)


def _within(median: float, at_most: float | None, at_least: float | None) -> bool:
    return (at_most is None or median <= at_most) and (at_least is None or median >= at_least)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4 if abs(value) < 100 else 1)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def say(text: str) -> None:
    """For whoever watches; results go to stdout."""
    print(text, file=sys.stderr, flush=True)
