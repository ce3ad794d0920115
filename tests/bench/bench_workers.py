"""No-op attempts a second through the executors alone, without a ledger; one JSON line."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.works import TESTS, Inbox, hostile

from singd.core.values import Isolation, State
from singd.edges.inline import InlineExecutor
from singd.edges.worker.executor import WorkerExecutor
from singd.edges.worker.keeper import KeeperClient

ATTEMPTS = 20_000


@asynccontextmanager
async def workers(inbox: Inbox) -> AsyncIterator[WorkerExecutor]:
    keeper = KeeperClient()
    keeper.start()
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.serve)
        executor = WorkerExecutor(keeper, max_processes=2, plugin_paths=(TESTS,))
        async with trio.open_nursery() as inner:
            await inner.start(executor.serve, inbox.report, inbox.room_changed)
            yield executor
            inner.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
    await keeper.stop()


async def rate(executor: object, inbox: Inbox, task: str, isolation: Isolation) -> float:
    """Hand over as room allows, like the runner does."""
    begun, left, given = time.perf_counter(), ATTEMPTS, []
    while left or len(inbox.reports) < len(given):
        room = min(executor.room(task), left)  # type: ignore[attr-defined]
        works = [hostile(task, isolation=isolation) for _ in range(room)]
        given += works
        left -= room
        executor.hand_over(works)  # type: ignore[attr-defined]
        await trio.sleep(0 if room else 0.0005)
    seconds = time.perf_counter() - begun
    assert all(report.state is State.SUCCEEDED for report in inbox.reports.values())
    inbox.reports.clear()
    return round(ATTEMPTS / seconds)


async def main() -> None:
    inbox = Inbox()
    figures: dict[str, object] = {"bench": "workers", "attempts": ATTEMPTS}
    async with workers(inbox) as executor:
        for task in ("noop", "async_noop"):
            figures[f"process_{task}_per_s"] = await rate(executor, inbox, task, Isolation.PROCESS)
    async with trio.open_nursery() as nursery:
        inline = InlineExecutor()
        await nursery.start(inline.serve, inbox.report, inbox.room_changed)
        figures["inline_async_noop_per_s"] = await rate(inline, inbox, "async_noop", Isolation.INLINE)
        nursery.cancel_scope.cancel()
    print(json.dumps(figures))


if __name__ == "__main__":
    trio.run(main)
