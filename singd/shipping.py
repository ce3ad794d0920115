"""Shipping: what a node recorded for itself reaches the ledger, each row exactly once.

The local journal remembers what was shipped only after the ledger has it; a row that is sent again is known there by
its origin and number, and stays as it is. A row that another state directory reported under the same node name is kept
as an audit event, with an alarm; it holds up nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import trio

from singd.core.values import Shipment
from singd.errors import EdgeError
from singd.events import Emit, Notice
from singd.ports import Intake, NodeInfo, Outbox

BATCH = 500
RETRY_S = 5.0


async def ship(
    outbox: Outbox,
    intake: Intake,
    node: NodeInfo,
    registered: Callable[[], Awaitable[None]],
    emit: Emit,
) -> None:
    """Ship for ever; ends only by cancellation. While the ledger is away the local journal keeps everything."""
    while True:
        try:
            await registered()
            await ship_all(outbox, intake, node, emit)
        except EdgeError:
            await trio.sleep(RETRY_S)  # that the ledger is away is told by presence
        else:
            await outbox.changed()


async def ship_all(outbox: Outbox, intake: Intake, node: NodeInfo, emit: Emit) -> None:
    """Ship what there is now; EdgeError where the ledger, or the journal, cannot be reached."""
    while batch := await outbox.unshipped(BATCH):
        strange = await intake.take_in(node, outbox.origin, batch)
        await outbox.shipped([one.number for one in batch])
        for one in _those(batch, strange):
            occurrence = one.recording.occurrence
            emit(
                Notice(
                    "error",
                    f"{occurrence.schedule}: {occurrence.due_at:%FT%TZ} of node {node.name} had been reported by another "
                    "state directory: two daemons had this node's name; this one's row is in audit_event",
                )
            )


def _those(batch: Iterable[Shipment], numbers: set[int]) -> Iterable[Shipment]:
    return (one for one in batch if one.number in numbers)
