"""From the bytes of one file to one row: pure. What Postgres could not store is refused here, file by file, because
one row that the server refuses would take the whole run with it."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NoReturn

from singd_knowledge.classify import Kind, classify, is_json_schema
from singd_knowledge.tree import Refused

MOST_DEPTH = 100
MOST_NUMBER = 300
"""Characters of a number: within what a jsonb numeric can hold, and most that its exponent may be."""
MOST_ID = 500
MOST_TAGS = 100
MOST_FIELD = 1000


@dataclass(frozen=True, slots=True)
class Artifact:
    """One row of `knowledge.knowledge_artifact`, without its source.

    Attributes:
        id: The path relative to the root without its suffix: stable while the file stays where it is.
        content_raw: The file's text, byte for byte.
        content_hash: SHA-256 of the file, hexadecimal.
        declared_id: What the document itself calls its id; not unique among real files.
    """

    id: str
    path: str
    kind: Kind
    name: str
    version: str
    description: str | None
    declared_id: str | None
    language: str | None
    tags: list[str]
    content_raw: str
    content_hash: str


def artifact_id(path: PurePosixPath) -> str:
    """The path-derived id, in Unicode's composed form.

    Raises:
        Refused: The name cannot be an id.
    """
    text = unicodedata.normalize("NFC", str(path.with_suffix("")))
    if not text.isprintable() or "\\" in text:
        raise Refused("has a name with characters that cannot be in an id")
    if len(text) > MOST_ID:
        raise Refused(f"has a path of more than {MOST_ID} characters")
    return text


def digest(data: bytes) -> str:
    """The content hash of a file."""
    return hashlib.sha256(data).hexdigest()


def read_artifact(path: PurePosixPath, data: bytes) -> Artifact:
    """Make the row of one file.

    Raises:
        Refused: With the reason.
    """
    text = _text(data)
    document = _document(text)
    if is_json_schema(document):
        raise Refused("is a JSON Schema, not a template")
    return Artifact(
        id=artifact_id(path), path=str(path), kind=classify(path, document),
        name=_field(document, "name") or path.stem, version=_version(document),
        description=_field(document, "description"), declared_id=_field(document, "id", "artifact_id"),
        language=_field(document, "language"), tags=_tags(document),
        content_raw=text, content_hash=digest(data),
    )  # fmt: skip


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(f"is not UTF-8 (byte {error.start})") from error
    if text.startswith("\ufeff"):
        raise Refused("begins with a byte order mark, which JSON does not allow")
    return text


def _document(text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text, parse_constant=_constant, parse_float=_float, parse_int=_int)
        _storable(document)
    except json.JSONDecodeError as error:
        raise Refused(f"is not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise Refused(f"is nested deeper than {MOST_DEPTH} levels") from error
    if not isinstance(document, dict):
        raise Refused("is not a JSON object")
    return document


def _constant(word: str) -> NoReturn:
    raise Refused(f"is not JSON: {word} is not a JSON number")


def _int(text: str) -> int:
    if len(text) > MOST_NUMBER:
        raise Refused("holds a number that is too long for Postgres")
    return int(text)


def _float(text: str) -> float:
    """A number, checked: jsonb's numeric holds far more, but has an end too, and only an absurd number is refused."""
    exponent = text.lower().partition("e")[2]
    if len(text) > MOST_NUMBER or (exponent and abs(int(exponent)) > MOST_NUMBER):
        raise Refused("holds a number that is too long for Postgres")
    return float(text)


def _storable(document: object) -> None:
    """Walk the document without recursion: depth, and text that jsonb cannot hold."""
    waiting = [(document, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MOST_DEPTH:
            raise Refused(f"is nested deeper than {MOST_DEPTH} levels")
        if isinstance(value, dict):
            waiting += ((part, depth + 1) for pair in value.items() for part in pair)
        elif isinstance(value, list):
            waiting += ((part, depth + 1) for part in value)
        elif isinstance(value, str) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            raise Refused("holds text that Postgres cannot store (NUL or half a surrogate pair)")


def _metadata(document: Mapping[str, Any]) -> Mapping[str, Any]:
    found = document.get("metadata")
    return found if isinstance(found, dict) else {}


def _field(document: Mapping[str, Any], *keys: str) -> str | None:
    """The first of these keys with text, at the top level or in `metadata`, where the older schema keeps them."""
    for place in (document, _metadata(document)):
        for key in keys:
            value = place.get(key)
            if isinstance(value, str) and value.strip():
                return value.strip()[:MOST_FIELD]
    return None


def _version(document: Mapping[str, Any]) -> str:
    for key in ("version", "spec_version"):
        value = document.get(key)
        if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()[:MOST_FIELD]
    return "1.0.0"


def _tags(document: Mapping[str, Any]) -> list[str]:
    for place in (document, _metadata(document)):
        tags = place.get("tags")
        if isinstance(tags, list):
            return sorted({tag[:MOST_FIELD] for tag in tags if isinstance(tag, str) and tag})[:MOST_TAGS]
    return []
