"""The catalogue against real distributions on disk and real child processes."""

from __future__ import annotations

import os
import textwrap
import time
from pathlib import Path

import pytest

from singd.core.catalogue import Catalogue, Param
from singd.edges import catalogue, catalogue_child
from singd.edges.catalogue import read_catalogue

GOOD = """
    from datetime import timedelta
    from pathlib import Path
    from typing import Any, Literal
    from singd.plugin import Context, DatabaseName, task

    @task(placement=["instance", "central"], version=3, databases=["main"], timeout="4m", retries=2, summary="Counts.")
    def count(
        ctx: Context, *, where: Path, kind: Literal["hourly", "daily"] = "daily", keep: int = 7,
        every: timedelta = timedelta(minutes=5), databases: list[DatabaseName] = [], label: str | None = None,
        weights: dict[str, float] = {}, anything: Any = None,
    ) -> dict[str, int]:
        return {}

    @task(placement="node", isolation="inline", input=lambda **settings: "x")
    async def wait(ctx: Context) -> None: ...
"""


def plugin(
    site: Path,
    name: str,
    source: str,
    entries: dict[str, str],
    *,
    version: str = "1.0",
    record: str = "as built",
) -> Path:
    """An installed distribution: one module, named as the distribution."""
    module = site / f"{name}.py"
    site.mkdir(exist_ok=True)
    module.write_text(textwrap.dedent(source))
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text(record)
    lines = [f"{task} = {name}:{attribute}" for task, attribute in entries.items()]
    (info / "entry_points.txt").write_text("[singd.tasks]\n" + "\n".join(lines) + "\n")
    return module


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not twenty seconds for a plugin that hangs."""
    ask = catalogue_child.ask
    monkeypatch.setattr(catalogue_child, "ask", lambda entries, path: ask(entries, path, 3.0))


def read(site: Path, *sites: Path, cache: Path | None = None) -> Catalogue:
    return read_catalogue(cache, site=[str(path) for path in (site, *sites)])


def test_a_task_is_described_with_types_defaults_and_policies(site: Path) -> None:
    plugin(site, "counting", GOOD, {"count": "count", "wait": "wait"})
    tasks = read(site).tasks
    count, wait = tasks["count"], tasks["wait"]
    assert (count.plugin, count.plugin_version, count.entry_point) == ("counting", "1.0", "counting:count")
    assert (count.placement, count.version, count.databases) == (("instance", "central"), "3", ("main",))
    assert (count.timeout, count.retries, count.summary, count.is_async) == ("4m", 2, "Counts.", False)
    assert (wait.is_async, wait.isolation, wait.has_input, wait.params) == (True, "inline", True, ())
    assert count.params == (
        Param("where", "path", True),
        Param("kind", "choice:hourly|daily", False, "daily"),
        Param("keep", "int", False, 7),
        Param("every", "duration", False, "300s"),
        Param("databases", "list[database]", False, []),
        Param("label", "str", False),
        Param("weights", "table[float]", False, {}),
        Param("anything", "any", False),
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("raise RuntimeError('not today')", "RuntimeError: not today"),
        ("def t(: pass", "SyntaxError"),
        ("import sys; sys.exit('no licence')", "ended the process with exit code 1; its last words: no licence"),
        ("import os; os._exit(7)", "ended the process with exit code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed the process with SIGSEGV"),
        ("import time; time.sleep(60)", "took longer than 3 s"),
        ("def t(ctx): pass", "not a function decorated with"),
        ("other = 1", "has no attribute 't'"),
        ("from singd.plugin import *\n@task(placement='moon')\ndef t(ctx): pass", "placement"),
        ("from singd.plugin import *\n@task(placement='node')\ndef t(ctx, a: int = 1): pass", "'a' is not keyword-only"),
        ("from singd.plugin import *\n@task(placement='node')\ndef t(ctx, *, a=1): pass", "'a' has no annotation"),
        ("from singd.plugin import *\n@task(placement='node')\ndef t(ctx, *, a: complex): pass", "TOML cannot give"),
        ("from singd.plugin import *\n@task(placement='node')\ndef t(ctx, *, a: 'Gone'): pass", "name 'Gone' is not defined"),
        ("from singd.plugin import *\n@task(placement='node', isolation='inline')\ndef t(ctx): pass", "async def"),
    ],
)  # fmt: skip
def test_a_bad_plugin_hurts_only_itself(site: Path, quick: None, source: str, reason: str) -> None:
    plugin(site, "bad", source, {"t": "t"})
    plugin(site, "good", GOOD, {"count": "count"})
    found = read(site)
    assert list(found.tasks) == ["count"]
    assert reason in found.broken["t"].reason
    assert found.broken["t"].plugin == "bad"


def test_an_entry_point_that_ends_the_process_leaves_its_sisters_alone(site: Path) -> None:
    plugin(site, "mixed", GOOD, {"count": "count", "wait": "wait"})
    (site / "killer.py").write_text("import os; os._exit(3)")
    points = site / "mixed-1.0.dist-info" / "entry_points.txt"
    points.write_text("[singd.tasks]\ncount = mixed:count\nkiller = killer:t\nwait = mixed:wait\n")
    found = read(site)
    assert sorted(found.tasks) == ["count", "wait"]
    assert "exit code 3" in found.broken["killer"].reason


def test_what_a_plugin_prints_is_no_answer(site: Path) -> None:
    plugin(
        site,
        "loud",
        "import sys; print('{}' * 99_999); print('x' * 99_999, file=sys.stderr)"
        + GOOD.replace("\n    ", "\n"),
        {"count": "count"},
    )
    assert list(read(site).tasks) == ["count"]


def test_nothing_that_a_plugin_starts_survives_its_description(
    site: Path, tmp_path: Path, quick: None
) -> None:
    pids = tmp_path / "pids"
    source = f"""
        import os, subprocess, sys, time
        for new_session in (False, True):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=new_session)
            open({str(pids)!r}, "a").write(f"{{child.pid}}\\n")
        time.sleep(60)
    """
    plugin(site, "hanging", source, {"t": "t"})
    assert "took longer" in read(site).broken["t"].reason
    started = [int(line) for line in pids.read_text().split()]
    assert len(started) == 2
    assert not [pid for pid in started if alive(pid)]


def alive(pid: int) -> bool:
    """Killed orphans wait a moment for whoever reaps them here, so a zombie is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_grandchild_that_holds_the_pipes_does_not_hold_up_the_answer(site: Path) -> None:
    source = "import os, time\nif not os.fork():\n    time.sleep(60); os._exit(0)\n" + textwrap.dedent(GOOD)
    plugin(site, "forking", source, {"count": "count"})
    begin = time.monotonic()
    assert list(read(site).tasks) == ["count"]
    assert time.monotonic() - begin < 10


