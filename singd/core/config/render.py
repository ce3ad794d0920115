"""Problems for people (as rustc shows them) and for programs (rows for JSON). Pure: files come in as text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from singd.core.config.problems import Problem, Severity

_BOLD, _RED, _YELLOW, _BLUE, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[34m", "\x1b[0m"
_WIDEST = 160
"""Characters of a source line that are shown; a longer one is cut around the place."""
_SECRET = re.compile(
    r"""(?i)(://[^:/@\s"']*:)([^@\s"']+)(?=@)|(\b(?:pass|pwd|secret|token)\w*["']?\s*=\s*)("[^"]*"?|'[^']*'?|[^\s"'{][^\s,}]*)"""
)


def render(
    problems: Sequence[Problem], files: Iterable[tuple[str, bytes]] = (), *, color: bool = False
) -> str:
    """Every problem with its place, line, caret, reason and cure; ends with a line break unless empty.

    Args:
        files: (name, bytes) as they were given to `load`; without them no source lines are shown.
    """
    lines: dict[str, list[str]] = {}
    for name, raw in files:
        text = raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").replace("\r\n", "\n")
        lines[name] = text.split("\n")
    return "".join(_one(problem, lines.get(problem.place.file, []), color) for problem in problems)


def as_json(problem: Problem) -> Mapping[str, Any]:
    """A row of `singd check --json`; keys in snake_case."""
    place = problem.place
    return {
        "code": problem.code, "severity": str(problem.severity), "file": place.file, "line": place.line, "column": place.column,
        "length": place.length, "message": problem.message, "reason": problem.reason, "cure": problem.cure,
        "schedule": problem.schedule or None,
    }  # fmt: skip


def _one(problem: Problem, lines: Sequence[str], color: bool) -> str:
    def paint(style: str, text: str) -> str:
        return f"{style}{text}{_PLAIN}" if color and text else text

    shade = _RED if problem.severity is Severity.ERROR else _YELLOW
    head = f"{problem.severity} {problem.code}"
    parts = [
        f"{paint(_BOLD, _plain(str(problem.place)))}: {paint(_BOLD + shade, head)}: {_plain(problem.message)}"
    ]
    if 0 < problem.place.line <= len(lines):
        number = str(problem.place.line)
        source, caret = _source(problem, lines[problem.place.line - 1])
        bar = paint(_BLUE, "|")
        parts += [
            f"   {paint(_BLUE, number)} {bar} {source}",
            f"   {' ' * len(number)} {bar} {caret[0]}{paint(shade, caret[1])}",
        ]
    advice = "; ".join(text for text in (problem.reason, problem.cure) if text)
    if advice:
        parts.append(f"   {_plain(advice)}")
    return "\n".join(parts) + "\n"


def _source(problem: Problem, line: str) -> tuple[str, tuple[str, str]]:
    """The line, with secrets masked, and what stands below it: blanks, carets."""
    start = min(problem.place.column - 1, len(line))
    end = min(start + problem.place.length, len(line))
    if problem.secret:
        line = line[:start] + _stars(line[start:end]) + line[end:]
    line = _SECRET.sub(_masked, line)
    cut = max(0, start - _WIDEST // 2) if len(line) > _WIDEST else 0
    shown = "".join(_character(c) for c in line[cut : cut + _WIDEST])
    before = "".join("\t" if c == "\t" else " " * _width(c) for c in line[cut:start])
    width = sum(_width(c) for c in line[start : min(end, cut + _WIDEST)])
    return shown, (before, "^" * max(1, width))


def _stars(text: str) -> str:
    quoted = len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]
    return f"{text[0]}{'*' * (len(text) - 2)}{text[-1]}" if quoted else "*" * len(text)


def _masked(match: re.Match[str]) -> str:
    return match[1] + "*" * len(match[2]) if match[1] else match[3] + _stars(match[4])


def _character(character: str) -> str:
    return character if character == "\t" or character.isprintable() else "·"


def _plain(text: str) -> str:
    """Nothing that a terminal would obey."""
    return "".join(c if c.isprintable() else "·" for c in " ".join(text.splitlines()))


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
