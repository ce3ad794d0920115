"""The local journal keeps the ledger's rules (every test of `test_ledger`), and those that only a file has."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio

from singd.core.values import Finish, Log, Occurrence, Recording, State, Verdict
from singd.edges.local import file, outbox
from singd.edges.local.ledger import LocalLedger
from singd.edges.local.reader import LocalReader
from singd.errors import EdgeError
from singd.ports import NodeInfo, Term

from . import test_ledger
from .conftest import MINUTE, NOON, World, missed, to_run, to_wait

NODE = NodeInfo("one", uuid4())
TERM = Term(0)
LATER = NOON + timedelta(hours=1)

FENCED = {
    "test_a_new_term_adopts_exactly_what_is_unfinished",  # with ages of its own, below
}
"""What a file cannot be asked, or answers in a way of its own."""

for _name, _test in vars(test_ledger).items():
    if _name.startswith("test_") and _name not in FENCED:
        globals()[_name] = _test


class TestClock:
    """Time that stands where it is put."""

    __test__ = False

    def __init__(self) -> None:
        self.wall, self.ran = datetime.now(UTC), 100.0

    def now(self) -> datetime:
        return self.wall

    def boot(self) -> float:
        return self.ran


@dataclass
class LocalWorld(World):
    """The file of one node; `depose` is the next process on it."""

    path: Path = Path()
    clock: Any = None

    async def lead(self, name: str = "one") -> Term:
        return TERM

    async def depose(self) -> Term:
        self.reopen(NodeInfo("one", uuid4()))
        return TERM

    def reopen(self, node: NodeInfo = NODE) -> LocalLedger:
        """As the daemon `node` finds it."""
        self.ledger.close()
        self.ledger = LocalLedger(self.path, node, self.clock)
        self.reader = LocalReader(self.ledger)
        return self.ledger


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[LocalWorld]:
    clock, path = TestClock(), tmp_path / "journal.db"
    ledger = LocalLedger(path, NODE, clock)
    world = LocalWorld(ledger, LocalReader(ledger), path=path, clock=clock)
    yield world
    world.ledger.close()


# -- another process ------------------------------------------------------------------------------


async def test_what_a_dead_daemon_left_live_is_told_apart_and_settled(world: LocalWorld) -> None:
    claimed = (await world.run_one(TERM, "claimed", NOON)).attempt
    _, running = await world.started(TERM, "running", NOON + MINUTE)
    waits = (await world.record(TERM, to_wait("waits"), missed("missed", NOON)))[0].occurrence_id
    await world.started(TERM, "mine", NOON + 2 * MINUTE)
    await world.depose()
    live = (await world.ledger.adopt(TERM)).live
    assert [
        (one.attempt.token, one.started, one.attempt.epoch < TERM.epoch, one.age_s) for one in live[:2]
    ] == [
        (claimed.token, False, True, math.inf),
        (running, True, True, math.inf),
    ]
    assert {one.process for one in live} == {NODE.process}
    assert [one.occurrence_id for one in (await world.ledger.adopt(TERM)).unfinished] == [waits]
    ends = [
        Finish(claimed.token, State.CANCELLED, "never started", retry_at=NOON),
        Finish(running, State.LOST, "gone"),
    ]
    assert await world.ledger.settle(TERM, ends) == {claimed.token, running}


async def test_our_own_attempts_age_by_their_beats(world: LocalWorld) -> None:
    _, token = await world.started(TERM)
    world.clock.ran += 30
    assert [one.age_s for one in (await world.ledger.adopt(TERM)).live] == [30]
    await world.ledger.beat([token])
    world.clock.ran += 4
    live = (await world.ledger.adopt(TERM)).live
    assert [(one.age_s, one.attempt.epoch, one.process) for one in live] == [(4, 0, NODE.process)]
    world.reopen()
    world.clock.ran += 3
    assert [one.age_s for one in (await world.ledger.adopt(TERM)).live] == [3]


async def test_there_is_no_startup_of_the_cluster_in_it(world: LocalWorld) -> None:
    assert (await world.ledger.adopt(TERM)).startup_at is None


async def test_a_number_is_never_given_twice(world: LocalWorld) -> None:
    numbers = [(await world.record(TERM, missed("s", NOON + n * MINUTE)))[0].occurrence_id for n in range(2)]
    await world.ledger.shipped(numbers)
    world.clock.wall += timedelta(days=3)
    await world.ledger.file.transact("test", lambda connection: connection.execute("DELETE FROM occurrence"))
    assert (await world.record(TERM, missed("s", LATER)))[0].occurrence_id > max(numbers)


# -- the file -------------------------------------------------------------------------------------


async def test_it_is_its_owners_alone(world: LocalWorld) -> None:
    await world.run_one(TERM)
    for beside in world.path.parent.iterdir():
        assert beside.stat().st_mode & 0o777 == 0o600, beside


async def test_what_was_answered_is_on_the_disk(world: LocalWorld) -> None:
    """As a kill leaves it: a copy of the files, with nothing closed."""
    number, _ = await world.started(TERM)
    copy = world.path.with_name("copy.db")
    for beside in ("", "-wal"):
        Path(f"{copy}{beside}").write_bytes(Path(f"{world.path}{beside}").read_bytes())
    other = LocalLedger(copy, NODE, world.clock)
    assert [one.attempt.occurrence_id for one in (await other.adopt(TERM)).live] == [number]
    other.close()


async def test_every_transaction_is_on_the_disk_before_it_is_answered(world: LocalWorld) -> None:
    """What a loss of power would show cannot be tried here, so SQLite's own word for it is."""

    def asked(connection: sqlite3.Connection) -> list[Any]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await world.ledger.file.transact("test", asked) == ["wal", 2, 1]


