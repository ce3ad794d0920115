"""Runs a simulated cluster for days, with faults, and says what happened.

trio shuffles the tasks that are runnable at one moment; here its dice are seeded, so that a seed is a history.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio
import trio.testing
from trio._core import _run

from singd.testing.cluster import SimulatedCluster
from singd.testing.faults import Faults, Trouble
from singd.testing.history import History, history_of

SETTLE_S = 300.0
"""After the last fault everything is healed, and the cluster has so long to come to rest."""


def simulate(
    cluster: SimulatedCluster, days: float, faults: Faults | None = None, *, settle_s: float | None = None
) -> History:
    """Run the cluster for so many days of its own time.

    Args:
        cluster: One that was not run before.
        days: How long; the settling comes on top.
        faults: What befalls it; by default nothing.
        settle_s: How long it has in the end, at least as long as its longest body.
    """
    rest_s = SETTLE_S if settle_s is None else settle_s
    with _seeded(cluster.seed):
        return trio.run(
            _days, cluster, days, faults, rest_s, clock=trio.testing.MockClock(autojump_threshold=0)
        )


async def _days(cluster: SimulatedCluster, days: float, faults: Faults | None, settle_s: float) -> History:
    trouble = Trouble(cluster, faults or Faults())
    async with cluster.open():
        for node in list(cluster.nodes.values()):
            await cluster.boot(node)
        with trio.move_on_after(days * 86_400):
            if faults is not None:
                await trouble.play()
            await trio.sleep_forever()
        struck_s = trio.current_time()
        for fault in trouble.log:
            fault.until_s = min(fault.until_s, struck_s)
        await trouble.quiet()
        await trio.sleep(settle_s)
        variants = (trouble.faults.configurations or {}).values()
        history = history_of(cluster, trouble.log, variants, trouble.faults.unit_s)
    return history


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    before = _run._ALLOW_DETERMINISTIC_SCHEDULING
    vars(_run)["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    _run._r.seed(seed)
    try:
        yield
    finally:
        vars(_run)["_ALLOW_DETERMINISTIC_SCHEDULING"] = before
