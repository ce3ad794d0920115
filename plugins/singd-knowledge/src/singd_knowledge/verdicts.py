"""What a run says of each file, and when the run as a whole is no success: pure."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

MOST_BYTES = 32 * 1024
"""Of the result's `verdicts` as JSON; the ledger keeps results, so they stay small."""
MOST_REASON = 160
ORDER = ("refused", "removed", "updated", "loaded", "unchanged")
"""Which verdicts are kept first where not all fit."""


class Unsound(Exception):
    """The run would do harm or did nothing: everything it did is rolled back."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Shares, from 0 to 1, beyond which a run is refused.

    Attributes:
        max_vanished: Of the rows known before, how many may be gone from the tree.
        max_refused: Of the tree's files, how many may be refused.
    """

    max_vanished: float
    max_refused: float


@dataclass(slots=True)
class Verdicts:
    """Collects the verdict of every file: path -> (verdict, reason)."""

    files: int = 0
    of: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, path: str, verdict: str, reason: str = "") -> None:
        """Note what became of one file."""
        self.of[path] = (verdict, reason[:MOST_REASON])

    def count(self) -> Counter[str]:
        """How many files have each verdict."""
        return Counter(verdict for verdict, _ in self.of.values())

    def refusals(self) -> list[str]:
        """One line per refused file."""
        return [f"{path} {reason}" for path, (verdict, reason) in self.of.items() if verdict == "refused"]

    def result(self) -> dict[str, Any]:
        """Counts, and the verdict of every file while there is room."""
        count, kept, room = self.count(), dict[str, str](), MOST_BYTES
        for path, (verdict, reason) in sorted(
            self.of.items(), key=lambda item: (ORDER.index(item[1][0]), item[0])
        ):
            told = f"{verdict}: {reason}" if reason else verdict
            room -= len(json.dumps([path, told]))
            if room < 0:
                break
            kept[path] = told
        omitted = len(self.of) - len(kept)
        return {
            "files": self.files,
            **{word: count[word] for word in ORDER},
            "verdicts": kept,
            "verdicts_omitted": omitted,
        }


def judge(verdicts: Verdicts, known: int, limits: Limits) -> None:
    """Let a sound run pass.

    Args:
        verdicts: Of every file of the tree and every row that vanished from it.
        known: Rows there were before the run.

    Raises:
        Unsound: Too many rows vanished, too many files were refused, or a tree with files gave no row.
    """
    count = verdicts.count()
    if count["removed"] > limits.max_vanished * known:
        raise Unsound(
            f"{count['removed']} of {known} rows would vanish, more than max_vanished = {limits.max_vanished:g} allows; "
            "nothing was changed. If the files were meant to go, trigger the schedule once with max_vanished=1.0; "
            "if this is another tree, give it a source of its own"
        )
    good = count["loaded"] + count["updated"] + count["unchanged"]
    if verdicts.files and (not good or count["refused"] > limits.max_refused * verdicts.files):
        listed = "; ".join(verdicts.refusals()[:10])
        raise Unsound(
            f"{count['refused']} of {verdicts.files} files were refused, nothing was changed: {listed}"
        )