async def test_text_that_no_table_can_hold_is_kept_as_far_as_it_can(world: LocalWorld) -> None:
    number, token = await world.started(TERM)
    end = Finish(token, State.FAILED, "a\0b\ud800" + "x" * 20_000, {"n": "\ud800", "f": float("inf")})
    assert await world.ledger.finish([end]) == {token}
    row = await world.reader.run(number)
    assert row.attempts[0].error.startswith("a\ufffdb?x")
    assert len(row.attempts[0].error) == 8192
    assert row.attempts[0].result == end.result


async def test_the_origin_stays(world: LocalWorld) -> None:
    await world.ledger.open()
    origin = world.ledger.origin
    reopened = world.reopen(NodeInfo("other", uuid4()))
    await reopened.unshipped(1)
    assert reopened.origin == origin


@pytest.mark.parametrize("damage", ["nothing", "text", "torn", "another database"])
async def test_a_damaged_file_is_set_aside_and_a_new_one_begins(world: LocalWorld, damage: str) -> None:
    await world.run_one(TERM)
    await world.ledger.open()
    origin = world.ledger.origin
    world.ledger.close()
    world.path.write_bytes(
        {"nothing": b"", "text": b"not a database " * 500}.get(damage, world.path.read_bytes())
    )
    if damage == "torn":
        with world.path.open("r+b") as torn:
            torn.seek(4096)
            torn.write(b"\xff" * 8192)
    if damage == "another database":
        world.path.unlink()
        sqlite3.connect(world.path).execute("CREATE TABLE t (a)").connection.close()
    broken = world.path.read_bytes()
    ledger = world.reopen()
    assert ledger.set_aside is None
    assert (await ledger.adopt(TERM)).live == []
    assert ledger.set_aside is not None
    assert ledger.set_aside.read_bytes() == broken
    await ledger.open()
    assert ledger.origin != origin
    assert (await world.run_one(TERM)).attempt is not None


async def test_a_file_that_turns_out_damaged_in_use_is_an_error_once(world: LocalWorld) -> None:
    await world.record(TERM, *(missed(f"s{n}", NOON) for n in range(2_000)))
    world.ledger.close()
    await world.ledger.open()
    with world.path.open("r+b") as torn:
        torn.seek(8192)
        torn.write(b"\xff" * (world.path.stat().st_size - 8192))
    await world.ledger.file.transact("test", lambda connection: connection.execute("PRAGMA shrink_memory"))
    with pytest.raises(EdgeError, match="damaged"):
        await world.reader.runs(None, None, 10_000)
    assert (await world.run_one(TERM)).attempt is not None
    assert world.ledger.set_aside is not None


