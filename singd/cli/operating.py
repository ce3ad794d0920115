"""Composes the verbs that change something: over the daemon, the ledger, and this node's own journal."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from singd.control import Handler
from singd.control_verbs import OperatorHandlers
from singd.core.history import OccurrenceRow
from singd.daemon import Daemon
from singd.views import DaemonView, LedgerView


def operator_verbs(view: DaemonView, daemon: Daemon, ledger: LedgerView) -> Mapping[str, Handler]:
    """Verb -> handler."""
    return OperatorHandlers(view, ledger, daemon.parts.overrides, partial(_find_run, ledger)).table()


async def _find_run(ledger: LedgerView, run: str) -> OccurrenceRow | None:
    """Another node's only as far as it is shipped: what goes on there, only that node knows."""
    owner, _, number = run.rpartition(":")
    return await (ledger.node_run(owner, int(number)) if owner else ledger.run(int(number)))
