"""Every mistake has its code and its exact place; all of them are found at once; each says what to do."""

from __future__ import annotations

import pytest
from support.toml_marks import found, loaded, marked, schedule

from singd.core.config import CODES, Severity, render

# (code, text with the place in ⟦⟧, a piece of what is said)
MISTAKES = [
    # sections and keys
    ("SG0104", "[⟦schedule⟧.x]\nstartup = true", 'it is called "schedules"'),
    ("SG0104", "[⟦tasks⟧]\n", 'it is called "schedules"'),
    ("SG0104", "[⟦shcedules⟧.x]\n", 'did you mean "schedules"?'),
    ("SG0104", '⟦timezone⟧ = "UTC"\n', "below a header"),
    ("SG0104", schedule('⟦timout⟧ = "4m"'), 'did you mean "timeout"?'),
    ("SG0104", schedule("⟦max_retries⟧ = 3"), 'it is called "retries"'),
    ("SG0104", schedule("⟦pools⟧ = 3"), "remove it"),
    ("SG0104", schedule('⟦"late after"⟧ = "3s"'), 'unknown key "late after"'),
    ("SG0104", schedule("⟦a⟧.b.c = 1"), 'unknown key "a"'),
    ("SG0104", '[defaults]\n⟦cron⟧ = "* * * * *"', "belongs to one schedule"),
    ("SG0104", '[node]\n⟦nme⟧ = "x"', 'did you mean "name"?'),
    ("SG0104", '[database]\nurl = "embedded"\n⟦shema⟧ = "x"', 'did you mean "schema"?'),
    ("SG0101", "schedules = ⟦3⟧", "must be a table"),
    ("SG0101", "[schedules]\nx = ⟦3⟧", "must be a table"),
    ("SG0101", "[[⟦schedules.x⟧]]\nstartup = true", "must be a table, not an array"),
    ("SG0101", schedule("args = ⟦[1]⟧"), "args must be a table"),
    # names
    ("SG0106", '[⟦schedules."a b"⟧]\nstartup = true', "letters, digits"),
    ("SG0106", '[⟦schedules."../x"⟧]\nstartup = true', "letters, digits"),
    ("SG0106", '[node]\nname = ⟦"cluster"⟧', "stands for all nodes"),
    ("SG0106", '[⟦databases.Main⟧]\nurl = "embedded"', "identifier in SQL"),
    ("SG0106", '[⟦databases.ledger⟧]\nurl = "embedded"', "the ledger's own database"),
    ("SG0106", '[database]\nschema = ⟦"pg_singd"⟧', "identifier in SQL"),
    ("SG0106", '[database]\nschema = ⟦"a;drop"⟧', "identifier in SQL"),
    ("SG0106", '[node]\nname = ⟦"a/b"⟧', "letters, digits"),
    ("SG0106", schedule('task = ⟦"a b"⟧'), "letters, digits"),
    # types and ranges
    ("SG0103", schedule("timeout = ⟦30⟧"), 'write timeout = "30s" if seconds are meant'),
    ("SG0103", schedule("timeout = ⟦1.5⟧"), 'write timeout = "1.5s"'),
    ("SG0103", schedule('timeout = ⟦"30"⟧'), "has no unit"),
    ("SG0103", schedule("every = ⟦5⟧", trigger=""), 'write every = "5s"'),
    ("SG0109", schedule('timeout = ⟦"4 parsecs"⟧'), 'unknown unit "parsecs"'),
    ("SG0101", schedule("timeout = ⟦true⟧"), "must be a duration, not true"),
    ("SG0102", schedule('timeout = ⟦"0s"⟧'), 'at least "100ms"'),
    ("SG0102", schedule('every = ⟦"0s"⟧', trigger=""), 'at least "100ms"'),
    ("SG0101", schedule('retries = ⟦"2"⟧'), "must be a whole number"),
    ("SG0101", schedule("retries = ⟦true⟧"), "must be a whole number, not true"),
    ("SG0101", schedule("retries = ⟦1.0⟧"), "must be a whole number"),
    ("SG0101", schedule("catch_up_max = ⟦1e9⟧"), "write a whole number from 1 to 10,000"),
    ("SG0101", schedule("catch_up_max = ⟦1e2⟧"), "write catch_up_max = 100"),
    ("SG0101", schedule("catch_up_max = ⟦nan⟧"), "write a whole number from 1 to 10,000"),
    ("SG0109", schedule('every = ⟦"99999999999999h"⟧', trigger=""), "longer than 100 years"),
    ("SG0102", schedule("retries = ⟦-1⟧"), "must be 0 to 1,000"),
    ("SG0102", schedule("catch_up_max = ⟦0⟧"), "must be 1 to 10,000"),
    ("SG0101", schedule("backoff = ⟦10⟧"), 'write backoff = "10s..5m"'),
    ("SG0102", schedule('backoff = ⟦"5m..10s"⟧'), "the last not shorter"),
    ("SG0109", schedule('backoff = ⟦"10s...5m"⟧'), "is not a duration"),
    ("SG0105", schedule('overlap = ⟦"qeue"⟧'), 'did you mean "queue"?'),
    ("SG0105", schedule('catch_up = ⟦"lastest"⟧'), 'did you mean "latest"?'),
    ("SG0105", schedule('delivery = ⟦"exactly_once"⟧'), '"at_most_once" or "at_least_once"'),
    ("SG0105", schedule('isolation = ⟦"thread"⟧'), '"process" or "inline"'),
    ("SG0105", schedule('scope = ⟦"Cluster"⟧'), 'did you mean "cluster"?'),
    ("SG0105", schedule('role = ⟦"singlarity"⟧'), 'did you mean "singularity"?'),
    ("SG0105", '[node]\nrole = ⟦"hub"⟧', '"singularity" or "centralcloud"'),
    ("SG0101", schedule("overlap = ⟦true⟧"), 'must be "skip", "queue", "replace" or "allow"'),
    ("SG0101", schedule('enabled = ⟦"yes"⟧'), "write enabled = true"),
    ("SG0101", schedule("enabled = ⟦0⟧"), "write enabled = false"),
    ("SG0102", schedule('cron = ⟦""⟧', trigger=""), "must not be empty"),
    ("SG0101", schedule("cron = ⟦5⟧", trigger=""), "must be text"),
    # triggers
    ("SG0201", '[⟦schedules.x⟧]\ntask = "y"', "no trigger"),
    ("SG0201", '⟦schedules.x⟧ = {task = "y"}', "no trigger"),
    ("SG0201", schedule("startup = ⟦false⟧", trigger=""), "no trigger"),
    ("SG0202", schedule('⟦every⟧ = "30s"'), '"cron" and "every" are both triggers'),
    ("SG0202", schedule("⟦startup⟧ = true"), "singd.toml:4:1"),
    ("SG0202", schedule('⟦cron⟧ = "* * * * *"', trigger='every = "5s"'), "every stands at singd.toml:4:1"),
    ("SG0203", schedule('cron = ⟦"*/5 * * *"⟧', trigger=""), "4 fields"),
    ("SG0203", schedule('cron = ⟦"61 * * * *"⟧', trigger=""), "not understood"),
    ("SG0203", schedule('cron = ⟦"0 0 30 2 *"⟧', trigger=""), "not understood"),
    ("SG0203", schedule('cron = ⟦"0 0 3 * * *"⟧', trigger=""), "not understood"),
    ("SG0204", schedule('timezone = ⟦"Europe/Berln"⟧'), 'did you mean "Europe/Berlin"?'),
    ("SG0204", '[defaults]\ntimezone = ⟦"Mars"⟧', "unknown time zone"),
    ("SG0204", schedule('timezone = ⟦"../../etc/passwd"⟧'), "unknown time zone"),
    ("SG0205", schedule("at = ⟦2026-12-24T18:00:00⟧", trigger=""), "write at = 2026-12-24T18:00:00Z"),
    ("SG0205", schedule('timezone = "Europe/Berlin"\nat = ⟦2026-12-24T18:00:00⟧', trigger=""), "18:00:00+01:00 for Europe/Berlin"),
    ("SG0101", schedule('at = ⟦"2026-12-24T18:00:00Z"⟧', trigger=""), "write at = 2026-12-24T18:00:00Z"),
    ("SG0101", schedule("at = ⟦2026-12-24⟧", trigger=""), "write at = 2026-12-24T00:00:00Z"),
    ("SG0102", schedule("at = ⟦0001-01-01T00:00:00+14:00⟧", trigger=""), "must be in 1971 to 2199"),
    ("SG0110", schedule('⟦seconds⟧ = true\nevery = "5s"', trigger=""), "seconds goes with cron"),
    # what to run
    ("SG0301", schedule('sql = "x"\n⟦command⟧ = ["a"]\ndatabase = "main"'), '"sql" and "command" both say'),
    ("SG0301", schedule('task = "t"\n⟦command⟧ = ["a"]'), '"task" and "command" both say'),
    ("SG0302", schedule('⟦sql⟧ = "SELECT 1"'), 'add database = "main"'),
    ("SG0303", schedule('sql = "SELECT 1"\ndatabase = ⟦"mian"⟧'), 'did you mean "main"?'),
    ("SG0303", schedule('sql = "SELECT 1"\ndatabase = ⟦"ledger"⟧'), "unknown database"),
    ("SG0110", schedule('⟦database⟧ = "main"'), "database goes with sql"),
    ("SG0110", schedule('command = ["a"]\n⟦args⟧ = {a = 1}'), "args goes with task"),
    ("SG0110", schedule('command = ["a"]\n⟦isolation⟧ = "inline"'), "isolation goes with task"),
    ("SG0101", schedule('command = ⟦"df -h \'a b\'"⟧'), 'write command = ["df", "-h", "a b"]'),
    ("SG0101", schedule('command = ["a", ⟦1⟧]'), "must hold texts, not the number 1"),
    ("SG0102", schedule("command = ⟦[]⟧"), "names no program"),
    ("SG0101", schedule('command = ["a", ⟦"b\\u0000c"⟧]'), "must hold texts"),
    ("SG0102", schedule('sql = ⟦"a\\u0000"⟧\ndatabase = "main"'), "NUL"),
    # databases and secrets
    ("SG0107", "[⟦databases.main⟧]\n", "has no url"),
    ("SG0105", '[databases.main]\nurl = ⟦"mysql://h/d"⟧', '"embedded", "postgresql://…" or "postgres://…"'),
    ("SG0105", '[databases.main]\nurl = ⟦"embeded"⟧', "not a url"),
    ("SG0501", '[databases.main]\nurl = ⟦"postgresql://u:hunter2@h/d"⟧', "url holds a password"),
    ("SG0501", '[databases.main]\nurl = ⟦"postgresql://u:a/b@h/d"⟧', "url holds a password"),
    ("SG0501", '[databases.main]\nurl = ⟦"postgresql://u:a?b@h/d"⟧', "url holds a password"),
    ("SG0501", '[databases.main]\nurl = ⟦"postgresql://h/d?user=u&pass%77ord=hunter2"⟧', "url holds a password"),
    ("SG0501", '[databases.main]\nurl = ⟦"host=h password=hunter2"⟧', "url holds a password"),
    ("SG0501", '[database]\nurl = ⟦"postgres://u:hunter2@h/d"⟧', "url holds a password"),
    ("SG0501", '[databases.main]\nurl = "postgresql://u@h/d"\npassword = ⟦"hunter2"⟧', "stands in the file"),
    ("SG0501", '[nats]\nurl = ⟦"nats://hunter2@h"⟧', "url holds a password"),
    ("SG0502", '[databases.main]\nurl = ⟦{vault = "x"}⟧', '"credential", "env" or "file"'),
    ("SG0502", '[databases.main]\nurl = ⟦{env = "A", file = "/b"}⟧', "one reference"),
    ("SG0502", '[databases.main]\nurl = {credential = ⟦"../x"⟧}', "without a path"),
    ("SG0502", '[databases.main]\nurl = {file = ⟦"x"⟧}', "an absolute path"),
    ("SG0502", '[databases.main]\nurl = {env = ⟦"A=B"⟧}', "environment variable"),
    ("SG0110", '[databases.main]\nurl = "embedded"\n⟦password⟧ = {env = "A"}', "password goes with a url"),
    # the contract's keys that are not built yet: refused by name, never unknown
    ("SG0902", schedule('⟦needs⟧ = ["y"]\n[schedules.y]\nstartup = true'), "needs is part of the contract"),
    ("SG0902", schedule('⟦needs_timeout⟧ = "15m"'), "not built in this version"),
    ("SG0903", '[schedules.y]\nstartup = true\n[schedules.x]\n⟦after⟧ = "y"', "after is part of the contract"),
    ("SG0904", '[schedules.x]\n⟦on⟧ = {nats = "a.b"}', "on is part of the contract"),
    ("SG0905", schedule('⟦splay⟧ = "30s"'), "splay is part of the contract"),
    ("SG0906", schedule("⟦once⟧ = true"), "once = true is part of the contract"),
    ("SG0907", schedule('⟦on_failure⟧ = ["a"]'), "on_failure is part of the contract"),
    ("SG0908", schedule('⟦executor⟧ = "database"\nsql = "x"\ndatabase = "main"'), "not built in this version"),
    ("SG0909", "[⟦services.s⟧]\n", "a service is part of the contract"),
    ("SG0910", '[nats]\n⟦url⟧ = "embedded"', "nats is part of the contract"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "text", "said"), MISTAKES)