async def test_damage_that_no_check_sees_is_set_aside_too(world: LocalWorld) -> None:
    await world.run_one(TERM)
    malformed = sqlite3.DatabaseError("database disk image is malformed")
    malformed.sqlite_errorcode = sqlite3.SQLITE_CORRUPT  # type: ignore[misc]

    def meet(connection: sqlite3.Connection) -> None:
        raise malformed

    with pytest.raises(EdgeError, match="damaged"):
        await world.ledger.file.transact("test", meet)
    assert (await world.ledger.adopt(TERM)).live == []
    assert world.ledger.set_aside is not None
    assert (await world.run_one(TERM)).attempt is not None
    assert len((await world.ledger.adopt(TERM)).live) == 1


def remove(path: Path) -> None:
    for each in list(path.parent.glob(f"{path.name}*")):
        each.unlink()


@pytest.mark.parametrize("open_then", [True, False])
async def test_a_file_that_is_removed_in_use_is_an_error_once_and_a_new_one_begins(
    world: LocalWorld, open_then: bool
) -> None:
    told: list[str] = []
    world.ledger.tell = told.append
    await world.run_one(TERM)
    await world.ledger.open()
    origin = world.ledger.origin
    if not open_then:
        world.ledger.close()
    remove(world.path)
    with pytest.raises(EdgeError, match="removed") as removed:
        await world.ledger.adopt(TERM)
    assert removed.value.cure
    assert (await world.ledger.adopt(TERM)).live == []
    await world.ledger.open()
    assert world.ledger.origin != origin
    assert (await world.run_one(TERM)).attempt is not None
    with sqlite3.connect(world.path) as connection:
        assert connection.execute("SELECT count(*) FROM occurrence").fetchone() == (1,)
    connection.close()
    assert len(told) == 1
    assert "a new one begins from now; what had not been shipped is lost" in told[0]


async def test_a_new_journal_gives_no_number_again_and_short_ones(world: LocalWorld) -> None:
    for _ in range(3):
        await world.run_one(TERM, "first")
    before = [row.occurrence_id for row in await world.reader.runs(None, None, 9)]
    remove(world.path)
    world.clock.wall += timedelta(seconds=5)
    with pytest.raises(EdgeError):
        await world.ledger.open()
    after = (await world.run_one(TERM)).occurrence_id
    assert after is not None
    assert max(before) < after < 10**10


async def test_another_file_in_the_place_of_the_one_in_use_is_noticed_and_used(world: LocalWorld) -> None:
    other = LocalLedger(world.path.with_name("other.db"), NODE, world.clock)
    await other.open()
    other.close()
    await world.run_one(TERM)
    other.file.path.rename(world.path)
    with pytest.raises(EdgeError, match="removed"):
        await world.ledger.open()
    await world.ledger.open()
    assert world.ledger.origin == other.origin
    assert await world.reader.runs(None, None, 9) == []


async def test_who_planned_on_the_removed_file_is_told_even_if_somebody_else_met_it_first(
    world: LocalWorld,
) -> None:
    number, _ = await world.started(TERM)
    await world.ledger.adopt(TERM)
    remove(world.path)
    with pytest.raises(EdgeError):
        await world.reader.runs(None, None, 9)
    for _ in range(2):
        for ask in (
            world.record(TERM, to_run("t")),
            world.ledger.open_attempts(TERM, [number]),
            world.ledger.decide(TERM, {number: ("skipped", "because")}),
            world.ledger.settle(TERM, [Finish("t", State.LOST)]),
        ):
            with pytest.raises(EdgeError, match="another journal"):
                await ask
    assert await world.reader.runs(None, None, 9) == []
    await world.ledger.adopt(TERM)
    assert (await world.run_one(TERM, "t")).attempt is not None


