"""What is wrong with a configuration, said so that the reader can mend it: code, place, reason, cure.

A code never changes its meaning once it was released; the first two digits are its family:

    SG00 the file itself   SG01 keys and values   SG02 triggers   SG03 what to run   SG04 references
    SG05 secrets           SG06 tasks             SG08 lints      SG09 in the contract, not built yet
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum

from singd.core.config.places import Path, Sources
from singd.core.values import Place

MOST_PROBLEMS = 1_000
"""A file with more problems than this is not the file that was meant; the rest is only counted."""
MOST_SUGGESTIONS = 100
_LONGEST_WORD = 64

CODES = {
    "SG0001": "the configuration is too large",
    "SG0002": "the file is not UTF-8 text",
    "SG0003": "the file holds a NUL byte",
    "SG0004": "a line is too long",
    "SG0005": "a key has too many dots",
    "SG0006": "values are nested too deeply",
    "SG0007": "the file is not TOML",
    "SG0008": "the file cannot be read",
    "SG0009": "the keys have too many parts in all",
    "SG0010": "the file is empty",
    "SG0011": "there are too many problems",
    "SG0101": "a value has the wrong type",
    "SG0102": "a value is out of range",
    "SG0103": "a number has no unit",
    "SG0104": "unknown key",
    "SG0105": "a value is not one of the choices",
    "SG0106": "a name cannot be used",
    "SG0107": "a key is missing",
    "SG0108": "there are too many schedules",
    "SG0109": "a duration is not understood",
    "SG0110": "two keys contradict each other",
    "SG0201": "a schedule has no trigger",
    "SG0202": "a schedule has several triggers",
    "SG0203": "a cron expression is not understood",
    "SG0204": "a time zone is unknown",
    "SG0205": "an instant has no offset",
    "SG0301": "a schedule says twice what to run",
    "SG0302": "sql needs a database",
    "SG0303": "a database is unknown",
    "SG0401": "a schedule is unknown",
    "SG0501": "a password stands in the file",
    "SG0502": "a secret reference is not understood",
    "SG0601": "a task is unknown",
    "SG0602": "a task's plugin is broken",
    "SG0603": "a task has no such argument",
    "SG0604": "a task's argument is missing",
    "SG0605": "an argument has the wrong type",
    "SG0606": "an argument names an unknown database",
    "SG0607": "a task cannot run inline",
    "SG0608": "a task's database is missing",
    "SG0609": "a task declares what cannot be",
    "SG0801": "an expression fires more often than it looks",
    "SG0802": "a task is placed against its plugin's word",
    "SG0803": "a password stands in a command",
    "SG0804": "an instant has passed",
    "SG0902": "needs is not built yet",
    "SG0903": "after is not built yet",
    "SG0904": "on is not built yet",
    "SG0905": "splay is not built yet",
    "SG0906": "once is not built yet",
    "SG0907": "on_failure is not built yet",
    "SG0908": "the database executor is not built yet",
    "SG0909": "services are not built yet",
    "SG0910": "nats is not built yet",
}


class Severity(StrEnum):
    """An error refuses the whole configuration; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        code: A key of `CODES`.
        message: What is wrong, without its place; never a secret.
        reason: Why that is wrong; may be "".
        cure: What to do; may be "" where the reason says it.
        schedule: The schedule that it is about; "" for the file as a whole.
        secret: The place covers a secret: whoever shows the line masks it.
    """

    code: str
    severity: Severity
    place: Place
    message: str
    reason: str = ""
    cure: str = ""
    schedule: str = ""
    secret: bool = False


class Wrong(Exception):
    """A value that cannot be; raised by readers of single values, which do not know places."""

    def __init__(
        self,
        code: str,
        message: str,
        reason: str = "",
        cure: str = "",
        inside: Path = (),
        secret: bool = False,
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.reason, self.cure = code, message, reason, cure
        self.inside = inside
        """Where inside the value: indexes of arrays, keys of tables."""
        self.secret = secret


@dataclass(slots=True)
class Findings:
    """Collects problems while a configuration is read; looks up a place only when there is a problem."""

    sources: Sources
    problems: list[Problem] = field(default_factory=list)
    dropped: int = 0

    def add(
        self, code: str, path: Path, message: str, reason: str = "", cure: str = "", *,
        at_key: bool = False, warning: bool = False, secret: bool = False,
    ) -> None:  # fmt: skip
        """Note a problem with what stands at `path` (its key if `at_key`, else its value)."""
        assert code in CODES, code
        if self.full:
            self.dropped += 1
            return
        place = self.sources.place(path, at_key=at_key)
        severity = Severity.WARNING if warning else Severity.ERROR
        schedule = str(path[1]) if len(path) > 1 and path[0] == "schedules" else ""
        self.problems.append(Problem(code, severity, place, message, reason, cure, schedule, secret))

    @property
    def full(self) -> bool:
        """Whether one more problem would only be counted."""
        return len(self.problems) >= MOST_PROBLEMS

    def near(self, word: str, known: Iterable[str]) -> str:
        """`did_you_mean`, which costs milliseconds among thousands of names: for the first problems only."""
        return did_you_mean(word, known) if len(self.problems) < MOST_SUGGESTIONS else ""

    def wrong(self, path: Path, key: str, wrong: Wrong) -> None:
        """Note a `Wrong` raised by the reader of the value at `path`."""
        message = wrong.message.replace("{key}", key)
        cure = wrong.cure.replace("{key}", key)
        self.add(wrong.code, path + wrong.inside, message, wrong.reason, cure, secret=wrong.secret)

    def in_order(self) -> tuple[Problem, ...]:
        """Every problem in the order of the files, then of the lines."""
        files = {name: index for index, name in enumerate(self.sources.names())}
        found = sorted(
            self.problems, key=lambda p: (files.get(p.place.file, 0), p.place.line, p.place.column, p.code)
        )
        if self.dropped:
            found.append(_too_many(found[-1].place, self.dropped))
        return tuple(found)


def _too_many(place: Place, dropped: int) -> Problem:
    message = f"{dropped} more problems are not shown" if dropped > 1 else "1 more problem is not shown"
    return Problem(
        "SG0011", Severity.ERROR, place, message, f"only the first {MOST_PROBLEMS} are", "mend those first"
    )


def failed(problems: Iterable[Problem]) -> bool:
    """Whether any of them is an error."""
    return any(problem.severity is Severity.ERROR for problem in problems)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean "x"?` where something known is near, else ""."""
    lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower()[:_LONGEST_WORD], lower, 1, 0.6)
    return f'did you mean "{lower[near[0]]}"?' if near else ""


def listing(words: Iterable[str], last: str = "and", most: int = 8) -> str:
    """`"a", "b" and "c"`; after `most` words only how many more there are."""
    quoted = [f'"{word}"' for word in words]
    if len(quoted) > most:
        return ", ".join(quoted[:most]) + f" and {len(quoted) - most} more"
    return f" {last} ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def shown(text: str, most: int = 60) -> str:
    """`text` in double quotes, cut short, with control characters escaped."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    plain = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in cut
    )
    return f'"{plain}"'