def test_a_mistake_has_its_code_and_its_exact_place(code: str, text: str, said: str) -> None:
    plain, places = marked(text)
    result = loaded(plain)
    assert found(result.problems) == [(code, places[0])]
    assert result.config is None
    problem = result.problems[0]
    assert said in f"{problem.message} | {problem.reason}; {problem.cure}"
    assert "{key}" not in f"{problem.message}{problem.reason}{problem.cure}"


@pytest.mark.parametrize("text", [text for code, text, _ in MISTAKES if code == "SG0501"])
def test_a_password_is_never_repeated_in_what_is_said(text: str) -> None:
    problem = loaded(marked(text)[0]).problems[0]
    assert problem.secret
    assert "hunter2" not in repr(problem)


def test_a_password_in_a_url_of_a_command_is_a_warning_and_is_not_repeated() -> None:
    plain, places = marked(schedule('command = ["psql", ⟦"postgres://u:hunter2@db/x"⟧]'))
    result = loaded(plain)
    assert (found(result.problems), result.config is not None) == ([("SG0803", places[0])], True)
    assert "hunter2" not in render(result.problems, [("singd.toml", plain.encode())])
    assert loaded(schedule('command = ["psql", "postgres://u@db/x", "a:b@c"]')).problems == ()
    text = schedule('command = "psql postgres://u:hunter2@db/x"')
    assert "hunter2" not in render(loaded(text).problems, [("singd.toml", text.encode())])


