"""What holds for any text and any configuration: nothing raises, writing it otherwise changes nothing, places are true."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.toml_marks import GOOD
from support.toml_text import headed, inline
from support.toml_text import value as written

from singd.core.catalogue import Catalogue, Param, TaskInfo
from singd.core.config import Config, bind, load, render
from singd.core.config.effective import effective
from singd.core.config.places import Document, Path
from singd.core.units import format_duration
from singd.core.values import CatchUp, Delivery, Isolation, Overlap

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,12}", fullmatch=True)
durations = st.timedeltas(min_value=timedelta(seconds=1), max_value=timedelta(days=900)).map(format_duration)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=20)
scalars = st.one_of(
    texts, st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False),
    st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(lambda d: d.replace(microsecond=0)),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts.filter(bool), inner, max_size=3),
    max_leaves=6,
)
triggers = st.one_of(
    st.sampled_from(["*/5 * * * *", "0 3 * * 1-5", "H H * * *"]).map(lambda e: {"cron": e}),
    durations.map(lambda d: {"every": d}),
    st.just({"startup": True}),
    st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
        lambda d: {"at": d.replace(microsecond=0)}
    ),
)
calls = st.one_of(
    names.map(lambda n: {"task": n}),
    st.dictionaries(texts.filter(bool), values, max_size=3).map(lambda a: {"args": a}),
    st.lists(texts.filter(str.strip), min_size=1, max_size=3).map(lambda c: {"command": c}),
    texts.filter(str.strip).map(lambda s: {"sql": s, "database": "main"}),
)
policies = st.fixed_dictionaries({}, optional={
    "timeout": durations, "retries": st.integers(0, 1_000), "overlap": st.sampled_from([str(o) for o in Overlap]), "grace": durations,
    "catch_up": st.sampled_from([str(c) for c in CatchUp]), "catch_up_max": st.integers(1, 10_000), "enabled": st.booleans(),
    "delivery": st.sampled_from([str(d) for d in Delivery]), "role": st.sampled_from(["singularity", "centralcloud"]),
    "backoff": durations.map(lambda d: f"1s..{d}"),
})  # fmt: skip


@st.composite
def contents(draw: st.DrawFn) -> dict[str, Any]:
    """The values of a configuration without mistakes."""
    schedules = {}
    for name in draw(st.lists(names, max_size=4, unique=True)):
        schedules[name] = {**draw(triggers), **draw(calls), **draw(policies)}
    return {"databases": {"main": {"url": "embedded"}}, "schedules": schedules}


def config(text: str) -> Config:
    result = load([("a.toml", text.encode())])
    assert result.problems == ()
    assert result.config is not None
    return result.config


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_problems(text: str) -> None:
    files = [("a.toml", text.encode("utf-8", "surrogatepass"))]
    result = load(files)
    assert (result.config is None) == bool([p for p in result.problems if p.severity == "error"])
    assert (render(result.problems, files) == "") == (result.problems == ())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_configuration_or_problems(raw: bytes) -> None:
    result = load([("a.toml", b"#\n"), ("b.toml", raw)])
    assert all(p.place.line >= 1 and p.place.column >= 1 and p.place.length >= 1 for p in result.problems)


SNIPPETS = st.sampled_from([
    "[schedules.x]\n", "[[schedules.x]]\n", "[schedules.x.args]\n", "[databases.main]\n", "[defaults]\n", "[node]\n", "[nats]\n", "schedules",
    "cron", "timeout", "args", "url", "needs", "at", " = ", "=", '"0 3 * * *"', '"', '"""', "'''", "[", "]", "{", "}", ",", ".", "\n", "# c\n",
    "1", "true", "4m", "2026-01-01T00:00:00Z", "'x'", '{env = "A"}', "\\", "\t", "é",
])  # fmt: skip


