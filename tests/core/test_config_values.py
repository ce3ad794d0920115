"""A configuration without mistakes: what it says, what holds where it says nothing, drop-ins, hash and origins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import PurePath

import pytest
from support.toml_marks import schedule

from singd.core.config import Config, Database, LedgerDatabase, Node, Secret, load
from singd.core.config.keys import DATABASE, DEFAULTS, LEDGER, NATS, NODE, POLICY, SCHEDULE, SERVICE
from singd.core.cron import Cron
from singd.core.values import (
    At,
    Backoff,
    CatchUp,
    CommandCall,
    Delivery,
    Every,
    Isolation,
    Overlap,
    Policy,
    Schedule,
    Scope,
    SqlCall,
    Startup,
    TaskCall,
)  # fmt: skip


def good(text: str, *drop_ins: str) -> Config:
    files = [("/etc/singd/singd.toml", text.encode())]
    files += [(f"/etc/singd/conf.d/{n}.toml", drop_in.encode()) for n, drop_in in enumerate(drop_ins)]
    result = load(files)
    assert result.problems == ()
    assert result.config is not None
    return result.config


def the(text: str, *drop_ins: str) -> Schedule:
    return good(text, *drop_ins).schedules["x"]


def test_a_comment_alone_is_a_configuration_with_every_default() -> None:
    config = good("# nothing yet\n")
    assert (config.node, config.database) == (Node("", ""), LedgerDatabase("embedded", None, "singd"))
    assert (config.databases, config.nats_url, config.schedules, config.services) == ({}, "", {}, {})
    assert config.directory == PurePath("/etc/singd")


def test_a_schedule_that_says_only_when_has_the_contracts_defaults() -> None:
    found = the('[schedules.x]\ncron = "0 3 * * *"\n')
    assert found == Schedule("x", "x", TaskCall("x", {}), Cron.parse("0 3 * * *"), Policy())
    assert (found.scope, found.role, found.enabled) == (Scope.CLUSTER, "", True)
    assert found.policy == Policy(
        timeout=timedelta(hours=1), retries=0, backoff=Backoff(timedelta(seconds=10), timedelta(minutes=5)), overlap=Overlap.SKIP,
        grace=timedelta(seconds=30), catch_up=CatchUp.LATEST, catch_up_window=timedelta(hours=1), catch_up_max=100,
        delivery=Delivery.AT_MOST_ONCE, isolation=Isolation.PROCESS,
    )  # fmt: skip


def test_every_policy_key_is_taken() -> None:
    found = the("""
[schedules.x]
every = "30s"
task = "y"
role = "centralcloud"
enabled = false
timeout = "4m"
retries = 2
backoff = "1s..1m"
overlap = "queue"
grace = "1m"
catch_up = "all"
catch_up_window = "2h"
catch_up_max = 7
delivery = "at_least_once"
isolation = "inline"
args = {a = 1, b = {c = [1, 2]}}
""")
    assert found == Schedule(
        "x", "y", TaskCall("y", {"a": 1, "b": {"c": [1, 2]}}), Every(timedelta(seconds=30)),
        Policy(
            timedelta(minutes=4), 2, Backoff(timedelta(seconds=1), timedelta(minutes=1)), Overlap.QUEUE, timedelta(minutes=1),
            CatchUp.ALL, timedelta(hours=2), 7, Delivery.AT_LEAST_ONCE, Isolation.INLINE,
        ), role="centralcloud", enabled=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        ("startup = true", Startup()),
        ("at = 2026-12-24T18:00:00Z", At(datetime(2026, 12, 24, 18, tzinfo=UTC))),
        ("at = 2026-12-24T19:00:00+01:00", At(datetime(2026, 12, 24, 18, tzinfo=UTC))),
        ('every = "1h30m"', Every(timedelta(minutes=90))),
        ('cron = "0 3 * * *"\ntimezone = "Europe/Berlin"', Cron.parse("0 3 * * *", timezone="Europe/Berlin")),
        ('cron = "5 0 3 * * *"\nseconds = true', Cron.parse("5 0 3 * * *", seconds=True)),
        ('cron = "H * * * *"', Cron.parse("H * * * *", name="x")),
    ],
)
def test_a_trigger_is_read(text: str, trigger: object) -> None:
    assert the(schedule("", trigger=text)).trigger == trigger


def test_hashed_expressions_are_hashed_from_each_schedules_own_name() -> None:
    config = good("".join(f'[schedules.s{n}]\ncron = "H H * * *"\n' for n in range(20)))
    instants = {
        s.trigger.next_after(datetime(2026, 1, 1, tzinfo=UTC))
        for s in config.schedules.values()
        if isinstance(s.trigger, Cron)
    }
    assert len(instants) > 10


def test_a_command_and_sql_are_read() -> None:
    command = the(schedule('command = ["df", "-h", ""]'))
    assert (command.task, command.call) == ("command", CommandCall(("df", "-h", "")))
    sql = the(schedule('sql = "CALL f()"\ndatabase = "main"'))
    assert (sql.task, sql.call) == ("sql", SqlCall("CALL f()", "main"))


def test_one_backoff_is_a_wait_that_stays_the_same() -> None:
    assert the(schedule('backoff = "10s"')).policy.backoff == Backoff(
        timedelta(seconds=10), timedelta(seconds=10)
    )


def test_defaults_hold_where_a_schedule_says_nothing() -> None:
    config = good("""
