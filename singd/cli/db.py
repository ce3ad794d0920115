"""`singd db migrate` and `singd db sql`: the ledger's schema, for those whose daemon may not create tables."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import trio

from singd.cli.configured import add_limits, good
from singd.cli.databases import Databases
from singd.cli.migrations import plugin_sets
from singd.cli.output import print_json, say
from singd.cli.paths import Paths, find
from singd.core.config import EMBEDDED, Config, bind
from singd.edges import plugin_migrations
from singd.edges.catalogue import read_catalogue
from singd.edges.postgres import migrate as ledger


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument(
        "action", choices=("migrate", "sql"), help="apply what is missing, or print it all as SQL"
    )
    parser.add_argument(
        "--runtime-role", metavar="ROLE", help="grant this role what a daemon needs, and no more"
    )
    parser.add_argument(
        "--url", metavar="URL", help="log in to the ledger by this, as its owner; else as configured"
    )
    add_limits(parser)


def run(args: argparse.Namespace) -> int:
    """Apply or print.

    Raises:
        EdgeError: A database refused (69).
        PluginError: A plugin's files contradict what was applied.
    """
    paths = find(config=args.config, state=args.state)
    config = good(args, paths)
    if args.action == "sql":
        return _print_sql(args, config)
    applied = _migrate_ledger(args, config) + _migrate_plugins(paths, config)
    if args.json:
        print_json("migrations", applied)
    for item in applied:
        say(f"{item['of']}: {', '.join(item['applied']) or 'nothing was missing'}")
    return 0


def _print_sql(args: argparse.Namespace, config: Config) -> int:
    text = ledger.sql(config.database.schema, args.runtime_role)
    if args.json:
        print_json("sql", text)
    else:
        sys.stdout.write(text)
    return 0


def _migrate_ledger(args: argparse.Namespace, config: Config) -> list[dict[str, str | list[str]]]:
    if config.database.url == EMBEDDED and not args.url:
        say("the ledger is embedded: the daemon brings it up to date whenever it starts")
        return []
    conninfo = args.url or Databases(config).ledger("migrator")
    names = trio.run(ledger.migrate, conninfo, config.database.schema, args.runtime_role)
    return [{"of": "ledger", "applied": list(names)}]


def _migrate_plugins(paths: Paths, config: Config) -> list[dict[str, str | list[str]]]:
    """The plugins' own tables, in databases that are reached by URL; the daemon sees to the embedded ones."""
    bound, _ = bind(config, read_catalogue(paths.state / "cache", paths.plugins))
    databases = Databases(config)
    applied: list[dict[str, str | list[str]]] = []
    for plugin, database, directory in sorted(plugin_sets(item.task for item in bound.values() if item.task)):
        if database in config.databases and config.databases[database].url != EMBEDDED:
            conninfo = databases.conninfo(database, "migrator")
            numbers = plugin_migrations.apply(conninfo, plugin, Path(directory))
            applied.append(
                {"of": f"{plugin} in {database}", "applied": [f"{number:04}" for number in numbers]}
            )
    return applied
