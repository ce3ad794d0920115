"""`singd plugins [show NAME]`: what is installed, what it offers, what failed to load and why. Needs no daemon."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from singd.cli.output import FAILED, USAGE, CommandError, paint, print_facts, print_json, print_table, say
from singd.cli.paths import find
from singd.core.catalogue import Catalogue, Param, TaskInfo
from singd.edges.catalogue import read_catalogue


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("action", nargs="?", choices=("show",), help="show one plugin or task in full")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the plugin's or the task's name")


def run(args: argparse.Namespace) -> int:
    """Print the catalogue, or one part of it."""
    if bool(args.action) != bool(args.name):
        raise CommandError("which one? `singd plugins show NAME`", exit=USAGE)
    paths = find(config=args.config, state=args.state)
    catalogue = read_catalogue(paths.state / "cache", paths.plugins)
    plugins = by_plugin(catalogue)
    if args.name:
        plugins = _named(plugins, args.name)
    if args.json:
        print_json("plugins", plugins)
    elif args.name:
        _show(catalogue, plugins)
    else:
        _list(catalogue)
    return 0


def by_plugin(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Plugins by name, each with its tasks and its broken ones."""
    found: dict[str, dict[str, Any]] = {}
    for task in catalogue.tasks.values():
        plugin = found.setdefault(
            task.plugin, {"name": task.plugin, "version": task.plugin_version, "tasks": [], "broken": []}
        )
        plugin["tasks"].append(asdict(task))
    for broken in catalogue.broken.values():
        plugin = found.setdefault(
            broken.plugin, {"name": broken.plugin, "version": None, "tasks": [], "broken": []}
        )
        plugin["broken"].append(asdict(broken))
    return [found[name] for name in sorted(found)]


def _named(plugins: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The plugin of that name, or the plugin of the task of that name with nothing but that task."""
    whole = [plugin for plugin in plugins if plugin["name"] == name]
    parts = [
        plugin
        | {part: [task for task in plugin[part] if task["name"] == name] for part in ("tasks", "broken")}
        for plugin in plugins
        if any(task["name"] == name for task in (*plugin["tasks"], *plugin["broken"]))
    ]
    if not whole and not parts:
        raise CommandError(
            f"no plugin and no task is called {name!r}", cure="`singd plugins` lists both", exit=FAILED
        )
    return whole or parts


def _list(catalogue: Catalogue) -> None:
    rows = [
        (task.name, f"{task.plugin} {task.plugin_version}", ", ".join(task.placement), task.summary)
        for task in sorted(catalogue.tasks.values(), key=lambda task: (task.plugin, task.name))
    ]
    if not rows and not catalogue.broken:
        say("no plugin is installed; `command` and `sql` schedules need none")
        return
    print_table(("TASK", "PLUGIN", "PLACEMENT", "SUMMARY"), rows)
    if catalogue.broken:
        print()
        broken = [(task.name, task.plugin, task.reason) for task in catalogue.broken.values()]
        print_table((paint("BROKEN", "red"), "PLUGIN", "REASON"), broken)


def _show(catalogue: Catalogue, plugins: list[dict[str, Any]]) -> None:
    for plugin in plugins:
        for task in plugin["tasks"]:
            _show_task(catalogue.tasks[task["name"]])
        for broken in plugin["broken"]:
            print_facts(
                {"task": broken["name"], "plugin": broken["plugin"], "failed to load": broken["reason"]}
            )
            print()


def _show_task(task: TaskInfo) -> None:
    print_facts(
        {
            "task": task.name, "summary": task.summary, "plugin": f"{task.plugin} {task.plugin_version}",
            "entry point": task.entry_point, "version": task.version, "placement": ", ".join(task.placement),
            "isolation": task.isolation, "function": "async def" if task.is_async else "def",
            "databases": ", ".join(task.databases), "timeout": task.timeout or "",
            "retries": "" if task.retries is None else str(task.retries),
            "migrations": f"{task.migrations[1]} (database {task.migrations[0]})" if task.migrations else "",
        }
    )  # fmt: skip
    if task.params:
        print_table(("  ARGUMENT", "TYPE", "DEFAULT"), [_param(param) for param in task.params])
    print()


def _param(param: Param) -> tuple[str, str, str]:
    default = "(required)" if param.required else "" if param.default is None else str(param.default)
    return f"  {param.name}", param.type, default
