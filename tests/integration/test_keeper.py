"""The keeper against real processes and real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from support.processes import eventually, kill_marked, marked, new_mark

from singd.edges.worker import keeper as keeper_module
from singd.edges.worker import proctree
from singd.edges.worker.keeper import KeeperClient
from singd.errors import EdgeError, KeeperGone
from singd.ports import ProcessSpec

HOSTILE = Path(__file__).parent.parent / "support" / "hostile_tasks"
TREES = 3 + 1 + 3 + 3
"""Marked processes under the stand-in: a process, a server, a command and a task with their trees."""
PYTHON = (sys.executable, "-I", "-S")


@pytest.fixture
def mark() -> Iterator[str]:
    word = new_mark()
    yield word
    kill_marked(word)


@asynccontextmanager
async def kept(silence_s: float = 15.0) -> AsyncIterator[KeeperClient]:
    keeper = KeeperClient(silence_s=silence_s)
    keeper.start()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(keeper.serve)
            yield keeper
            nursery.cancel_scope.cancel()
    finally:
        await keeper.stop()


def script(code: str, *args: str, **options: object) -> ProcessSpec:
    return ProcessSpec(argv=(*PYTHON, "-c", code, *args), env={}, **options)  # type: ignore[arg-type]


async def output_of(keeper: KeeperClient, code: str, **options: object) -> str:
    reader, writer = os.pipe()
    process = await keeper.spawn(script(code, fds={1: writer}, **options))
    os.close(writer)
    await process.wait()
    with open(reader) as file:
        return file.read()


async def test_a_process_runs_and_its_status_and_memory_are_told() -> None:
    async with kept() as keeper:
        ended = await (await keeper.spawn(script("raise SystemExit(7)"))).wait()
    assert (ended.status, ended.strays) == (7, 0)
    assert 1 << 20 < ended.max_rss_bytes < 1 << 28


async def test_a_signal_shows_as_a_negative_status() -> None:
    async with kept() as keeper:
        process = await keeper.spawn(script("import time; time.sleep(100)"))
        process.signal(signal.SIGKILL)
        assert (await process.wait()).status == -signal.SIGKILL
        process.signal(signal.SIGTERM)  # gone: no error


async def test_a_program_that_cannot_be_started_is_an_environment_error_that_names_it() -> None:
    async with kept() as keeper:
        with pytest.raises(EdgeError, match=r"No such file.*/no/such/program"):
            await keeper.spawn(ProcessSpec(argv=("/no/such/program",), env={}))
        with pytest.raises(EdgeError, match="Permission denied"):
            await keeper.spawn(ProcessSpec(argv=("/etc",), env={}))
        assert (await (await keeper.spawn(script("pass"))).wait()).status == 0


async def test_a_child_gets_its_own_session_only_its_environment_and_only_its_descriptors() -> None:
    code = "import os; print(os.getsid(0) == os.getpid(), dict(os.environ), sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"
    os.environ["SINGD_TEST_SECRET"] = "tell nobody"
    try:
        async with kept() as keeper:
            # LC_CTYPE is set by Python itself, where there is no locale
            assert await output_of(keeper, code) == "True {'LC_CTYPE': 'C.UTF-8'} [0, 1, 2]\n"
    finally:
        del os.environ["SINGD_TEST_SECRET"]


async def test_a_child_gets_its_limits_no_new_privileges_and_default_signals() -> None:
    code = (
        "import resource, signal; print(resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE));"
        "print(sorted(l for l in open('/proc/self/status') if l.startswith(('NoNewPrivs', 'SigBlk'))));"
        "print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, signal.getsignal(signal.SIGHUP) == signal.SIG_DFL)"
    )
    async with kept() as keeper:
        text = await output_of(keeper, code, limits={"RLIMIT_NOFILE": 100, "RLIMIT_CORE": 0})
    assert text.splitlines() == [
        "(100, 100) (0, 0)",
        "['NoNewPrivs:\\t1\\n', 'SigBlk:\\t0000000000000000\\n']",
        "True True",
    ]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_a_child_can_become_another_user() -> None:
    async with kept() as keeper:
        reader, writer = os.pipe()
        process = await keeper.spawn(
            ProcessSpec(argv=("/usr/bin/id",), env={}, user=(65534, 65534), fds={1: writer})
        )
        os.close(writer)
        await process.wait()
        with open(reader) as file:
            assert file.read().startswith("uid=65534")


async def test_end_gives_the_polite_signal_and_a_chance_to_tidy_up() -> None:
    code = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(3)); print('up', flush=True); time.sleep(100)"
    async with kept() as keeper:
        reader, writer = os.pipe()
        process = await keeper.spawn(script(code, fds={1: writer}))
        os.close(writer)
        with open(reader, "rb", buffering=0) as file:
            await trio.to_thread.run_sync(file.read, 2)
        process.end(grace_s=30)
        with trio.fail_after(5):
            assert (await process.wait()).status == 3


async def test_end_kills_a_whole_tree_that_ignores_every_polite_signal(mark: str) -> None:
    async with kept() as keeper:
        process = await keeper.spawn(
            ProcessSpec(argv=(*PYTHON, str(HOSTILE / "clinger.py"), mark, "3"), env={})
        )
        await eventually(lambda: len(marked(mark)) == 4)
        process.end(grace_s=0.3)
        begun = trio.current_time()
        assert (await process.wait()).status == -signal.SIGKILL
        assert 0.25 < trio.current_time() - begun < 3
        assert marked(mark) == []


async def test_what_forks_away_from_a_living_process_lives_as_long_as_it(mark: str) -> None:
    async with kept() as keeper:
        await keeper.spawn(ProcessSpec(argv=(*PYTHON, str(HOSTILE / "clinger.py"), mark, "2"), env={}))
        await eventually(lambda: len(marked(mark)) == 3)
        await trio.sleep(1.5)  # longer than the keeper goes without looking
        assert len(marked(mark)) == 3


async def test_what_a_process_leaves_behind_is_counted_and_killed(mark: str) -> None:
    async with kept() as keeper:
        argv = (*PYTHON, str(HOSTILE / "clinger.py"), mark, "2", "--leave")
        other = await keeper.spawn(script("import time; time.sleep(100)"))
        ended = await (await keeper.spawn(ProcessSpec(argv=argv, env={}))).wait()
        assert (ended.status, ended.strays) == (0, 2)
        assert marked(mark) == []
        assert proctree.look(other.pid) is not None


def leaver(mark: str, seconds: str, before: str = "pass") -> ProcessSpec:
    """Forks away one marked process (which does `before` first), and ends at its next SIGUSR1."""
    stray = (
        f"import os, resource, time; os.setsid(); {before}; print('up', flush=True); time.sleep({seconds})"
    )
    code = (
        "import os, signal, subprocess, sys; signal.signal(signal.SIGUSR1, lambda *_: os._exit(0));"
        "child = subprocess.Popen([*sys.argv[2:], sys.argv[1]], stdout=subprocess.PIPE); child.stdout.readline();"
        "open('/proc/self/comm', 'w').write('ready')\nwhile True: signal.pause()"
    )
    return script(code, mark, *PYTHON, "-c", stray)


def waiter() -> ProcessSpec:
    """Leaves nothing behind, and ends at its next SIGUSR1."""
    return script(
        "import os, signal; signal.signal(signal.SIGUSR1, lambda *_: os._exit(0));"
        "open('/proc/self/comm', 'w').write('ready')\nwhile True: signal.pause()"
    )


def is_ready(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text() == "ready\n"


async def ended_in_one_round(
    keeper: KeeperClient, *specs: ProcessSpec, last_grace_s: float | None = None
) -> list[int]:
    """What each is said to have left behind, when the keeper finds all dead at one look (the last one while ended)."""
    processes = [await keeper.spawn(spec) for spec in specs]
    for process in processes:
        await eventually(lambda pid=process.pid: is_ready(pid))  # type: ignore[misc]
    os.kill(keeper.pid, signal.SIGSTOP)
    for process in processes:
        os.kill(process.pid, signal.SIGUSR1)
        await eventually(lambda pid=process.pid: proctree.look(pid).state == "Z")  # type: ignore[misc, union-attr]
    if last_grace_s is not None:
        processes[-1].end(last_grace_s)
    os.kill(keeper.pid, signal.SIGCONT)
    with trio.fail_after(10):
        return [(await process.wait()).strays for process in processes]


async def test_what_is_left_behind_is_told_of_its_own_process_though_others_ended_in_the_same_moment(
    mark: str,
) -> None:
    async with kept() as keeper:
        specs = (waiter(), leaver(mark, "777"), waiter(), leaver(mark, "777"), waiter())
        assert await ended_in_one_round(keeper, *specs) == [0, 1, 0, 1, 0]
        assert marked(mark) == []


@pytest.mark.parametrize("last_grace_s", [None, 5], ids=["ended by itself", "was being ended"])
async def test_a_stray_that_hides_where_it_came_from_is_told_of_all_that_ended_with_it_and_of_no_other(
    mark: str, last_grace_s: float | None
) -> None:
    hide = "resource.setrlimit(10, (resource.RLIM_INFINITY,) * 2)"
    async with kept() as keeper:
        living = await keeper.spawn(waiter())
        specs = (waiter(), leaver(mark, "777", hide))
        assert await ended_in_one_round(keeper, *specs, last_grace_s=last_grace_s) == [1, 1]
        assert marked(mark) == []
        await eventually(lambda: is_ready(living.pid))
        living.signal(signal.SIGUSR1)
        assert (await living.wait()).strays == 0


async def test_a_process_is_not_blamed_for_one_that_dies_between_the_keepers_two_looks(
    mark: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The keeper's second look (for strays) is made to come right after the death of the process named in a file.
    late = f"""
