"""Trust and its end: counted from when a heartbeat was sent, whatever the answer takes; and how soon a node tries again."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing
from simulation.world import SimulatedClock

from singd.core.skew import MOST
from singd.edges.memory import Link, MemoryDatabase, MemoryElection
from singd.events import Event, LedgerAway, TermBegan, TermEnded
from singd.leadership import HEARTBEAT_S, MARGIN_S, Trust, lead
from singd.ports import NodeInfo, Term

LEASE_S = 5.0


@dataclass
class Candidate:
    """A node that campaigns, and notes when it acted as the leader."""

    database: MemoryDatabase
    name: str = "one"
    link: Link = field(default_factory=Link)
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    events: list[Event] = field(default_factory=list)
    leads: bool = False
    lease_s: float = LEASE_S

    def __post_init__(self) -> None:
        self.trust = Trust(self.clock)
        self.election = MemoryElection(self.database, self.lease_s, self.link, self.clock)

    async def live(self) -> None:
        node = NodeInfo(self.name, uuid.uuid4())
        await lead(
            self.election, node, self.clock, self.trust, trio.lowlevel.checkpoint, self._serve, self._note
        )

    def _note(self, event: Event) -> None:
        self.events.append(event)

    async def _serve(self, term: Term) -> None:
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


@pytest.mark.parametrize("slow_s", [0.0, 0.4, 0.6, 1.8])
async def test_river_a_slow_answer_does_not_extend_trust(
    database: MemoryDatabase, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, slow_s: float
) -> None:
    candidate = Candidate(database)
    nursery.start_soon(candidate.live)
    await until(lambda: candidate.leads, 1)
    candidate.link.back = lambda: slow_s
    for _ in range(2_000):
        await trio.sleep(0.01)
        assert candidate.leads
        assert candidate.trust.remaining_s() <= LEASE_S - MARGIN_S
        # A beat is sent each second, or as soon as the last one is answered; and that is how old trust may be.
        assert candidate.trust.remaining_s() > LEASE_S - MARGIN_S - max(HEARTBEAT_S, slow_s) - slow_s - 0.05
    candidate.link.up = False
    left = candidate.trust.remaining_s()
    assert await until(lambda: not candidate.leads, LEASE_S) <= left + 0.01


async def test_river_answers_slower_than_the_trust_end_the_term_before_the_lease_can(
    database: MemoryDatabase, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    candidate, other = Candidate(database), Candidate(database, "two")
    nursery.start_soon(candidate.live)
    await until(lambda: candidate.leads, 1)
    nursery.start_soon(other.live)
    candidate.link.back = lambda: 4.0
    with trio.fail_after(60):
        while not other.leads:
            assert not (candidate.leads and other.leads)
            await trio.sleep(0.01)
    assert not candidate.leads
    assert candidate.said(TermEnded)


@pytest.mark.parametrize(("lease_s", "slow_s"), [(5.0, 0.0), (5.0, 0.6), (5.0, 1.8), (3.0, 0.0), (3.0, 0.6)])
@pytest.mark.parametrize("moment", [0.0, 0.2, 0.4, 0.6, 0.8])
async def test_a_leader_that_is_cut_off_stops_before_another_begins(
    database: MemoryDatabase,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    moment: float,
    lease_s: float,
    slow_s: float,
) -> None:
    """Nothing tells it: its calls hang. However slow the answers were, a second lies between the two."""
    candidate, other = Candidate(database, lease_s=lease_s), Candidate(database, "two")
    candidate.link.back = lambda: slow_s
    candidate.link.patience_s = 60.0
    nursery.start_soon(candidate.live)
    await until(lambda: candidate.leads, 10)
    nursery.start_soon(other.live)
    await trio.sleep(10 + moment)
    assert candidate.leads
    candidate.link.up = False
    stopped = await until(lambda: not candidate.leads, lease_s - 0.9)
    assert not other.leads
    began = stopped + await until(lambda: other.leads, lease_s)
    assert began - stopped >= 0.9
    assert began <= lease_s + 1.0


async def test_a_standby_whose_sessions_ended_now_and_then_is_back_in_the_queue_at_once(
    database: MemoryDatabase, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Restarts of the server, long apart, must not add up to a long pause."""
    leader, standby = Candidate(database), Candidate(database, "two")
    nursery.start_soon(leader.live)
    await until(lambda: leader.leads, 1)
    nursery.start_soon(standby.live)
    for _ in range(10):
        await trio.sleep(60)
        database.terminate("two")
    await trio.sleep(60)
    assert {event.retry_s for event in standby.said(LedgerAway)} == {0.1}
    assert len(leader.said(TermBegan)) == 1


async def test_a_ledger_that_is_away_is_not_asked_more_often_than_each_five_seconds(
    database: MemoryDatabase, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    candidate = Candidate(database)
    database.stop()
    nursery.start_soon(candidate.live)
    await trio.sleep(600)
    assert 115 <= len(candidate.said(LedgerAway)) <= 130
    database.start()
    await until(lambda: candidate.leads, 6)


async def test_a_clock_that_steps_away_ends_the_term_and_leads_again_when_it_is_right(
    database: MemoryDatabase, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    candidate, other = Candidate(database), Candidate(database, "two")
    nursery.start_soon(candidate.live)
    await until(lambda: candidate.leads, 1)
    candidate.clock.skew = MOST * 2
    await until(lambda: not candidate.leads, HEARTBEAT_S + 0.1)
    await trio.sleep(30)
    assert not candidate.leads
    assert any(event.cure.startswith("synchronise") for event in candidate.said(LedgerAway))
    nursery.start_soon(other.live)
    await until(lambda: other.leads, 1)
    candidate.clock.skew = MOST / 2
    await trio.sleep(10)
    database.terminate("two")
    await until(lambda: candidate.leads or other.leads, 2)
