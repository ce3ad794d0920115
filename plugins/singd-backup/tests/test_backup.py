"""Sets are complete, verified and on disk, or not there at all: real dumps of a real server, and every way to fail."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from singd_backup import make
from singd_backup.errors import BackupFailed
from singd_backup.sets import claimed, complete_sets, read_set, reading

from singd.plugin import GiveUp, Skip
from singd.testing import PostgresServer

from .conftest import ROWS, START, Site


def test_a_set_holds_a_dump_that_restores_and_a_manifest_that_tells_the_truth(site: Site) -> None:
    result = site.backup()
    path = Path(result["set"])
    [one] = complete_sets(site.folder)
    dump = one.manifest.databases[site.database.name]
    content = (path / dump.file).read_bytes()
    assert (dump.size, dump.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert dump.rows == {"public.item": ROWS, "public.empty": 0}
    assert dump.server_version.split(".")[0] == "18"
    assert result == {
        "set": str(one.path), "reused": False, "databases": 1, "bytes": len(content), "tables": 2, "rows": ROWS,
        "kept": 1, "removed": 0,
    }  # fmt: skip
    assert site.visible() == [path.name], "nothing but the set is left"
    modes = {entry.name: entry.stat().st_mode & 0o777 for entry in (path, *path.iterdir())}
    assert set(modes.values()) == {0o700, 0o600}, "a dump is as secret as its database"


def test_names_sort_by_due_time_and_the_newest_sets_of_each_kind_stay(site: Site) -> None:
    for hour in (3, 0, 1, 4, 2):
        site.backup(hour, keep=3)
    site.backup(5, keep=3, settings={"kind": "daily"})
    assert [name[:11] for name in site.sets()] == ["20260101T04", "20260101T03", "20260101T02"]
    assert len(complete_sets(site.directory / "daily")) == 1


def test_a_late_run_for_an_old_instant_keeps_its_own_set_for_now(site: Site) -> None:
    for hour in (2, 3):
        site.backup(hour, keep=2)
    late = site.backup(1, keep=2)
    assert Path(late["set"]).is_dir()
    assert site.backup(4, keep=2)["removed"] == 2


def test_keeping_none_is_refused(site: Site) -> None:
    with pytest.raises(GiveUp, match="would keep no backup"):
        site.backup(keep=0)


def test_a_second_attempt_of_one_occurrence_uses_the_set_of_the_first(site: Site) -> None:
    first = site.backup()
    second = site.backup(attempt=2, epoch=2)
    assert second["reused"] is True
    assert second["set"] == first["set"]
    assert len(site.sets()) == 1


def test_the_loser_of_two_attempts_leaves_the_winners_set_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish_after_the_other(partial: Path, target: Path, manifest: Any) -> None:
        monkeypatch.undo()
        monkeypatch.setenv("PATH", path)
        winner.update(site.backup(attempt=2, epoch=2))
        make.publish(partial, target, manifest)

    path, winner = os.environ["PATH"], {}
    monkeypatch.setattr(make, "publish", publish_after_the_other)
    loser = site.backup()
    assert winner["reused"] is False
    assert loser["set"] == winner["set"]
    assert site.visible() == site.sets()


@pytest.mark.parametrize("seed", range(8))
def test_a_dump_killed_at_any_byte_leaves_the_good_sets_and_nothing_else(
    site: Site, fake: Any, seed: int
) -> None:
    good = Path(site.backup()["set"])
    size = read_set(good).manifest.databases[site.database.name].size  # type: ignore[union-attr]
    at = random.Random(seed).randrange(size)
    fake(
        "pg_dump",
        f'case "$1" in --version) exec {{real}} --version;; esac\n{{real}} "$@" | head -c {at}\nkill -9 $$\n',
    )
    with pytest.raises(BackupFailed, match=r"pg_dump was killed by signal 9"):
        site.backup(1, keep=1)
    assert site.visible() == [good.name]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99, 0.9999])
def test_a_dump_cut_short_is_no_backup_even_if_pg_dump_said_all_is_well(
    site: Site, fake: Any, share: float
) -> None:
    good = Path(site.backup()["set"])
    size = read_set(good).manifest.databases[site.database.name].size  # type: ignore[union-attr]
    at = int(size * share)
    fake(
        "pg_dump",
        f'case "$1" in --version) exec {{real}} --version;; esac\n{{real}} "$@" | head -c {at}\nexit 0\n',
    )
    with pytest.raises(BackupFailed):
        site.backup(1, keep=1)
    assert site.visible() == [good.name]


def test_a_dump_of_another_database_is_no_backup_of_this_one(site: Site, fake: Any) -> None:
    fake(
        "pg_dump", 'case "$1" in --version) exec {real} --version;; esac\nexec {real} -Fc --dbname=postgres\n'
    )
    with pytest.raises(BackupFailed, match="has the data of 0 tables, the database has 2"):
        site.backup()
    assert site.visible() == []


def test_a_failing_pg_dump_is_reported_in_its_own_words(site: Site, fake: Any) -> None:
    fake(
        "pg_dump",
        'case "$1" in --version) exec {real} --version;; esac\necho "pg_dump: error: no luck" >&2\nexit 3\n',
    )
    with pytest.raises(
        BackupFailed, match=rf"{site.database.name}: pg_dump failed with status 3: pg_dump: error: no luck"
    ):
        site.backup()


def test_a_pg_dump_older_than_the_server_is_named(site: Site, fake: Any) -> None:
    fake("pg_dump", 'echo "pg_dump (PostgreSQL) 13.4"\n')
    with pytest.raises(BackupFailed, match="is version 13, the server is version 18"):
        site.backup()


def test_without_pg_dump_the_failure_says_what_to_install(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BackupFailed, match="pg_dump is not on PATH: install"):
        site.backup()


def test_one_failing_database_fails_the_set(site: Site, server: PostgresServer, fake: Any) -> None:
    good = site.backup()
    fake("pg_dump", 'case "$1 $PGDATABASE" in --version*) ;; *broken*) exit 1;; esac\nexec {real} "$@"\n')
    from singd_backup.tasks import backup

    from singd.testing import run_task

    databases = {site.database.name: site.database, "broken": server.create(f"broken{os.getpid()}")}
    settings = {"databases": list(databases), "kind": "hourly", "keep": 1, "directory": site.directory}
    with pytest.raises(BackupFailed, match="broken: pg_dump failed"):
        run_task(backup, settings, databases=databases, state_dir=site.state)
    assert site.visible() == [Path(good["set"]).name]


def test_too_little_room_is_found_out_before_anything_is_written(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = site.backup()
    real = os.statvfs(site.folder)
    monkeypatch.setattr(make.os, "statvfs", lambda path: os.statvfs_result([*real[:3], 10, 10, *real[5:]]))
    with pytest.raises(BackupFailed, match=r"has 0 MiB free, this set needs about 1[67] MiB"):
        site.backup(1, keep=1)
    assert site.visible() == [Path(good["set"]).name]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small file system here; the file size limit below stands in")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


ENDLESS = 'case "$1" in --version) exec {real} --version;; esac\nexec cat /dev/zero\n'


def test_a_disk_that_fills_up_during_the_dump_leaves_the_good_sets(
    site: Site, fake: Any, small_disk: Path
) -> None:
    site.directory = small_disk
    good = site.backup()
    fake("pg_dump", ENDLESS)
    with pytest.raises(OSError, match="No space left"):
        site.backup(1, keep=1)
    assert site.visible() == [Path(good["set"]).name]
    free = os.statvfs(small_disk)
    assert free.f_bavail * free.f_frsize > 20 << 20, "the room is given back"


def test_a_write_that_the_system_refuses_leaves_the_good_sets(site: Site, fake: Any) -> None:
    good = site.backup()
    fake("pg_dump", ENDLESS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            site.backup(1, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert site.visible() == [Path(good["set"]).name]


def test_rows_and_dump_are_of_one_instant_while_the_table_grows(site: Site, fake: Any) -> None:
    """Between the snapshot and the dump somebody commits: neither the count nor the dump has it."""
    statement = "insert into item select generate_series(10000, 10999)"
    insert = f'psql --no-psqlrc --quiet --dbname="{site.database.owner}" --command="{statement}"'
    fake(
        "pg_dump",
        f'case "$1" in --version) exec {{real}} --version;; esac\n{insert}\nexec {{real}} "$@"\n',
    )
    assert site.backup()["rows"] == ROWS
    assert site.database.execute("select count(*) from item") == [(ROWS + 1000,)]
    assert site.verify()["rows"] == ROWS


def test_leftovers_of_a_killed_attempt_are_swept_and_those_of_a_living_one_are_not(site: Site) -> None:
    site.folder.mkdir(parents=True)
    dead = site.folder / ".partial-20250101T000000Z-deadbeef-1-1"
    dead.mkdir()
    (dead / "half.dump").write_bytes(b"PGDMP")
    (site.folder / ".trash-20250101T000000Z-deadbeef").mkdir()
    with claimed(site.folder, "of-a-stopped-process") as living:
        assert not dead.exists()
        site.backup()
        assert living.exists()
    assert site.visible() == site.sets()


def test_a_run_that_is_killed_itself_leaves_no_visible_set(
    site: Site, fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = site.backup()
    fake(
        "pg_dump",
        'case "$1" in --version) exec {real} --version;; esac\n{real} "$@" | head -c 4000\ntouch "$HOME/begun"\nexec sleep 60\n',
    )
    program = (
        "import sys, json; from datetime import datetime; from singd.testing import run_task; from singd_backup.tasks import backup\n"
        "args = json.loads(sys.argv[1]); run_task(backup, args['settings'], databases=args['databases'], attempt=7,\n"
        "    due_at=datetime.fromisoformat(args['due_at']))"
    )
    settings = {
        "databases": [site.database.name],
        "kind": "hourly",
        "keep": 1,
        "directory": str(site.directory),
    }
    due_at = (START + timedelta(hours=1)).isoformat()
    args = json.dumps(
        {"settings": settings, "databases": {site.database.name: site.database.backup}, "due_at": due_at}
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, args], env={**os.environ, "HOME": str(tmp_path)}
    ) as process:
        until = time.monotonic() + 30
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            one.kill()
    assert [name for name in site.visible() if not name.startswith(".partial-")] == [Path(good["set"]).name]
    monkeypatch.setenv("PATH", os.environ["PATH"].split(":", 1)[1])
    assert site.backup(1)["reused"] is False
    assert site.visible() == sorted(site.sets())


def test_a_damaged_set_neither_counts_nor_pushes_out_a_good_one(site: Site) -> None:
    names = [Path(site.backup(hour)["set"]) for hour in range(3)]
    os.truncate(names[2] / f"{site.database.name}.dump", 100)
    (names[1] / "manifest.json").write_text("{}")
    assert site.sets() == [names[0].name]
    assert site.backup(3, keep=2)["removed"] == 0
    assert names[0].exists()


def test_the_password_is_in_no_argument_and_no_environment_and_its_file_is_gone(
    site: Site, server: PostgresServer, fake: Any, tmp_path: Path
) -> None:
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute("alter role singd_backup password 'c4nary:pass'")
    fake(
        "pg_dump",
        f'case "$1" in --version) exec {{real}} --version;; esac\n(env; echo "$@"; cat "$PGPASSFILE"; stat -c %a "$PGPASSFILE") > {tmp_path}/seen\nexec {{real}} "$@"\n',
    )
    from singd_backup.tasks import backup

    from singd.testing import run_task

    conninfo = psycopg.conninfo.make_conninfo(site.database.backup, password="c4nary:pass")
    settings = {"databases": ["one"], "kind": "hourly", "keep": 1, "directory": site.directory}
    run_task(backup, settings, databases={"one": conninfo}, state_dir=site.state)
    seen = (tmp_path / "seen").read_text().splitlines()
    assert [line for line in seen if "c4nary" in line] == ["*:*:*:*:c4nary\\:pass"]
    assert seen[-1] == "600"
    kept = [path for top in (site.state, site.directory) for path in top.rglob("*") if path.is_file()]
    assert not [path for path in kept if b"c4nary" in path.read_bytes()]


def test_a_name_that_could_leave_the_directory_is_refused(site: Site) -> None:
    from singd_backup.tasks import backup

    from singd.testing import run_task

    settings = {"databases": ["../up"], "kind": "hourly", "keep": 1, "directory": site.directory}
    with pytest.raises(GiveUp, match="expected names of small letters"):
        run_task(backup, settings, databases={"../up": site.database})


def test_both_tasks_find_the_same_place_by_themselves(site: Site) -> None:
    made = site.backup(settings={"directory": None})
    assert Path(made["set"]).is_relative_to(site.state)
    assert site.verify(directory=None)["set"] == made["set"]


def test_the_newest_set_restores_to_what_its_manifest_says(site: Site, server: PostgresServer) -> None:
    site.backup(0)
    site.database.execute("insert into item values (-1, 'later')")
    newest = site.backup(1)
    result = site.verify(3)
    assert result == {
        "set": newest["set"], "age_s": 7200, "databases": 1, "tables": 2, "rows": ROWS + 1, "tables_unverified": 0,
        "extensions_missing": [],
    }  # fmt: skip
    assert _scratch(server) == []


def test_a_set_that_is_being_verified_is_not_removed_under_the_reader(site: Site) -> None:
    site.backup(0)
    [oldest] = complete_sets(site.folder)
    with reading(oldest):
        result = site.backup(1, keep=1)
        assert (result["kept"], result["removed"]) == (2, 0)
    assert site.backup(2, keep=1)["removed"] == 2
    assert not oldest.path.exists()


def test_nothing_to_verify_is_a_skip(site: Site) -> None:
    with pytest.raises(Skip, match="no complete hourly set"):
        site.verify()


def test_a_dump_that_changed_on_disk_does_not_verify(site: Site) -> None:
    path = Path(site.backup()["set"]) / f"{site.database.name}.dump"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BackupFailed, match="SHA-256 differs"):
        site.verify()


def test_counts_that_differ_from_the_manifest_fail_the_verification(
    site: Site, server: PostgresServer
) -> None:
    manifest = Path(site.backup()["set"]) / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"public.item": {ROWS}', f'"public.item": {ROWS + 1}'))
    with pytest.raises(BackupFailed, match=rf"public\.item {ROWS} of {ROWS + 1}"):
        site.verify()
    assert _scratch(server) == []


def test_a_set_that_is_too_old_fails_the_verification(site: Site) -> None:
    site.backup(0)
    assert site.verify(2, max_age="2h")["age_s"] == 7200
    with pytest.raises(BackupFailed, match=r"hourly set is 3:00:00 old"):
        site.verify(3, max_age="2h")


def test_leftover_scratch_databases_are_dropped_unless_somebody_works_in_them(
    site: Site, server: PostgresServer
) -> None:
    site.backup()
    with psycopg.connect(server.conninfo("postgres", "singd_backup"), autocommit=True) as connection:
        connection.execute("create database singd_verify_dead")
        connection.execute("create database singd_verify_living")
    with psycopg.connect(server.conninfo("singd_verify_living", "singd_backup"), autocommit=True):
        site.verify()
        assert _scratch(server) == ["singd_verify_living"]
    site.verify()
    assert _scratch(server) == []


def test_extensions_that_stand_in_the_template_are_no_obstacle(site: Site, server: PostgresServer) -> None:
    template = f"scratch_template{os.getpid()}"
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(f"create database {template} is_template true")
    for name in (template, site.database.name):
        _vector(server, name)
    site.database.execute("create table embedded (id int, at public.vector(2))")
    site.database.execute("insert into embedded values (1, '[1,2]')")
    site.backup()
    result = site.verify(template=template)
    assert (result["tables"], result["tables_unverified"]) == (3, 0)


def test_tables_of_an_extension_nobody_could_create_are_reported_not_claimed(
    site: Site, server: PostgresServer
) -> None:
    _vector(server, site.database.name)
    site.database.execute("create table embedded (id int, at public.vector(2))")
    site.backup()
    result = site.verify(template="template0")
    assert (result["tables"], result["tables_unverified"], result["extensions_missing"]) == (2, 1, ["vector"])


def _vector(server: PostgresServer, database: str) -> None:
    with psycopg.connect(server.conninfo(database), autocommit=True) as connection:
        connection.execute("create extension vector")


def _scratch(server: PostgresServer) -> list[str]:
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
        query = "select datname from pg_database where starts_with(datname, 'singd_verify_') order by 1"
        return [name for [name] in connection.execute(query)]
