"""docs/reliability.md names tests; each one is there."""

from __future__ import annotations

import re
from pathlib import Path

from support.planted_list import PLANTED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", PAGE)
    assert len(named) > 20
    for path, function in named:
        assert (ROOT / path).exists(), path
        if function:
            assert f"def {function}(" in (ROOT / path).read_text(), f"{path}::{function}"


def test_every_planted_bug_is_in_the_table() -> None:
    told = re.findall(r"^\| (\d+) \| ", PAGE, re.MULTILINE)
    assert [int(number) for number in told] == [bug.number for bug in PLANTED]


def test_no_promise_is_without_a_test() -> None:
    promises = re.findall(r"^\| (P\d+) \|.*\| ([^|]*) \|$", PAGE, re.MULTILINE)
    assert [name for name, _ in promises] == [f"P{number}" for number in range(1, 13)]
    for name, tests in promises:
        assert re.search(r"`tests/|I\d+|`singd drill`", tests), name
