"""The tables of docs/cli.md: verbs, their options from their own parsers, exit codes, and the JSON that they print.

The JSON is what the real program prints: the client asks over a real control socket, with views behind it that the
tests use too, and the names of the fields are taken from the answer.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from argparse import Action
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import trio
from generate_tables import Table, code

from singd.cli import doctor, output
from singd.cli.arguments import VerbParser
from singd.cli.main import BROKEN_PIPE, CANNOT_WRITE, INTERRUPTED, VERBS, main
from singd.cli.plugins import by_plugin
from singd.core.catalogue import BrokenTask, Catalogue, Param, TaskInfo
from singd.core.health import ok
from singd.drill.gaps import Fault
from singd.drill.tally import Tally
from singd.drill.words import Outcome, Round, as_json

TESTS = str(Path(__file__).resolve().parents[1] / "tests")
EVERYWHERE = ("--help", "--json", "--config", "--state")
"""What every verb takes; told once."""
OFFLINE = ("check", "next", "db")
ASKING = ("runs", "list", "show", "status", "why", "logs", "trigger", "cancel", "pause", "resume", "resign")
_FILE = b'[schedules.daily]\ncron = "* 3 * * *"\ncommand = ["true"]\n'
_WORDS = {
    "show": ["daily"], "logs": ["4711"], "why": ["daily", "--at", "2026-03-01T03:00:00Z"], "db": ["migrate"],
    "trigger": ["daily"], "cancel": ["4710"], "pause": ["daily"], "resume": ["daily"],
}  # fmt: skip


@contextlib.contextmanager
def _plain_environment() -> Iterator[None]:
    """Without the variables of whoever generates: they are defaults of options."""
    kept = {key: os.environ.pop(key) for key in list(os.environ) if key.startswith("SINGD_")}
    try:
        yield
    finally:
        os.environ.update(kept)


def actions(verb: str) -> list[Action]:
    """Every option and argument of a verb, from its own parser."""
    with _plain_environment():
        parser = VerbParser(verb, VERBS[verb][1])
        import_module(f"singd.cli.{VERBS[verb][0]}").configure(parser)
    return list(parser._actions)


def _verbs() -> Table:
    return Table(("verb", "does"), [(code(verb), summary) for verb, (_, summary) in VERBS.items()])


def _everywhere() -> Table:
    return _options(one for one in actions("status") if EVERYWHERE[0] not in one.option_strings)


def _of_verb(verb: str) -> Callable[[], Table | str]:
    def made() -> Table | str:
        own = [one for one in actions(verb) if not set(EVERYWHERE) & set(one.option_strings)]
        return _options(own) if own else "No options of its own.\n"

    return made


def _options(found: Iterator[Action] | list[Action]) -> Table:
    return Table(("option", "variable", "is"), [_option(action) for action in found])


def _option(action: Action) -> tuple[str, str, str]:
    said, _, rest = (action.help or "").partition("[$")
    word = "" if action.nargs == 0 else str(action.metavar or "|".join(action.choices or [action.dest]))
    if not action.option_strings:
        return code(f"[{word}]" if action.nargs == "?" else word), "", said.strip()
    names = ", ".join(action.option_strings)
    return code(f"{names} {word}".strip()), code(rest.removesuffix("]")), said.strip()


def _exit_codes() -> Table:
    found = {name: value for name, value in vars(output).items() if name.isupper() and isinstance(value, int)}
    del found["JSON_VERSION"]
    found |= {"INTERRUPTED": INTERRUPTED, "BROKEN_PIPE": BROKEN_PIPE, "CANNOT_WRITE": CANNOT_WRITE}
    return Table(("code", "meaning"), [(str(value),) for value in sorted(found.values())])


def _json() -> Table:
    rows: list[tuple[str, str]] = []
    seen: dict[tuple[str, ...], str] = {}
    for path, fields in _paths():
        told = f"as {code(seen[fields])}" if fields in seen else ", ".join(map(code, fields))
        seen.setdefault(fields, path)
        rows.append((code(path), told))
    return Table(("under", "fields"), rows)


def _paths() -> Iterator[tuple[str, tuple[str, ...]]]:
    for document in documents().values():
        for name, value in document.items():
            if name != "version":
                yield from (row for row in _flat(name, value) if row[1])


def _flat(path: str, value: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    if isinstance(value, list):
        yield from _flat(f"{path}[]", value[0] if value else "")
    elif isinstance(value, dict):
        yield path, tuple(value)
        for key, inner in value.items():
            if isinstance(inner, dict | list):
                yield from _flat(f"{path}.{key}", inner)
    else:
        yield path, ()


@cache
def documents() -> Mapping[str, Mapping[str, Any]]:
    """Verb -> what it prints with --json."""
    with _plain_environment(), tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        (state / "singd.toml").write_bytes(_FILE)
        found = trio.run(_ask, state) | {verb: _printed(verb, state) for verb in OFFLINE}
    task = TaskInfo("t", "p", "1", "p:t", ("node",), params=(Param("x", "int", True),))
    plugins = by_plugin(Catalogue({"t": task}, {"b": BrokenTask("b", "p", "why")}))
    return found | {
        "plugins": {"version": output.JSON_VERSION, "plugins": plugins},
        "drill": {"version": output.JSON_VERSION, "drill": _drill()},
        "doctor": {"version": output.JSON_VERSION, "doctor": doctor.as_json([ok("ledger", "it is there")])},
    }


def _drill() -> Mapping[str, Any]:
    """What a drill of one round says, with an example of everything it may name."""
    lost = ("a", datetime(2026, 3, 1, 3, tzinfo=UTC))
    done = Round(1, Fault.KILL, "drill-1", 1, "drill-2", 2, 0.04)
    return as_json(Outcome("a database", "singd_drill_1", 3, (done,), Tally(lost=[lost])))


async def _ask(state: Path) -> dict[str, Mapping[str, Any]]:
    sys.path.append(TESTS)
    from support.fake_daemon import FakeDaemon, FakeLedger, T, attempt, ran, schedule, serving

    from singd.control import RunningAttempt, ScheduleView, Trouble
    from singd.core.values import State

    views = [ScheduleView(schedule("daily", "0 3 * * *"), cursor=T)]
    changes = {"troubles": [Trouble("something", "do something")]}
    daemon = FakeDaemon(views, running=[RunningAttempt("4711", 1, "daily", T, 42)], changes=changes)
    ended = ran(4710, "daily", T - timedelta(days=1), attempt(state=State.CANCELLED))
    async with serving(state, daemon, FakeLedger([ran(), ended])):
        return {verb: await trio.to_thread.run_sync(_printed, verb, state) for verb in ASKING}


def _printed(verb: str, state: Path) -> Mapping[str, Any]:
    words = [
        verb,
        *_WORDS.get(verb, []),
        "--json",
        "--state",
        str(state),
        "--config",
        str(state / "singd.toml"),
    ]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code_ = main(words)
    assert code_ == 0, f"singd {' '.join(words)}: {err.getvalue()}"
    document: dict[str, Any] = json.loads(out.getvalue())
    return document


BLOCKS: Mapping[str, Callable[[], Table | str]] = {
    "verbs": _verbs,
    "options of every verb": _everywhere,
    **{f"options of {verb}": _of_verb(verb) for verb in VERBS},
    "exit codes": _exit_codes,
    "json": _json,
}