[defaults]
timezone = "Europe/Berlin"
timeout = "2m"
overlap = "queue"
role = "singularity"
enabled = false
[schedules.x]
cron = "0 3 * * *"
[schedules.y]
cron = "0 3 * * *"
timezone = "UTC"
timeout = "9m"
role = ""
enabled = true
""")
    x, y = config.schedules["x"], config.schedules["y"]
    assert x.trigger == Cron.parse("0 3 * * *", timezone="Europe/Berlin")
    assert (x.policy.timeout, x.policy.overlap, x.role, x.enabled) == (
        timedelta(minutes=2),
        Overlap.QUEUE,
        "singularity",
        False,
    )
    assert y.trigger == Cron.parse("0 3 * * *")
    assert (y.policy.timeout, y.policy.overlap, y.role, y.enabled) == (
        timedelta(minutes=9),
        Overlap.QUEUE,
        "",
        True,
    )


def test_a_schedule_of_another_role_is_valid_here() -> None:
    text = '[node]\nrole = "singularity"\n' + schedule('role = "centralcloud"')
    assert good(text).schedules["x"].role == "centralcloud"


def test_secrets_are_references_and_nothing_else() -> None:
    config = good("""
[database]
url = "postgresql://singd@db.example:5432/singd?sslmode=verify-full"
password = {credential = "ledger"}
schema = "plans"
[databases.a]
url = {env = "A_URL"}
[databases.b]
url = "postgres:///b"
password = {file = "/run/secrets/b"}
""")
    assert config.database == LedgerDatabase(
        "postgresql://singd@db.example:5432/singd?sslmode=verify-full",
        Secret("credential", "ledger"),
        "plans",
    )
    assert config.databases == {
        "a": Database(Secret("env", "A_URL")), "b": Database("postgres:///b", Secret("file", "/run/secrets/b")),
    }  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@[::1]:5432/d",
        "postgresql://h:5432,i:5433/d",
        "postgresql:///d?host=/run/pg&port=5433",
        "postgresql://h/d?passfile=/x",
    ],
)
def test_a_url_without_a_password_is_taken(url: str) -> None:
    assert good(f'[databases.a]\nurl = "{url}"\n').databases["a"].url == url


# --- drop-ins

MAIN = schedule('timeout = "4m"\nretries = 2\n[schedules.x.args]\na = 1\nb = {c = 1}')


def test_a_later_file_wins_key_by_key() -> None:
    found = the(
        MAIN, '[schedules.x]\ntimeout = "5m"\n[schedules.x.args]\na = 2\n', "[schedules.x]\nenabled = false\n"
    )
    assert (found.policy.timeout, found.policy.retries, found.enabled) == (timedelta(minutes=5), 2, False)
    assert found.call == TaskCall("x", {"a": 2, "b": {"c": 1}})


def test_a_value_is_replaced_whole_even_where_it_is_a_table() -> None:
    assert the(MAIN, "[schedules.x.args]\nb = {d = 2}\n").call == TaskCall("x", {"a": 1, "b": {"d": 2}})
    config = good('[databases.a]\nurl = {env = "A"}\n', '[databases.a]\nurl = {file = "/a"}\n')
    assert config.databases["a"].url == Secret("file", "/a")


def test_a_later_trigger_replaces_the_earlier_one() -> None:
    assert the(MAIN, '[schedules.x]\nevery = "5s"\n').trigger == Every(timedelta(seconds=5))
    assert (
        the(
            schedule('cron = "1 2 3 * * *"\nseconds = true', trigger=""), "[schedules.x]\nstartup = true\n"
        ).trigger
        == Startup()
    )


def test_what_a_later_file_says_to_run_replaces_what_was_run() -> None:
    text = schedule('command = ["a"]')
    assert the(text, '[schedules.x]\ntask = "t"\n').call == TaskCall("t", {})


def test_a_drop_in_adds_schedules_and_databases() -> None:
    config = good(MAIN, '[databases.two]\nurl = "embedded"\n[schedules.y]\nstartup = true\n')
    assert list(config.schedules) == ["x", "y"]
    assert list(config.databases) == ["main", "two"]


def test_an_empty_drop_in_changes_nothing() -> None:
    assert good(MAIN, "").content_hash == good(MAIN).content_hash


def test_a_mistake_is_placed_in_the_file_that_made_it() -> None:
    files = [
        ("a.toml", MAIN.encode()),
        ("conf.d/b.toml", b"# b\n[schedules.x]\ntimeout = 5\n"),
        ("conf.d/c.toml", b"[schedules.x]\nretires = 2\n"),
    ]
    assert [str(p.place) for p in load(files).problems] == ["conf.d/b.toml:3:11", "conf.d/c.toml:2:1"]


def test_a_mistake_that_a_later_file_replaces_is_none() -> None:
    assert the(MAIN.replace('"4m"', "4"), '[schedules.x]\ntimeout = "5m"\n').policy.timeout == timedelta(
        minutes=5
    )


def test_one_file_that_is_no_toml_refuses_all_of_them() -> None:
    text = schedule('sql = "x"\ndatabase = "other"')
    result = load([("a.toml", text.encode()), ("b.toml", b'[databases.other]\nurl = "embedded"\n[x\n')])
    assert result.config is None
    assert [p.place.file for p in result.problems] == ["b.toml"]


# --- the hash


def test_formatting_comments_and_order_do_not_change_the_hash() -> None:
    other = """
