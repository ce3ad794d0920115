"""The loader end to end: real files, a real database, the role that tasks have."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from singd_knowledge.tasks import knowledge_migrate, templates_data_load, tree_fingerprint

from singd.plugin import GiveUp, Skip
from singd.testing import run_task

from .conftest import Store

COUNTS = ("files", "loaded", "updated", "unchanged", "removed", "refused")


def counts(result: dict[str, Any]) -> dict[str, int]:
    return {name: result[name] for name in COUNTS if result[name]}


def ten(store: Store) -> None:
    for number in range(10):
        store.write(f"frameworks/f{number}.json", json.dumps({"name": f"f{number}"}))


def test_every_file_becomes_one_row_named_by_its_path(store: Store) -> None:
    text = '{\n  "name": "NATS", "version": "2.1", "language": "go", "tags": ["b", "a"], "description": "d", "id": "nats"}\n'
    store.write("code_generation/patterns/messaging/nats.json", text)
    assert counts(store.load()) == {"files": 1, "loaded": 1}
    columns = "source, id, path, artifact_type, category, name, version, language, tags, declared_id, content_raw, content_hash"
    [row] = store.rows(columns)
    assert row == (
        "local", "code_generation/patterns/messaging/nats", "code_generation/patterns/messaging/nats.json", "code_template",
        "messaging", "NATS", "2.1", "go", ["a", "b"], "nats", text, hashlib.sha256(text.encode()).hexdigest(),
    )  # fmt: skip
    assert store.rows("content") == [json.loads(text)]


def test_files_of_one_name_and_one_declared_id_stay_apart(store: Store) -> None:
    store.write("code_generation/patterns/languages/rust/_base.json", '{"id": "base", "name": "r"}')
    store.write("code_generation/patterns/languages/go/_base.json", '{"id": "base", "name": "g"}')
    assert store.load()["loaded"] == 2
    assert store.rows("name") == ["g", "r"]


def test_a_second_run_finds_everything_unchanged_and_touches_no_row(store: Store) -> None:
    ten(store)
    store.load()
    before = store.rows("id, xmin::text, loaded_at")
    assert counts(store.load()) == {"files": 10, "unchanged": 10}
    assert store.rows("id, xmin::text, loaded_at") == before


def test_both_schedules_are_one_loader_so_the_second_finds_everything_unchanged(store: Store) -> None:
    ten(store)
    assert counts(store.load(knowledge_migrate)) == {"files": 10, "loaded": 10}
    assert counts(store.load(templates_data_load)) == {"files": 10, "unchanged": 10}
    assert len(store.rows()) == 10


def test_two_runs_at_once_take_turns_and_double_nothing(store: Store) -> None:
    for number in range(200):
        store.write(f"frameworks/f{number}.json")
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(store.load, [knowledge_migrate, templates_data_load] * 2))
    assert sorted(run["loaded"] for run in runs) == [0, 0, 0, 200]
    assert sorted(run["unchanged"] for run in runs) == [0, 200, 200, 200]
    assert len(store.rows()) == 200


def test_a_changed_file_is_updated_and_the_others_are_not(store: Store) -> None:
    ten(store)
    store.load()
    store.write("frameworks/f3.json", '{"name": "changed"}')
    result = store.load()
    assert counts(result) == {"files": 10, "updated": 1, "unchanged": 9}
    assert result["verdicts"]["frameworks/f3.json"] == "updated"
    assert "changed" in store.rows("name")


def test_a_deleted_file_takes_its_row_along(store: Store) -> None:
    ten(store)
    store.load()
    (store.tree / "frameworks/f3.json").unlink()
    result = store.load()
    assert counts(result) == {"files": 9, "unchanged": 9, "removed": 1}
    assert result["verdicts"]["frameworks/f3.json"] == "removed"
    assert "frameworks/f3" not in store.rows()


def test_exactly_a_fifth_of_the_rows_may_vanish_and_no_more(store: Store) -> None:
    ten(store)
    store.load()
    for number in range(3):
        (store.tree / f"frameworks/f{number}.json").unlink()
    store.write("frameworks/new.json")
    with pytest.raises(GiveUp, match=r"3 of 10 rows would vanish.*max_vanished=1\.0"):
        store.load()
    assert len(store.rows()) == 10, "a refused run changes nothing, additions neither"
    store.write("frameworks/f0.json", '{"name": "f0"}')
    assert counts(store.load()) == {"files": 9, "unchanged": 8, "loaded": 1, "removed": 2}


def test_an_operator_may_let_more_vanish(store: Store) -> None:
    ten(store)
    store.load()
    for number in range(9):
        (store.tree / f"frameworks/f{number}.json").unlink()
    assert counts(store.load(max_vanished=1.0)) == {"files": 1, "unchanged": 1, "removed": 9}


def test_a_tree_that_became_empty_or_is_gone_removes_nothing(store: Store) -> None:
    ten(store)
    store.load()
    (store.tree / "frameworks").rename(store.tree.parent / "away")
    with pytest.raises(GiveUp, match="10 of 10 rows would vanish"):
        store.load()
    store.tree.rmdir()
    with pytest.raises(NotADirectoryError, match="nothing was removed"):
        store.load()
    assert len(store.rows()) == 10


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every directory")
def test_a_directory_that_cannot_be_read_fails_the_run_instead_of_looking_empty(store: Store) -> None:
    ten(store)
    store.load()
    (store.tree / "frameworks").chmod(0)
    try:
        with pytest.raises(PermissionError):
            store.load(max_vanished=1.0)
    finally:
        (store.tree / "frameworks").chmod(0o700)
    assert len(store.rows()) == 10


def test_another_tree_has_its_own_source_and_removes_none_of_the_first(store: Store, tmp_path: Path) -> None:
    ten(store)
    store.load()
    other = tmp_path / "other"
    (other / "frameworks").mkdir(parents=True)
    (other / "frameworks/f0.json").write_text('{"name": "theirs"}')
    assert counts(store.load(path=other, source="hub")) == {"files": 1, "loaded": 1}
    assert len(store.rows()) == 11


REFUSED = {
    "broken.json": (b'{"name": ', "is not JSON: Expecting value (line 1, column 10)"),
    "latin.json": (b'{"name": "\xe9"}', "is not UTF-8 (byte 10)"),
    "bom.json": (b'\xef\xbb\xbf{"name": "x"}', "begins with a byte order mark"),
    "schema.json": (
        b'{"$schema": "http://json-schema.org/draft-07/schema#"}',
        "is a JSON Schema, not a template",
    ),
    "list.json": (b"[1, 2]", "is not a JSON object"),
    "nul.json": (b'{"name": "a\\u0000b"}', "holds text that Postgres cannot store"),
    "surrogate.json": (b'{"name": "\\ud800"}', "holds text that Postgres cannot store"),
    "nan.json": (b'{"x": NaN}', "is not JSON: NaN is not a JSON number"),
    "digits.json": (b'{"x": ' + b"9" * 5000 + b"}", "holds a number that is too long"),
    "exponent.json": (b'{"x": 1e999999}', "holds a number that is too long"),
    "tiny.json": (b'{"x": 1e-999999}', "holds a number that is too long"),
    "deep.json": (b'{"x": ' + b"[" * 150 + b"]" * 150 + b"}", "is nested deeper than 100 levels"),
    "deepest.json": (b"[" * 100_000, "is nested deeper than 100 levels"),
    "empty.json": (b"", "is not JSON: Expecting value"),
    "big.json": (b'{"x": "' + b"x" * 1_100_000 + b'"}', "more than 1,048,576"),
}


def test_each_file_that_cannot_be_a_row_is_refused_alone_with_its_reason(store: Store) -> None:
    for name, (content, _) in REFUSED.items():
        (store.tree / name).write_bytes(content)
    store.write("good.json")
    result = store.load(max_refused=1.0)
    assert counts(result) == {"files": len(REFUSED) + 1, "loaded": 1, "refused": len(REFUSED)}
    for name, (_, reason) in REFUSED.items():
        assert result["verdicts"][name].startswith("refused: ")
        assert reason in result["verdicts"][name]


def test_links_and_odd_files_are_refused_and_nothing_outside_is_read(store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"name": "secret"}')
    store.write("real.json")
    (store.tree / "out.json").symlink_to(secret)
    (store.tree / "up.json").symlink_to("../secret.json")
    (store.tree / "folder").symlink_to(tmp_path)
    (store.tree / "loop.json").symlink_to("loop.json")
    (store.tree / "gone.json").symlink_to("nowhere.json")
    os.mkfifo(store.tree / "pipe.json")
    (store.tree / "inside.json").symlink_to("real.json")
    result = store.load(max_refused=1.0)
    assert result["verdicts"] == {
        "folder": "refused: is a link out of the tree",
        "gone.json": "refused: cannot be opened: No such file or directory",
        "inside.json": "loaded",
        "loop.json": "refused: cannot be opened: Too many levels of symbolic links",
        "out.json": "refused: is a link out of the tree",
        "pipe.json": "refused: is not a regular file",
        "real.json": "loaded",
        "up.json": "refused: is a link out of the tree",
    }
    assert store.rows("name") == ["one", "one"]


def test_two_files_with_one_id_do_not_overwrite_each_other(store: Store) -> None:
    composed, apart = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    store.write(f"{apart}.json", '{"name": "apart"}')
    store.write(f"{composed}.json", '{"name": "composed"}')
    store.write("a.JSON", '{"name": "upper"}')
    store.write("a.json", '{"name": "lower"}')
    result = store.load(max_refused=0.5)
    assert counts(result) == {"files": 4, "loaded": 2, "refused": 2}
    assert store.rows("id, name") == [("a", "upper"), (composed, "apart")]
    assert result["verdicts"]["a.json"] == "refused: has the id of another file: a"


def test_hidden_and_learned_directories_and_other_suffixes_are_not_part_of_the_tree(store: Store) -> None:
    for path in (".git/x.json", "learned/prompt/x.json", "a/learned/x.json", "a/notes.md", "a/x.json"):
        store.write(path)
    assert store.load()["files"] == 1
    assert store.rows() == ["a/x"]


def test_a_file_that_went_bad_keeps_the_row_of_its_last_good_version(store: Store) -> None:
    ten(store)
    store.load()
    store.write("frameworks/f3.json", "{")
    assert counts(store.load()) == {"files": 10, "unchanged": 9, "refused": 1}
    assert len(store.rows()) == 10


def test_too_many_refusals_fail_the_run_and_change_nothing(store: Store) -> None:
    ten(store)
    for number in range(3):
        store.write(f"bad{number}.json", "{")
    with pytest.raises(GiveUp, match=r"3 of 13 files were refused.*bad0\.json is not JSON"):
        store.load()
    assert store.rows() == []


def test_a_tree_with_files_that_gives_no_row_is_a_failure_whatever_the_limit(store: Store) -> None:
    store.write("bad.json", "{")
    with pytest.raises(GiveUp, match="1 of 1 files were refused"):
        store.load(max_refused=1.0)


def test_neither_files_nor_rows_is_a_skip_with_a_reason(store: Store) -> None:
    with pytest.raises(Skip, match="no JSON files below"):
        store.load()


def test_an_unchanged_file_is_classified_again_when_the_rules_changed(store: Store) -> None:
    ten(store)
    store.load()
    store.database.execute(
        "update knowledge.knowledge_artifact set rules = 0, artifact_type = 'old' where id like '%f3'"
    )
    assert counts(store.load()) == {"files": 10, "updated": 1, "unchanged": 9}
    assert set(store.rows("artifact_type")) == {"framework"}


def test_the_ledger_gets_a_bounded_list_of_verdicts_refusals_first(store: Store) -> None:
    for number in range(500):
        store.write(f"frameworks/{'ü' * 40}/f{number}.json")
    store.write("zzz.json", "{")
    result = store.load()
    assert result["loaded"] == 500
    assert len(json.dumps(result)) < 33 * 1024
    assert len(result["verdicts"]) + result["verdicts_omitted"] == 501
    assert len(result["verdicts"]) > 80
    assert next(iter(result["verdicts"])) == "zzz.json"


def test_the_fingerprint_for_once_follows_names_and_contents_only(store: Store) -> None:
    ten(store)
    first = tree_fingerprint(path=store.tree)
    (store.tree / "frameworks/f3.json").touch()
    assert tree_fingerprint(path=store.tree, source="other", max_vanished=1.0) == first
    store.write("frameworks/f3.json", '{"name": "changed"}')
    second = tree_fingerprint(path=store.tree)
    (store.tree / "frameworks/f3.json").rename(store.tree / "frameworks/f33.json")
    assert len({first, second, tree_fingerprint(path=store.tree)}) == 3


def test_a_size_without_a_unit_is_refused(store: Store) -> None:
    ten(store)
    with pytest.raises(GiveUp, match="such as 1MiB"):
        store.load(max_file="1000000")
    assert store.load(max_file="2B", max_refused=1.0, path=_one_tiny(store))["refused"] == 1


def _one_tiny(store: Store) -> Path:
    store.write("tiny/x.json", "{}")
    store.write("tiny/y.json", '{"name": "longer than two bytes"}')
    return store.tree / "tiny"


def test_the_tasks_role_changes_rows_and_makes_nothing(store: Store) -> None:
    with psycopg.connect(store.database.task) as connection:
        connection.execute("select count(*) from knowledge.knowledge_artifact")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("create table knowledge.mine ()")


def test_the_projects_own_tree_loads_with_one_refusal(store: Store, pytestconfig: pytest.Config) -> None:
    result = store.load(path=pytestconfig.rootpath / "config" / "templates_data")
    assert counts(result) == {"files": 20, "loaded": 19, "refused": 1}
    assert result["verdicts"]["template_schema.json"] == "refused: is a JSON Schema, not a template"


def test_a_run_reports_how_far_it_is(store: Store) -> None:
    ten(store)
    seen: list[tuple[int, int, str]] = []
    databases = {"singularity": store.database}
    run_task(
        knowledge_migrate, {"path": str(store.tree)}, databases=databases, report_progress=lambda *step: seen.append(step)
    )  # fmt: skip
    assert seen[0] == (1, 10, "")
    assert seen[-1] == (10, 10, "")
