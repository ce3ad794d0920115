"""Warnings about what is allowed and probably not meant: only where that is cheap to see and nearly certain."""

from __future__ import annotations

from collections.abc import Sequence

from singd.core.config.places import Path
from singd.core.config.problems import Findings, shown
from singd.core.config.readers import URL_PASSWORD


def lint_command(findings: Findings, path: Path, argv: Sequence[str]) -> None:
    """A url with a password in it: programs take it from a file or a variable as well."""
    for index, word in enumerate(argv):
        if URL_PASSWORD.search(word):
            findings.add(
                "SG0803",
                (*path, index),
                "a url in command holds a password",
                "every user of this machine can read it in the process list, and a configuration is copied and mailed",
                "leave it out: libpq reads ~/.pgpass, other programs a file of their own",
                warning=True,
                secret=True,
            )
            return


def lint_cron(findings: Findings, path: Path, expression: str, seconds: bool) -> None:
    """`* 9 * * *` runs sixty times from 9:00 to 9:59; `0 9 * * *` was probably meant."""
    fields = expression.split()
    names = ["second", "minute", "hour"] if seconds else ["minute", "hour"]
    if len(fields) != (6 if seconds else 5):
        return
    for index in range(len(names) - 1):
        coarser = fields[index + 1]
        if fields[index] == "*" and coarser.isdigit():
            meant = " ".join(["0" if i <= index else field for i, field in enumerate(fields)])
            reason = f'"*" is every {names[index]} of that {names[index + 1]}'
            findings.add(
                "SG0801",
                path,
                f"cron {shown(expression)} runs 60 times in a row",
                reason,
                f"did you mean {shown(meant)}?",
                warning=True,
            )
            return
