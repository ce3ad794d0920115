"""Values as Postgres reads them: array literals, passed as one text parameter each.

A batch is a handful of arrays, whatever its length. Joining a literal costs a fraction of psycopg's
element-wise adaptation, and it is a bound parameter like any other: nothing here becomes SQL text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

ERROR_CHARS = 8192
RESULT_BYTES = 65536
LOG_BYTES = 1 << 20
"""What the ledger keeps of an attempt at most (`values.Report`, `values.Log`)."""


def numbers(values: Iterable[int]) -> str:
    """An array of whole numbers."""
    return f"{{{','.join(map(str, values))}}}"


def plain(values: Iterable[str]) -> str:
    """An array of texts that hold nothing but letters, digits and hyphens: states, tokens."""
    return f"{{{','.join(values)}}}"


def instants(values: Iterable[datetime | None]) -> str:
    """An array of instants; one that stands there many times in a row (a full minute) is formatted once."""
    words: list[str] = []
    last, word = None, "NULL"
    for value in values:
        if value != last:
            last, word = value, "NULL" if value is None else str(value)
        words.append(word)
    return f"{{{','.join(words)}}}"


def texts(values: Iterable[str | None]) -> str:
    """An array of any texts, or of None."""
    words = _Words()
    return f"{{{','.join([words[v] for v in values])}}}"


def blobs(values: Iterable[bytes | None]) -> str:
    """An array of byte strings, or of None."""
    return f"{{{','.join([_hex(v) if v is not None else 'NULL' for v in values])}}}"


def results(values: Iterable[Mapping[str, Any] | None]) -> str:
    """An array of JSON objects; one that is too big becomes a note that it was."""
    return texts(None if v is None else _json(v) for v in values)


def table(values: Mapping[str, str]) -> str:
    """A JSON object of texts."""
    return json.dumps({clean(key): clean(value) for key, value in values.items()})


def tokens(count: int) -> Sequence[str]:
    """Random uuids (version 4), from one read of the system's source."""
    random = os.urandom(16 * count).hex()
    cut = [random[at : at + 32] for at in range(0, 32 * count, 32)]
    return [f"{t[:8]}-{t[8:12]}-4{t[13:16]}-a{t[17:20]}-{t[20:]}" for t in cut]


def clean(text: str) -> str:
    """`text` without what no Postgres text can hold: NUL, lone surrogates."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class _Words(dict[str | None, str]):
    """Text -> how it stands in an array; each different one is looked at once (owners, tasks, verdicts repeat)."""

    def __missing__(self, text: str | None) -> str:
        word = self[text] = "NULL" if text is None else _quoted(text)
        return word


def _quoted(text: str) -> str:
    if text.isidentifier() and text.isascii() and text.lower() != "null":
        return text
    return '"' + clean(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _hex(data: bytes) -> str:
    return f'"\\\\x{data.hex()}"'


def _json(value: Mapping[str, Any]) -> str:
    # \u0000 is valid JSON that jsonb refuses; ASCII output keeps lone surrogates escaped, which it refuses too
    text = json.dumps(_storable(value), allow_nan=False, separators=(",", ":"))
    return (
        text
        if len(text) <= RESULT_BYTES
        else json.dumps({"singd": f"a result of {len(text)} bytes was not kept"})
    )


def _storable(value: Any) -> Any:
    match value:
        case str():
            return clean(value)
        case float() if value != value or value in (float("inf"), float("-inf")):
            return str(value)
        case Mapping():
            return {clean(str(k)): _storable(v) for k, v in value.items()}
        case list() | tuple():
            return [_storable(v) for v in value]
    return value
