"""Which tasks the installed plugins offer: read, not imported.

    sys.path --importlib.metadata--> names, duplicates --cache by RECORD--> descriptions
                                                          | new or changed
                                                          v
                                                   a child process a distribution (catalogue_child)

Names come from the distributions' entry points (group `singd.tasks`, one a task), so a name that two of them offer
is known without running either; both are refused, as the last one to be installed must never win. What a
task's parameters are only its code can tell: a child imports it, and the answer is kept until the distribution's
RECORD changes. An editable install has the same RECORD for ever, so the sizes and times of its sources count too.
A failure is kept for a minute only, and only while the same distributions are installed: what was missing may come.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import singd
from singd.core.catalogue import BrokenTask, Catalogue, Param, TaskInfo

GROUP = "singd.tasks"
CACHE_FILE = "catalogue.json"
_BROKEN_KEPT_S = 60.0
_SOURCES_MAX = 5_000
_CHILDREN_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Offer:
    """What one distribution offers, by its metadata alone.

    Attributes:
        name, version: The distribution's.
        key: Changes when anything changes that the description depends on.
        entries: Pairs of task name and `module:attribute`.
        damaged: Why its metadata cannot be read; "" = it can.
    """

    name: str
    version: str
    key: str
    entries: tuple[tuple[str, str], ...]
    damaged: str = ""


def read_catalogue(
    cache_dir: Path | None, plugin_dirs: Sequence[Path] = (), *, site: Sequence[str] | None = None
) -> Catalogue:
    """Everything that installed plugins offer, and what failed to load. Blocks; may start processes.

    Args:
        cache_dir: Private directory for the cache; one that cannot be read or written only costs time. None: no cache.
        plugin_dirs: Directories with plugins beside `sys.path` (`singd.cli.paths.Paths.plugins`).
        site: In place of `sys.path`.
    """
    path = [entry for entry in (*(sys.path if site is None else site), *map(str, plugin_dirs)) if entry]
    offers, environment = installed(path)
    cached = _load(cache_dir, environment)
    cached |= {
        offer.key: {"answers": {offer.name: {"reason": offer.damaged}}} for offer in offers if offer.damaged
    }
    fresh = [offer for offer in offers if offer.key not in cached]
    if fresh:
        described = _describe(fresh, path)
        _save(
            cache_dir,
            environment,
            {offer.key: cached.get(offer.key) or described[offer.key] for offer in offers},
        )
        cached = {**cached, **described}
    return assemble(offers, {offer.key: cached[offer.key]["answers"] for offer in offers})


def installed(path: Sequence[str]) -> tuple[list[Offer], str]:
    """The distributions on a path that offer tasks, by name, and a word for everything that is installed on it.

    Of two distributions with one name the first on the path counts, as it does for an import.
    """
    seen: dict[str, Offer] = {}
    environment = hashlib.sha256()
    for distribution in metadata.distributions(path=list(path)):
        at = str(getattr(distribution, "_path", ""))
        environment.update(at.encode() + b"\0")
        text = distribution.read_text("entry_points.txt") or ""
        if GROUP in text:
            offer = _offer(distribution, path, at)
            seen.setdefault(offer.name.lower().replace("_", "-"), offer)
    return sorted(
        (offer for offer in seen.values() if offer.entries), key=lambda offer: offer.name
    ), environment.hexdigest()


def _offer(distribution: metadata.Distribution, path: Sequence[str], at: str) -> Offer:
    """A distribution whose metadata is damaged (half removed, say) is one broken entry, not the end of the reading."""
    try:
        return _read_offer(distribution, path)
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        stem = os.path.basename(at).removesuffix(".dist-info")
        return Offer(
            stem,
            "?",
            at,
            ((stem, ""),),
            f"its metadata at {at} cannot be read: {type(error).__name__}: {error}",
        )


def _read_offer(distribution: metadata.Distribution, path: Sequence[str]) -> Offer:
    if not distribution.name:
        raise ValueError("it has no name")
    entries = tuple((entry.name, entry.value) for entry in distribution.entry_points.select(group=GROUP))
    record = distribution.read_text("RECORD")
    key = hashlib.sha256(f"{singd.__version__} {sys.version} {distribution.version}\n{entries}\n".encode())
    key.update((record or "").encode())
    if record is None or _editable(distribution):
        for package in sorted({value.partition(":")[0].partition(".")[0].strip() for _, value in entries}):
            key.update(_sources(package, path).encode())
    return Offer(distribution.name, distribution.version or "?", key.hexdigest(), entries)


def _editable(distribution: metadata.Distribution) -> bool:
    """PEP 660: installers say so in direct_url.json."""
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        return bool(origin.get("dir_info", {}).get("editable"))
    except (ValueError, AttributeError):
        return True


def _sources(package: str, path: Sequence[str]) -> str:
    """Names, sizes and times of a top-level package's source files. Finding it does not import it."""
    spec = PathFinder.find_spec(package, list(path)) or importlib.util.find_spec(package)
    roots = list(spec.submodule_search_locations or [spec.origin or ""]) if spec else []
    files = [file for root in roots for file in _python_files(root)]
    stats = [(file, os.stat(file)) for file in sorted(files)[:_SOURCES_MAX]]
    return "\n".join(f"{file} {found.st_size} {found.st_mtime_ns}" for file, found in stats)


