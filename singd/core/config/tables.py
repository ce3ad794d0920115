"""Reading one table by its table of keys: every key is judged, whatever is wrong with the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from singd.core.config.keys import ELSEWHERE, SCHEDULE, UNBUILT
from singd.core.config.places import Path
from singd.core.config.problems import Findings, Wrong, shown
from singd.core.config.readers import Reader, kind
from singd.core.config.syntax import BROKEN


def read_table(
    findings: Findings, path: Path, table: Any, readers: Mapping[str, Reader], what: str
) -> dict[str, Any]:
    """The checked values of a table's keys; those that are wrong are noted and left out.

    Args:
        what: What the table is, for messages: "a schedule".
    """
    values: dict[str, Any] = {}
    for key, value in as_table(findings, path, table, what).items():
        reader = readers.get(key)
        if reader is None:
            unknown(findings, (*path, key), key, readers, what)
        elif value != BROKEN:
            try:
                values[key] = reader(value)
            except Wrong as wrong:
                findings.wrong((*path, key), key, wrong)
    return values


def as_table(findings: Findings, path: Path, value: Any, what: str) -> Mapping[str, Any]:
    """`value` if it is a table; otherwise that is noted, and an empty one."""
    if isinstance(value, dict):
        return value
    if value is not None and value != BROKEN:
        findings.add(
            "SG0101",
            path,
            f"{what} must be a table, not {kind(value)}",
            "",
            f"write [{'.'.join(map(str, path))[:80]}]",
        )
    return {}


def unknown(findings: Findings, path: Path, key: str, known: Mapping[str, Any], what: str) -> None:
    """Note an unknown key, with what was probably meant."""
    meant = (
        f'here it is called "{ELSEWHERE[key]}"' if ELSEWHERE.get(key) in known else findings.near(key, known)
    )
    if path[0] == "defaults" and key in SCHEDULE:
        meant = "it belongs to one schedule: write it there"
    cure = meant or "remove it"
    findings.add(
        "SG0104", path, f"unknown key {shown(key)}", f"{what} has no key of this name", cure, at_key=True
    )


def unbuilt(findings: Findings, path: Path, values: Mapping[str, Any]) -> None:
    """Note every key of the contract that is used and not built in this version."""
    for key in UNBUILT.keys() & values.keys():
        refuse_unbuilt(findings, (*path, key), key, values[key])


def refuse_unbuilt(findings: Findings, path: Path, key: str, value: Any) -> None:
    """Note it where `value` makes use of something that is not built in this version."""
    rule = UNBUILT.get(key)
    if rule and rule.used(value):
        message = f"{rule.what} is part of the contract but not built in this version"
        findings.add(rule.code, path, message, "it is refused rather than ignored", rule.cure, at_key=True)
