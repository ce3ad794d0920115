"""Schedules against what plugins offer: unknown tasks, arguments of every type with their places, task defaults."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from support.toml_marks import marked

from singd.core.catalogue import BrokenTask, Catalogue, Param, TaskInfo
from singd.core.config import Bound, Problem, Severity, bind, load
from singd.core.values import CommandCall, Isolation, SqlCall, TaskCall


def task(name: str = "t", params: Mapping[str, str] | None = None, **declared: object) -> TaskInfo:
    """A task whose parameters are given as name -> type; a "?" behind the name makes one optional."""
    made = tuple(
        Param(key.removesuffix("?"), type_, not key.endswith("?")) for key, type_ in (params or {}).items()
    )
    fields = {"placement": ("instance", "central"), "is_async": True, **declared}
    return TaskInfo(name, f"singd-{name}", "1.0", f"m:{name}", params=made, **fields)  # type: ignore[arg-type]


def bound(
    text: str, *tasks: TaskInfo, broken: BrokenTask | None = None
) -> tuple[Mapping[str, Bound], tuple[Problem, ...]]:
    loaded = load([("/etc/singd/singd.toml", text.encode())])
    assert loaded.problems == ()
    assert loaded.config is not None
    return bind(loaded.config, Catalogue({t.name: t for t in tasks}, {broken.name: broken} if broken else {}))


def x(args: str = "", head: str = "") -> str:
    return f'[databases.main]\nurl = "embedded"\n[schedules.x]\nstartup = true\ntask = "t"\n{head}\n[schedules.x.args]\n{args}\n'


def one(text: str, *tasks: TaskInfo) -> Bound:
    schedules, problems = bound(text, *tasks)
    assert problems == ()
    return schedules["x"]


# (type, value, as the task is given it)
ARGUMENTS = [
    ("str", '"a"', "a"), ("str", '""', ""), ("int", "5", 5), ("float", "1.5", 1.5), ("float", "2", 2), ("bool", "true", True),
    ("datetime", "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)), ("path", '"/abs"', "/abs"),
    ("path", '"templates_data"', "/etc/singd/templates_data"), ("path", '"../x"', "/etc/singd/../x"), ("duration", '"5m"', "5m"),
    ("database", '"main"', "main"), ("choice:hourly|daily", '"daily"', "daily"), ("list[int]", "[1, 2]", [1, 2]), ("list[int]", "[]", []),
    ("list[path]", '["a", "/b"]', ["/etc/singd/a", "/b"]), ("table[int]", "{a = 1}", {"a": 1}),
    ("table[list[path]]", '{a = ["b"]}', {"a": ["/etc/singd/b"]}), ("list[database]", '["main"]', ["main"]), ("any", "[1, 'a']", [1, "a"]),
    ("list[table[any]]", "[{a = 1}]", [{"a": 1}]),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "value", "given"), ARGUMENTS)
def test_an_argument_of_its_type_is_given_to_the_task(type_: str, value: str, given: object) -> None:
    assert one(x(f"a = {value}"), task(params={"a": type_})).schedule.call == TaskCall("t", {"a": given})


# (type, value with the place in ⟦⟧, what is said)
MISTAKES = [
    ("str", "⟦5⟧", "a must be text, not the number 5"), ("int", '⟦"5"⟧', "a must be a whole number"), ("int", "⟦true⟧", "not true"),
    ("int", "⟦1.5⟧", "a whole number, not the number 1.5"), ("int", "⟦9223372036854775808⟧", "a whole number"), ("float", "⟦nan⟧", "a number"),
    ("float", "⟦true⟧", "a number"), ("bool", "⟦1⟧", "true or false"), ("datetime", "⟦2026-01-02T03:04:05⟧", "with an offset"),
    ("datetime", '⟦"2026-01-02T03:04:05Z"⟧', "date-time"), ("path", "⟦5⟧", "a path"), ("path", '⟦""⟧', "must not be empty"),
    ("str", '⟦"a\\u0000"⟧', "NUL"), ("duration", "⟦5⟧", "a duration"), ("duration", '⟦"5"⟧', "has no unit"),
    ("database", '⟦"mian"⟧', 'did you mean "main"?'), ("database", '⟦"ledger"⟧', "given to backups only"), ("database", "⟦1⟧", "a database"),
    ("choice:hourly|daily", '⟦"dayly"⟧', 'did you mean "daily"?'), ("choice:hourly|daily", "⟦1⟧", '"hourly" or "daily"'),
    ("list[int]", "⟦5⟧", "an array"), ("list[int]", '[1, ⟦"2"⟧]', "a whole number"), ("list[int]", "[\n1, # one\n⟦true⟧,\n]", "a whole number"),
    ("table[int]", "⟦[]⟧", "a table"), ("table[int]", "{b = ⟦true⟧}", "a whole number"),
    ("table[list[int]]", "{b = [1, ⟦true⟧]}", "a whole number"), ("list[table[int]]", "[{b = 1}, {b = 2, c = ⟦'x'⟧}]", "a whole number"),
    ("list[database]", '["main", ⟦"two"⟧]', "unknown database"), ("complex", "⟦1⟧", "a type that singd does not know"),
]  # fmt: skip


@pytest.mark.parametrize(("type_", "value", "said"), MISTAKES)
def test_an_argument_of_another_type_is_placed_exactly(type_: str, value: str, said: str) -> None:
    text, places = marked(x(f"a = {value}"))
    schedules, problems = bound(text, task(params={"a": type_}))
    assert schedules == {}
    assert [(p.place.line, p.place.column, p.place.length) for p in problems] == places
    assert said in f"{problems[0].message} | {problems[0].reason}; {problems[0].cure}"
    assert (problems[0].severity, problems[0].schedule) == (Severity.ERROR, "x")
    assert problems[0].code == ("SG0606" if "database" in type_ and "1" not in value else "SG0605")


def test_every_mistake_of_every_schedule_is_found_at_once() -> None:
    text, places = marked("""
