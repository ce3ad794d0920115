"""docs/configuration.md and docs/cli.md say what the code does: every key, default, code, verb and option, every example."""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

from singd.cli.arguments import VerbParser
from singd.cli.main import VERBS
from singd.core.config import CODES, Config, failed, keys, load, render
from singd.core.values import Policy

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
generate = import_module("generate")
CONFIGURATION, CLI = ((ROOT / "docs" / name).read_text() for name in ("configuration.md", "cli.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

SECTIONS = {
    "keys of [node]": keys.NODE, "keys of [database]": keys.LEDGER, "keys of [databases.NAME]": keys.DATABASE,
    "keys of [nats]": keys.NATS, "keys of [services.NAME]": keys.SERVICE, "keys of policies": keys.POLICY,
}  # fmt: skip
OF_SCHEDULES = ("keys of triggers", "keys of calls", "keys of policies", "other keys")
USES = {
    "needs": 'needs = ["b"]', "needs_timeout": 'needs_timeout = "15m"', "after": 'after = "b"',
    "on": 'on = {nats = "x"}', "splay": 'splay = "30s"', "once": "once = true", "on_failure": 'on_failure = ["x"]',
    "executor": 'executor = "database"', "services": "[services.x]", "nats": '[nats]\nurl = "embedded"',
}  # fmt: skip
"""What makes use of each key that is not built."""


def block(text: str, name: str) -> str:
    found = re.search(f"<!-- generated: {re.escape(name)} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert found is not None, f"there is no part {name!r}"
    return found[1]


def table(text: str, name: str) -> dict[str, list[str]]:
    """First cell, without its code style -> the other cells."""
    return {row[0].strip("`"): row[1:] for row in generate.rows(block(text, name))}


def config_of(*lines: str, call: str = 'command = ["true"]') -> Config:
    config = load(
        [("x.toml", "\n".join(['[schedules.a]\ncron = "0 3 * * *"', call, *lines]).encode())]
    ).config
    assert config is not None, lines
    return config


@pytest.mark.parametrize("path", generate.DOCUMENTS, ids=lambda path: path.name)
def test_the_generated_parts_are_up_to_date(path: Path) -> None:
    assert path.read_text() == generate.rewritten(path.read_text()), "run `make docs`"


@pytest.mark.parametrize(
    ("text", "true", "false"),
    [
        (CONFIGURATION, '`"10s..5m"` | the waits', '`"10s..6m"` | the waits'),
        (CONFIGURATION, "fixed time | 03:00 CEST | 02:30 CEST", "fixed time | 03:30 CEST | 02:30 CEST"),
        (CONFIGURATION, "| SG0104 | unknown key |\n", ""),
        (CLI, "| `-f, --follow` |", "| `--follow` |"),
        (CLI, "`retry_at`, ", ""),
    ],
)
def test_a_part_that_says_something_else_is_out_of_date(text: str, true: str, false: str) -> None:
    assert true in text
    assert generate.rewritten(text.replace(true, false)) == text


def test_everything_that_is_generated_stands_in_one_document() -> None:
    assert sorted([*generate.blocks_in(CONFIGURATION), *generate.blocks_in(CLI)]) == sorted(generate.BLOCKS)


def test_every_row_that_needs_a_meaning_has_one() -> None:
    empty = [name for text in (CONFIGURATION, CLI) for name in generate.blocks_in(text)
             if " meaning |" in block(text, name) and not all(row[-1] for row in generate.rows(block(text, name)))]  # fmt: skip
    assert not empty


def test_every_key_is_in_the_table_of_its_section() -> None:
    for name, readers in SECTIONS.items():
        assert list(table(CONFIGURATION, name)) == list(readers)
    of_schedules = [key for name in OF_SCHEDULES for key in table(CONFIGURATION, name)]
    assert sorted(of_schedules) == sorted(keys.SCHEDULE)
    in_defaults = re.findall(r"`(\w+)`", block(CONFIGURATION, "keys of [defaults]"))
    assert in_defaults == list(keys.DEFAULTS)
    for section in keys.SECTIONS:
        assert re.search(rf"`\[{section}(\.NAME)?\]`", CONFIGURATION), section


def test_every_policy_has_the_default_that_the_table_says() -> None:
    for key, (_, default, _) in table(CONFIGURATION, "keys of policies").items():
        assert keys.POLICY[key](json.loads(default.strip("`"))) == getattr(Policy(), key), key


def test_a_default_that_is_written_out_changes_nothing() -> None:
    written = 0
    for name in OF_SCHEDULES:
        for key, (_, default, _) in table(CONFIGURATION, name).items():
            if default.startswith("`"):
                call = {
                    "args": 'task = "a"',
                    "isolation": 'task = "a"',
                    "executor": 'sql = "x"\ndatabase = "d"',
                }
                more = {"call": call[key]} if key in call else {}
                base = '[databases.d]\nurl = "embedded"' if key == "executor" else ""
                line = f"{key} = {default.strip('`')}"
                assert config_of(line, base, **more).schedules == config_of(base, **more).schedules, key
                written += 1
    assert written == 21


def test_every_word_that_the_table_allows_is_read_and_every_other_is_not() -> None:
    for name in OF_SCHEDULES:
        for key, (value, *_) in table(CONFIGURATION, name).items():
            words = re.findall(r'`"(\w+)"`', value)
            for word in words:
                keys.SCHEDULE[key](word)
            if words:
                with pytest.raises(Exception, match="cannot be"):
                    keys.SCHEDULE[key]("another")


def test_every_problem_code_is_in_the_table() -> None:
    assert {code: cells[0] for code, cells in table(CONFIGURATION, "codes").items()} == CODES


def test_every_key_that_is_not_built_is_listed_and_refused_with_its_code() -> None:
    listed = table(CONFIGURATION, "not built")
    assert sorted(listed) == sorted(keys.UNBUILT) == sorted(USES)
    for key, use in USES.items():
        trigger = "" if key in ("after", "on") else 'cron = "0 3 * * *"\n'
        text = f'[schedules.b]\ncron = "0 3 * * *"\n[schedules.a]\n{trigger}{use}\n'
        assert listed[key][1] in [problem.code for problem in load([("x.toml", text.encode())]).problems], key


def test_the_readme_names_everything_that_is_not_built() -> None:
    section = (ROOT / "README.md").read_text().split("## What is not built yet", 1)[1].split("\n## ", 1)[0]
    for code in {rule.code for rule in keys.UNBUILT.values()}:
        names = [key for key, rule in keys.UNBUILT.items() if rule.code == code]
        assert any(re.search(rf"\b{name}\b", section, re.IGNORECASE) for name in names), names


def test_every_example_is_a_good_configuration() -> None:
    examples = [text for language, text in FENCE.findall(CONFIGURATION) if language == "toml"]
    assert len(examples) >= 4
    for text in examples:
        problems = load([("x.toml", text.encode())]).problems
        assert not problems, render(problems)


def test_the_wrong_file_of_the_page_is_told_just_so() -> None:
    (_, wrong), (_, said) = FENCE.findall(block(CONFIGURATION, "diagnostics"))
    files = [("singd.toml", wrong.encode())]
    problems = load(files).problems
    assert failed(problems)
    assert said == render(problems, files)


def test_a_fixed_time_of_day_runs_exactly_once_on_both_sundays() -> None:
    _, spring, autumn = table(CONFIGURATION, "clock changes")["30 2 * * *"]
    assert (spring, autumn) == ("03:00 CEST", "02:30 CEST")


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_every_verb_is_listed(verb: str) -> None:
    parser = VerbParser(verb, VERBS[verb][1])
    import_module(f"singd.cli.{VERBS[verb][0]}").configure(parser)
    assert re.search(rf"^## {verb}$", CLI, re.MULTILINE)
    assert table(CLI, "verbs")[verb] == [VERBS[verb][1]]
    listed = (block(CLI, f"options of {verb}") + block(CLI, "options of every verb")).replace("\\|", "|")
    named = [action for action in parser._actions if "--help" not in action.option_strings]
    for action in named:
        for name in action.option_strings or [str(action.metavar or "|".join(action.choices or ()))]:
            assert re.search(rf"[`, \[]{re.escape(name)}[ ,`\]]", listed), name


def test_every_exit_code_of_the_operators_page_is_in_the_table() -> None:
    operations = (ROOT / "docs" / "operations.md").read_text()
    sentence = re.search(r"Exit codes: (.*?)\.\n", operations, re.DOTALL)
    assert sentence is not None
    assert set(re.findall(r"\b\d+\b", sentence[1])) <= set(table(CLI, "exit codes"))


@pytest.mark.parametrize("page", ["docs/configuration.md", "docs/cli.md"])
def test_the_readme_leads_to_the_page_and_its_own_links_lead_somewhere(page: str) -> None:
    assert f"({page})" in (ROOT / "README.md").read_text()
    for link in re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(link).exists(), link