@settings(max_examples=400)
@given(st.lists(SNIPPETS, max_size=40).map("".join))
def test_anything_that_looks_like_a_configuration_is_judged(text: str) -> None:
    files = [("a.toml", text.encode())]
    result = load(files)
    lines = text.split("\n")
    for problem in result.problems:
        assert 1 <= problem.place.line <= len(lines)
        assert 1 <= problem.place.column <= len(lines[problem.place.line - 1]) + 1
    render(result.problems, files)
    if result.config is not None:
        bind(result.config, Catalogue())
        for name, schedule in result.config.schedules.items():
            for key, _ in effective(schedule):
                result.config.origin(name, key)


key_values = st.recursive(
    st.one_of(st.integers(), texts, st.booleans(), st.floats(), st.none()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["schedules", "x", "cron", "args", "url", "databases", "timeout", "needs", "on", "backoff", "node", "defaults", "services"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(["schedules", "databases", "defaults", "node", "nats", "database", "services"]),
        key_values,
        max_size=4,
    )
)
def test_any_value_at_any_key_is_a_problem_and_never_an_exception(content: dict[str, Any]) -> None:
    load([("a.toml", headed(_without_none(content)).encode())])


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value if v is not None] if isinstance(value, list) else value


@given(contents())
def test_what_was_generated_is_what_is_loaded(content: dict[str, Any]) -> None:
    loaded = config(headed(content))
    assert list(loaded.schedules) == list(content["schedules"])
    for name, table in content["schedules"].items():
        said = dict(effective(loaded.schedules[name]))
        for key in table.keys() - {"args", "at", "backoff", "sql", "database", "startup"}:
            assert said[key] == table[key], key


@given(contents(), st.randoms(use_true_random=False))
def test_writing_it_otherwise_does_not_change_the_hash(content: dict[str, Any], random: Any) -> None:
    one, two = config(headed(content)), config("# other\n" + inline(_shuffled(content, random)))
    assert one.content_hash == two.content_hash
    assert one.schedules == two.schedules


def _shuffled(value: Any, random: Any) -> Any:
    if not isinstance(value, dict):
        return value
    pairs = list(value.items())
    random.shuffle(pairs)
    return {key: _shuffled(inner, random) for key, inner in pairs}


@given(contents())
def test_the_place_of_every_value_holds_that_value(content: dict[str, Any]) -> None:
    for text in (headed(content), inline(content)):
        parsed = tomllib.loads(text)
        document = Document("a", text, parsed)
        lines = text.split("\n")
        for path, value in _leaves(parsed):
            place = document.place(path, at_key=False)
            assert place is not None
            there = lines[place.line - 1][place.column - 1 : place.column - 1 + place.length]
            if not there.startswith(('"""', "'''", "[")):
                assert tomllib.loads(f"v = {there}")["v"] == value


def _leaves(value: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    if isinstance(value, dict | list) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, inner in pairs for leaf in _leaves(inner, (*path, key))]
    return [] if isinstance(value, dict) else [(path, value)]


TYPES = st.recursive(
    st.sampled_from(
        ["str", "int", "float", "bool", "datetime", "path", "duration", "database", "choice:a|b", "any"]
    ),
    lambda inner: inner.map(lambda t: f"list[{t}]") | inner.map(lambda t: f"table[{t}]"),
    max_leaves=3,
)


@given(TYPES, values)
def test_any_argument_against_any_type_is_bound_or_a_problem(type_: str, value: Any) -> None:
    text = f"{GOOD}[schedules.x]\nstartup = true\n[schedules.x.args]\na = {written(value)}\n"
    task = TaskInfo("x", "p", "1", "m:x", ("instance",), params=(Param("a", type_, True),))
    bound, problems = bind(config(text), Catalogue({"x": task}))
    assert bool(bound) != bool(problems)
    assert all(p.place.line >= 7 for p in problems)
    assert Isolation.PROCESS in {item.schedule.policy.isolation for item in bound.values()} or problems
