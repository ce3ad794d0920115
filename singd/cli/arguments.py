"""The argument parser of every verb: argparse, with a SINGD_ variable for each option.

`--state DIR` may be given as `SINGD_STATE=DIR`, `--json` as `SINGD_JSON=1`, and so on for every option with a
long name; the command line wins over the variable. A flag's variable is off when empty, 0, no, off or false.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from singd.bounds import RUNS_MAX
from singd.cli.paths import add_options

_NO = ("", "0", "no", "off", "false")


class VerbParser(argparse.ArgumentParser):
    """A parser for one verb, with the options that every verb takes."""

    def __init__(self, verb: str, summary: str) -> None:
        super().__init__(
            prog=f"singd {verb}",
            description=summary[:1].upper() + summary[1:] + ".",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--json", action="store_true", help="one JSON object instead of a table")
        add_options(self)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """As argparse's own, and the option's variable becomes its default."""
        long = next((name for name in names if str(name).startswith("--")), None)
        if long in (None, "--help"):
            return super().add_argument(*names, **options)
        variable = "SINGD_" + str(long)[2:].upper().replace("-", "_")
        help_text = f"{options.pop('help', '')} [${variable}]".strip()
        action = super().add_argument(*names, help=help_text, **options)
        if (text := os.environ.get(variable)) is not None:
            _preset(action, text)
        return action

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's own, and a value such as `-2h` behind an option is that option's, not another option."""
        return super().parse_args(self._joined(args or ()), namespace)

    def _joined(self, words: Sequence[str]) -> list[str]:
        valued = {name for action in self._actions if action.nargs is None for name in action.option_strings}
        joined: list[str] = []
        for word in words:
            if (
                joined
                and joined[-1] in valued
                and joined[-1].startswith("--")
                and word[:1] == "-"
                and word[1:2].isdigit()
            ):
                joined[-1] += f"={word}"
            else:
                joined.append(word)
        return joined


def _preset(action: argparse.Action, text: str) -> None:
    """A flag reads its variable as yes or no; any other option as if it had been typed (argparse converts it)."""
    if action.nargs == 0:
        action.default = text.strip().lower() not in _NO
    elif text:
        action.default, action.required = text, False


def count(text: str) -> int:
    """A whole number from 1 to 10,000, as `-n` takes it.

    Raises:
        argparse.ArgumentTypeError: It is not.
    """
    if text.isascii() and text.isdigit() and 1 <= int(text) <= RUNS_MAX:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {RUNS_MAX}")