async def test_what_was_shipped_of_the_removed_file_is_not_noted_in_the_new_one(world: LocalWorld) -> None:
    await world.record(TERM, missed("s", NOON))
    [batch] = await world.ledger.unshipped(9)
    remove(world.path)
    with pytest.raises(EdgeError):
        await world.reader.runs(None, None, 9)
    await world.record(TERM, missed("t", NOON))
    with pytest.raises(EdgeError, match="another journal"):
        await world.ledger.shipped([batch.number])
    assert [one.recording.occurrence.schedule for one in await world.ledger.unshipped(9)] == ["t"]


async def test_only_the_newest_damaged_files_are_kept(world: LocalWorld) -> None:
    for _ in range(file.KEPT_ASIDE + 2):
        world.clock.wall += timedelta(seconds=1)
        world.ledger.close()
        world.path.write_bytes(b"not a database" * 500)
        await world.ledger.open()
    kept = sorted(world.path.parent.glob("*.damaged-*"))
    assert len(kept) == file.KEPT_ASIDE
    assert kept[-1] == world.ledger.set_aside


async def test_a_journal_of_a_newer_singd_is_refused_and_stays(world: LocalWorld) -> None:
    await world.run_one(TERM)
    world.ledger.close()
    with sqlite3.connect(world.path) as connection:
        connection.execute(f"PRAGMA user_version = {file.FORMAT + 1}")
    connection.close()
    with pytest.raises(EdgeError, match="format 2") as refused:
        await world.ledger.adopt(TERM)
    assert "newer" in refused.value.cure
    assert world.ledger.set_aside is None


async def test_a_full_disk_is_an_error_with_a_cure_and_no_end(world: LocalWorld) -> None:
    """SQLite's own bound on the file answers as a full disk does."""
    _, token = await world.started(TERM)
    await world.ledger.file.transact(
        "test", lambda connection: connection.execute("PRAGMA max_page_count = 20")
    )
    with pytest.raises(EdgeError, match="full") as full:
        await world.record(TERM, *(to_run(f"s{n}") for n in range(2_000)))
    assert "make room" in full.value.cure
    assert [one.attempt.token for one in (await world.ledger.adopt(TERM)).live] == [token]
    assert len(await world.record(TERM, *(to_run(f"s{n}") for n in range(2_000)))) == 2_000


