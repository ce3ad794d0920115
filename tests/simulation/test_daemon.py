"""The daemon's promises on one node, in simulated time."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
import trio
from simulation.world import NOON, Body, World, named, schedule

from singd.core.cron import Cron
from singd.core.trigger import next_after
from singd.core.values import At, Backoff, CatchUp, Delivery, Every, Overlap, Startup, State
from singd.errors import EdgeError
from singd.events import AttemptEnded, NotRun, TermBegan
from singd.view import View

MINUTE = Every(timedelta(minutes=1))
TEN = Every(timedelta(seconds=10))


async def run_for(world: World, seconds: float) -> World:
    """A daemon from noon on, stopped cleanly."""
    async with trio.open_nursery() as nursery:
        await world.boot(nursery)
        await world.until(seconds)
        world.daemon.stop()
    return world


async def test_every_instant_of_a_day_runs_once_and_never_early(autojump_clock):
    world = await run_for(World(named(schedule("a", Cron.parse("*/5 * * * *")))), 86_400 + 10)
    assert world.verdicts("a") == dict.fromkeys(range(300, 86_401, 300), "succeeded")
    late = [(begun.at - begun.due_at).total_seconds() for begun in world.witness]
    assert min(late) >= 0
    assert max(late) < 0.1


async def test_a_new_schedule_owes_nothing_for_the_past(autojump_clock):
    world = await run_for(
        World(named(schedule("a", At(NOON - timedelta(seconds=1))), schedule("b", MINUTE))), 61
    )
    assert world.verdicts("a") == {}
    assert world.verdicts("b") == {60: "succeeded"}


async def test_overlap_skip_names_the_run_in_the_way(autojump_clock):
    world = await run_for(World(named(schedule("a", TEN)), {"a": Body(15)}), 41)
    assert world.verdicts("a") == {10: "succeeded", 20: "skipped", 30: "succeeded", 40: "skipped"}
    reasons = [event.reason for event in world.events if isinstance(event, NotRun)]
    first = next(event.run_id for event in world.events if isinstance(event, AttemptEnded))
    assert reasons[0] == f"overlap = skip: run {first} still runs"


async def test_overlap_queue_runs_every_instant_one_after_another(autojump_clock):
    world = await run_for(World(named(schedule("a", TEN, overlap=Overlap.QUEUE)), {"a": Body(15)}), 62)
    assert world.begun("a") == [10, 20, 30, 40]
    ends = [b.ended for b in world.witness]
    begins = [b.at for b in world.witness]
    assert all(begin >= end for begin, end in zip(begins[1:], ends, strict=False))


async def test_overlap_allow_runs_them_side_by_side(autojump_clock):
    world = await run_for(World(named(schedule("a", TEN, overlap=Overlap.ALLOW)), {"a": Body(25)}), 41)
    begins = [round((b.at - NOON).total_seconds()) for b in world.witness]
    assert begins == [10, 20, 30, 40]


async def test_overlap_replace_ends_the_one_before(autojump_clock):
    world = await run_for(World(named(schedule("a", TEN, overlap=Overlap.REPLACE)), {"a": Body(15)}), 37)
    assert world.verdicts("a") == {10: "cancelled", 20: "cancelled", 30: "succeeded"}


async def test_failures_are_retried_with_backoff_and_then_let_be(autojump_clock):
    failing = schedule(
        "a", At(NOON + timedelta(seconds=5)), retries=2, backoff=Backoff(timedelta(seconds=10))
    )
    world = await run_for(World(named(failing), {"a": Body(1, State.FAILED, "no")}), 100)
    begins = [round((b.at - NOON).total_seconds()) for b in world.witness]
    assert begins == [5, 16, 37]
    assert world.verdicts("a") == {5: "failed"}


async def test_a_task_that_gives_up_is_not_retried(autojump_clock):
    failing = schedule("a", At(NOON + timedelta(seconds=5)), retries=5)
    world = await run_for(World(named(failing), {"a": Body(1, State.FAILED, "no", give_up=True)}), 100)
    assert len(world.witness) == 1


async def test_a_retry_that_succeeds_is_the_outcome(autojump_clock):
    failing = schedule("a", At(NOON + timedelta(seconds=5)), retries=2)
    world = await run_for(World(named(failing), {"a": [Body(1, State.FAILED, "no"), Body(1)]}), 100)
    assert world.verdicts("a") == {5: "succeeded"}


async def test_more_than_there_is_room_for_waits_and_is_not_lost(autojump_clock):
    many = [schedule(f"s{i}", At(NOON + timedelta(seconds=5))) for i in range(20)]
    world = await run_for(World(named(*many), {f"s{i}": Body(10) for i in range(20)}, room=3), 100)
    assert len(world.witness) == 20
    active = 0
    for _, change in sorted([(b.at, 1) for b in world.witness] + [(b.ended, -1) for b in world.witness]):
        active += change
        assert active <= 3


async def test_a_disabled_schedule_does_nothing_and_says_so_for_every_instant(autojump_clock):
    world = await run_for(World(named(schedule("a", MINUTE, enabled=False))), 181)
    assert world.verdicts("a") == {60: "skipped", 120: "skipped", 180: "skipped"}


async def test_startup_schedules_run_at_the_start_and_not_at_a_new_election(autojump_clock):
    world = World(named(schedule("a", Startup())))
    async with trio.open_nursery() as nursery:
        await world.boot(nursery)
        await world.until(5)
        world.database.stop()
        await world.until(10)
        world.database.start()
        await world.until(60)
        world.daemon.stop()
    assert len(world.witness) == 1
    assert sum(isinstance(event, TermBegan) for event in world.events) == 2


async def test_startup_schedules_run_again_when_the_daemon_starts_again(autojump_clock):
    world = World(named(schedule("a", Startup())))
    await run_for(world, 5)
    await run_for(world, 10)
    assert len(world.witness) == 2
    assert set(world.verdicts("a").values()) == {"succeeded"}


async def test_instants_while_the_database_is_away_run_when_it_is_back_if_within_the_grace(autojump_clock):
    world = World(named(schedule("a", TEN)))
    async with trio.open_nursery() as nursery:
        await world.boot(nursery)
        await world.until(15)
        world.database.stop()
        await world.until(35)
        world.database.start()
        await world.until(62)
        world.daemon.stop()
    assert world.verdicts("a") == dict.fromkeys((10, 20, 30, 40, 50, 60), "succeeded")
    assert world.begun("a") == [10, 20, 30, 40, 50, 60]


async def test_what_keeps_cluster_work_waiting_is_in_the_status_and_gone_when_it_is_over(autojump_clock):
    world = World(named(schedule("a", TEN)))
    async with trio.open_nursery() as nursery:
        await world.boot(nursery)
        await world.until(15)
        view = View(world.daemon, lambda: "here", "singd.toml", lambda name: (), lambda: ())
        assert (view.snapshot().state, view.snapshot().troubles) == ("leading", ())
        world.database.stop()
        await world.until(25)
        assert view.snapshot().state == "no ledger"
        assert "does not answer" in view.snapshot().troubles[0].text
        world.database.start()
        await world.until(40)
        assert (view.snapshot().state, view.snapshot().troubles) == ("leading", ())
        world.daemon.stop()


async def test_a_ledger_that_refuses_every_write_makes_no_storm_of_terms(autojump_clock, monkeypatch):
    world = World(named(schedule("a", TEN)))

    def refuse(term):
        raise EdgeError("the disk is full")

    monkeypatch.setattr(world.database, "fence", refuse)
    await run_for(world, 60)
    assert 2 <= sum(isinstance(event, TermBegan) for event in world.events) <= 20


async def test_a_running_attempt_survives_the_loss_of_leadership_and_records_its_end(autojump_clock):
    world = World(named(schedule("a", At(NOON + timedelta(seconds=5)))), {"a": Body(30)})
    async with trio.open_nursery() as nursery:
        await world.boot(nursery)
        await world.until(10)
        world.database.terminate("sim")
        await world.until(60)
        world.daemon.stop()
    assert world.verdicts("a") == {5: "succeeded"}
    assert len(world.witness) == 1


@pytest.mark.parametrize(
    ("delivery", "outcome", "begun"),
    [(Delivery.AT_MOST_ONCE, "lost", 1), (Delivery.AT_LEAST_ONCE, "succeeded", 2)],
)
async def test_what_a_killed_daemon_ran_is_lost_and_delivery_decides(
    autojump_clock, delivery, outcome, begun
):
    world = World(named(schedule("a", At(NOON + timedelta(seconds=5)), delivery=delivery)), {"a": Body(20)})
    async with trio.open_nursery() as nursery:
        await world.boot(nursery)
        await world.until(10)
        await world.kill()
        await world.boot(nursery)
        await world.until(120)
        world.daemon.stop()
    assert world.verdicts("a") == {5: outcome}
    assert len(world.witness) == begun


@pytest.mark.parametrize(
    ("delivery", "begun", "outcome"),
    [(Delivery.AT_MOST_ONCE, ["sim"], "succeeded"), (Delivery.AT_LEAST_ONCE, ["sim", "other"], "succeeded")],
)
async def test_a_partitioned_nodes_attempt_goes_on_unless_another_may_follow(
    autojump_clock, delivery, begun, outcome
):
    item = schedule("a", At(NOON + timedelta(seconds=5)), delivery=delivery)
    world = World(named(item), {"a": Body(60)})
    other = World(named(item), {"a": Body(1)}, clock=world.clock, name="other", database=world.database)
    async with trio.open_nursery() as nursery:
        await world.boot(nursery)
        await world.until(10)
        await other.boot(nursery)
        world.link.up = False
        await world.until(45)
        assert "lost" in {str(row.attempts[0].state) for row in world.database.rows.values()}
        world.link.up = True
        await world.until(120)
        world.daemon.stop()
        other.daemon.stop()
    assert ["sim"] * len(world.witness) + ["other"] * len(other.witness) == begun
    assert world.verdicts("a") == {5: outcome}
    if len(begun) == 2:
        assert world.witness[0].ended < other.witness[0].at, "the first was over before the second began"


async def test_a_claim_that_never_started_is_settled_and_runs_under_either_delivery(autojump_clock):
    world = World(named(schedule("a", At(NOON + timedelta(seconds=5)))))
    async with trio.open_nursery() as nursery:
        await world.boot(nursery)
        world.database.cut("start", "request", times=10_000)
        await world.until(6)
        await world.kill()
        world.database.cut("start", "request", times=0)
        world.database._cuts["start"].clear()
        await world.boot(nursery)
        await world.until(60)
        world.daemon.stop()
    assert world.verdicts("a") == {5: "succeeded"}
    assert [b.attempt for b in world.witness] == [2]


@pytest.mark.parametrize("operation", ["record", "start", "finish"])
async def test_an_answer_lost_on_the_way_doubles_nothing(autojump_clock, operation):
    world = World(named(schedule("a", TEN)))
    async with trio.open_nursery() as nursery:
        await world.boot(nursery)
        await world.until(12)
        world.database.cut(operation, "reply")
        await world.until(61)
        world.daemon.stop()
    assert world.verdicts("a") == dict.fromkeys((10, 20, 30, 40, 50, 60), "succeeded")
    assert world.begun("a") == [10, 20, 30, 40, 50, 60]


async def test_after_an_hour_down_the_latest_runs_and_the_rest_is_accounted_for(autojump_clock):
    world = World(named(schedule("a", MINUTE, catch_up=CatchUp.LATEST)))
    async with trio.open_nursery() as nursery:
        await world.boot(nursery)
        await world.until(61)
        await world.kill()
        await world.until(3_675)
        await world.boot(nursery)
        await world.until(3_700)
        world.daemon.stop()
    assert world.begun("a") == [60, 3_600, 3_660]
    assert world.count() == 61
    assert len(world.database.rows) <= 5


async def test_a_clock_that_jumps_forward_loses_nothing_and_one_that_jumps_back_doubles_nothing(
    autojump_clock,
):
    world = World(named(schedule("a", TEN, catch_up=CatchUp.ALL)))
    async with trio.open_nursery() as nursery:
        await world.boot(nursery)
        await world.until(15)
        world.clock.skew += timedelta(seconds=100)
        await trio.sleep(20)
        world.clock.skew -= timedelta(seconds=100)
        await trio.sleep(200)
        world.daemon.stop()
        end = (world.clock.now() - NOON).total_seconds()
    assert world.begun("a") == list(range(10, int(end) + 1, 10))


async def test_stopping_lets_running_attempts_finish_and_ends_the_others_within_the_deadline(autojump_clock):
    world = World(named(schedule("a", At(NOON + timedelta(seconds=5))), schedule("b", At(NOON + timedelta(seconds=5)))),
                  {"a": Body(10), "b": Body(1000)})  # fmt: skip
    async with trio.open_nursery() as nursery:
        await world.boot(nursery)
        await world.until(6)
        world.daemon.stop()
    assert (world.clock.now() - NOON).total_seconds() <= 36
    assert world.verdicts("a") == {5: "succeeded"}
    assert world.verdicts("b") == {5: "cancelled"}


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_every_instant_has_one_verdict_and_no_attempt_begins_twice(
    autojump_clock, seed
):
    """Seeded kills, database outages, lost answers and terminated sessions over an hour; the checker reads afterwards."""
    chance = random.Random(seed)
    schedules = named(
        schedule("fast", Every(timedelta(seconds=7)), catch_up=CatchUp.ALL, catch_up_max=10_000),
        schedule("slow", MINUTE, overlap=Overlap.QUEUE, retries=1, backoff=Backoff(timedelta(seconds=3))),
        schedule(
            "sure", Every(timedelta(seconds=30)), delivery=Delivery.AT_LEAST_ONCE, overlap=Overlap.ALLOW
        ),
    )
    bodies = {
        "fast": Body(1),
        "slow": [Body(20, State.FAILED, "no"), Body(30), Body(170), Body(5)],
        "sure": Body(12),
    }
    world = World(schedules, bodies, room=4)
    async with trio.open_nursery() as nursery:
        await world.boot(nursery)
        while (world.clock.now() - NOON).total_seconds() < 3_600:
            await trio.sleep(chance.uniform(5, 120))
            await _harm(world, nursery, chance)
        await trio.sleep(900)
        world.daemon.stop()
    _check(world)


async def _harm(world: World, nursery: trio.Nursery, chance: random.Random) -> None:
    match chance.choice(["kill", "stop", "terminate", "cut", "cut", "partition"]):
        case "kill":
            await world.kill()
            await world.boot(nursery)
        case "stop":
            world.database.stop()
            await trio.sleep(chance.uniform(0.5, 40))
            world.database.start()
        case "terminate":
            world.database.terminate("sim")
        case "cut":
            operation = chance.choice(
                ["record", "start", "finish", "open_attempts", "beat", "settle", "decide"]
            )
            world.database.cut(operation, chance.choice(["request", "reply"]), chance.randint(1, 3))
        case "partition":
            world.link.up = False
            await trio.sleep(chance.uniform(0.5, 15))
            world.link.up = True


def _check(world: World) -> None:
    for row in world.database.rows.values():
        assert row.verdict is not None, f"open for ever: {row}"
        assert row.live is None, f"running for ever: {row}"
        assert row.retry_at is None, f"retry for ever: {row}"
    for name, item in world.schedules.items():
        covered = []
        for row in world.database.rows.values():
            if row.occurrence.schedule == name:
                instant, until = row.occurrence.due_at, row.recording.due_until or row.occurrence.due_at
                while instant is not None and instant <= until:
                    covered.append(instant)
                    instant = next_after(item.trigger, instant)
        assert len(covered) == len(set(covered)), "an instant with two rows"
        expected, instant = [], NOON
        while (instant := next_after(item.trigger, instant)) <= max(covered):
            expected.append(instant)
        assert sorted(covered) == expected
        assert max(covered) >= world.clock.now() - timedelta(seconds=120)
    starts = [(b.schedule, b.due_at, b.attempt) for b in world.witness]
    assert len(starts) == len(set(starts)), "an attempt began twice"
    epochs = [event.epoch for event in world.events if isinstance(event, TermBegan)]
    assert epochs == sorted(set(epochs))
    ran = sum(row.attempts != [] for row in world.database.rows.values())
    assert ran > 100, "an idle system cannot pass"


async def test_a_trigger_changed_between_two_starts_makes_no_past_instant_due(autojump_clock):
    world = World(named(schedule("a", MINUTE), schedule("b", MINUTE)))
    await run_for(world, 61)
    world.schedules = named(schedule("a", TEN), schedule("b", MINUTE))
    await trio.sleep(3_600)
    started = (world.clock.now() - NOON).total_seconds()
    await run_for(world, started + 30)
    assert min(second for second in world.verdicts("a") if second > 60) > started
    assert world.count() > 61 + 3


async def test_a_schedule_that_was_gone_and_comes_back_owes_nothing_for_the_time_between(autojump_clock):
    world = World(named(schedule("a", MINUTE), schedule("b", MINUTE)))
    await run_for(world, 61)
    world.schedules = named(schedule("b", MINUTE))
    await run_for(world, 600)
    world.schedules = named(schedule("a", MINUTE), schedule("b", MINUTE))
    await run_for(world, 1_000)
    assert [second for second in world.verdicts("a") if 60 < second < 600] == []
    assert world.begun("a")[-1] == 960
