"""The program as a process: verbs that need no daemon, and its manners."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from singd.cli import paths
from singd.cli.main import VERBS
from singd.cli.paths import find

CODE = "import sys; from singd.cli.main import main; sys.exit(main())"
CONFIG = """
[schedules.often]
command = ["true"]
cron = "*/5 * * * *"
[schedules.berlin]
command = ["true"]
cron = "0 3 * * *"
timezone = "Europe/Berlin"
[schedules.boot]
command = ["true"]
startup = true
[schedules.off]
command = ["true"]
every = "1h"
enabled = false
[schedules.hub]
command = ["true"]
every = "1h"
role = "centralcloud"
"""


def singd(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TZ": "UTC"} | environment
    return subprocess.run(
        [sys.executable, "-c", CODE, *words],
        capture_output=True,
        text=True,
        timeout=30,
        env=env,
        cwd=cwd,
        check=False,
    )


def document(result: subprocess.CompletedProcess[str], name: str) -> Any:
    found = json.loads(result.stdout)
    assert found["version"] == 1
    return found[name]


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "singd.toml"
    file.write_text(CONFIG)
    return str(file)


def test_help_lists_every_verb_and_goes_to_stdout_when_asked_for() -> None:
    asked, not_asked = singd("--help"), singd()
    assert (asked.returncode, asked.stderr, not_asked.returncode, not_asked.stdout) == (0, "", 2, "")
    assert all(verb in asked.stdout for verb in VERBS)
    assert asked.stdout == not_asked.stderr
    assert singd("--version").stdout.startswith("singd ")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "run"])
def test_every_verb_has_help_and_every_option_a_variable(verb: str) -> None:
    result = singd(verb, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert singd("help", verb).stdout == result.stdout
    options = [line.split()[-1] for line in result.stdout.splitlines() if line.strip().startswith("--")]
    for option in ("--json", "--config", "--state"):
        assert option in result.stdout
        assert f"$SINGD_{option[2:].upper()}]" in result.stdout
    assert options


def test_a_mistyped_verb_is_guessed() -> None:
    result = singd("stauts")
    assert (result.returncode, result.stdout) == (2, "")
    assert "did you mean `singd status`?" in result.stderr
    assert singd("--nonsense").returncode == 2
    assert singd("next", "--nonsense").returncode == 2


def test_next_lists_the_next_instant_of_each_schedule_in_order_of_time(config: str) -> None:
    found = document(singd("next", "--config", config, "--from", "2026-03-01T03:00:00Z", "--json"), "next")
    assert [(item["schedule"], item["due_at"], item["reason"]) for item in found] == [
        ("often", "2026-03-01T03:05:00Z", ""), ("berlin", "2026-03-02T02:00:00Z", ""), ("boot", None, "at startup"),
        ("hub", None, "only where the role is centralcloud"), ("off", None, "enabled = false"),
    ]  # fmt: skip
    hub = document(singd("next", "hub", "-c", config, "--json", SINGD_NODE_ROLE="centralcloud"), "next")
    assert len(hub) == 5


def test_next_shows_local_time_and_utc(config: str) -> None:
    result = singd(
        "next", "berlin", "-n", "2", "--from", "2026-03-28 12:00", "-c", config, TZ="Europe/Berlin"
    )
    cells = [re.split("  +", line)[:3] for line in result.stdout.splitlines()]
    assert cells == [
        ["SCHEDULE", "LOCAL", "UTC"],
        ["berlin", "2026-03-29 03:00:00 CEST", "2026-03-29T01:00:00Z"],
        ["berlin", "2026-03-30 03:00:00 CEST", "2026-03-30T01:00:00Z"],
    ]


def test_next_of_an_expression_needs_no_configuration() -> None:
    result = singd(
        "next",
        "--cron",
        "30 2 * * *",
        "--timezone",
        "Europe/Berlin",
        "--from",
        "2026-03-28T12:00Z",
        "-n",
        "2",
        "--json",
    )
    assert [item["due_at"] for item in document(result, "next")] == [
        "2026-03-29T01:00:00Z",
        "2026-03-30T00:30:00Z",
    ]
    assert document(result, "next")[0]["in_timezone"] == "2026-03-29T03:00:00+02:00"
    six = singd(
        "next", "--cron", "*/10 * * * * *", "--seconds", "--from", "2026-03-28T12:00Z", "-n", "1", "--json"
    )
    assert document(six, "next")[0]["due_at"] == "2026-03-28T12:00:10Z"


@pytest.mark.parametrize(
    ("words", "exit_code", "text"),
    [
        (["--cron", "61 * * * *"], 2, "61"),
        (["--cron", "* * * * *", "--timezone", "Europe/Berln"], 2, "did you mean Europe/Berlin?"),
        (["-n", "0"], 2, "whole number"),
        (["--from", "soon"], 2, "not an instant"),
        (["offten"], 1, "did you mean often?"),
        (["--config", "/nonexistent.toml"], 66, "no configuration at /nonexistent.toml"),
    ],
)
def test_next_refuses_with_the_right_code_and_a_cure(
    config: str, words: Sequence[str], exit_code: int, text: str
) -> None:
    result = singd("next", *words, SINGD_CONFIG=config)
    assert (result.returncode, result.stdout) == (exit_code, "")
    assert text in result.stderr


def test_a_wrong_configuration_is_65_with_every_place(tmp_path: Path) -> None:
    file = tmp_path / "singd.toml"
    file.write_text(
        '[schedules.a]\ncommand = ["true"]\ncron = "61 * * * *"\n[schedules.b]\ncomand = ["true"]\nevery = "5"\n'
    )
    result = singd("check", str(file), "--state", str(tmp_path / "state"))
    assert result.returncode == 65
    assert f"{file}:3:8" in result.stdout
    assert f"{file}:5:1" in result.stdout
    assert "^^^" in result.stdout
    found = document(singd("check", str(file), "--json", SINGD_STATE=str(tmp_path / "state")), "check")
    assert (found["ok"], found["file"], found["errors"] >= 3) == (False, str(file), True)
    assert {"code", "severity", "file", "line", "column", "message", "reason", "cure"} <= set(
        found["problems"][0]
    )
    following = singd("next", "-c", str(file))
    assert (following.returncode, following.stdout) == (65, "")
    assert f"{file}:3:8" in following.stderr


def test_a_good_configuration_is_0_also_with_the_directory_named(config: str, tmp_path: Path) -> None:
    for name in (config, str(tmp_path)):
        result = singd("check", name, "--state", str(tmp_path / "state"))
        assert (result.returncode, result.stderr) == (0, "")
        assert "good, 5 schedules" in result.stdout


def test_check_knows_what_the_plugins_offer(tmp_path: Path) -> None:
    file = tmp_path / "singd.toml"
    file.write_text('[schedules.nobody_offers_this]\ncron = "@daily"\n')
    result = singd("check", "--config", str(file), "--state", str(tmp_path / "state"))
    assert result.returncode == 65
    assert "nobody_offers_this" in result.stdout


def test_check_finds_unknown_tasks_also_where_another_schedule_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "singd.toml"
    file.write_text(
        '[schedules.nobody_offers_this]\ncron = "@daily"\n[schedules.b]\ncommand = ["true"]\nevery = "5"\n'
    )
    result = singd("check", "--config", str(file), "--state", str(tmp_path / "state"))
    assert result.returncode == 65
    assert "SG0601" in result.stdout
    assert "SG0103" in result.stdout
    assert "2 errors" in result.stdout


def test_an_instant_that_has_passed_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "singd.toml"
    at = '[schedules.{}]\ncommand = ["true"]\nat = {}-01-01T00:00:00Z\n'
    file.write_text(at.format("old", 2001) + at.format("new", 2199))
    result = singd("check", str(file), "--json", "--state", str(tmp_path / "state"))
    assert result.returncode == 0
    [problem] = document(result, "check")["problems"]
    assert (problem["code"], problem["severity"], problem["line"], problem["schedule"]) == (
        "SG0804",
        "warning",
        3,
        "old",
    )


def test_the_cure_of_a_cron_expression_is_said_once() -> None:
    result = singd("next", "--cron", "1," * 200 + "1 * * * *")
    assert (result.returncode, result.stderr.count("split it into several schedules")) == (2, 1)


def test_variables_stand_for_options_and_the_command_line_wins(config: str) -> None:
    result = singd(
        "next", SINGD_CONFIG=config, SINGD_JSON="1", SINGD_COUNT="2", SINGD_FROM="2026-03-01T03:00Z"
    )
    assert len(document(result, "next")) == 2 + 2 + 3
    result = singd("next", "often", "-n", "1", SINGD_CONFIG=config, SINGD_COUNT="7", SINGD_JSON="no")
    assert len(result.stdout.splitlines()) == 2
    assert singd("next", SINGD_CONFIG=config, SINGD_COUNT="many").returncode == 2


def test_options_may_stand_before_the_verb(config: str) -> None:
    assert len(document(singd("--json", "--config", config, "next", "often"), "next")) == 5


def test_plugins_lists_and_shows(tmp_path: Path) -> None:
    state = str(tmp_path)
    found = document(singd("plugins", "--json", "--state", state), "plugins")
    assert all({"name", "version", "tasks", "broken"} <= set(plugin) for plugin in found)
    nothing = singd("plugins", "show", "nobody-offers-this", "--state", state)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert singd("plugins", "show", "--state", state).returncode == 2


def test_db_sql_prints_sql_and_nothing_else(config: str) -> None:
    result = singd("db", "sql", "--config", config, "--runtime-role", "singd_app")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("BEGIN;")
    assert result.stdout.endswith("COMMIT;\n")
    assert 'TO "singd_app"' in result.stdout


def test_a_reader_that_goes_away_is_no_error(config: str) -> None:
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", CODE, "next", "often", "-n", "10000", "-c", config],
        stdout=writer,
        stderr=subprocess.PIPE,
    ) as program:
        os.close(writer)
        os.read(reader, 100)
        os.close(reader)
        _, errors = program.communicate(timeout=30)
    assert (program.returncode, errors) == (141, b"")


@pytest.mark.parametrize(
    "words", ["next often", "next often -n 10000", "--help", "--version", "check", "next --help"]
)
@pytest.mark.parametrize(("stream", "reason"), [(">/dev/full", "No space left"), (">&-", "it is closed")])
def test_output_that_cannot_be_written_is_74_and_a_sentence(
    config: str, words: str, stream: str, reason: str
) -> None:
    program = shlex.join([sys.executable, "-c", CODE, *words.split()])
    result = subprocess.run(
        ["sh", "-c", f"{program} {stream}"], capture_output=True, text=True, timeout=30, check=False,
        env={"PATH": os.environ["PATH"], "SINGD_CONFIG": config, "SINGD_STATE": str(Path(config).parent / "state")},
    )  # fmt: skip
    assert result.returncode == 74
    assert result.stderr.startswith("singd: standard output cannot be written: ")
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_what_is_said_to_a_closed_stderr_does_not_turn_up_among_the_results() -> None:
    program = shlex.join([sys.executable, "-c", CODE, "status", "--state", "/nonexistent"])
    result = subprocess.run(["sh", "-c", f"{program} 2>&-"], capture_output=True, timeout=30, check=False)
    assert (result.returncode, result.stdout) == (69, b"")


@pytest.mark.parametrize(
    ("error", "code"), [("PermissionError(13, 'Permission denied'", 77), ("NotADirectoryError(20, 'Not a directory'", 69)]
)  # fmt: skip
def test_an_error_of_the_system_is_a_sentence_with_its_path(error: str, code: int) -> None:
    program = "import singd.cli.main as m, singd.cli.next as n\n"
    program += f"def fail(args): raise {error}, '/srv/x')\nn.run = fail\nraise SystemExit(m.main(['next']))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (code, "", 1)
    assert result.stderr.startswith("singd: /srv/x: ")


def test_ctrl_c_ends_quietly() -> None:
    code = "import os, signal, singd.cli.main as m, singd.cli.next as n\n"
    code += "n.run = lambda args: os.kill(os.getpid(), signal.SIGINT)\nraise SystemExit(m.main(['next']))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (128 + signal.SIGINT, "", "")


@pytest.mark.parametrize(
    ("words", "forbidden"),
    [
        (["--help"], ["argparse", "json", "trio", "psycopg", "importlib.metadata", "singd.core"]),
        (
            ["status", "--state", "/nonexistent"],
            ["trio", "psycopg", "importlib.metadata", "singd.core", "subprocess"],
        ),
        (["next", "--cron", "@daily"], ["trio", "psycopg", "importlib.metadata"]),
    ],
)
def test_a_verb_imports_no_more_than_it_needs(words: list[str], forbidden: list[str]) -> None:
    code = (
        f"import sys, singd.cli.main as m; m.main({words!r}); print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    ).stderr
    assert "singd.cli.main" in loaded
    names = set(loaded.split())
    assert not [name for name in forbidden if name in names]


# -- paths ---------------------------------------------------------------------------------------------------


def where(
    uid: int, state: str | None = None, config: str | None = None, **environ: str
) -> tuple[str, str, str]:
    found = find(state=state, config=config, environ={"HOME": "/home/ada"} | environ, uid=uid)
    return str(found.config), str(found.state), str(found.socket)


XDG = {"XDG_CONFIG_HOME": "/x/config", "XDG_STATE_HOME": "/x/state", "XDG_RUNTIME_DIR": "/x/run"}
SYSTEM = ("/etc/singd/singd.toml", "/var/lib/singd", "/run/singd/singd.sock")
BY_XDG = ("/x/config/singd/singd.toml", "/x/state/singd", "/x/run/singd/singd.sock")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (where(0), SYSTEM),
        (where(0, **XDG), BY_XDG),
        (where(1000, **XDG), BY_XDG),
        (
            where(1000),
            (
                "/home/ada/.config/singd/singd.toml",
                "/home/ada/.local/state/singd",
                "/home/ada/.local/state/singd/run/singd.sock",
            ),
        ),
        (where(1000, XDG_RUNTIME_DIR="relative")[2], "/home/ada/.local/state/singd/run/singd.sock"),
        (where(0, state="/srv/s")[1:], ("/srv/s", "/srv/s/run/singd.sock")),
        (where(0, SINGD_STATE="/srv/s", **XDG)[1:], ("/srv/s", "/srv/s/run/singd.sock")),
        (where(0, state="/srv/a", SINGD_STATE="/srv/s")[1], "/srv/a"),
        (where(0, config="/srv/c.toml", SINGD_CONFIG="/d.toml")[0], "/srv/c.toml"),
        (where(0, SINGD_CONFIG="/d.toml")[0], "/d.toml"),
        (where(998, STATE_DIRECTORY="/var/lib/singd", RUNTIME_DIRECTORY="/run/singd")[1:], SYSTEM[1:]),
        (where(0, STATE_DIRECTORY="/var/lib/backup", RUNTIME_DIRECTORY="/run/backup"), SYSTEM),
    ],
)
def test_paths_follow_the_contract(found: object, expected: object) -> None:
    assert found == expected


def test_a_client_that_was_told_nothing_also_looks_for_the_machines_daemon() -> None:
    user = find(environ={"HOME": "/home/ada", **XDG}, uid=1000)
    assert [str(path) for path in user.sockets] == ["/x/run/singd/singd.sock", "/run/singd/singd.sock"]
    assert len(find(environ={}, uid=0).sockets) == 1
    assert len(find(state="/srv/s", environ={}, uid=0).sockets) == 1


def test_a_users_directories_are_private(tmp_path: Path) -> None:
    found = find(state=tmp_path / "state", environ={}, uid=os.geteuid())
    found.make()
    found.make()
    assert not found.state.stat().st_mode & 0o066
    assert not found.runtime.stat().st_mode & 0o077


def test_plugin_directories_that_others_can_write_to_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad, missing = tmp_path / "good", tmp_path / "bad", tmp_path / "missing"
    good.mkdir(mode=0o755)
    bad.mkdir()
    bad.chmod(0o775)
    monkeypatch.setattr(paths, "_PLUGINS", (good, bad, missing))
    monkeypatch.setattr(
        paths,
        "_only_writable_by",
        lambda path, uids, real=paths._only_writable_by: real(path, uids | {os.geteuid()}),
    )
    assert find(state=tmp_path, environ={}, uid=0).plugins == (good,)
