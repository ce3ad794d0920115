"""How the client speaks: results to stdout, everything said about them to stderr.

People get tables, machines get one JSON object a call (`{"version": 1, "<name>": …}`, snake_case, instants as
RFC 3339 in UTC). Text that came from a plugin, a log or a configuration may hold control characters; none
reaches a terminal unescaped (reliability rule S15). Colour is an extra for terminals, never the only carrier
of a meaning: see https://no-color.org.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from singd.errors import SingdError

OK, FAILED, USAGE = 0, 1, 2
BAD_CONFIG, NO_INPUT, UNAVAILABLE, SOFTWARE, TRY_AGAIN, NO_PERMISSION, CONFIG = 65, 66, 69, 70, 75, 77, 78
"""Exit codes: our own three, then those of sysexits.h."""

JSON_VERSION = 1
ABANDONED = "its daemon is gone or cut off; unless it comes back this is settled as lost about 20 s after its last sign of life"
"""Of an attempt that the ledger has as running and that nobody runs (`singd.strangers`)."""
_SGR = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


class CommandError(SingdError):
    """A verb cannot do what was asked; `exit` is the code it ends with."""

    def __init__(self, message: str, *, cure: str = "", exit: int = FAILED) -> None:
        super().__init__(message, cure=cure)
        self.exit = exit


def print_json(name: str, value: object, stream: TextIO | None = None) -> None:
    """One result for machines.

    Args:
        name: The key beside `version`: what the value is.
        value: JSON values, datetimes (become RFC 3339 UTC), dates and paths (become text).
        stream: Default stdout.
    """
    document = {"version": JSON_VERSION, name: value}
    print(json.dumps(document, default=_jsonable, indent=2), file=stream or sys.stdout)


def say(message: str) -> None:
    """A message for people, to stderr."""
    print(printable(message, keep="\n"), file=sys.stderr)


def complain(message: str, cure: str = "") -> None:
    """What went wrong and what to do about it, to stderr."""
    say(f"singd: {message}")
    if cure:
        say(f"  {cure}")


def rfc3339(instant: datetime) -> str:
    """An aware instant as RFC 3339 in UTC with Z; microseconds only where there are any."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def instant(text: str | None) -> datetime | None:
    """The way back from `rfc3339`; None stays None."""
    return None if text is None else datetime.fromisoformat(text)


def local(at: datetime) -> str:
    """An instant as people read it: local time of this machine, with the zone's short name."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def span(length: timedelta) -> str:
    """A length of time in at most two units: `2 h 5 min`, `0 s`; the sign is dropped."""
    seconds = abs(round(length.total_seconds()))
    parts = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        parts += [f"{count} {unit}"] if count else []
    return " ".join(parts[:2]) or "0 s"


def relative(at: datetime, now: datetime) -> str:
    """`in 4 min`, `2 h 5 min ago`, or `now` within half a second."""
    distance = at - now
    if abs(distance) < timedelta(seconds=0.5):
        return "now"
    return f"in {span(distance)}" if distance > timedelta() else f"{span(distance)} ago"


def printable(text: str, keep: str = "") -> str:
    """The text with every control character escaped, except those of `keep`; also C1 and bidirectional ones."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def coloured(stream: TextIO) -> bool:
    """Whether colour is welcome: a terminal that is not dumb, and no NO_COLOR."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    """The text in bold, dim, red, green or yellow where colour is welcome; "" is no style."""
    if not style or not coloured(stream or sys.stdout):
        return text
    return f"\x1b[{_SGR[style]}m{text}\x1b[0m"


_STYLES = {
    "red": ("failed", "timed_out", "lost", "missed", "late", "failing", "unavailable", "wrong"),
    "yellow": ("skipped", "superseded", "cancelled", "disabled", "gone", "warning"),
    "green": ("succeeded", "leads", "ok"),
}
_STYLE_OF = {word: style for style, words in _STYLES.items() for word in words}


def style_of(word: str) -> str:
    """The style that a verdict's, an outcome's or a state's word is shown in."""
    return _STYLE_OF.get(word, "")


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, styled: int | None = None) -> None:
    """A table to stdout; the last column takes what is left of a terminal's line and is cut there.

    Args:
        headers: One word a column.
        rows: Cells; control characters in them are escaped.
        styled: Index of the column whose word decides the colour of its own cell.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(display_width, column)) for column in zip(headers, *cells, strict=True)]
    room = _room(widths)
    print(paint(_line(headers, widths, room), "dim"))
    for row in cells:
        style = style_of(row[styled].split(" ")[0]) if styled is not None else ""
        print(_line(row, widths, room, styled, style))


def print_facts(facts: Mapping[str, str | Sequence[str]]) -> None:
    """Labelled lines to stdout, several for a list; facts that are empty are left out."""
    width = max((len(label) for label, fact in facts.items() if fact), default=0)
    for label, fact in facts.items():
        lines = [fact] if isinstance(fact, str) else fact
        for number, line in enumerate(filter(None, lines)):
            print(f"{paint(('' if number else label).ljust(width), 'dim')}  {printable(line)}")


def _line(
    row: Sequence[str], widths: Sequence[int], room: int | None, styled: int | None = None, style: str = ""
) -> str:
    *front, last = [
        cell + " " * (width - display_width(cell)) for cell, width in zip(row, widths, strict=True)
    ]
    cells = [*front, _cut(last.rstrip(), room)]
    if styled is not None:
        cells[styled] = paint(cells[styled], style)
    return "  ".join(cells).rstrip()


def _cut(text: str, room: int | None) -> str:
    if room is None or display_width(text) <= room:
        return text
    kept = text
    while display_width(kept) >= room:
        kept = kept[:-1]
    return kept + "…"


def _room(widths: Sequence[int]) -> int | None:
    """What a terminal leaves for the last column; None where nothing has to be cut."""
    if not sys.stdout.isatty():
        return None
    import shutil

    left = shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * (len(widths) - 1)
    return max(left, 12)


def display_width(text: str) -> int:
    """Columns that a terminal needs: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def _jsonable(value: Any) -> str:
    return rfc3339(value) if isinstance(value, datetime) else str(value)
