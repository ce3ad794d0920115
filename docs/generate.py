"""Writes the generated parts of docs/configuration.md and docs/cli.md from the code; `make docs` runs it.

    <!-- generated: NAME -->
    …                              what `BLOCKS[NAME]` says; everything outside is written by hand
    <!-- end -->

A table's last column, `meaning`, is written by hand too, between the markers: it stays with its row's first cell.
tests/core/test_reference_docs.py fails where a part is out of date or a meaning is missing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import generate_cli
import generate_examples
import generate_keys
from generate_tables import Table, markdown

HERE = Path(__file__).resolve().parent
DOCUMENTS = tuple(HERE / name for name in ("configuration.md", "cli.md"))
BLOCK = re.compile(r"(<!-- generated: ([^\n]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_CELLS = re.compile(r"(?<!\\)\|")

BLOCKS: Mapping[str, Callable[[], Table | str]] = {
    **generate_keys.BLOCKS,
    **generate_examples.BLOCKS,
    **generate_cli.BLOCKS,
}


def rewritten(text: str) -> str:
    """A document's text with every generated part written anew.

    Raises:
        KeyError: A part has a name that nothing generates.
    """
    return BLOCK.sub(lambda found: f"{found[1]}\n{_body(found[2], found[3])}\n{found[4]}", text)


def blocks_in(text: str) -> Sequence[str]:
    """The names of the generated parts of a document."""
    return [found[2] for found in BLOCK.finditer(text)]


def rows(text: str) -> Iterable[list[str]]:
    """The cells of every row of every table in a text, heads and rules left out."""
    lines = text.splitlines()
    for line, below in zip(lines, [*lines, ""][1:], strict=True):
        if line.startswith("| ") and not below.startswith("|---"):
            yield [cell.strip() for cell in _CELLS.split(line)[1:-1]]


def _body(name: str, old: str) -> str:
    made = BLOCKS[name]()
    if isinstance(made, str):
        return made
    meanings = {row[0]: row[-1] for row in rows(old)}
    return markdown(made, meanings)


def main() -> int:
    """Rewrite the documents; says which changed."""
    for path in DOCUMENTS:
        before = path.read_text()
        after = rewritten(before)
        if after != before:
            path.write_text(after)
            print(f"wrote {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
