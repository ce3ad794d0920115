"""A node's name: one daemon at a time works under it, and what is lost with the session comes back with it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing
from simulation.world import SimulatedClock

from singd.edges.memory import Link, MemoryDatabase, MemoryElection, MemoryPresence
from singd.errors import EdgeError
from singd.events import Event, FilesDiffer, LedgerAway, NameInUse, Notice, TermBegan, TermEnded
from singd.leadership import Trust, lead
from singd.ports import NodeInfo, Registration, Term
from singd.presence import Attendance


@dataclass
class Daemon:
    """What a daemon is around its name: attendance, and under it node work and the campaign."""

    database: MemoryDatabase
    name: str = "one"
    content_hash: str = ""
    link: Link = field(default_factory=Link)
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    events: list[Event] = field(default_factory=list)
    works: bool = False
    leads: bool = False
    heard: int = 0
    life: trio.CancelScope | None = None

    def __post_init__(self) -> None:
        self.node = NodeInfo(self.name, uuid.uuid4(), content_hash=self.content_hash)
        self.presence = MemoryPresence(self.database, link=self.link)
        self.attendance = Attendance(
            self.presence, self.node, _nothing, self._serve, self._hear, self.events.append
        )

    async def live(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope() as self.life:
            task_status.started()
            await self.attendance.attend()

    def _hear(self) -> None:
        self.heard += 1

    async def _serve(self) -> None:
        self.works = True
        election = MemoryElection(self.database, link=self.link)
        try:
            await lead(
                election, self.node, self.clock, Trust(self.clock), self.attendance.registered, self._term,
                self.events.append,
            )  # fmt: skip
        finally:
            self.works = False

    async def _term(self, term: Term) -> None:
        assert self.works
        self.leads = True
        try:
            await trio.sleep_forever()
        finally:
            self.leads = False

    def said(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase(SimulatedClock(), latency_s=0.002)


async def until(condition: Callable[[], bool], seconds: float) -> float:
    """Seconds until it was so."""
    begun = trio.current_time()
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.01)
    return trio.current_time() - begun


async def test_a_second_daemon_of_one_name_runs_neither_scope_until_the_name_is_free(
    database: MemoryDatabase, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    first, second = Daemon(database), Daemon(database)
    await nursery.start(first.live)
    await until(lambda: first.leads, 1)
    await nursery.start(second.live)
    for _ in range(600):
        await trio.sleep(0.1)
        assert (first.leads, second.works, second.leads) == (True, False, False)
    assert all(event.retry_s <= 1.0 for event in second.said(NameInUse))
    first.life.cancel()
    assert await until(lambda: second.leads, 5) <= 1.2
    assert second.works


async def test_the_end_of_the_names_session_alone_ends_no_term(
    database: MemoryDatabase, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    daemon = Daemon(database)
    await nursery.start(daemon.live)
    await until(lambda: daemon.leads, 1)
    for _ in range(5):
        database.terminate("one", "name")
        await until(lambda: not daemon.attendance.is_registered, 3)
        await until(lambda: daemon.attendance.is_registered, 1)
    assert len(daemon.said(TermBegan)) == 1
    assert not daemon.said(TermEnded)
    assert database.files() == {"one": ""}


async def test_the_end_of_the_locks_session_alone_leaves_the_name(
    database: MemoryDatabase, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    daemon = Daemon(database)
    await nursery.start(daemon.live)
    await until(lambda: daemon.leads, 1)
    heard = daemon.heard
    database.terminate("one", "lock")
    await until(lambda: len(daemon.said(TermBegan)) == 2, 5)
    assert daemon.attendance.is_registered
    assert daemon.heard == heard
    assert not daemon.said(NameInUse)


async def test_a_name_that_went_to_another_meanwhile_ends_all_work_until_it_is_free(
    database: MemoryDatabase, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    first, other = Daemon(database), Daemon(database)
    await nursery.start(first.live)
    await until(lambda: first.leads, 1)
    session = await _take_the_name(database, other)
    await until(lambda: first.attendance.taken, 3)
    assert (first.works, first.leads) == (False, False)
    await _while(session, 20, lambda: not first.works)
    await session.close()
    await until(lambda: first.works and first.leads, 1.5)
    assert len(first.said(TermBegan)) == 2


async def _take_the_name(database: MemoryDatabase, other: Daemon) -> MemoryPresence:
    database.terminate("one", "name")
    await other.presence.open(other.node)
    return other.presence


async def _while(session: MemoryPresence, seconds: int, so: Callable[[], bool]) -> None:
    for _ in range(seconds):
        await session.keep(1.0)
        assert so()


async def test_without_a_ledger_node_work_goes_on_and_the_campaign_waits_for_the_registration(
    database: MemoryDatabase, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    database.stop()
    daemon = Daemon(database)
    await nursery.start(daemon.live)
    await until(lambda: daemon.works, 1)
    await trio.sleep(30)
    assert daemon.works
    assert not daemon.leads
    assert not daemon.attendance.is_registered
    database.start()
    await until(lambda: daemon.leads, 10)
    assert daemon.attendance.is_registered


async def test_a_taken_name_stays_taken_while_the_ledger_cannot_be_asked(
    database: MemoryDatabase, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    first, second = Daemon(database), Daemon(database)
    await nursery.start(first.live)
    await until(lambda: first.leads, 1)
    await nursery.start(second.live)
    await until(lambda: second.attendance.taken, 1)
    second.link.up = False
    first.life.cancel()
    await trio.sleep(30)
    assert second.said(LedgerAway)
    assert not second.works
    second.link.heal()
    await until(lambda: second.leads, 10)


class Flickering:
    """A session that is lost the moment it is there, some times."""

    def __init__(self, times: int) -> None:
        self.left = times

    async def open(self, node: NodeInfo) -> Registration:
        await trio.sleep(0.01)
        return Registration(None)

    async def keep(self, seconds: float) -> bool:
        if self.left:
            self.left -= 1
            raise EdgeError("gone again")
        await trio.sleep(seconds)
        return False

    async def close(self) -> None:
        pass


async def test_who_waits_for_the_registration_is_not_told_of_one_that_was_lost_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    presence = Flickering(5)
    events: list[Event] = []
    attendance = Attendance(
        presence, NodeInfo("one", uuid.uuid4()), _nothing, trio.sleep_forever, lambda: None, events.append
    )
    nursery.start_soon(attendance.attend)
    await attendance.registered()
    assert attendance.is_registered
    assert presence.left == 0
    assert len([event for event in events if isinstance(event, LedgerAway)]) == 5


# -- configurations -------------------------------------------------------------------------------


async def test_different_configurations_are_told_once_a_picture_and_when_they_agree_again(
    database: MemoryDatabase, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    leader, other = Daemon(database, "one", "aaaaaaaaaaaaaaaa"), Daemon(database, "two", "bbbbbbbbbbbbbbbb")
    await nursery.start(leader.live)
    await until(lambda: leader.leads, 1)
    await trio.sleep(30)
    assert not leader.said(FilesDiffer)
    await nursery.start(other.live)
    await trio.sleep(60)
    assert leader.said(FilesDiffer) == [FilesDiffer({"one": "aaaaaaaa", "two": "bbbbbbbb"})]
    assert not other.said(FilesDiffer), "only the leader tells"
    assert not leader.said(Notice)
    other.life.cancel()
    await trio.sleep(30)
    assert len(leader.said(Notice)) == 1
    assert len(leader.said(FilesDiffer)) == 1


async def test_nodes_that_do_not_say_what_they_would_lead_with_raise_no_alarm(
    database: MemoryDatabase, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    leader, other = Daemon(database, "one", "a" * 16), Daemon(database, "two")
    await nursery.start(leader.live)
    await until(lambda: leader.leads, 1)
    await nursery.start(other.live)
    await trio.sleep(30)
    assert not leader.said(FilesDiffer)


async def _nothing() -> None:
    pass
