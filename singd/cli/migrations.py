"""Migrations of the ledger and of the plugins' tables, as `singd run` and `singd db migrate` apply them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import trio

from singd.cli.databases import Databases
from singd.core.catalogue import TaskInfo
from singd.core.config import Bound
from singd.core.units import counted
from singd.edges import plugin_migrations
from singd.edges.postgres.migrate import migrate
from singd.errors import EdgeError, PluginError
from singd.events import Emit, Notice


class Migrations:
    """What has to be applied before a campaign; each part is applied until it succeeded once."""

    def __init__(self, databases: Databases, schema: str, bound: Mapping[str, Bound], emit: Emit) -> None:
        self._databases = databases
        self._schema = schema
        self._plugins = plugin_sets(item.task for item in bound.values() if item.task)
        self._emit = emit
        self._ledger_done = False

    async def apply(self) -> None:
        """Bring the ledger's schema up to date, then the plugins' tables.

        Raises:
            EdgeError: The ledger's cannot be: cluster work has to wait. A plugin's failure is only told:
                the attempts of its tasks say what is missing.
        """
        if not self._ledger_done:
            conninfo = self._databases.ledger("migrator")
            names = await migrate(conninfo, self._schema, self._databases.runtime_role)
            self._ledger_done = True
            if names:
                self._emit(Notice("info", f"ledger: applied {', '.join(names)}"))
        for key in sorted(self._plugins):
            await self._apply_plugin(*key)

    async def _apply_plugin(self, plugin: str, database: str, directory: str) -> None:
        try:
            conninfo = self._databases.conninfo(database, "migrator")
            numbers = await trio.to_thread.run_sync(
                plugin_migrations.apply, conninfo, plugin, Path(directory)
            )
        except (EdgeError, PluginError) as error:
            self._emit(Notice("error", f"{plugin}: its tables in {database} are not up to date: {error}"))
            return
        self._plugins.discard((plugin, database, directory))
        if numbers:
            self._emit(
                Notice("info", f"{plugin}: applied {counted(len(numbers), 'migration')} in {database}")
            )


def plugin_sets(tasks: Iterable[TaskInfo]) -> set[tuple[str, str, str]]:
    """(plugin, database, directory) of every set of migrations that tasks declare."""
    return {(task.plugin, *task.migrations) for task in tasks if task.migrations}
