"""Rules of the house that a machine can check: security requirement S13, and tables that must be complete."""

from __future__ import annotations

import ast
import collections.abc
import io
import typing
from datetime import UTC, datetime
from pathlib import Path

import pytest

import singd
from singd import events, journal, plugin
from singd.core.values import Occurrence, State

ROOT = Path(singd.__file__).parent
SOURCES = sorted([*ROOT.rglob("*.py"), *(ROOT.parent / "plugins").glob("*/src/**/*.py")])
BANNED_MODULES = {"pickle", "marshal", "shelve", "yaml", "dill", "cloudpickle"}
BANNED_CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "subprocess.getoutput"}
LOADERS = {"worker_main.py", "calling.py", "inline.py", "catalogue_child.py", "catalogue_main.py", "main.py"}
"""Where code is imported by name: entry points in workers, the inline executor, the catalogue's child, the verbs' table."""


def offences(tree: ast.AST, loader: bool) -> list[str]:
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "").split(".")[0]]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            names = [called] if called in BANNED_CALLS else []
            if called.endswith("import_module") and not loader:
                names.append("import_module")
            if any(k.arg == "shell" and getattr(k.value, "value", None) for k in node.keywords):
                names.append("shell=True")
        bad = BANNED_MODULES | BANNED_CALLS | {"import_module", "shell=True"}
        found += [f"line {node.lineno}: {name}" for name in names if name in bad]
    return found


def test_no_source_unpickles_evaluates_or_starts_a_shell():
    assert len(SOURCES) > 60
    found = {
        str(path): bad
        for path in SOURCES
        if (bad := offences(ast.parse(path.read_text()), path.name in LOADERS))
    }
    assert not found


@pytest.mark.parametrize(
    "code", ["import pickle", "eval('1')", "subprocess.run('x', shell=True)", "importlib.import_module(n)"]
)
def test_the_rule_sees_what_it_is_there_for(code):
    assert offences(ast.parse(code), loader=False)


class Still:
    def now(self) -> datetime:
        return datetime(2026, 11, 23, tzinfo=UTC)

    def boot(self) -> float:
        return 0.0


def test_every_event_has_its_words():
    for kind in typing.get_args(events.Event):
        values = {
            name: _example(text) for name, text in typing.get_type_hints(kind).items() if name != "self"
        }
        stream = io.StringIO()
        journal.Journal(stream, Still())(kind(**values))
        if kind not in (events.Armed, events.Campaigning):  # `singd status` has them
            assert stream.getvalue().endswith("\n")


def _example(hint) -> object:
    if hint is Occurrence:
        return Occurrence("name", datetime(2026, 11, 23, tzinfo=UTC))
    if hint is State:
        return State.FAILED
    if hint in (int, float):
        return hint(3)
    if hint is str:
        return "info"
    if typing.get_origin(hint) is collections.abc.Mapping:
        return {"name": "info"}
    return None


def test_a_flood_of_successes_is_counted_and_cannot_drown_a_failure():
    write = journal.Journal(stream := io.StringIO(), Still())
    for number in range(1_000):
        write(events.AttemptEnded(str(number), "a", 1, State.SUCCEEDED, 0.1))
    write(events.AttemptEnded("x", "b", 1, State.FAILED, 0.1, "no"))
    lines = stream.getvalue().splitlines()
    assert len(lines) == journal.BURST + 1
    assert "b: run x failed" in lines[-1]


def test_a_line_cannot_be_forged():
    assert "\n" not in journal.printable("one\n12:00:00Z   fake: run 1 succeeded")
    assert len(journal.printable("x" * 10_000)) == journal.LINE_MOST


def test_the_plugin_api_is_what_it_says():
    assert sorted(plugin.__all__) == sorted(
        ["Context", "Database", "DatabaseName", "GiveUp", "RetryAfter", "Skip", "Task", "task"]
    )
    assert all(getattr(plugin, name) for name in plugin.__all__)
