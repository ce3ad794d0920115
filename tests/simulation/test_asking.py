"""What an operator is told when nobody answers, the ledger is slow, or somebody lies about who asks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from support.fake_daemon import LED, FakeDaemon, FakeLedger, T, attempt, ran, schedule, serving

from singd.asking import Unsure
from singd.cli.client import ask
from singd.cli.paths import find
from singd.control import ScheduleView
from singd.control_verbs import OperatorHandlers, Refused
from singd.core.cluster import Cluster
from singd.core.values import Override, State, Verb, Wish
from singd.edges.memory import MemoryDatabase
from singd.edges.memory.overrides import MemoryOverrides
from singd.errors import EdgeError

SOCKET_S = 5.0
DAILY = ScheduleView(schedule("daily", "0 3 * * *"), cursor=T)


class Place:
    """The handlers of one daemon, over a ledger that nobody else looks at."""

    def __init__(
        self, ledger: FakeLedger | None = None, overrides: type[MemoryOverrides] = MemoryOverrides
    ) -> None:
        self.overrides = overrides(MemoryDatabase())
        self.handlers = OperatorHandlers(FakeDaemon([DAILY]), ledger or FakeLedger(), self.overrides)

    async def ask(self, verb: str, **request: Any) -> Mapping[str, Any]:
        """The answer, which comes before the socket's patience ends."""
        with trio.fail_after(SOCKET_S):
            answer: Mapping[str, Any] = (await self.handlers.table()[verb]({"peer_uid": 1000, **request}))[
                verb
            ]
            return answer


class Hanging(MemoryOverrides):
    """A ledger that does not answer."""

    async def ask(self, wish: Wish) -> Override:
        await trio.sleep_forever()


class Mute(FakeLedger):
    """One that takes wishes, and tells nothing else."""

    async def cluster(self) -> Cluster:
        await trio.sleep_forever()


async def test_a_wish_that_nobody_takes_is_told_in_time_and_stands(autojump_clock):
    place = Place()
    told = await place.ask("trigger", name="daily", request="r")
    assert (told["run_id"], told["waits_for"], told["request"]) == (None, "the leader, sing-1", "r")
    [asked] = await place.overrides.open()
    assert asked.wish == Wish(Verb.TRIGGER, "daily", "r", "uid 1000 on sing-1")


async def test_that_nobody_leads_is_told(autojump_clock):
    place = Place(FakeLedger(nodes=replace(LED, leader=replace(LED.leader, held=False))))
    assert (await place.ask("pause", name="daily"))["waits_for"] == "a leader: nobody leads at present"
    with pytest.raises(Refused, match="nobody leads"):
        await place.ask("resign")


async def test_a_ledger_that_takes_wishes_and_tells_nothing_else_holds_nobody_up(autojump_clock):
    assert (await Place(Mute()).ask("trigger", name="daily"))["waits_for"] == "a leader"


@pytest.mark.parametrize("verb", ["trigger", "pause", "resume"])
async def test_a_ledger_that_does_not_answer_leaves_it_open_whether_it_was_asked(autojump_clock, verb):
    with pytest.raises(Unsure) as told:
        await Place(overrides=Hanging).ask(verb, name="daily")
    assert told.value.exit == 75


async def test_a_resignation_that_nobody_answers_is_withdrawn(autojump_clock):
    place = Place()
    with pytest.raises(EdgeError, match="sing-1 does not answer"):
        await place.ask("resign")
    assert await place.overrides.open() == []


async def test_a_cancel_that_is_not_confirmed_names_the_node_that_has_to_end_it(autojump_clock):
    running = ran(4711, "daily", T, attempt(state=State.RUNNING))
    told = await Place(FakeLedger([running])).ask("cancel", run="4711")
    assert (told["over"], told["waits_for"]) == (False, "node sing-1, where it runs")


async def test_one_request_id_is_one_wish(autojump_clock):
    place = Place()
    await place.ask("pause", name="daily", request="r")
    with pytest.raises(Exception, match="request r was pause daily: another wish needs another id"):
        await place.ask("trigger", name="daily", request="r")


async def test_who_asked_is_the_kernels_word_and_not_the_clients(tmp_path: Path):
    async with serving(tmp_path, FakeDaemon([DAILY]), FakeLedger([ran()])):
        paths = find(config=None, state=str(tmp_path))
        told = await trio.to_thread.run_sync(lambda: ask(paths, "trigger", name="daily", peer_uid=4321))
    assert told["trigger"]["actor"] == f"uid {os.geteuid()} on sing-1"