async def test_a_disk_that_is_full_at_the_first_start_is_no_damage(
    world: LocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL  # type: ignore[misc]

    def no_room(connection: sqlite3.Connection, first: int) -> None:
        raise full

    with monkeypatch.context() as patched:
        patched.setattr(file, "_create", no_room)
        for _ in range(2):
            with pytest.raises(EdgeError, match="full"):
                await world.ledger.open()
    await world.ledger.open()
    assert world.ledger.set_aside is None
    assert [one.name for one in world.path.parent.glob("*.damaged-*")] == []


async def test_a_directory_that_cannot_be_written_to_is_an_error_with_a_cure(tmp_path: Path) -> None:
    ledger = LocalLedger(tmp_path / "missing" / "journal.db", NODE, TestClock())
    with pytest.raises(EdgeError) as refused:
        await ledger.open()
    assert refused.value.cure


# -- shipping -------------------------------------------------------------------------------------


async def test_only_what_is_over_is_shipped_oldest_first(world: LocalWorld) -> None:
    accepted = await world.ledger.generation(TERM, "hash-1", {}, NOON)
    asked = [to_run("runs"), to_wait("waits"), missed("gone", NOON, LATER, 3), to_run("ends")]
    answers = await world.ledger.record(TERM, accepted, asked, {})
    numbers = [answer.occurrence_id for answer in answers]
    token = answers[3].attempt.token
    await world.ledger.start([token])
    end = Finish(
        token, State.FAILED, "why", {"n": 1}, started_at=NOON, finished_at=LATER, log=Log(b"h", b"t", 3)
    )
    await world.ledger.finish([end])
    assert world.ledger.backlog == (2, world.clock.wall)
    shipments = await world.ledger.unshipped(9)
    assert [one.number for one in shipments] == [numbers[2], numbers[3]]
    gone, ended = shipments
    assert gone.recording == asked[2]
    assert (gone.verdict, gone.reason, gone.content_hash) == (Verdict.MISSED, "nobody led", "hash-1")
    assert (ended.verdict, ended.recorded_at) == (Verdict.RAN, world.clock.wall)
    [attempt] = ended.attempts
    assert (attempt.token, attempt.process, attempt.state) == (token, str(NODE.process), State.FAILED)
    assert (attempt.error, attempt.result, attempt.log) == ("why", {"n": 1}, end.log)
    assert (attempt.started_at, attempt.finished_at) == (NOON, LATER)
    assert [one.number for one in await world.ledger.unshipped(1)] == [numbers[2]]
    await world.ledger.shipped([numbers[2]])
    assert [one.number for one in await world.ledger.unshipped(9)] == [numbers[3]]
    assert world.ledger.backlog == (1, world.clock.wall)
    reopened = world.reopen()
    await reopened.open()
    assert reopened.backlog == (1, world.clock.wall)


async def test_a_retry_to_come_is_not_over_and_a_decision_ends_it(world: LocalWorld) -> None:
    number, token = await world.started(TERM)
    await world.ledger.finish([Finish(token, State.FAILED, "once", retry_at=LATER)])
    assert await world.ledger.unshipped(9) == []
    await world.ledger.decide(TERM, {number: ("skipped", "schedule removed")})
    assert [one.number for one in await world.ledger.unshipped(9)] == [number]


async def test_what_was_shipped_as_lost_stays_lost(world: LocalWorld) -> None:
    number, token = await world.started(TERM)
    await world.ledger.settle(TERM, [Finish(token, State.LOST, "silent")])
    await world.ledger.shipped([number])
    assert await world.ledger.finish([Finish(token, State.SUCCEEDED)]) == set()
    assert (await world.reader.run(number)).outcome is State.LOST


async def test_long_output_is_shipped_in_parts(world: LocalWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "SHIP_BYTES", 100)
    for name in "abc":
        _, token = await world.started(TERM, name)
        await world.ledger.finish([Finish(token, State.SUCCEEDED, log=Log(b"x" * 60))])
    first = await world.ledger.unshipped(9)
    assert [one.recording.occurrence.schedule for one in first] == ["a"]
    assert first[0].attempts[0].log == Log(b"x" * 60)


async def test_of_one_run_the_newest_output_is_shipped(
    world: LocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "SHIP_BYTES", 100)
    number, token = await world.started(TERM)
    await world.ledger.finish([Finish(token, State.FAILED, "x", retry_at=NOON, log=Log(b"o" * 60))])
    [attempt] = await world.ledger.open_attempts(TERM, [number])
    await world.ledger.finish([Finish(attempt.token, State.SUCCEEDED, log=Log(b"n" * 60))])
    [shipment] = await world.ledger.unshipped(9)
    assert [one.log for one in shipment.attempts] == [Log(dropped=60), Log(b"n" * 60)]


async def test_what_was_shipped_is_kept_for_a_day(world: LocalWorld) -> None:
    number = (await world.record(TERM, missed("s", NOON), missed("s", LATER)))[0].occurrence_id
    unshipped = (await world.record(TERM, missed("t", NOON), missed("t", LATER)))[0].occurrence_id
    await world.ledger.shipped([number])
    world.clock.wall += timedelta(hours=23)
    await world.ledger.shipped([])
    assert await world.reader.run(number) is not None
    world.clock.wall += timedelta(hours=2)
    await world.ledger.shipped([])
    assert await world.reader.run(number) is None
    assert await world.reader.run(unshipped) is not None


async def test_the_newest_row_of_a_schedule_is_not_forgotten(world: LocalWorld) -> None:
    """A startup is planned again whenever planning begins anew: that it was done, its row says."""
    answers = await world.record(TERM, missed("s", NOON), missed("s", LATER))
    by_hand = (await world.record(TERM, to_run("s", LATER + MINUTE, "request")))[0]
    await world.ledger.finish([Finish(by_hand.attempt.token, State.SUCCEEDED)])
    numbers = [answer.occurrence_id for answer in (*answers, by_hand)]
    await world.ledger.shipped(numbers)
    world.clock.wall += timedelta(days=9)
    await world.ledger.shipped([])
    assert [await world.reader.run(number) is None for number in numbers] == [True, False, False]


async def test_changed_waits_until_something_is_over(world: LocalWorld, autojump_clock: object) -> None:
    await world.ledger.unshipped(9)
    _, token = await world.started(TERM)
    await world.ledger.unshipped(9)
    with trio.move_on_after(5) as waited:
        await world.ledger.changed()
    assert waited.cancelled_caught
    await world.ledger.finish([Finish(token, State.SUCCEEDED)])
    with trio.fail_after(5):
        await world.ledger.changed()
    assert len(await world.ledger.unshipped(9)) == 1


# -- its bounds -----------------------------------------------------------------------------------


async def test_output_that_cannot_be_shipped_does_not_fill_the_disk(
    world: LocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "FILE_MOST", 20 << 20)
    runs = [await world.started(TERM, f"s{n}") for n in range(120)]
    for _, token in runs:
        assert await world.ledger.finish([Finish(token, State.SUCCEEDED, log=Log(b"x" * (256 << 10)))])
    assert world.path.stat().st_size < 30 << 20
    newest, oldest = runs[-1][0], runs[0][0]
    assert await world.reader.log(newest, 1) is not None
    assert await world.reader.log(oldest, 1) is None
    assert (await world.reader.run(oldest)).outcome is State.SUCCEEDED
    assert [one.number for one in await world.ledger.unshipped(1)] == [oldest]


def skipped(schedule: str, minute: int, reason: str = "the one before still runs") -> Recording:
    return Recording(Occurrence(schedule, NOON + minute * MINUTE), "command", Verdict.SKIPPED, reason)


async def test_a_journal_that_cannot_be_shipped_merges_neighbours_that_did_not_run(
    world: LocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "UNSHIPPED_MOST", 14)
    await world.record(
        TERM, *(skipped("s", n) for n in range(4)), skipped("s", 4, "paused"), to_run("s", NOON + 5 * MINUTE),
        *(skipped("s", n) for n in range(6, 9)), skipped("t", 0), skipped("t", 1), missed("u", NOON, LATER, 61),
        to_wait("v"), to_wait("v", NOON + MINUTE),
    )  # fmt: skip
    await world.record(TERM, skipped("u", 61))
    rows = {name: await world.reader.runs(name, None, 99) for name in "stuv"}
    spans = {name: [(row.due_at, row.due_until, row.count) for row in found] for name, found in rows.items()}
    at = [NOON + n * MINUTE for n in range(62)]
    assert spans == {
        "s": [(at[6], at[8], 3), (at[5], None, 1), (at[4], None, 1), (at[0], at[3], 4)],
        "t": [(at[0], at[1], 2)],
        "u": [(at[61], None, 1), (at[0], at[60], 61)],
        "v": [(at[1], None, 1), (at[0], None, 1)],
    }


async def test_a_shipped_instant_keeps_its_neighbours_apart(
    world: LocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "UNSHIPPED_MOST", 3)
    answers = await world.record(TERM, *(skipped("s", n) for n in range(3)))
    await world.ledger.shipped([answers[1].occurrence_id])
    world.clock.wall += timedelta(days=2)
    await world.ledger.shipped([])
    with pytest.raises(EdgeError, match="full"):
        await world.record(TERM, skipped("t", 0), skipped("t", 1))
    assert len(await world.reader.runs("s", None, 9)) == 3


async def test_a_full_journal_records_nothing_new_and_goes_on_after_shipping(
    world: LocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "UNSHIPPED_MOST", 3)
    runs = [await world.started(TERM, f"s{n}") for n in range(3)]
    with pytest.raises(EdgeError, match="full") as full:
        await world.record(TERM, to_run("one more"), s0=LATER)
    assert "database" in full.value.cure
    assert "s0" not in (await world.ledger.adopt(TERM)).cursors
    ends = [Finish(token, State.SUCCEEDED) for _, token in runs]
    assert len(await world.ledger.finish(ends)) == 3
    await world.ledger.shipped([number for number, _ in runs])
    assert (await world.run_one(TERM, "one more")).attempt is not None
