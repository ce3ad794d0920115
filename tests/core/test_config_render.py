"""How problems look: to people as rustc shows them, to programs as rows; secrets are masked, control characters dead."""

from __future__ import annotations

import json

from support.toml_marks import schedule

from singd.core.config import Problem, Severity, as_json, load, render
from singd.core.values import Place


def shown(text: str, *, color: bool = False) -> str:
    files = [("config/singd.toml", text.encode())]
    return render(load(files).problems, files, color=color)


def test_a_problem_shows_its_place_line_caret_reason_and_cure() -> None:
    assert (
        shown('[schedules.x]\ncron = "0 3 * * *"\ntimout = "4m"\n')
        == """\
config/singd.toml:3:1: error SG0104: unknown key "timout"
   3 | timout = "4m"
     | ^^^^^^
   a schedule has no key of this name; did you mean "timeout"?
"""
    )


def test_a_warning_says_that_it_is_one() -> None:
    assert shown(schedule("", trigger='cron = "* 9 * * *"')).startswith(
        "config/singd.toml:4:8: warning SG0801: "
    )


def test_the_gutter_is_as_wide_as_the_line_number() -> None:
    assert "\n   12 | x = 1\n      | ^\n" in shown("\n" * 11 + "x = 1\n")


def test_tabs_and_wide_characters_keep_the_caret_below_its_place() -> None:
    lines = shown('[schedules.x]\n\tstartup = true\n\tneeds = ["幅é", 5]\n').splitlines()
    assert lines[1] == '   3 | \tneeds = ["幅é", 5]'
    assert lines[2] == "     | \t" + " " * 16 + "^"


def test_without_the_files_no_line_is_shown() -> None:
    text = render(load([("a", b"x = 1\n")]).problems)
    assert text.splitlines()[0] == 'a:1:1: error SG0104: unknown key "x"'
    assert "|" not in text


def test_colour_is_only_added_when_asked_for() -> None:
    assert "\x1b" not in shown("x = 1\n")
    assert "\x1b[31m" in shown("x = 1\n", color=True)


def test_a_password_is_masked_wherever_its_line_is_shown() -> None:
    for text in (
        '[databases.a]\nurl = "postgresql://u:hunter2@h/d"\n',
        '[databases.a]\nurl = "postgresql://u:hunter2@h/d\n',
        '[databases.a]\nurl = "postgresql://h/d?password=hunter2"\n',
        '[databases.a]\nurl = "postgresql://u@h/d"\npassword = "hunter2"\n',
        '[databases.a]\nurl = "postgresql://u@h/d"\npassword = hunter2\n',
        '[databases.a]\nurl = "postgresql://u@h/d"\npassword = "hunter2\n',
        '[databases.a]\npasswrd = "hunter2"\nurl = "embedded"\n',
        '[databases.a]\nurl = "embedded"\npassword = {env = "A", hunter = "hunter2"}\n',
        '[databases.a]\nurl = {url = "postgresql://u:hunter2@h/d"}\n',
        'a = {url = "postgresql://u:hunter2@h/d"}\n',
    ):
        out = shown(text)
        assert "error" in out
        assert "hunter2" not in out, text
        assert "hunter2" not in json.dumps([as_json(p) for p in load([("a", text.encode())]).problems])


def test_nothing_in_a_file_reaches_the_terminal_as_a_command() -> None:
    out = shown('# \x1b]0;owned\x07\n"a\\u001b[31m" = 1\n"b\x85‮" = 1\nx = \x1b[31m\n')
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "\x85" not in out
    assert "‮" not in out


def test_what_a_plugin_says_of_itself_is_one_plain_line() -> None:
    problem = Problem(
        "SG0602", Severity.ERROR, Place("a\x1b[2J"), "no\x07", "ImportError:\n  forged.toml:1:1: error\x1b[0m"
    )
    out = render([problem])
    assert not set(out) & set("\x1b\x07")
    assert len(out.splitlines()) == 2


def test_a_long_line_is_cut_around_its_place() -> None:
    needs = '"x", ' * 500
    line = f'args = {{a = "{"x" * 3_000}"}}'
    out = shown(
        f"[schedules.x]\nstartup = true\n{line.removesuffix('}')}, b = 1}}\nneeds = [{needs}5]\n"
    ).splitlines()
    assert max(map(len, out)) < 260
    caret = next(line for line in out if "^" in line)
    assert out[out.index(caret) - 1][caret.index("^")] == "5"


def test_a_place_that_does_not_exist_is_no_reason_to_fail() -> None:
    problem = Problem("SG0008", Severity.ERROR, Place("gone.toml", 99, 99, 99), "it is gone")
    assert render([problem], [("gone.toml", b"a\n")]) == "gone.toml:99:99: error SG0008: it is gone\n"
    assert "^" in render(
        [Problem("SG0008", Severity.ERROR, Place("a", 1, 99, 99), "it is gone")], [("a", b"a\n")]
    )


def test_a_row_for_programs_has_every_part() -> None:
    row = as_json(load([("a.toml", schedule("timout = 1").encode())]).problems[0])
    assert row == {
        "code": "SG0104", "severity": "error", "file": "a.toml", "line": 5, "column": 1, "length": 6, "message": 'unknown key "timout"',
        "reason": "a schedule has no key of this name", "cure": 'did you mean "timeout"?', "schedule": "x",
    }  # fmt: skip
    assert json.loads(json.dumps(row)) == row
