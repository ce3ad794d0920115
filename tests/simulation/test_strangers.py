"""Attempts whose daemon is gone, where leaders change."""

from __future__ import annotations

from datetime import timedelta

from simulation.test_overrides import Cluster, running
from simulation.world import NOON, Body, schedule

from singd.core.values import At, State, Verb


def states(cluster: Cluster) -> list[State]:
    return [attempt.state for row in cluster.rows() for attempt in row.attempts]


async def test_what_a_dead_daemon_ran_is_lost_in_time_though_leaders_change_faster(autojump_clock):
    once = schedule("a", At(NOON + timedelta(seconds=5)))
    async with running(Cluster(once, bodies={"a": Body(600)}, names="abc")) as cluster:
        await cluster.first.until(8)
        await cluster.kill("a")
        for _ in range(4):
            await cluster.first.until(cluster.first.clock.now().timestamp() - NOON.timestamp() + 8)
            await cluster.ask(Verb.RESIGN, "")
        assert len(set(cluster.leads())) == 3
        assert states(cluster) == [State.LOST], "32 s after its daemon died, four leaders later"


async def test_after_an_outage_those_who_could_not_beat_have_time_to(autojump_clock):
    once = schedule("a", At(NOON + timedelta(seconds=5)))
    async with running(Cluster(once, bodies={"a": Body(100)}, names="ab")) as cluster:
        await cluster.first.until(8)
        await cluster.ask(Verb.RESIGN, "")
        await cluster.first.until(15)
        cluster.database.stop()
        await cluster.first.until(50)
        cluster.database.start()
        await cluster.first.until(120)
        assert states(cluster) == [State.SUCCEEDED]
        assert len(cluster.first.witness) == 1
