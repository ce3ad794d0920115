"""What a file must pass before a TOML parser sees it: size, encoding, and shapes that cost a parser its memory.

The parser of Python 3.11 keeps copies of every prefix of a dotted key: one key of 60 kB took 1.5 GB, one of
200 kB the whole machine (CPython gh-149231). So keys, nesting and lines are counted first, by one regular
expression that knows strings and comments, in linear time (every repeat is possessive: nothing backtracks).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from singd.core.config.problems import Problem, Severity
from singd.core.values import Place

MAX_BYTES = 2**20
"""Default size of a whole configuration, drop-ins included."""
MAX_LINE = 65_536
MAX_DOTS = 32
MAX_NESTING = 32
BYTES_PER_DOT = 16
"""All keys of a file together may have one dot in so many bytes allowed: 65,536 of them in 1 MiB."""

_STRINGS = (
    r'"""(?>[^"\\]+|\\.|"{1,2}(?!"))*+"""(?:"{0,2})'
    r"|'''(?>[^']+|'{1,2}(?!'))*+'''(?:'{0,2})"
    r'|"(?>[^"\\\n]+|\\[^\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|\#[^\n]*+"
)
_BRACKETS = re.compile(_STRINGS + r"|[\[\]{}]", re.DOTALL)
_BRACKETS_AND_DOTS = re.compile(_STRINGS + r"|[\[\]{}.,=\n]", re.DOTALL)


def decode(name: str, raw: bytes, allowed: int, max_bytes: int) -> str | Problem:
    """The text of a file, or why it is none. CRLF becomes LF, a UTF-8 byte order mark is dropped.

    Args:
        allowed: How many of the configuration's `max_bytes` are left for this file.
    """
    if len(raw) > allowed:
        return _refusal(
            "SG0001", Place(name), f"the configuration is larger than {max_bytes:,} bytes",
            f"with this file it has at least {max_bytes - allowed + len(raw):,}", "split the work over several clusters, or raise the limit",
        )  # fmt: skip
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _refusal("SG0002", Place(name), "the file is UTF-16", "TOML is UTF-8", "save it as UTF-8")
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        place = _byte_place(name, raw, error.start)
        message = f"the byte 0x{raw[error.start]:02x} is not UTF-8"
        return _refusal("SG0002", place, message, "TOML is UTF-8", "save the file as UTF-8")
    if (at := text.find("\0")) >= 0:
        return _refusal(
            "SG0003",
            place_at(name, text, at),
            "the file holds a NUL byte",
            "it was cut or is not text",
            "write it anew",
        )
    return text.replace("\r\n", "\n")


def guard(name: str, text: str, max_bytes: int = MAX_BYTES) -> Problem | None:
    """Why `text` must not be given to a TOML parser, or None. Takes linear time and little memory."""
    many_dots = text.count(".") > max_bytes // BYTES_PER_DOT
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > MAX_LINE:
            message = f"the line has {len(line):,} characters"
            return _refusal(
                "SG0004", Place(name, number), message, f"at most {MAX_LINE:,} are read", "break the line"
            )
        many_dots = many_dots or line.count(".") > MAX_DOTS
    return _walk(name, text, _BRACKETS_AND_DOTS if many_dots else _BRACKETS, max_bytes // BYTES_PER_DOT)


def open_bracket(text: str) -> tuple[int, str] | None:
    """Where the innermost bracket or string that is never closed begins, and its opening characters."""
    stack: list[tuple[int, str]] = []
    for at, found in _tokens(_BRACKETS, text):
        if found in ("[", "{"):
            stack.append((at, found))
        elif found in ("]", "}"):
            del stack[-1:]
        elif found in ('""', "''") and text.startswith(found[0], at + 2):
            return at, found[0] * 3
        elif found[0] in "\"'" and (len(found) == 1 or found[-1] != found[0]):
            return at, found[0]
    return stack[-1] if stack else None


def _tokens(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, str]]:
    return ((match.start(), match.group()) for match in pattern.finditer(text))


def _walk(name: str, text: str, pattern: re.Pattern[str], most_dots: int) -> Problem | None:
    depth = dots = all_dots = key = 0
    for match in pattern.finditer(text):
        found = match.group()
        if found == ".":
            dots, all_dots = dots + 1, all_dots + 1
            if dots > MAX_DOTS:
                return _key_refusal("SG0005", name, text, key, f"the key has more than {MAX_DOTS} dots")
            if all_dots > most_dots:
                return _key_refusal(
                    "SG0009",
                    name,
                    text,
                    key,
                    f"the keys of the file have more than {most_dots:,} dots in all",
                )
            continue
        if found[0] in "\"'":
            continue
        dots, key = 0, match.end()
        if found in "[{":
            depth += 1
            if depth > MAX_NESTING:
                place = place_at(name, text, match.start())
                return _refusal(
                    "SG0006",
                    place,
                    f"values are nested more than {MAX_NESTING} deep",
                    "no key needs that",
                    "flatten them",
                )
        elif found in "]}":
            depth = max(0, depth - 1)
    return None


def _key_refusal(code: str, name: str, text: str, start: int, message: str) -> Problem:
    start += len(text[start : start + 256]) - len(text[start : start + 256].lstrip())
    return _refusal(
        code,
        place_at(name, text, start),
        message,
        "a parser would spend its memory on them",
        "use shorter keys",
    )


def place_at(name: str, text: str, at: int, length: int = 1) -> Place:
    """The place of the character with index `at`."""
    return Place(name, text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at), length)


def _byte_place(name: str, raw: bytes, at: int) -> Place:
    start = raw.rfind(b"\n", 0, at) + 1
    return Place(name, raw.count(b"\n", 0, at) + 1, len(raw[start:at].decode("utf-8", "replace")) + 1)


def _refusal(code: str, place: Place, message: str, reason: str, cure: str) -> Problem:
    return Problem(code, Severity.ERROR, place, message, reason, cure)
