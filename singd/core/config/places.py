"""Where in which file a key or value stands: `tomllib` gives values, tree-sitter gives spans, and only when asked.

Most configurations have no problem, and 10,000 schedules have 80,000 keys; so nothing is located until a
problem or `singd show` needs it. Then the file is parsed once more and its tables are indexed:

    path ("schedules", "x", "args", "list", 2)
          table header [schedules.x]  ->  pair  args.list = [...]  ->  third element

A path is keys from the root, with numbers for elements of arrays (also arrays of tables).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import tree_sitter
import tree_sitter_toml

from singd.core.values import Place

Path = tuple[str | int, ...]

_LANGUAGE = tree_sitter.Language(tree_sitter_toml.language())
_TABLES = ("table", "table_array_element")


@dataclass(slots=True)
class _Header:
    """A table's header: the resolved path, the nodes of the parts as written, and what holds its pairs."""

    path: Path
    parts: tuple[tree_sitter.Node, ...]
    node: tree_sitter.Node
    _pairs: dict[str | int, list[tree_sitter.Node]] | None = None

    def find(self, rest: Path, at_key: bool) -> tuple[tree_sitter.Node, tree_sitter.Node] | None:
        """First and last node of what stands at `rest` below this header."""
        if self._pairs is None:
            self._pairs = {}
            for pair in _pairs(self.node):
                self._pairs.setdefault(_key_text(next(_key_parts(pair.named_children[0]))), []).append(pair)
        found = (_in_pair(pair, rest, at_key) for pair in self._pairs.get(rest[0], ()))
        return next(filter(None, found), None)


@dataclass(slots=True)
class Document:
    """One file: its text as parsed, its values, and (once asked for) its tables."""

    name: str
    text: str
    values: Mapping[str, Any]
    _headers: dict[Path, _Header] | None = None
    _lines: list[str] | None = None

    def has(self, path: Path) -> bool:
        """Whether this file sets something at `path`."""
        value: Any = self.values
        for part in path:
            if isinstance(part, int):
                if not isinstance(value, list) or part >= len(value):
                    return False
            elif not isinstance(value, Mapping) or part not in value:
                return False
            value = value[part]
        return True

    def place(self, path: Path, *, at_key: bool) -> Place | None:
        """The place of the value (or key) at `path`; a table's is the one of its header."""
        headers = self._index()
        if path and path in headers:
            parts = headers[path].parts
            return self._span(parts[0], parts[-1])
        for length in range(len(path) - 1, -1, -1):
            header = headers.get(path[:length])
            found = header.find(path[length:], at_key) if header else None
            if found:
                return self._span(*found)
        return self._implied(path)

    def forget(self) -> None:
        """Give the tree's memory back; a later question parses anew."""
        self._headers = self._lines = None

    def _index(self) -> dict[Path, _Header]:
        if self._headers is None:
            tree = tree_sitter.Parser(_LANGUAGE).parse(self.text.encode("utf-8", "surrogatepass"))
            self._headers = {header.path: header for header in _headers(tree.root_node)}
        return self._headers

    def _implied(self, path: Path) -> Place | None:
        """A table without a header of its own: where the first header below it names it."""
        for header in self._index().values():
            if path and header.path[: len(path)] == path:
                depth = sum(isinstance(part, str) for part in path)
                whole = depth == len(header.parts)
                return self._span(header.parts[0 if whole else depth - 1], header.parts[depth - 1])
        return None

    def _span(self, first: tree_sitter.Node, last: tree_sitter.Node) -> Place:
        if self._lines is None:
            self._lines = self.text.split("\n")
        row, column = first.start_point
        line = self._lines[row]
        start = _characters(line, column)
        end = _characters(line, last.end_point[1]) if last.end_point[0] == row else len(line)
        return Place(self.name, row + 1, start + 1, max(1, end - start))


@dataclass(slots=True)
class Sources:
    """The files of one configuration, the main one first; a later one wins."""

    documents: list[Document] = field(default_factory=list)

    def names(self) -> list[str]:
        """The files' names, in their order."""
        return [document.name for document in self.documents]

    def place(self, path: Path, *, at_key: bool = False) -> Place:
        """Where what is in force at `path` was written; the nearest table above where nothing was."""
        for length in range(len(path), 0, -1):
            for document in reversed(self.documents):
                if document.has(path[:length]):
                    found = document.place(path[:length], at_key=at_key or length < len(path))
                    if found:
                        return found
        return Place(self.documents[0].name if self.documents else "")

    def forget(self) -> None:
        """Give the trees' memory back."""
        for document in self.documents:
            document.forget()


def _headers(root: tree_sitter.Node) -> Iterator[_Header]:
    yield _Header((), (), root)
    arrays: dict[Path, int] = {}
    for node in root.children:
        if node.type in _TABLES:
            parts = tuple(_key_parts(node.named_children[0]))
            path: Path = ()
            for index, part in enumerate(parts):
                path += (_key_text(part),)
                if index == len(parts) - 1 and node.type == "table_array_element":
                    arrays[path] = arrays.get(path, -1) + 1
                if path in arrays:
                    path += (arrays[path],)
            yield _Header(path, parts, node)


def _inside(
    node: tree_sitter.Node, rest: Path, at_key: bool
) -> tuple[tree_sitter.Node, tree_sitter.Node] | None:
    """First and last node of what stands at `rest` in the pairs of a table."""
    if not rest:
        return node, node
    if node.type == "array":
        elements = [child for child in node.named_children if child.type != "comment"]
        index = rest[0]
        return (
            _inside(elements[index], rest[1:], at_key)
            if isinstance(index, int) and index < len(elements)
            else None
        )
    found = (_in_pair(pair, rest, at_key) for pair in _pairs(node))
    return next(filter(None, found), None)


def _pairs(table: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    return (child for child in table.named_children if child.type == "pair")


def _in_pair(
    pair: tree_sitter.Node, rest: Path, at_key: bool
) -> tuple[tree_sitter.Node, tree_sitter.Node] | None:
    parts = list(_key_parts(pair.named_children[0]))
    if rest[0] != _key_text(parts[0]):
        return None
    key = tuple(_key_text(part) for part in parts)
    if rest == key:
        return (parts[0], parts[-1]) if at_key else (pair.named_children[-1], pair.named_children[-1])
    if rest == key[: len(rest)]:
        return parts[0], parts[len(rest) - 1]
    return _inside(pair.named_children[-1], rest[len(key) :], at_key) if rest[: len(key)] == key else None


def _key_parts(key: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    """The parts of a key; the grammar nests dotted keys to the left."""
    if key.type != "dotted_key":
        yield key
        return
    for child in key.named_children:
        yield from _key_parts(child)


def _key_text(part: tree_sitter.Node) -> str:
    text = (part.text or b"").decode("utf-8", "replace")
    if part.type == "bare_key":
        return text
    return next(iter(tomllib.loads(f"{text} = 0")), "")


def _characters(line: str, column: int) -> int:
    """Characters in the first `column` bytes of a line."""
    return (
        column
        if line.isascii()
        else len(line.encode("utf-8", "surrogatepass")[:column].decode("utf-8", "replace"))
    )
