"""What operators ask, in simulated time: done by the right node, once, whoever leads and whoever dies."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from simulation.world import NOON, Body, World, named, schedule

from singd.core.values import (
    Backoff,
    CatchUp,
    Delivery,
    Every,
    Overlap,
    Override,
    Schedule,
    State,
    Verb,
    Verdict,
    Wish,
)
from singd.edges.memory import MemoryDatabase
from singd.edges.memory.overrides import MemoryOverrides
from singd.events import TermBegan
from singd.overrides import Desk

HOURLY = Every(timedelta(hours=1))
TEN = Every(timedelta(seconds=10))


class Cluster:
    """Daemons by name on one ledger, and an operator who can reach it."""

    def __init__(self, *schedules: Schedule, bodies: dict[str, Any] | None = None, names: str = "ab") -> None:
        first = World(named(*schedules), bodies or {}, name=names[0])
        self.worlds = {names[0]: first}
        for name in names[1:]:
            self.worlds[name] = World(
                first.schedules, first.bodies, clock=first.clock, witness=first.witness, name=name,
                database=first.database,
            )  # fmt: skip
        self.first, self.database = first, first.database
        self.overrides = MemoryOverrides(self.database)
        self.nursery: trio.Nursery | None = None
        self.count = 0

    def leads(self) -> list[str]:
        """Names, in the order in which they began to lead."""
        begun = [
            (event.epoch, name)
            for name, world in self.worlds.items()
            for event in world.events
            if isinstance(event, TermBegan)
        ]
        return [name for _, name in sorted(begun)]

    async def boot(self, name: str) -> None:
        await self.worlds[name].boot(self.nursery)

    async def kill(self, name: str) -> None:
        """At once; it can be booted again 6 s later."""
        self.nursery.start_soon(self.worlds[name].kill)
        await trio.sleep(0)

    async def ask(self, verb: Verb, target: str = "a", **more: Any) -> Override:
        self.count += 1
        more = {"request": f"r{self.count}", "actor": "uid 0 on b"} | more
        return await self.overrides.ask(Wish(verb, target, **more))

    async def answer(self, asked: Override, seconds: float = 5) -> Any:
        with trio.fail_after(seconds):
            while (answer := await self.overrides.answer(asked.number)) is None:
                await trio.sleep(0.01)
            return answer

    def rows(self, name: str = "a") -> list[Any]:
        found = [row for row in self.database.rows.values() if row.occurrence.schedule == name]
        return sorted(found, key=lambda row: row.occurrence.due_at)

    def row(self, run_id: str) -> Any:
        return self.database.rows[int(run_id)]


@contextlib.asynccontextmanager
async def running(cluster: Cluster) -> AsyncIterator[Cluster]:
    """The first daemon leads, the others stand by; all are stopped afterwards."""
    async with trio.open_nursery() as cluster.nursery:
        for name in cluster.worlds:
            await cluster.boot(name)
            await trio.sleep(0.5)
        yield cluster
        for world in cluster.worlds.values():
            if world.daemon is not None:
                world.daemon.stop()


# -- trigger --------------------------------------------------------------------------------------


async def test_a_trigger_asked_on_another_node_begins_on_the_leader_at_once(autojump_clock):
    async with running(Cluster(schedule("a", HOURLY), bodies={"a": Body(1)})) as cluster:
        asked = await cluster.ask(Verb.TRIGGER)
        answer = await cluster.answer(asked, 0.2)
        row = cluster.row(answer["run_id"])
        assert answer["by"] == "a"
        assert row.occurrence.due_at == asked.asked_at
        await trio.sleep(2)
        assert [begun.due_at for begun in cluster.first.witness] == [asked.asked_at]
        assert row.attempts[-1].state is State.SUCCEEDED


async def test_a_trigger_asked_twice_is_one(autojump_clock):
    async with running(Cluster(schedule("a", HOURLY, overlap=Overlap.ALLOW))) as cluster:
        for _ in range(3):
            await cluster.ask(Verb.TRIGGER, request="same")
            await trio.sleep(1)
        assert len(cluster.rows()) == len(cluster.first.witness) == 1


async def test_a_trigger_that_nobody_could_take_waits_for_a_leader_and_begins_once(autojump_clock):
    cluster = Cluster(schedule("a", HOURLY))
    asked = await cluster.ask(Verb.TRIGGER)
    await trio.sleep(60)
    async with running(cluster):
        answer = await cluster.answer(asked)
        await trio.sleep(30)
        assert [row.number for row in cluster.rows()] == [int(answer["run_id"])]
        assert len(cluster.first.witness) == 1


async def test_a_trigger_recorded_by_a_leader_that_died_before_it_said_so_is_not_begun_again(autojump_clock):
    async with running(
        Cluster(schedule("a", HOURLY, overlap=Overlap.ALLOW), bodies={"a": Body(2)})
    ) as cluster:
        cluster.database.cut("take", "request")
        asked = await cluster.ask(Verb.TRIGGER)
        await trio.sleep(3)
        assert await cluster.overrides.answer(asked.number) is None
        [row] = cluster.rows()
        await cluster.kill("a")
        assert (await cluster.answer(asked))["run_id"] == str(row.number)
        await trio.sleep(60)
        assert len(cluster.rows()) == len(cluster.first.witness) == 1
        assert cluster.leads() == ["a", "b"]


@pytest.mark.parametrize("seed", range(10))
async def test_triggers_amid_changes_of_leader_begin_exactly_once(autojump_clock, seed):
    rng = random.Random(seed)
    cluster = Cluster(schedule("a", HOURLY, overlap=Overlap.ALLOW), bodies={"a": Body(0.05)}, names="abc")
    async with running(cluster):
        asked = []
        for _ in range(40):
            await trio.sleep(rng.uniform(0, 0.7))
            if rng.random() < 0.3:
                cluster.database.cut(rng.choice(["take", "open", "record"]), rng.choice(["request", "reply"]))
            if rng.random() < 0.15:
                await cluster.ask(Verb.RESIGN, "")
            alive = [name for name, world in cluster.worlds.items() if not world.powered_off]
            if rng.random() < 0.1 and len(alive) > 1:
                await cluster.kill(rng.choice(alive))
            for name, world in cluster.worlds.items():
                if world.powered_off and world.link.up:
                    await cluster.boot(name)
            asked.append(await cluster.ask(Verb.TRIGGER))
        await trio.sleep(60)
        rows = {row.occurrence.request: row for row in cluster.rows() if row.occurrence.request}
        assert sorted(rows) == sorted(one.wish.request for one in asked)
        assert len(cluster.leads()) > 3
        for one in asked:
            row, answer = rows[one.wish.request], await cluster.overrides.answer(one.number)
            assert answer["run_id"] == str(row.number)
            begun = [b for b in cluster.first.witness if b.due_at == one.asked_at]
            assert len(begun) <= 1
            assert begun or row.attempts[-1].state is State.LOST


async def test_a_trigger_is_judged_by_overlap_and_told_why_not(autojump_clock):
    async with running(Cluster(schedule("a", HOURLY), bodies={"a": Body(60)})) as cluster:
        first = await cluster.answer(await cluster.ask(Verb.TRIGGER))
        second = await cluster.answer(await cluster.ask(Verb.TRIGGER))
        assert second["reason"] == f"overlap = skip: run {first['run_id']} still runs"
        assert cluster.row(second["run_id"]).verdict is Verdict.SKIPPED


async def test_with_overlap_queue_a_trigger_waits_for_its_turn(autojump_clock):
    async with running(
        Cluster(schedule("a", HOURLY, overlap=Overlap.QUEUE), bodies={"a": Body(10)})
    ) as cluster:
        for _ in range(3):
            await cluster.answer(await cluster.ask(Verb.TRIGGER))
        await trio.sleep(40)
        begins = [begun.at for begun in cluster.first.witness]
        assert [round((at - begins[0]).total_seconds()) for at in begins] == [0, 10, 20]


async def test_a_disabled_or_paused_schedule_can_be_triggered_by_hand(autojump_clock):
    async with running(Cluster(schedule("a", TEN, enabled=False), schedule("b", TEN))) as cluster:
        await cluster.ask(Verb.PAUSE, "b")
        for name in "ab":
            await cluster.answer(await cluster.ask(Verb.TRIGGER, name))
        await trio.sleep(30)
        assert sorted(begun.schedule for begun in cluster.first.witness) == ["a", "b"]


async def test_a_trigger_of_what_the_leader_does_not_know_is_refused(autojump_clock):
    async with running(Cluster(schedule("a", HOURLY))) as cluster:
        answer = await cluster.answer(await cluster.ask(Verb.TRIGGER, "nope"))
        assert "no schedule 'nope'" in answer["refused"]


# -- pause ----------------------------------------------------------------------------------------


async def test_a_pause_holds_over_a_takeover_and_ends_with_resume(autojump_clock):
    async with running(Cluster(schedule("a", TEN))) as cluster:
        await cluster.first.until(15)
        await cluster.answer(await cluster.ask(Verb.PAUSE, note="deploy"))
        await cluster.first.until(25)
        await cluster.kill("a")
        await cluster.first.until(45)
        await cluster.answer(await cluster.ask(Verb.RESUME))
        await cluster.first.until(61)
        assert cluster.first.begun("a") == [10, 50, 60]
        skipped = [row for row in cluster.rows() if row.verdict is Verdict.SKIPPED]
        assert {row.reason for row in skipped} == {"paused by uid 0 on b: deploy"}
        assert sum(row.recording.count for row in skipped) == 3


async def test_what_nobody_decided_of_a_pause_is_skipped_in_one_row_also_after_its_end(autojump_clock):
    cluster = Cluster(schedule("a", TEN, catch_up=CatchUp.ALL), names="a")
    async with running(cluster):
        await cluster.first.until(15)
        until = NOON + timedelta(seconds=100)
        await cluster.answer(await cluster.ask(Verb.PAUSE, until=until))
        await cluster.kill("a")
        await cluster.first.until(125)
        await cluster.boot("a")
        await cluster.first.until(131)
        assert cluster.first.begun("a") == [10, 100, 110, 120, 130]
        [row] = [row for row in cluster.rows() if row.verdict is Verdict.SKIPPED]
        assert (row.occurrence.due_at, row.recording.due_until, row.recording.count) == (
            NOON + timedelta(seconds=20), NOON + timedelta(seconds=90), 8,
        )  # fmt: skip
        assert row.reason == f"paused by uid 0 on b until {until:%FT%TZ}"


async def test_what_waits_or_runs_when_a_pause_begins_goes_on(autojump_clock):
    cluster = Cluster(schedule("a", TEN, overlap=Overlap.QUEUE), bodies={"a": Body(25)}, names="a")
    async with running(cluster):
        await cluster.first.until(21)
        await cluster.answer(await cluster.ask(Verb.PAUSE))
        await cluster.first.until(90)
        assert cluster.first.begun("a") == [10, 20]
        assert [begun.state for begun in cluster.first.witness] == [State.SUCCEEDED] * 2


# -- cancel ---------------------------------------------------------------------------------------


async def test_a_run_is_cancelled_from_another_node_and_not_retried(autojump_clock):
    failing = schedule("a", HOURLY, retries=5)
    async with running(Cluster(failing, bodies={"a": Body(600)})) as cluster:
        run_id = (await cluster.answer(await cluster.ask(Verb.TRIGGER)))["run_id"]
        await trio.sleep(1)
        await cluster.answer(await cluster.ask(Verb.CANCEL, run_id, note="enough"))
        row = cluster.row(run_id)
        assert (row.attempts[-1].state, row.attempts[-1].error) == (
            State.CANCELLED,
            "cancelled by uid 0 on b: enough",
        )
        await trio.sleep(600)
        assert len(cluster.first.witness) == 1


async def test_a_cancelled_run_that_fails_at_that_very_moment_is_not_retried_either(autojump_clock):
    failing = schedule("a", HOURLY, retries=5, backoff=Backoff(timedelta(seconds=1)))
    async with running(Cluster(failing, bodies={"a": Body(5, State.FAILED, "no")})) as cluster:
        run_id = (await cluster.answer(await cluster.ask(Verb.TRIGGER)))["run_id"]
        await trio.sleep(1)
        executing = cluster.first.daemon.executing
        executing.cancel = lambda isolation, token, reason: None  # it does not heed TERM, and then it fails
        await cluster.answer(await cluster.ask(Verb.CANCEL, run_id), 10)
        await trio.sleep(60)
        assert [one.state for one in cluster.row(run_id).attempts] == [State.FAILED]


async def test_a_run_left_behind_by_a_former_leader_is_cancelled_where_it_runs(autojump_clock):
    async with running(Cluster(schedule("a", HOURLY), bodies={"a": Body(600)})) as cluster:
        run_id = (await cluster.answer(await cluster.ask(Verb.TRIGGER)))["run_id"]
        await cluster.answer(await cluster.ask(Verb.RESIGN, ""))
        await trio.sleep(5)
        assert cluster.leads() == ["a", "b"]
        assert (await cluster.answer(await cluster.ask(Verb.CANCEL, run_id)))["by"] == "a"
        assert cluster.row(run_id).attempts[-1].state is State.CANCELLED


async def test_a_retry_that_waits_is_dropped(autojump_clock):
    failing = schedule("a", HOURLY, retries=5, backoff=Backoff(timedelta(minutes=1)))
    async with running(Cluster(failing, bodies={"a": Body(0, State.FAILED, "no")})) as cluster:
        run_id = (await cluster.answer(await cluster.ask(Verb.TRIGGER)))["run_id"]
        await trio.sleep(5)
        await cluster.answer(await cluster.ask(Verb.CANCEL, run_id))
        row = cluster.row(run_id)
        assert (row.verdict, row.retry_at, row.reason) == (Verdict.RAN, None, "cancelled by uid 0 on b")
        await trio.sleep(600)
        assert len(cluster.first.witness) == 1


async def test_what_waits_in_a_queue_is_skipped_and_the_next_one_has_its_turn(autojump_clock):
    async with running(
        Cluster(schedule("a", HOURLY, overlap=Overlap.QUEUE), bodies={"a": Body(10)})
    ) as cluster:
        runs = [(await cluster.answer(await cluster.ask(Verb.TRIGGER)))["run_id"] for _ in range(3)]
        await cluster.answer(await cluster.ask(Verb.CANCEL, runs[1]))
        await trio.sleep(60)
        row = cluster.row(runs[1])
        assert (row.verdict, row.reason, row.attempts) == (Verdict.SKIPPED, "cancelled by uid 0 on b", [])
        assert [cluster.row(run).attempts[-1].state for run in (runs[0], runs[2])] == [State.SUCCEEDED] * 2


@pytest.mark.parametrize("look_s", [1.0, 30.0])
@pytest.mark.parametrize("before", [True, False])
async def test_a_run_whose_node_died_is_not_tried_again_once_it_was_cancelled(
    autojump_clock, monkeypatch, before, look_s
):
    monkeypatch.setattr("singd.overrides.UNDONE_S", look_s)
    again = schedule("a", HOURLY, delivery=Delivery.AT_LEAST_ONCE)
    async with running(Cluster(again, bodies={"a": Body(600)})) as cluster:
        run_id = (await cluster.answer(await cluster.ask(Verb.TRIGGER)))["run_id"]
        await trio.sleep(1)
        if before:
            await cluster.kill("a")
            await trio.sleep(1)
            asked = await cluster.ask(Verb.CANCEL, run_id)
        else:  # the leader dies while it ends the run
            cluster.first.daemon.executing.cancel = lambda isolation, token, reason: None
            asked = await cluster.ask(Verb.CANCEL, run_id)
            await trio.sleep(0.5)
            await cluster.kill("a")
        await cluster.answer(asked, 60)
        await trio.sleep(300)
        assert [one.state for one in cluster.row(run_id).attempts] == [State.LOST]
        assert cluster.row(run_id).retry_at is None
        assert len(cluster.first.witness) == 1


# -- resign ---------------------------------------------------------------------------------------


async def test_a_leader_that_resigns_hands_over_at_once_and_what_runs_goes_on(autojump_clock):
    cluster = Cluster(schedule("a", TEN), schedule("b", HOURLY), bodies={"b": Body(60)})
    async with running(cluster):
        long = (await cluster.answer(await cluster.ask(Verb.TRIGGER, "b")))["run_id"]
        await cluster.first.until(19.5)
        before = trio.current_time()
        assert (await cluster.answer(await cluster.ask(Verb.RESIGN, "")))["node"] == "a"
        while cluster.leads() != ["a", "b"]:
            await trio.sleep(0.01)
        assert trio.current_time() - before < 0.2
        await cluster.first.until(91)
        assert cluster.leads() == ["a", "b"]
        assert cluster.first.begun("a") == list(range(10, 91, 10))
        assert [one.state for one in cluster.row(long).attempts] == [State.SUCCEEDED]


async def test_the_only_node_leads_again_after_its_rest(autojump_clock):
    async with running(Cluster(schedule("a", HOURLY), names="a")) as cluster:
        await cluster.answer(await cluster.ask(Verb.RESIGN, "a"))
        await trio.sleep(1.9)
        assert cluster.leads() == ["a"]
        await trio.sleep(0.5)
        assert cluster.leads() == ["a", "a"]


async def test_a_node_that_does_not_lead_cannot_resign(autojump_clock):
    async with running(Cluster(schedule("a", HOURLY))) as cluster:
        answer = await cluster.answer(await cluster.ask(Verb.RESIGN, "b"))
        assert answer["refused"] == "it does not lead: a does"
        await trio.sleep(5)
        assert cluster.leads() == ["a"]


async def test_a_resignation_that_nobody_heard_is_not_meant_for_the_next_leader(autojump_clock):
    cluster = Cluster(schedule("a", HOURLY))
    asked = await cluster.ask(Verb.RESIGN, "")
    async with running(cluster):
        assert not (await cluster.answer(asked)).get("node")
        await trio.sleep(10)
        assert cluster.leads() == ["a"]


async def test_a_word_that_got_lost_is_made_up_for(autojump_clock):
    async with running(Cluster(schedule("a", HOURLY))) as cluster:
        cluster.database.notify = lambda: None
        asked = await cluster.ask(Verb.TRIGGER)
        await cluster.answer(asked, 11)


# -- a node's own ---------------------------------------------------------------------------------


async def test_what_is_asked_of_a_node_that_is_away_waits_for_it_but_not_for_ever(autojump_clock):
    async with running(Cluster(schedule("a", HOURLY))) as cluster:
        asked = [
            await cluster.ask(Verb.TRIGGER, owner="zz"),
            await cluster.ask(Verb.CANCEL, "zz:12", owner="zz"),
        ]
        await trio.sleep(3590)
        assert [await cluster.overrides.answer(one.number) for one in asked] == [None, None]
        for one in asked:
            assert "node zz was away" in (await cluster.answer(one, 30))["refused"]


async def test_what_is_asked_of_a_node_whose_own_schedules_wait_is_looked_at_again_without_word(
    autojump_clock,
):
    class Hands:
        """A journal's disk is full, and then is not."""

        asked = 0

        def scheduler_of(self, owner: str) -> None:
            self.asked += owner == "a"

        def runner_of(self, owner: str) -> None:
            return None

    class Noon:
        def now(self) -> datetime:
            return datetime(2026, 11, 23, 12, tzinfo=UTC)

    overrides, hands = MemoryOverrides(MemoryDatabase()), Hands()
    await overrides.ask(Wish(Verb.TRIGGER, "own", "r", "uid 0 on b", "a"))
    with trio.move_on_after(60):
        await Desk("a", overrides, hands, Noon(), lambda _: None).serve()
    assert hands.asked >= 30, "while the node itself is there, its business is tried again"