import os, time
from singd.edges.worker import proctree
real = proctree.children
def children(pid):
    if os.path.exists({str(tmp_path / "late")!r}):
        victim = int(open({str(tmp_path / "late")!r}).read())
        os.remove({str(tmp_path / "late")!r})
        os.kill(victim, 10)
        while proctree.look(victim).state != "Z": time.sleep(0.001)
    return real(pid)
proctree.children = children
"""
    head, tail = keeper_module._START.split("from singd", 1)
    monkeypatch.setattr(keeper_module, "_START", f"{head}\n{late}\nfrom singd{tail}")
    async with kept() as keeper:
        innocent, guilty = await keeper.spawn(waiter()), await keeper.spawn(leaver(mark, "777"))
        await eventually(lambda: is_ready(innocent.pid) and is_ready(guilty.pid))
        os.kill(keeper.pid, signal.SIGSTOP)
        os.kill(innocent.pid, signal.SIGUSR1)
        await eventually(lambda: proctree.look(innocent.pid).state == "Z")  # type: ignore[union-attr]
        (tmp_path / "late").write_text(str(guilty.pid))
        os.kill(keeper.pid, signal.SIGCONT)
        with trio.fail_after(10):
            assert [(await innocent.wait()).strays, (await guilty.wait()).strays] == [0, 1]
        assert marked(mark) == []


@pytest.mark.parametrize("how", ["left behind", "ended"])
async def test_a_process_that_forks_and_exits_all_the_time_is_caught(mark: str, how: str) -> None:
    argv = (*PYTHON, str(HOSTILE / "hopper.py"), mark, *(["--leave"] if how == "left behind" else []))
    async with kept() as keeper:
        process = await keeper.spawn(ProcessSpec(argv=argv, env={}))
        await trio.sleep(0.3)
        if how == "ended":
            process.end(0)
        with trio.fail_after(5):
            await process.wait()
        await trio.sleep(0.1)
        assert marked(mark) == []


async def test_a_helper_that_ends_by_itself_a_moment_later_is_not_counted_as_left_behind() -> None:
    code = "import os, time; os.fork() or time.sleep(0.05)"
    async with kept() as keeper:
        for _ in range(3):
            assert (await (await keeper.spawn(script(code))).wait()).strays == 0


async def test_stop_ends_servers_after_everything_else(tmp_path: Path) -> None:
    note = "import signal, sys, time; signal.signal(int(sys.argv[2]), lambda *_: (time.sleep(float(sys.argv[4])), open(sys.argv[1], 'a').write(sys.argv[3]), sys.exit())); print('up', flush=True); time.sleep(100)"
    log = tmp_path / "order"
    async with kept() as keeper:
        for word, number, server, delay in (("server", 2, True, "0"), ("worker", 15, False, "0.3")):
            reader, writer = os.pipe()
            spec = script(
                note,
                str(log),
                str(number),
                word + " ",
                delay,
                server=server,
                stop_signal=number,
                fds={1: writer},
            )
            await keeper.spawn(spec)
            os.close(writer)
            with open(reader, "rb", buffering=0) as file:
                await trio.to_thread.run_sync(file.read, 2)
    assert log.read_text() == "worker server "


async def test_stop_ends_a_server_that_will_not_stop_by_harsher_signals(mark: str) -> None:
    async with kept() as keeper:
        argv = (*PYTHON, str(HOSTILE / "clinger.py"), mark, "1")
        process = await keeper.spawn(ProcessSpec(argv=argv, env={}, server=True, stop_s=0.2))
        await eventually(lambda: len(marked(mark)) == 2)
    assert process.exit is not None
    assert process.exit.status == -signal.SIGQUIT
    assert marked(mark) == []


async def test_polite_signals_do_not_end_the_keeper() -> None:
    async with kept() as keeper:
        process = await keeper.spawn(script("import time; time.sleep(100)"))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            os.kill(keeper.pid, number)
        await trio.sleep(0.2)
        assert proctree.look(process.pid) is not None
        assert (await (await keeper.spawn(script("pass"))).wait()).status == 0


async def test_a_dead_keeper_is_told_to_everyone_and_its_orphans_are_ended(mark: str) -> None:
    keeper = KeeperClient()
    keeper.start()
    argv = (*PYTHON, str(HOSTILE / "clinger.py"), mark, "2")
    with pytest.RaisesGroup(KeeperGone):
        async with trio.open_nursery() as nursery:
            await nursery.start(keeper.serve)
            process = await keeper.spawn(ProcessSpec(argv=argv, env={}))
            await keeper.spawn(ProcessSpec(argv=(*argv[:-1], "0"), env={}, server=True))
            await eventually(lambda: len(marked(mark)) == 4)
            os.kill(keeper.pid, signal.SIGKILL)
    with pytest.raises(KeeperGone):
        await process.wait()
    with pytest.raises(KeeperGone):
        await keeper.spawn(ProcessSpec(argv=argv, env={}))
    await eventually(
        lambda: (seen := proctree.look(process.pid)) is None or seen.state == "Z", within=1
    )  # by the kernel
    begun = trio.current_time()
    assert await keeper.kill_orphans() >= 2
    assert trio.current_time() - begun < 5
    assert marked(mark) == []
    async with kept() as another:
        assert (await (await another.spawn(script("pass"))).wait()).status == 0


async def test_a_keeper_that_is_frozen_is_taken_for_dead_and_replaced(mark: str) -> None:
    keeper = KeeperClient(silence_s=1)
    keeper.start()
    argv = (*PYTHON, str(HOSTILE / "clinger.py"), mark, "2")
    with trio.fail_after(10):
        with pytest.RaisesGroup(pytest.RaisesExc(KeeperGone, match="did not answer for 1 s")):
            async with trio.open_nursery() as nursery:
                await nursery.start(keeper.serve)
                process = await keeper.spawn(ProcessSpec(argv=argv, env={}))
                await eventually(lambda: len(marked(mark)) == 3)
                await trio.sleep(1.5)
                assert len(marked(mark)) == 3  # answers keep it alive beyond the limit
                os.kill(keeper.pid, signal.SIGSTOP)
                begun = trio.current_time()
        assert 0.7 < trio.current_time() - begun < 5
        with pytest.raises(KeeperGone):
            await process.wait()
        await keeper.kill_orphans()
        assert marked(mark) == []
        async with kept() as another:
            assert (await (await another.spawn(script("pass"))).wait()).status == 0


async def test_a_keeper_that_freezes_while_it_stops_does_not_hold_up_the_end(mark: str) -> None:
    argv = (*PYTHON, str(HOSTILE / "clinger.py"), mark, "2")
    with trio.fail_after(15):
        async with kept(silence_s=1) as keeper:
            await keeper.spawn(ProcessSpec(argv=argv, env={}))
            await eventually(lambda: len(marked(mark)) == 3)
            os.kill(keeper.pid, signal.SIGSTOP)
    assert marked(mark) == []


async def test_a_daemon_that_stood_still_itself_does_not_take_its_keeper_for_dead() -> None:
    keeper = KeeperClient()
    keeper.start()
    keeper.silence_s = 1  # what the daemon bears; the keeper itself bears 8 s
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.serve)
        process = await keeper.spawn(script("import time; time.sleep(100)"))
        for _ in range(3):
            time.sleep(1.5)  # the whole program stands still, as if stopped
            await trio.sleep(0.1)
        assert proctree.look(process.pid) is not None
        assert (await (await keeper.spawn(script("pass"))).wait()).status == 0
        nursery.cancel_scope.cancel()
    await keeper.stop()


@pytest.fixture
def standin(mark: str, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    env = {**os.environ, "PYTHONPATH": str(HOSTILE.parent.parent)}
    argv = [sys.executable, str(HOSTILE / "standin.py"), mark, getattr(request, "param", "15")]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=env
    ) as popen:
        yield popen
        popen.kill()
        popen.send_signal(signal.SIGCONT)


async def ready(popen: subprocess.Popen[str], mark: str) -> None:
    assert popen.stdout is not None
    assert (await trio.to_thread.run_sync(popen.stdout.readline)).startswith("ready")
    await eventually(lambda: len(marked(mark, but=popen.pid)) == TREES)


async def test_nothing_is_left_five_seconds_after_the_daemon_was_killed(
    mark: str, standin: subprocess.Popen[str]
) -> None:
    await ready(standin, mark)
    standin.kill()
    assert await eventually(lambda: not marked(mark), within=5) > 1.5  # the grace was given


@pytest.mark.parametrize("standin", ["1"], indirect=True)
async def test_nothing_is_left_after_the_daemon_was_stopped_for_longer_than_the_silence(
    mark: str, standin: subprocess.Popen[str]
) -> None:
    await ready(standin, mark)
    await trio.sleep(1.5)
    assert len(marked(mark, but=standin.pid)) == TREES  # beats keep it alive beyond the limit
    standin.send_signal(signal.SIGSTOP)
    await eventually(lambda: not marked(mark, but=standin.pid), within=7)


async def test_ctrl_c_to_the_daemons_group_reaches_no_child_of_the_keeper(
    mark: str, standin: subprocess.Popen[str]
) -> None:
    await ready(standin, mark)
    groups = {os.getpgid(pid) for pid in marked(mark, but=standin.pid)}
    assert os.getpgid(standin.pid) not in groups
    os.killpg(standin.pid, signal.SIGINT)
    await trio.sleep(0.3)
    assert len(marked(mark, but=standin.pid)) == TREES  # the grace after the stand-in's death still runs
