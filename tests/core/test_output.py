"""What the client prints, and how it reads instants."""

from __future__ import annotations

import contextlib
import json
import os
import pty
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO
from zoneinfo import ZoneInfo

import pytest

from singd.cli import output
from singd.cli.instants import parse_instant
from singd.cli.output import CommandError, paint, print_json, print_table, printable, relative, rfc3339, span

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)  # a Wednesday
HOURS = timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T03:00:00Z", "2026-03-01T03:00:00Z"),
        ("2026-03-01t03:00:00+01:00", "2026-03-01T02:00:00Z"),
        ("2026-03-01 03:00", "2026-03-01T02:00:00Z"),
        ("2026-03-01", "2026-02-28T23:00:00Z"),
        ("3:00", "2026-03-04T02:00:00Z"),
        ("today 03:00", "2026-03-04T02:00:00Z"),
        (" Yesterday  03:00 ", "2026-03-03T02:00:00Z"),
        ("tomorrow 03:00:30", "2026-03-05T02:00:30Z"),
        ("sunday 02:30", "2026-03-01T01:30:00Z"),
        ("last sunday 02:30", "2026-03-01T01:30:00Z"),
        ("wednesday 02:30", "2026-03-04T01:30:00Z"),
        ("wednesday 22:00", "2026-02-25T21:00:00Z"),
        ("now", "2026-03-04T12:00:00Z"),
        ("-2h", "2026-03-04T10:00:00Z"),
        ("- 1h30m", "2026-03-04T10:30:00Z"),
        ("+90s", "2026-03-04T12:01:30Z"),
        ("2 hours ago", "2026-03-04T10:00:00Z"),
    ],
)
def test_an_instant_is_read_as_people_type_it_local_without_an_offset(text: str, expected: str) -> None:
    assert rfc3339(parse_instant(text, NOW, BERLIN)) == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "-2", "25:00", "2026-13-01", "today 3pm", "-999999999 d", "0001-01-01 00:00"]
)
def test_what_is_no_instant_is_refused_with_examples(text: str) -> None:
    with pytest.raises(CommandError) as told:
        parse_instant(text, NOW, BERLIN)
    assert told.value.exit == 2
    assert "yesterday 03:00" in told.value.cure


@pytest.mark.parametrize(
    ("text", "what", "either"),
    [
        ("2026-10-25 02:30", "came twice", ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z")),
        ("2026-03-29 02:30", "never was", ("2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z")),
    ],
)
def test_a_local_time_of_the_clock_change_is_asked_back_with_both_instants(
    text: str, what: str, either: tuple[str, str]
) -> None:
    with pytest.raises(CommandError) as told:
        parse_instant(text, NOW, BERLIN)
    assert what in str(told.value)
    assert all(instant in told.value.cure for instant in either)


def test_json_is_versioned_and_has_instants_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    print_json("runs", [{"due_at": NOW.astimezone(BERLIN), "text": "ü\x1b"}])
    text = capsys.readouterr().out
    assert json.loads(text) == {"version": 1, "runs": [{"due_at": "2026-03-04T12:00:00Z", "text": "ü\x1b"}]}
    assert text.isascii()
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3661, "1 h 1 min"),
        (90_000, "1 d 1 h"),
        (86_400, "1 d"),
        (-5, "5 s"),
    ],
)
def test_a_span_has_at_most_two_units(length: float, text: str) -> None:
    assert span(timedelta(seconds=length)) == text


def test_distances_say_their_direction() -> None:
    assert relative(NOW + 2 * HOURS, NOW) == "in 2 h"
    assert relative(NOW - 2 * HOURS, NOW) == "2 h ago"
    assert relative(NOW, NOW) == "now"


@pytest.mark.parametrize(
    "hostile", ["\x1b[2J", "\x07", "\r", "\n", "\x9b31m", "\u202e", "\u2066", "\ud800", "\x00", "\u2028"]
)
def test_no_control_character_is_printed(hostile: str) -> None:
    shown = printable(f"a{hostile}b")
    assert shown.isprintable()
    assert shown.startswith("a\\")


def test_what_is_harmless_is_printed_as_it_is() -> None:
    assert printable("täglich – 日本 ✓") == "täglich – 日本 ✓"
    assert printable("a\nb\tc", keep="\n") == "a\nb\\tc"


def test_a_table_aligns_wide_characters_too(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "X"), [("日本", "1"), ("abcde", "2"), ("", "3")])
    assert capsys.readouterr().out == "NAME   X\n日本   1\nabcde  2\n       3\n"


def test_off_a_terminal_there_is_no_colour_and_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "B"), [("failed", "x" * 500)], styled=0)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "x" * 500 in text


@contextlib.contextmanager
def terminal() -> Iterator[TextIO]:
    """The writing end of a terminal."""
    leader, follower = pty.openpty()
    try:
        with open(follower, "w", encoding="utf-8") as stream:
            yield stream
    finally:
        os.close(leader)


@pytest.mark.parametrize(
    ("environment", "colour"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_has_colour_unless_it_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], colour: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in ({"TERM": "xterm"} | environment).items():
        monkeypatch.setenv(name, value)
    with terminal() as stream:
        assert (paint("x", "red", stream) != "x") == colour


def test_on_a_terminal_the_last_column_is_cut_to_the_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(output, "coloured", lambda stream: False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_table(("A", "B"), [("a" * 10, "b" * 90), ("a", "日" * 90)])
    lines = capsys.readouterr().out.splitlines()
    assert [output.display_width(line) for line in lines[1:]] == [40, 39]
    assert lines[1].endswith("b…")


def test_paths_in_json_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_json("x", Path("/etc"))
    assert json.loads(capsys.readouterr().out)["x"] == "/etc"
