"""Several files to one content: the same table later wins key by key; and the hash that says whether it changed.

Tables that structure a configuration are merged ([schedules.x] of the main file with [schedules.x] of a
drop-in); values are replaced whole, also where a value is a table (`url = {env = "X"}`). A file that names
a trigger replaces the trigger that earlier files gave the schedule, and likewise what to run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from singd.core.config.keys import CALLS, TRIGGERS

_DEPTH = {"databases": 2, "schedules": 2, "services": 2}
"""How many levels of tables below a section are merged; below them values are replaced."""
_NOT_CONTENT = ("node", "database", "databases", "nats")
_GROUPS = ((*TRIGGERS, "seconds"), CALLS)


def merged(contents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of all files, of which none is changed."""
    whole: dict[str, Any] = {}
    for content in contents:
        for section, value in content.items():
            whole[section] = _over(whole.get(section), value, _DEPTH.get(section, 1), section == "schedules")
    return whole


def _over(below: Any, above: Any, depth: int, schedules: bool = False) -> Any:
    if not depth or not isinstance(below, dict) or not isinstance(above, dict):
        return above
    result = dict(below)
    if schedules and depth == 1:
        for group in _GROUPS:
            if not above.keys().isdisjoint(group):
                result = {key: value for key, value in result.items() if key not in group}
    for key, value in above.items():
        deeper = 1 if schedules and depth == 1 and key == "args" else depth - 1
        result[key] = _over(result.get(key), value, deeper, schedules and depth > 1)
    return result


def content_hash(content: Mapping[str, Any]) -> str:
    """sha256 (hex) of what a generation is made of: equal for equal content, however it is written."""
    kept = {
        section: value for section, value in content.items() if section not in _NOT_CONTENT and value != {}
    }
    canonical = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_scalar)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _scalar(value: Any) -> Any:
    """What JSON has no word for; tagged, so that no text can be taken for it."""
    if isinstance(value, datetime) and value.tzinfo is not None and 1 < value.year < 9999:
        value = value.astimezone(UTC)
    if isinstance(value, datetime | date | time):
        return {"$" + type(value).__name__: value.isoformat()}
    raise TypeError(f"TOML has no {type(value).__name__}")