def test_all_mistakes_are_found_at_once_in_the_order_of_the_lines() -> None:
    text, places = marked("""
[node]
role = ⟦"hub"⟧
[schedules.a]
cron = ⟦"nonsense"⟧
⟦timout⟧ = "4m"
retries = ⟦"two"⟧
[⟦schedules.b⟧]
grace = ⟦5⟧
[schedules.c]
startup = true
overlap = ⟦"maybe"⟧
""")
    result = loaded(text)
    assert [place for _, place in found(result.problems)] == places
    assert [code for code, _ in found(result.problems)] == [
        "SG0105", "SG0203", "SG0104", "SG0101", "SG0201", "SG0103", "SG0105",
    ]  # fmt: skip


def test_errors_of_syntax_and_of_meaning_are_found_in_one_run() -> None:
    text, places = marked("""
[schedules.a]
cron = "0 3 * * *"
overlap = ⟦skip⟧
grace = ⟦4m⟧
⟦timout⟧ = "4m"
⟦timeout⟧ =
enabled = ⟦True⟧
[schedules.b]
cron = ⟦"0 3 * * *⟧
""")
    assert [place for _, place in found(loaded(text).problems)] == places


def test_a_value_that_is_no_toml_is_not_complained_about_twice() -> None:
    assert [p.code for p in loaded("[schedules.a]\ncron = daily\n").problems] == ["SG0007"]


