"""Composes the verbs that change something: over the daemon, the ledger, and this node's own journal."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from singd.control import Handler
from singd.control_verbs import OperatorHandlers
from singd.core.history import OccurrenceRow
from singd.daemon import Daemon
from singd.edges.local.ledger import LocalLedger
from singd.edges.local.reader import LocalReader
from singd.views import DaemonView, LedgerView


def operator_verbs(view: DaemonView, daemon: Daemon, ledger: LedgerView) -> Mapping[str, Handler]:
    """Verb -> handler."""
    return OperatorHandlers(view, ledger, daemon.parts.overrides, partial(_find_run, daemon, ledger)).table()


async def _find_run(daemon: Daemon, ledger: LedgerView, run: str) -> OccurrenceRow | None:
    """The cluster's from the ledger, this node's own from its journal; another node's only it knows."""
    owner, _, number = run.rpartition(":")
    if not owner:
        return await ledger.run(int(number))
    local = daemon.parts.local
    if owner != daemon.parts.node.name or not isinstance(local, LocalLedger):
        return None
    return await LocalReader(local).run(int(number))
