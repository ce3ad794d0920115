"""docs/plugins.md is run as it stands: its files become a distribution, its tests pass, its tables are true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from singd.edges.catalogue_main import type_name
from singd.plugin import Context, Database, DatabaseName, Task

TEXT = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
FILE = re.compile(r"^`([^`\n]+\.\w+)`\n\n```\w+\n(.*?)```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| (.+?) \| (.*) \|$", re.MULTILINE)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The guide's files, written where it says."""
    files = dict(FILE.findall(TEXT))
    listed = re.search(r"```\ndisk-usage/\n(.*?)```", TEXT, re.DOTALL)
    assert listed is not None
    assert sorted(files) == sorted(listed[1].split()), (
        "every listed file is shown, every shown file is listed"
    )
    for name, content in files.items():
        path = tmp_path / "disk-usage" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "disk-usage"


def run(example: Path, *argv: str) -> str:
    path = os.pathsep.join(filter(None, [str(example / "src"), os.environ.get("PYTHONPATH", "")]))
    env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *argv], cwd=example, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(heading: str) -> dict[str, str]:
    """The table below a heading, first column -> second."""
    section = TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return {first: second for first, second in ROW.findall(section) if not first.startswith("--")}


def test_the_guides_own_tests_pass_against_a_real_database(example: Path) -> None:
    said = run(
        example, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "--rootdir", ".", "tests"
    )
    assert "2 passed" in said


def test_the_entry_point_is_a_task_that_singd_can_describe(example: Path) -> None:
    [(name, value)] = tomllib.loads((example / "pyproject.toml").read_text())["project"]["entry-points"][
        "singd.tasks"
    ].items()
    module, attribute = value.split(":")
    program = (
        f"from {module} import {attribute} as task; from singd.edges.catalogue_main import describe\n"
        "import json; found = describe(task); found['migrations'] = found['migrations'][0]; print(json.dumps(found))"
    )
    import json

    found = json.loads(run(example, "-c", program))
    assert name == "disk_usage"
    assert [(one["name"], one["type"], one["required"]) for one in found["params"]] == [
        ("path", "path", True), ("suffixes", "list[str]", False),
    ]  # fmt: skip
    assert (found["databases"], found["placement"], found["migrations"]) == (
        ["singularity"],
        ["instance"],
        "singularity",
    )
    assert found["summary"] == "Measure what the files below a directory take."


def test_the_wheel_of_the_example_carries_its_migrations(example: Path, tmp_path: Path) -> None:
    program = "from hatchling.build import build_wheel; print(build_wheel('..'))"
    wheel = tmp_path / run(example, "-c", program).strip()
    import zipfile

    assert "disk_usage/migrations/0001_measurement.sql" in zipfile.ZipFile(wheel).namelist()


def test_the_configuration_shown_gives_the_task_its_arguments(example: Path) -> None:
    [config] = [
        tomllib.loads(block) for block in re.findall(r"```toml\n(\[schedules.*?)```", TEXT, re.DOTALL)
    ]
    schedule = config["schedules"]["disk_usage"]
    program = f"from disk_usage.tasks import disk_usage; from singd.testing.run import bind; bind(disk_usage, {schedule['args']!r})"
    run(example, "-c", program)


def test_every_annotation_of_the_table_is_one_that_toml_can_give() -> None:
    names: dict[str, Any] = {
        "Path": Path, "timedelta": timedelta, "datetime": datetime, "Literal": Literal, "DatabaseName": DatabaseName, "Any": Any,
    }  # fmt: skip
    annotations = [re.fullmatch(r"`(.+)`", first) for first in rows("Parameters")]
    texts = [match[1].replace("\\|", "|") for match in annotations if match]
    assert len(texts) > 12
    for text in texts:
        assert type_name(eval(text, {}, names))


def test_the_tables_name_every_argument_of_task_and_every_field_of_the_context() -> None:
    declared = set(re.findall(r"`(\w+)`", " ".join(rows("What `@task` declares"))))
    assert declared == set(Task.__dataclass_fields__)
    told = set(re.findall(r"`(\w+)", " ".join(rows("The context"))))
    public = {name for name in Context.__dataclass_fields__ if name not in ("databases", "report_progress")}
    assert told == public | {"database", "progress"}
    assert all(
        f".{name}" in rows("The context")["`database(name)`"]
        for name in ("connect", "conninfo", "environment")
    )
    assert {name for name in vars(Database) if not name.startswith("_")} == {
        "name",
        "conninfo",
        "connect",
        "environment",
    }
