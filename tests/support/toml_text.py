"""TOML written from values, in two manners: with headers as people write it, and as inline tables."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


def value(of: Any) -> str:
    """A value on one line, but for arrays, which take one a line for each element."""
    if isinstance(of, bool):
        return "true" if of else "false"
    if isinstance(of, str):
        return json.dumps(of, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(of, datetime):
        return of.isoformat()
    if isinstance(of, list):
        return "[ " + " ,\n  ".join(map(value, of)) + " ]"
    if isinstance(of, dict):
        return "{ " + " ,  ".join(f"{key(name)}  = {value(inner)}" for name, inner in of.items()) + " }"
    return repr(of)


def key(name: str) -> str:
    """A key, quoted where it must be."""
    return name if _BARE.match(name) else value(name)


def inline(content: dict[str, Any]) -> str:
    """Each top-level key on a line of its own."""
    return "".join(f"  {key(name)}   =   {value(inner)}\n" for name, inner in content.items())


def headed(content: dict[str, Any], path: tuple[str, ...] = ()) -> str:
    """Tables with headers, pairs first."""
    pairs = "".join(f"{key(k)} = {value(v)}\n" for k, v in content.items() if not isinstance(v, dict))
    tables = "".join(headed(v, (*path, k)) for k, v in content.items() if isinstance(v, dict))
    return (f"[{'.'.join(map(key, path))}]\n" if path else "") + pairs + tables