# moved, rewritten
schedules.x.args = { "b" = { c = 0x1 }, a = 1 }
[schedules."x"]
retries = 0b10 # two
timeout = '4m'
cron = \"\"\"0 3 * * *\"\"\"
[databases]
main.url = 'embedded'
""".replace("schedules.x.args = ", "[schedules.x]\nargs = ").replace('[schedules."x"]\n', "")
    assert good(other).content_hash == good(MAIN).content_hash


@pytest.mark.parametrize(
    "text",
    [
        '[node]\nname = "other"\nrole = "singularity"',
        '[database]\nurl = {env = "A"}',
        '[databases.more]\nurl = "embedded"',
        '[nats]\nurl = ""',
        "[defaults]",
    ],
)
def test_what_belongs_to_a_node_does_not_change_the_hash(text: str) -> None:
    assert good(MAIN, text).content_hash == good(MAIN).content_hash


@pytest.mark.parametrize(
    "text",
    [
        '[schedules.x]\ntimeout = "5m"', "[schedules.x.args]\na = 2", '[schedules.x.args]\na = "1"', "[schedules.x.args]\na = 1.0",
        "[schedules.x.args]\na = true", "[schedules.y]\nstartup = true", '[defaults]\ntimeout = "5m"', "[schedules.x]\nenabled = true",
        "[schedules.x.args]\na = 2026-01-01T00:00:00Z", '[schedules.x.args]\na = "2026-01-01T00:00:00Z"',
    ],
)  # fmt: skip
def test_any_change_of_content_changes_the_hash(text: str) -> None:
    seen = {good(MAIN).content_hash, good(MAIN, "[schedules.x.args]\na = 2026-01-02T00:00:00Z").content_hash}
    assert good(MAIN, text).content_hash not in seen


def test_one_instant_in_two_zones_is_one_content() -> None:
    one, two = (
        schedule(f"at = {at}", trigger="") for at in ("2026-12-24T18:00:00Z", "2026-12-24T19:00:00+01:00")
    )
    assert good(one).content_hash == good(two).content_hash


# --- origins


def test_an_origin_is_the_place_of_the_value_in_force() -> None:
    config = good('[defaults]\noverlap = "queue"\n' + MAIN, "[schedules.x]\nretries = 3\n")
    assert str(config.origin("x", "timeout")) == "/etc/singd/singd.toml:7:11"
    assert str(config.origin("x", "retries")) == "/etc/singd/conf.d/0.toml:2:11"
    assert str(config.origin("x", "overlap")) == "/etc/singd/singd.toml:2:11"
    assert str(config.origin("x", "args.a")) == "/etc/singd/singd.toml:10:5"
    assert config.origin("x", "grace") == "default"
    assert config.origin("x", "cron") != "default"
    assert str(config.place("x")) == "/etc/singd/conf.d/0.toml:1:2"


def test_every_key_of_the_contract_is_known() -> None:
    assert set(POLICY) == set(Policy.__dataclass_fields__)
    assert set(SCHEDULE) == {
        "cron", "every", "at", "startup", "after", "on", "seconds", "timezone", "scope", "role", "needs", "needs_timeout", "timeout",
        "retries", "backoff", "overlap", "grace", "catch_up", "catch_up_window", "catch_up_max", "splay", "delivery", "isolation",
        "on_failure", "enabled", "once", "task", "args", "command", "sql", "database", "executor",
    }  # fmt: skip
    assert {"restart", "intensity", "scope", "role"} <= set(SERVICE)
    assert set(POLICY) | {"timezone"} <= set(DEFAULTS)
    assert (set(NODE), set(DATABASE), set(NATS)) == ({"name", "role"}, {"url", "password"}, {"url"})
    assert set(LEDGER) == {"url", "password", "schema"}


def test_a_configuration_without_mistakes_is_found_without_looking_for_places() -> None:
    assert all(document._headers is None for document in good(MAIN).sources.documents)


@pytest.mark.parametrize("name", ["ledger", "singd", "postgres", "template1"])
def test_a_database_cannot_take_a_name_that_is_spoken_for(name):
    loaded = load([("singd.toml", f'[databases.{name}]\nurl = "embedded"\n'.encode())])
    assert loaded.config is None
    assert (loaded.problems[0].place.line, loaded.problems[0].place.column) == (1, 2)
