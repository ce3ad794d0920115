"""Tables as values, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """Attributes:
    heads: One word a column; where the last is `meaning`, that column is written by hand.
    rows: Cells; without the one that is written by hand.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def markdown(table: Table, meanings: Mapping[str, str] | None = None) -> str:
    """The table as text, `meaning` filled in by first cell ("" where there is none yet)."""
    by_hand = table.heads[-1] == "meaning"
    lines = [_line(table.heads), "|" + "---|" * len(table.heads)]
    for row in table.rows:
        cells = [cell.replace("|", "\\|") for cell in row]
        lines.append(_line([*cells, (meanings or {}).get(cells[0], "")] if by_hand else cells))
    return "\n".join(lines) + "\n"


def code(text: object) -> str:
    """The text in code style; "" stays empty."""
    return f"`{text}`" if str(text) else ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