def test_a_thread_that_a_plugin_leaves_running_does_not_hold_up_the_answer(site: Path) -> None:
    source = (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n"
        + textwrap.dedent(GOOD)
    )
    plugin(site, "threading_plugin", source, {"count": "count"})
    begin = time.monotonic()
    assert list(read(site).tasks) == ["count"]
    assert time.monotonic() - begin < 15


def test_a_name_that_two_distributions_offer_is_refused_naming_both(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    plugin(one, "first", GOOD, {"count": "count", "wait": "wait"})
    plugin(other, "second", GOOD, {"count": "count"}, version="2.1")
    for order in ((one, other), (other, one)):
        found = read(*order)
        assert list(found.tasks) == ["wait"]
        assert "first 1.0 and second 2.1" in found.broken["count"].reason
        assert found.broken["count"].plugin == "first, second"


def test_names_and_duplicates_are_known_without_importing_anything(site: Path, tmp_path: Path) -> None:
    tripwire = tmp_path / "imported"
    plugin(site, "tripwire", f"open({str(tripwire)!r}, 'w')", {"t": "t"})
    offers, _ = catalogue.installed([str(site)])
    assert [offer.entries for offer in offers] == [(("t", "tripwire:t"),)]
    assert not tripwire.exists()


def test_of_one_distribution_in_two_places_the_first_on_the_path_counts(tmp_path: Path) -> None:
    plugin(tmp_path / "new", "same", GOOD, {"count": "count"}, version="2.0")
    plugin(tmp_path / "old", "same", GOOD, {"count": "count"})
    assert read(tmp_path / "new", tmp_path / "old").tasks["count"].plugin_version == "2.0"


def test_the_cache_answers_until_the_record_changes(
    site: Path, tmp_path: Path, no_children: list[str]
) -> None:
    cache = tmp_path / "cache"
    plugin(site, "counting", GOOD, {"count": "count"})
    first = read(site, cache=cache)
    assert read(site, cache=cache) == first
    assert len(no_children) == 1
    plugin(site, "counting", GOOD.replace("Counts.", "Counts well."), {"count": "count"}, record="as rebuilt")
    assert read(site, cache=cache).tasks["count"].summary == "Counts well."
    assert len(no_children) == 2


@pytest.fixture
def no_children(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What children were started for."""
    asked: list[str] = []
    ask = catalogue_child.ask

    def counting(entries, path):
        asked.append(entries[0][0])
        return ask(entries, path)

    monkeypatch.setattr(catalogue_child, "ask", counting)
    return asked


def test_an_editable_plugin_is_read_again_when_its_source_changes(
    site: Path, tmp_path: Path, no_children: list[str]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    module = plugin(site, "edited", GOOD, {"count": "count"})
    module = module.rename(source / "edited.py")
    (site / "edited-1.0.dist-info" / "direct_url.json").write_text(
        '{"url": "file:///x", "dir_info": {"editable": true}}'
    )
    assert read(site, source, cache=tmp_path / "cache").tasks["count"].summary == "Counts."
    read(site, source, cache=tmp_path / "cache")
    assert len(no_children) == 1
    module.write_text(module.read_text().replace("Counts.", "Counts anew."))
    assert read(site, source, cache=tmp_path / "cache").tasks["count"].summary == "Counts anew."


def test_a_failure_is_forgotten_when_something_is_installed(
    site: Path, tmp_path: Path, no_children: list[str]
) -> None:
    plugin(site, "needing", "import helper\n" + textwrap.dedent(GOOD), {"count": "count"})
    cache = tmp_path / "cache"
    assert "helper" in read(site, cache=cache).broken["count"].reason
    assert "helper" in read(site, cache=cache).broken["count"].reason
    assert len(no_children) == 1
    plugin(site, "helper", "", {})
    assert "count" in read(site, cache=cache).tasks


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"entries": {"k": 1}}', '{"environment": "", "entries": {"k": {}}}']
)
def test_a_damaged_cache_is_no_cache(site: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "catalogue.json").write_text(content)
    plugin(site, "counting", GOOD, {"count": "count"})
    assert "count" in read(site, cache=tmp_path).tasks


def test_a_cached_catalogue_of_twenty_distributions_is_read_in_thirty_milliseconds(
    site: Path, tmp_path: Path
) -> None:
    for number in range(20):
        plugin(site, f"plugin{number}", GOOD, {f"count{number}": "count", f"wait{number}": "wait"})
    assert len(read(site, cache=tmp_path).tasks) == 40
    times = []
    for _ in range(20):
        begin = time.process_time()  # what it costs, however busy the machine is with other things
        read(site, cache=tmp_path)
        times.append(time.process_time() - begin)
    assert sorted(times)[10] < 0.030


@pytest.mark.parametrize(
    ("file", "content"), [("METADATA", None), ("METADATA", "Name"), ("entry_points.txt", "[singd.tasks]\nt")]
)
def test_a_distribution_with_damaged_metadata_hurts_only_itself(
    site: Path, file: str, content: str | None
) -> None:
    plugin(site, "damaged", GOOD, {"t": "wait"})
    plugin(site, "good", GOOD, {"count": "count"})
    broken = site / "damaged-1.0.dist-info" / file
    broken.unlink() if content is None else broken.write_text(content)
    found = read(site)
    assert list(found.tasks) == ["count"]
    assert "damaged-1.0" in found.broken["damaged-1.0"].reason


def test_the_child_sees_no_environment_but_what_an_import_needs(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    monkeypatch.setenv("PYTHONPATH", os.fspath(site))
    plugin(site, "spying", "import os, json; raise RuntimeError(' '.join(os.environ))", {"t": "t"})
    reason = read(site).broken["t"].reason
    assert "PATH" in reason
    assert "PGPASSWORD" not in reason
    assert "PYTHONPATH" not in reason
