"""What is no TOML, or would cost a parser its memory, is refused with a place; nothing ever raises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.toml_marks import found, loaded, marked

from singd.core.config import MAX_BYTES, load
from singd.core.config.guard import MAX_LINE, guard
from singd.core.config.problems import Problem

SHIPPED = Path(__file__).parents[2] / "config" / "singd.toml"


def only(raw: bytes, **limits: int) -> Problem:
    result = load([("singd.toml", raw)], **limits)
    assert result.config is None
    assert len(result.problems) == 1
    return result.problems[0]


def at(problem: Problem) -> tuple[str, int, int]:
    return problem.code, problem.place.line, problem.place.column


# (text with the place in ⟦⟧, what is said)
SYNTAX = [
    ("[schedules.x]\noverlap = ⟦skip⟧\n", 'write overlap = "skip"'),
    ("[schedules.x]\ntimeout = ⟦4m⟧ # four\n", 'write timeout = "4m"'),
    ("[schedules.x]\nenabled = ⟦True⟧\n", "write enabled = true"),
    ("[schedules.x]\nenabled = ⟦no⟧\n", "write enabled = false"),
    ("[schedules.x]\n⟦timeout⟧ =\n", '"timeout" has no value'),
    ("[schedules.x]\n⟦timeout⟧ = # soon\n", '"timeout" has no value'),
    ("[schedules.x]\ncron = ⟦*/5⟧ * * * *\n", 'write cron = "*/5 * * * *"'),
    ('[schedules.x]\ncron = ⟦"0 3 * * *⟧\ngrace = "1s"\n', "no closing quote"),
    ("[schedules.x]\ntimeout ⟦4⟧\n", 'no "="'),
    ("⟦[schedules.x⟧\ncron = 1\n", "header is not closed"),
    ("[schedules.x]\nstartup = true\n⟦[schedules.x]⟧\n", "defined in line 1 already"),
    ("[schedules.x]\nstartup = true\n⟦startup⟧ = true\n", "defined in line 2 already"),
    ("[schedules.x]\nneeds = ⟦[⟧\n  'a',\n", "never closed"),
    ('[schedules.x]\nsql = ⟦"""⟧\n  it\'s a "test"\n', "never closed"),
    ("[schedules.x]\nsql = ⟦'''⟧\n  a\n", "never closed"),
    ("[schedules.x]\nsql = 'a' ⟦'⟧b'\n", "complete"),
    ("⟦=⟧ 3\n", "not TOML"),
    ("abc⟦⟧", 'no "="'),
]


@pytest.mark.parametrize(("text", "said"), SYNTAX)
def test_a_syntax_error_is_placed_and_said_as_a_person_would(text: str, said: str) -> None:
    plain, places = marked(text)
    problem = next(p for p in loaded(plain).problems if p.code == "SG0007")
    line, column, length = places[0]
    assert (problem.place.line, problem.place.column, problem.place.length) == (line, column, max(1, length))
    assert said in f"{problem.message} | {problem.reason}; {problem.cure}"


def test_syntax_errors_are_reported_until_the_text_makes_no_sense() -> None:
    text = "[schedules.x]\nstartup = true\n" + "".join(f"k{n} = bad\n" for n in range(30))
    problems = loaded(text).problems
    assert [p.place.line for p in problems if p.code == "SG0007"] == list(range(3, 13))


def test_one_line_is_complained_about_once() -> None:
    problems = loaded("[schedules.x]\nstartup = true\nneeds = [\n  a = bad\n]\n").problems
    assert [p.place.line for p in problems] == sorted({p.place.line for p in problems})


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"a = 1\nb = \xff\n", ("SG0002", 2, 5)),
        ("# ü€\nb = ü".encode()[:-1], ("SG0002", 2, 5)),
        ("[node]\n".encode("utf-16"), ("SG0002", 1, 1)),
        ("a = 1\n# é€".encode() + b"\xff", ("SG0002", 2, 5)),
        (b"a = 1\n \x00\n", ("SG0003", 2, 2)),
        (b"# c\n" + b"a" * (MAX_LINE + 1), ("SG0004", 2, 1)),
        (b"# c\na = " + b"[" * 33 + b"]" * 33, ("SG0006", 2, 37)),
        (b"a = " + b"{a = " * 40, ("SG0006", 1, 165)),
        (b"# c\n  " + b".".join([b"a"] * 34) + b" = 1\n", ("SG0005", 2, 3)),
        (b"[" + b" . ".join([b'"a"'] * 34) + b"]\n", ("SG0005", 1, 2)),
        (b"a = {b = 1, " + b".".join([b"a"] * 34) + b" = 1}\n", ("SG0005", 1, 13)),
        (b"a.b=1\n" * 65_537, ("SG0009", 65_537, 1)),
        (b"", ("SG0010", 1, 1)),
        (b" \n\n", ("SG0010", 1, 1)),
        (b"[node]\nrole = " + b"9" * 5_000, ("SG0007", 2, 8)),
    ],
)
def test_what_a_parser_must_not_see_is_refused_with_its_place(
    raw: bytes, expected: tuple[str, int, int]
) -> None:
    assert at(only(raw)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 32 + "]" * 32, ".".join(["a"] * 33) + " = 1", "a = [" + ", ".join(["1.5"] * 500) + "]", f'a = "{"." * 500}"',
        f"a = '{'[' * 500}'", "# " + "[." * 500, 'a = """' + "[.\n" * 500 + '"""', f'a = """{"[" * 50}""""', "a = '''" + "[" * 50 + "'''''",
        'a = "\\"' + "[" * 50 + '"', "\n".join(f'[a{n}.b]\nc = "1.2.3.4"' for n in range(200)),
    ],
)  # fmt: skip
def test_what_only_looks_like_a_bomb_is_let_through(text: str) -> None:
    assert guard("x", text) is None