@pytest.mark.parametrize(
    "key",
    [
        "needs = []",
        'splay = "0s"',
        "once = false",
        "on_failure = []",
        'executor = "singd"',
        'scope = "cluster"',
    ],
)
def test_a_key_that_is_not_built_may_say_what_is_so_anyway(key: str) -> None:
    values = 'sql = "x"\ndatabase = "main"\n' if "executor" in key else ""
    assert loaded(schedule(values + key)).problems == ()


def test_nats_may_be_none_in_so_many_words() -> None:
    assert loaded('[nats]\nurl = ""\n').problems == ()


def test_once_contradicts_at_most_once() -> None:
    problems = loaded(schedule('once = true\ndelivery = "at_most_once"')).problems
    assert {p.code for p in problems} == {"SG0906", "SG0110"}


@pytest.mark.parametrize("key", ['after = "zz"', 'needs = ["y", "zz"]', 'needs = ["x"]'])
def test_a_schedule_that_is_named_must_exist_and_be_another(key: str) -> None:
    text = (
        schedule(key, trigger="" if "after" in key else "startup = true") + "[schedules.y]\nstartup = true\n"
    )
    assert "SG0401" in {p.code for p in loaded(text).problems}


@pytest.mark.parametrize(
    ("cron", "meant"),
    [("* 9 * * *", "0 9 * * *"), ("* 0 1 * *", "0 0 1 * *"), ("* 9 * * 1-5", "0 9 * * 1-5")],
)
def test_every_minute_of_one_hour_is_a_warning_and_no_error(cron: str, meant: str) -> None:
    result = loaded(schedule(f'cron = "{cron}"', trigger=""))
    assert result.config is not None
    assert [(p.code, p.severity, p.cure) for p in result.problems] == [
        ("SG0801", Severity.WARNING, f'did you mean "{meant}"?')
    ]


@pytest.mark.parametrize(
    "cron", ["* * * * *", "0 9 * * *", "* 9-17 * * *", "*/5 9 * * *", "@daily", "H 9 * * *"]
)
def test_an_expression_that_means_what_it_says_is_no_warning(cron: str) -> None:
    assert loaded(schedule(f'cron = "{cron}"', trigger="")).problems == ()


def test_more_schedules_than_allowed_are_refused_at_the_first_one_too_many() -> None:
    text = "".join(f"[schedules.s{n}]\nstartup = true\n" for n in range(4))
    assert loaded(text, max_schedules=4).problems == ()
    assert found(loaded(text, max_schedules=3).problems) == [("SG0108", (7, 2, 12))]


def test_a_thousand_problems_are_shown_and_the_others_counted() -> None:
    text = "[schedules.a]\nstartup = true\n" + "".join(f"k{n} = 1\n" for n in range(1_500))
    problems = loaded(text).problems
    assert len(problems) == 1_001
    assert (problems[-1].code, problems[-1].message) == ("SG0011", "500 more problems are not shown")


def test_every_mistake_of_the_table_is_of_a_known_kind() -> None:
    assert {code for code, _, _ in MISTAKES} <= set(CODES)
