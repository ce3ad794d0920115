"""Text to values, with every syntax error said as a person would say it.

`tomllib` stops at the first error. So the line of an error is replaced by one that sets the same key to
`BROKEN`, and the rest is read again: the other errors of the file, of syntax and of meaning, are found in
the same run, and whoever meets `BROKEN` later stays silent, since that value was complained about.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

from singd.core.config.guard import guard, open_bracket, place_at
from singd.core.config.problems import Problem, Severity, shown
from singd.core.values import Place

BROKEN = "\x7f<broken>\x7f"
"""Stands for a value that was already complained about. No TOML text can hold it: \\x7f is not allowed raw."""
BROKEN_TEXT = '"\\u007f<broken>\\u007f"'
MOST_ERRORS = 10
ONE_ERROR_ABOVE = 2**17
"""Characters; a longer text is not read again after its first error, which would take too long."""

_PAIR = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*'))*)\s*=[ \t]*(.*)"""
)
_HEADER = re.compile(r"\s*(\[\[?[^\]#]*\]{0,2})")
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_LONG_NUMBER = re.compile(r"[0-9_]{4000,}+")
_SECRET_KEY = re.compile(r"(?i)url|pass|pwd|secret|token")
_WORD = re.compile(r"[^\s\"'#,\[\]{}=]+")


def parse(name: str, text: str, max_bytes: int) -> tuple[str, dict[str, Any] | None, list[Problem]]:
    """Read TOML.

    Returns:
        The text that was read in the end (broken lines replaced, as many lines as before), its values or None
        where nothing could be made of it, and the problems.
    """
    lines, problems = text.split("\n"), list[Problem]()
    for _ in range(MOST_ERRORS):
        current = "\n".join(lines)
        if refusal := guard(name, current, max_bytes):
            return text, None, problems or [refusal]
        try:
            return current, tomllib.loads(current), problems
        except (ValueError, RecursionError) as error:
            row, problem = _problem(name, current, lines, str(error))
        if BROKEN_TEXT in lines[row]:
            break
        problems.append(problem)
        if len(text) > ONE_ERROR_ABOVE or not _mended(lines, row, "twice" in problem.message):
            break
    return text, None, problems


def _mended(lines: list[str], row: int, twice: bool) -> bool:
    """Replace the value of a one-line pair by `BROKEN` (or drop its line); False where that cannot help."""
    pair = _PAIR.match(lines[row])
    if pair and twice:
        lines[row] = ""
        return True
    if not pair or pair[2].startswith(('"""', "'''")):
        return False
    lines[row] = f"{lines[row][: pair.start(2)]}{BROKEN_TEXT}"
    return True


def _problem(name: str, text: str, lines: list[str], error: str) -> tuple[int, Problem]:
    """The row (from 0) and what is to be said of an error of `tomllib`."""
    where = _AT.search(error)
    if where is None:
        return _digits(name, text, error)
    message = error[: where.start()]
    row, column = len(lines) - 1, len(lines[-1])
    if where[1]:
        row, column = min(int(where[1]) - 1, row), int(where[2]) - 1
    elif opened := open_bracket(text):
        place = place_at(name, text, opened[0], len(opened[1]))
        return place.line - 1, _say(
            place, f"the {_what(opened[1])} is never closed", f"it opens here with {opened[1]}", "close it"
        )
    elif not lines[row] and row:
        row, column = row - 1, len(lines[row - 1])
    return row, _explained(name, lines, row, column, message)


def _digits(name: str, text: str, error: str) -> tuple[int, Problem]:
    """The one error that `tomllib` gives no place for: Python refuses to read so long a number."""
    number = _LONG_NUMBER.search(text)
    place = place_at(name, text, number.start(), len(number[0])) if number else Place(name)
    return place.line - 1, _say(
        place, "the number is too long", error.partition(";")[0][:100], "write a shorter one"
    )


def _explained(name: str, lines: list[str], row: int, column: int, message: str) -> Problem:
    line = lines[row]
    pair, header = _PAIR.match(line), _HEADER.match(line)
    if message.startswith(("Cannot overwrite", "Cannot declare", "Cannot mutate")):
        return _twice(name, lines, row)
    if pair and "Illegal character '\\n'" in message:
        place = Place(name, row + 1, pair.start(2) + 1, max(1, len(pair[2].rstrip())))
        return _say(place, "the text has no closing quote", "it ends with the line", "close the quote")
    if pair and message.startswith(("Invalid value", "Expected newline")):
        return _bad_value(name, line, row, column, pair)
    if pair is None and message.startswith("Expected '='"):
        return _say(
            Place(name, row + 1, column + 1),
            'there is no "=" after the key',
            "a line is key = value",
            'write "="',
        )
    if header and message.startswith("Expected ']'"):
        place = Place(name, row + 1, header.start(1) + 1, len(header[1].rstrip()))
        return _say(
            place, "the table's header is not closed", "it ends with the line", "write the closing bracket"
        )
    plain = message[:1].lower() + message[1:200]
    return _say(
        Place(name, row + 1, column + 1), f"this is not TOML: {plain}", "", "see https://toml.io/en/v1.0.0"
    )


def _bad_value(name: str, line: str, row: int, column: int, pair: re.Match[str]) -> Problem:
    key, start = pair[1], pair.start(2)
    if not pair[2].strip() or pair[2].startswith("#"):
        return _say(
            Place(name, row + 1, pair.start(1) + 1, len(key)),
            f"{shown(key)} has no value",
            "a line is key = value",
            "write one",
        )
    word = _WORD.match(line, start)
    if not word or column > word.end() or line[word.end() :].strip(" \t,]}").startswith(("=", '"')):
        place = Place(name, row + 1, min(column, len(line)) + 1)
        return _say(
            place,
            "this is not TOML",
            "the value before it is complete, or none can begin like this",
            "mend the line",
        )
    place = Place(name, row + 1, start + 1, word.end() - start)
    if word[0].lower() in ("true", "false", "yes", "no", "on", "off"):
        right = "true" if word[0].lower() in ("true", "yes", "on") else "false"
        return _say(
            place, f"{word[0]} is not a value", "truth values are true and false", f"write {key} = {right}"
        )
    if _SECRET_KEY.search(key):
        return _say(
            place,
            "this is not a value",
            "text needs quotes",
            f'write {key} = {{credential = "…"}}',
            secret=True,
        )
    whole = pair[2].split("#")[0].strip()
    return _say(
        place, f"{shown(whole)} is not a value", "text needs quotes", f'write {key} = "{shown(whole)[1:-1]}"'
    )


def _twice(name: str, lines: list[str], row: int) -> Problem:
    match = _PAIR.match(lines[row]) or _HEADER.match(lines[row])
    if match is None:
        return _say(
            Place(name, row + 1),
            "something is defined twice",
            "the lines above end its second definition",
            "keep one",
        )
    written = match[1].strip()
    place = Place(name, row + 1, match.start(1) + 1, len(written))
    kind = "table" if written.startswith("[") else "key"
    before = next((n for n in range(row) if lines[n].strip().partition("=")[0].strip() == written), None)
    where = (
        f"it was defined in line {before + 1} already"
        if before is not None
        else "it was defined above already"
    )
    return _say(place, f"the {kind} {written[:80]} is defined twice", where, "keep one of the two")


def _what(opening: str) -> str:
    return {"[": "array or header", "{": "inline table"}.get(opening, "text")


def _say(place: Place, message: str, reason: str, cure: str, *, secret: bool = False) -> Problem:
    return Problem("SG0007", Severity.ERROR, place, message, reason, cure, secret=secret)
