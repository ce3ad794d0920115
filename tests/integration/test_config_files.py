"""Reading configuration files and secrets: drop-ins in order, only regular files, never more than the cap."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from singd.core.config import EMBEDDED, Config, Secret, render
from singd.edges.config_files import (
    MAX_DROP_INS,
    conninfo,
    load_config_files,
    read_config_files,
    resolve_secret,
    with_password,
)  # fmt: skip
from singd.errors import ConfigError

TEXT = '[schedules.x]\ncron = "0 3 * * *"\n'


@pytest.fixture
def main(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "singd.toml"
    (path.parent / "conf.d").mkdir(parents=True)
    path.write_text(TEXT)
    return path


def good(main: Path) -> Config:
    loaded, _ = load_config_files(main)
    assert loaded.problems == ()
    assert loaded.config is not None
    return loaded.config


def refused(main: Path) -> str:
    loaded, files = load_config_files(main)
    assert loaded.config is None
    assert len(loaded.problems) == 1
    return render(loaded.problems, files)


def test_drop_ins_are_read_after_the_main_file_in_lexical_order(main: Path) -> None:
    for name, retries in (("20.toml", 2), ("10.toml", 1), ("30.toml.bak", 3), (".40.toml", 4), ("9.toml", 9)):
        (main.parent / "conf.d" / name).write_text(f"[schedules.x]\nretries = {retries}\n")
    assert [Path(name).name for name, _ in read_config_files(main).files] == [
        "singd.toml",
        "10.toml",
        "20.toml",
        "9.toml",
    ]
    assert good(main).schedules["x"].policy.retries == 9


def test_without_drop_ins_the_main_file_is_enough(main: Path) -> None:
    (main.parent / "conf.d").rmdir()
    assert list(good(main).schedules) == ["x"]
    (main.parent / "conf.d").write_text("")
    assert list(good(main).schedules) == ["x"]


def test_relative_paths_are_meant_from_the_main_files_directory(
    main: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(main.parent.parent)
    config = good(Path("etc/singd.toml"))
    assert str(config.directory) == str(main.parent)
    assert str(config.origin("x", "cron")) == "etc/singd.toml:2:8"


@pytest.mark.parametrize(
    "what", ["missing", "directory", "fifo", "socket", "device", "dangling", "loop", "endless link"]
)
def test_what_is_no_regular_file_is_refused_at_once(main: Path, tmp_path: Path, what: str) -> None:
    main.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        if what == "directory":
            main.mkdir()
        elif what == "fifo":
            os.mkfifo(main)
        elif what == "socket":
            server.bind(str(main))
        elif what == "device":
            main.symlink_to("/dev/null")
        elif what == "dangling":
            main.symlink_to(tmp_path / "gone")
        elif what == "loop":
            main.symlink_to(main)
        elif what == "endless link":
            main.symlink_to("/dev/zero")
        out = refused(main)
    assert f"{main}:1:1: error SG0008: {main} cannot be read" in out


def test_a_drop_in_that_cannot_be_read_refuses_the_whole_configuration(main: Path) -> None:
    os.mkfifo(main.parent / "conf.d" / "10.toml")
    assert "10.toml cannot be read\n   it is not a regular file" in refused(main)


def test_a_name_that_no_file_can_have_is_a_problem_and_no_exception() -> None:
    for name in ("a\0b", "x" * 5_000):
        loaded, _ = load_config_files(Path(name))
        assert [p.code for p in loaded.problems] == ["SG0008"]


def test_more_drop_ins_than_allowed_are_refused(main: Path) -> None:
    for number in range(MAX_DROP_INS + 1):
        (main.parent / "conf.d" / f"{number:03}.toml").touch()
    assert f"at most {MAX_DROP_INS} are read" in refused(main)


def test_a_large_file_is_refused_without_being_read(main: Path) -> None:
    os.truncate(main, 10 * 2**30)
    read = read_config_files(main)
    assert len(read.files[0][1]) == 2**20 + 1
    assert "SG0001" in refused(main)


def test_drop_ins_count_for_the_cap(main: Path) -> None:
    (main.parent / "conf.d" / "1.toml").write_text("#\n" * ((2**20 - len(TEXT)) // 2))
    assert good(main)
    (main.parent / "conf.d" / "2.toml").write_text("##")
    assert "2.toml:1:1: error SG0001" in refused(main)


def test_the_caps_can_be_raised(main: Path) -> None:
    main.write_text("".join(f"[schedules.s{n}]\nstartup = true\n#{'x' * 1_000}\n" for n in range(1_100)))
    assert "SG0001" in refused(main)
    loaded, _ = load_config_files(main, max_bytes=2**22, max_schedules=2_000)
    assert loaded.config is not None
    assert len(loaded.config.schedules) == 1_100


def test_an_unreadable_file_is_a_problem(main: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    main.chmod(0)
    assert "Permission denied" in refused(main)


# --- secrets


@pytest.fixture
def credentials(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "credentials"
    folder.mkdir()
    return {"CREDENTIALS_DIRECTORY": str(folder), "PG_PASSWORD": "from env"}


def private(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)
    return path


def test_a_secret_is_found_where_its_reference_says(credentials: dict[str, str], tmp_path: Path) -> None:
    private(Path(credentials["CREDENTIALS_DIRECTORY"]) / "pg", "from credential\n")
    file = private(tmp_path / "secret", "from file \n")
    assert resolve_secret(Secret("credential", "pg"), credentials) == "from credential"
    assert resolve_secret(Secret("env", "PG_PASSWORD"), credentials) == "from env"
    assert resolve_secret(Secret("file", str(file)), credentials) == "from file "


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        (Secret("env", "NOT_THERE"), "is not set"),
        (Secret("credential", "gone"), "No such file"),
        (Secret("file", "/dev/zero"), "not a regular file"),
        (Secret("file", "/nowhere/at/all"), "No such file"),
    ],
)
def test_a_secret_that_is_not_there_is_the_operators_error(
    secret: Secret, why: str, credentials: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match=why) as error:
        resolve_secret(secret, credentials)
    assert error.value.cure


def test_without_a_credentials_directory_the_cure_says_how_to_get_one() -> None:
    with pytest.raises(ConfigError, match="CREDENTIALS_DIRECTORY") as error:
        resolve_secret(Secret("credential", "pg"), {})
    assert "LoadCredential=pg" in error.value.cure


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o666, 0o644])
def test_a_secret_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    file = private(tmp_path / "secret", "hunter2")
    file.chmod(mode)
    with pytest.raises(ConfigError, match="other users") as error:
        resolve_secret(Secret("file", str(file)), {})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640])
def test_a_secret_file_of_user_and_group_is_taken(tmp_path: Path, mode: int) -> None:
    file = private(tmp_path / "secret", "hunter2")
    file.chmod(mode)
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert resolve_secret(Secret("file", str(file)), {}) == "hunter2"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff", b"a\0b", b"x" * 70_000])
def test_what_is_no_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    file = private(tmp_path / "secret", content)
    with pytest.raises(ConfigError, match="is empty, not text, or larger"):
        resolve_secret(Secret("file", str(file)), {})


@pytest.mark.parametrize(
    ("url", "password", "whole"),
    [
        ("postgresql://u@h/d", "p", "postgresql://u:p@h/d"),
        (
            "postgresql://u@h:5/d?sslmode=require",
            "a/b@c:d e%",
            "postgresql://u:a%2Fb%40c%3Ad%20e%25@h:5/d?sslmode=require",
        ),
        ("postgresql://u@h1:1,h2:2/d", "p", "postgresql://u:p@h1:1,h2:2/d"),
        ("postgresql://u@/d?host=/run", "p", "postgresql://u:p@/d?host=/run"),
    ],
)
def test_a_password_is_put_into_the_url_as_libpq_reads_it(url: str, password: str, whole: str) -> None:
    import psycopg.conninfo

    assert with_password(url, password) == whole
    assert psycopg.conninfo.conninfo_to_dict(whole)["password"] == password


def test_a_url_without_a_user_cannot_take_a_password() -> None:
    with pytest.raises(ConfigError, match="needs a user"):
        with_password("postgresql://h/d", "p")


def test_a_database_is_resolved_whole_or_in_parts(credentials: dict[str, str]) -> None:
    env = {**credentials, "URL": "postgresql://u:p@h/d"}
    assert conninfo(Secret("env", "URL"), None, env) == "postgresql://u:p@h/d"
    assert (
        conninfo("postgresql://u@h/d", Secret("env", "PG_PASSWORD"), env) == "postgresql://u:from%20env@h/d"
    )
    assert conninfo(EMBEDDED, None, env) == EMBEDDED