@pytest.mark.parametrize("quotes", ['"""', "'''"])
def test_a_bomb_behind_tricky_quotes_is_seen(quotes: str) -> None:
    bomb = ".".join(["a"] * 40) + " = 1"
    for text in (
        f"a = {quotes}x{quotes[0]}{quotes}\n{bomb}",
        f"a = {quotes}{quotes}\n{bomb}",
        f'a = \'"""\'\n{bomb}\nb = \'"""\'',
        f"# it's\n{bomb}",
        f"a = {{b = {quotes}x{quotes[0]}{quotes}, {bomb}}}",
    ):
        refusal = guard("x", text)
        assert refusal is not None
        assert refusal.code == "SG0005"


def test_one_byte_more_than_allowed_is_refused() -> None:
    text = b"# " + b"x" * 97 + b"\n"
    assert load([("a", text)], max_bytes=100).config is not None
    assert only(text, max_bytes=99).code == "SG0001"
    both = load([("a", text), ("b", b"#")], max_bytes=100)
    assert [(p.code, p.place.file) for p in both.problems] == [("SG0001", "b")]


def test_a_byte_order_mark_and_windows_line_ends_change_nothing() -> None:
    plain = b'[schedules.x]\ncron = "0 3 * * *"\ntimout = 1\n'
    marks = load([("a", b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n"))])
    assert found(marks.problems) == found(load([("a", plain)]).problems) == [("SG0104", (3, 1, 6))]


def test_columns_count_characters_not_bytes() -> None:
    text, places = marked('[schedules.x]\ncron = "0 3 * * *"\nargs = {"größe €𝄞" = 1}\n"ü€𝄞" = {⟦"⟧')
    assert loaded(text).problems[0].place.line == places[0][0]
    text, places = marked('[schedules.x]\n"cron" = "0 3 * * *"\nneeds = ["ü€𝄞", ⟦5⟧]\n')
    assert found(loaded(text).problems)[0] == ("SG0101", places[0])


def test_the_shipped_configuration_has_no_problems() -> None:
    result = load([("config/singd.toml", SHIPPED.read_bytes())])
    assert result.problems == ()
    assert result.config is not None
    assert {
        "knowledge_migrate",
        "templates_data_load",
        "backup_hourly",
        "backup_daily",
        "backup_verify",
    } <= set(result.config.schedules)


def test_the_shipped_configuration_cut_at_any_byte_never_raises() -> None:
    raw = SHIPPED.read_bytes()
    for end in range(len(raw)):
        result = load([("singd.toml", raw[:end])])
        assert (result.config is None) == any(p.severity == "error" for p in result.problems)


def test_any_byte_of_the_shipped_configuration_may_be_wrong() -> None:
    raw = SHIPPED.read_bytes()
    for index in range(0, len(raw), 7):
        for byte in (0, 0x22, 0x5B, 0xFF):
            load([("singd.toml", raw[:index] + bytes([byte]) + raw[index + 1 :])])


BOMBS = {
    "one key of 60 kB": "b'.'.join([b'a'] * 30_000) + b' = 1'",
    "one key of 1 MB": "b'.'.join([b'a'] * 500_000) + b' = 1'",
    "a header of 60 kB": "b'[' + b'.'.join([b'a'] * 30_000) + b']'",
    "many headers of 33 parts": "b''.join(b'[a%d' % n + b'.b' * 32 + b']\\n' for n in range(14_000))",
    "many keys of 33 parts": "b''.join(b'a%d' % n + b'.b' * 32 + b'=1\\n' for n in range(14_000))",
    "many headers": "b''.join(b'[a%d]\\n' % n for n in range(110_000))",
    "many open brackets": "b'a = ' + b'[' * 60_000",
    "many open brackets in lines": "b'a = ' + b'[\\n' * 500_000",
    "many open tables": "b'a = ' + b'{a=' * 20_000",
    "many quotes": "b'a = ' + b'\\x22' * 60_000",
    "many escapes": "b'a = \\x22\\x22\\x22' + b'\\\\\\\\' * 500_000",
    "many lines of an open text": "b'a = \\x22\\x22\\x22' + b'\\x22\\x22x' * 340_000",
    "many hashes": "b'#\\n' * 524_288",
    "many pairs": "b''.join(b'a%d=1\\n' % n for n in range(110_000))",
    "many mistakes": "b'[schedules.x]\\n' + b''.join(b'a%d=1\\n' % n for n in range(100_000))",
    "a huge number": "b'a = ' + b'9' * 60_000",
    "many empty schedules": "b''.join(b'[schedules.a%d]\\n' % n for n in range(40_000))",
}


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_answered_in_bounded_memory_and_time(bomb: str) -> None:
    code = f"""
import resource
from singd.core.config import load
raw = {bomb}
resource.setrlimit(resource.RLIMIT_AS, (384 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
result = load([("bomb.toml", raw)])
print(len(result.problems), result.config is None)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert len(done.stdout.split()) == 2


def test_the_default_limit_is_one_mebibyte() -> None:
    assert MAX_BYTES == 2**20