[schedules.a]
startup = true
task = ⟦"tt"⟧
[⟦schedules.b⟧]
startup = true
[schedules.x]
startup = true
task = "t"
[⟦schedules.x.args⟧]
⟦bukket⟧ = "5m"
n = ⟦"1"⟧
""")
    schedules, problems = bound(text, task(params={"bucket": "duration", "n": "int", "opt?": "str"}))
    assert schedules == {}
    assert [(p.place.line, p.place.column, p.place.length) for p in problems] == places
    assert [p.code for p in problems] == ["SG0601", "SG0601", "SG0604", "SG0603", "SG0605"]
    assert problems[0].cure == 'did you mean "t"?'
    assert "task unless task says otherwise" in problems[1].reason
    assert problems[3].cure == 'did you mean "bucket"?'


def test_a_mistake_in_an_array_of_tables_is_placed_in_its_own_table() -> None:
    tables = (
        "[[schedules.x.args.a]]\nn = 1\n[[schedules.x.args.a]]\nn = ⟦'2'⟧\n[schedules.x.args.a.m]\nb = 1\n"
    )
    text, places = marked(x() + tables)
    _, problems = bound(text, task(params={"a": "list[table[any]]", "b?": "any"}))
    assert problems == ()
    _, problems = bound(
        text.replace("[schedules.x.args.a.m]\nb = 1\n", ""), task(params={"a": "list[table[int]]"})
    )
    assert [(p.place.line, p.place.column, p.place.length) for p in problems] == places
    _, problems = bound(text.replace("'2'", "2"), task(params={"a": "list[table[int]]"}))
    assert [(p.place.line, p.place.column) for p in problems] == [(places[0][0] + 1, 2)]


def test_a_mistake_costs_only_its_own_schedule() -> None:
    schedules, problems = bound(
        x("a = 1") + "[schedules.y]\nstartup = true\n", task(params={"a": "str"}), task("y")
    )
    assert list(schedules) == ["y"]
    assert [p.schedule for p in problems] == ["x"]


def test_a_broken_plugin_is_named_with_its_reason() -> None:
    schedules, problems = bound(x(), broken=BrokenTask("t", "singd-t", "ImportError: no module named numpy"))
    assert schedules == {}
    assert (problems[0].code, problems[0].place.line, problems[0].place.column) == ("SG0602", 5, 8)
    assert "singd-t" in problems[0].message
    assert problems[0].reason == "ImportError: no module named numpy"


def test_commands_and_sql_need_no_plugin() -> None:
    text = '[databases.main]\nurl="embedded"\n[schedules.x]\nstartup=true\ncommand=["a"]\n[schedules.y]\nstartup=true\nsql="b"\ndatabase="main"\n'
    schedules, problems = bound(text)
    assert problems == ()
    assert (schedules["x"].schedule.call, schedules["x"].databases) == (CommandCall(("a",)), ())
    assert (schedules["y"].schedule.call, schedules["y"].databases) == (SqlCall("b", "main"), ("main",))


def test_a_task_is_given_the_databases_it_declares_and_those_its_arguments_name() -> None:
    text = (
        x('a = ["two", "main"]\nb = "main"\nc = "two"')
        + '[databases.two]\nurl = "embedded"\n[databases.three]\nurl = "embedded"\n'
    )
    info = task(params={"a": "list[database]", "b": "database", "c": "str"}, databases=("main",))
    assert one(text, info).databases == ("main", "two")


def test_a_database_that_a_task_declares_must_exist() -> None:
    schedules, problems = bound(x(), task(databases=("main", "singularity")))
    assert schedules == {}
    assert [(p.code, p.message) for p in problems] == [
        ("SG0608", 'the task "t" needs the database "singularity"')
    ]


def test_the_ledger_is_given_to_backups_only() -> None:
    text = x('a = ["main", "ledger"]')
    assert one(text, task(params={"a": "list[database]"}, database_role="backup")).databases == (
        "main",
        "ledger",
    )
    assert [p.code for p in bound(text, task(params={"a": "list[database]"}))[1]] == ["SG0606"]


DECLARED = {"timeout": "7m", "retries": 4, "isolation": "inline"}


def test_what_a_task_declares_holds_where_the_schedule_says_nothing() -> None:
    policy = one(x(), task(**DECLARED)).schedule.policy
    assert (policy.timeout, policy.retries, policy.isolation) == (timedelta(minutes=7), 4, Isolation.INLINE)


def test_a_schedules_own_word_wins_over_the_tasks() -> None:
    policy = one(
        x(head='timeout = "1m"\nretries = 0\nisolation = "process"'), task(**DECLARED)
    ).schedule.policy
    assert (policy.timeout, policy.retries, policy.isolation) == (timedelta(minutes=1), 0, Isolation.PROCESS)


def test_a_tasks_timeout_is_nearer_than_defaults_but_isolation_is_the_operators() -> None:
    text = '[defaults]\ntimeout = "1m"\nretries = 1\nisolation = "process"\n' + x()
    policy = one(text, task(**DECLARED)).schedule.policy
    assert (policy.timeout, policy.retries, policy.isolation) == (timedelta(minutes=7), 4, Isolation.PROCESS)


def test_a_plain_function_cannot_run_inline() -> None:
    text, places = marked(x(head='isolation = ⟦"inline"⟧'))
    schedules, problems = bound(text, task(is_async=False))
    assert schedules == {}
    assert [(p.code, p.place.line, p.place.column, p.place.length) for p in problems] == [
        ("SG0607", *places[0])
    ]
    assert one(text, task(is_async=True)).schedule.policy.isolation is Isolation.INLINE


def test_a_declaration_that_makes_no_sense_is_the_plugins_fault() -> None:
    for declared in ({"timeout": "soon"}, {"isolation": "thread"}, {"timeout": "0s"}, {"retries": -1}):
        schedules, problems = bound(x(), task(**declared))
        assert schedules == {}
        assert [p.code for p in problems] == ["SG0609"]
        assert "singd-t" in problems[0].message


@pytest.mark.parametrize(
    ("head", "node", "placement", "warned"),
    [
        ("", "singularity", ("instance",), False), ("", "singularity", ("central",), True), ("", "centralcloud", ("instance",), True),
        ("", "centralcloud", ("central", "instance"), False), ("", "", ("central",), False), ("", "singularity", ("database",), False),
        ('role = "centralcloud"', "singularity", ("central",), False), ('role = "singularity"', "centralcloud", ("central",), True),
        ("", "singularity", ("node",), True), ("", "singularity", ("node", "instance"), False),
    ],
)  # fmt: skip
def test_a_task_placed_against_its_plugins_word_is_a_warning(
    head: str, node: str, placement: tuple[str, ...], warned: bool
) -> None:
    text = (f'[node]\nrole = "{node}"\n' if node else "") + x(head=head)
    schedules, problems = bound(text, task(placement=placement))
    assert [(p.code, p.severity) for p in problems] == ([("SG0802", Severity.WARNING)] if warned else [])
    assert list(schedules) == ["x"]


def test_sound_schedules_are_bound_though_others_are_refused() -> None:
    text = """
[schedules.wrong]
every = "5"
task = "t"
[schedules.unknown]
task = "nobody_offers_this"
every = "1h"
[schedules.args]
task = "t"
every = "1h"
[schedules.args.args]
a = nonsense
b = 1
[schedules.no_args]
task = "t"
every = "1h"
args = 5
"""
    loaded = load([("singd.toml", text.encode())])
    assert (loaded.config, loaded.draft is not None) == (None, True)
    _, problems = bind(loaded.draft, Catalogue({"t": task("t", {"a": "int"})}))
    assert [(p.code, p.schedule) for p in problems] == [("SG0601", "unknown"), ("SG0603", "args")]