def _python_files(root: str) -> list[str]:
    if root.endswith(".py"):
        return [root]
    return [
        os.path.join(where, name)
        for where, _, names in os.walk(root)
        for name in names
        if name.endswith(".py")
    ]


def _describe(offers: Sequence[Offer], path: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Ask a child for each distribution; what the cache will hold, by key."""
    from concurrent.futures import ThreadPoolExecutor

    from singd.edges import catalogue_child

    with ThreadPoolExecutor(min(_CHILDREN_AT_ONCE, len(offers))) as pool:
        answers = pool.map(lambda offer: catalogue_child.ask(offer.entries, path), offers)
        return {
            offer.key: {"at": time.time(), "answers": answer}
            for offer, answer in zip(offers, answers, strict=True)
        }


def assemble(offers: Sequence[Offer], answers: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Catalogue:
    """The catalogue from what is offered and what was answered; pure.

    Args:
        offers: Every distribution.
        answers: By an offer's key and a task's name: `{"task": …}` or `{"reason": …}`.
    """
    by_name: dict[str, list[Offer]] = {}
    for offer in offers:
        for name, _ in offer.entries:
            by_name.setdefault(name, []).append(offer)
    tasks: dict[str, TaskInfo] = {}
    broken: dict[str, BrokenTask] = {}
    for name, owners in sorted(by_name.items()):
        answer = answers[owners[0].key][name]
        if len(owners) > 1:
            broken[name] = _offered_twice(name, owners)
        elif "task" in answer:
            tasks[name] = _task_info(name, owners[0], answer["task"])
        else:
            broken[name] = BrokenTask(name, owners[0].name, str(answer.get("reason", "it was not described")))
    return Catalogue(tasks, broken)


def _offered_twice(name: str, owners: Sequence[Offer]) -> BrokenTask:
    labels = sorted({f"{owner.name} {owner.version}" for owner in owners})
    if len(labels) == 1:
        return BrokenTask(name, owners[0].name, f"{labels[0]} names it twice in its entry points")
    reason = f"offered by {' and '.join(labels)}: neither is used, uninstall all but one"
    return BrokenTask(name, ", ".join(sorted({owner.name for owner in owners})), reason)


def _task_info(name: str, offer: Offer, task: Mapping[str, Any]) -> TaskInfo:
    known = {field.name for field in fields(TaskInfo)}
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in task.items() if key in known
    }
    values["params"] = tuple(Param(**param) for param in task["params"])
    return TaskInfo(
        name=name,
        plugin=offer.name,
        plugin_version=offer.version,
        entry_point=dict(offer.entries)[name],
        **values,
    )


def _load(cache_dir: Path | None, environment: str) -> dict[str, dict[str, Any]]:
    """What is cached and still holds, by key. A cache that cannot be read is no cache."""
    if cache_dir is None:
        return {}
    try:
        stored = json.loads((cache_dir / CACHE_FILE).read_bytes())
        entries = dict(stored["entries"])
        return {
            key: entry
            for key, entry in entries.items()
            if _holds(entry, environment == stored["environment"])
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _holds(entry: Mapping[str, Any], same_environment: bool) -> bool:
    if all("task" in answer for answer in entry["answers"].values()):
        return True
    return same_environment and 0 <= time.time() - entry["at"] < _BROKEN_KEPT_S


def _save(cache_dir: Path | None, environment: str, entries: Mapping[str, Any]) -> None:
    """Replace the cache in one step. Where it may not be written (an operator's client), it is left alone."""
    if cache_dir is None or not _is_ours(cache_dir):
        return
    text = json.dumps({"environment": environment, "entries": entries})
    with contextlib.suppress(OSError):
        cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".catalogue-", dir=cache_dir)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(name, cache_dir / CACHE_FILE)


def _is_ours(cache_dir: Path) -> bool:
    """Root's `singd check` leaves nothing of root's in the state directory of a service's user."""
    there = next(path for path in (cache_dir, *cache_dir.parents) if path.exists())
    return there.stat().st_uid == os.geteuid()


def as_json(catalogue: Catalogue) -> dict[str, Any]:
    """The catalogue as JSON values."""
    return {
        "tasks": [asdict(task) for task in catalogue.tasks.values()],
        "broken": [asdict(task) for task in catalogue.broken.values()],
    }
