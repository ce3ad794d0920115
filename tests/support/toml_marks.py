"""Configurations in tests say where a problem is expected: `⟦timout⟧ = "4m"` means exactly those six characters."""

from __future__ import annotations

from singd.core.config import Loaded, Problem, load

GOOD = """
[databases.main]
url = "embedded"
"""


def marked(text: str) -> tuple[str, list[tuple[int, int, int]]]:
    """The text without its marks, and (line, column, length) of each mark."""
    plain, places, start = "", [], 0
    for character in text:
        if character == "⟦":
            start = len(plain)
        elif character == "⟧":
            line = plain.count("\n", 0, start) + 1
            places.append((line, start - plain.rfind("\n", 0, start), len(plain) - start))
        else:
            plain += character
    return plain, places


def loaded(text: str, **limits: int) -> Loaded:
    return load([("singd.toml", text.encode())], **limits)


def found(problems: tuple[Problem, ...]) -> list[tuple[str, tuple[int, int, int]]]:
    """(code, place) of each problem."""
    return [(p.code, (p.place.line, p.place.column, p.place.length)) for p in problems]


def schedule(body: str, *, trigger: str = 'cron = "0 3 * * *"') -> str:
    """A schedule `x` with a trigger, and the database `main`."""
    return f'[databases.main]\nurl = "embedded"\n[schedules.x]\n{trigger}\n{body}\n'
