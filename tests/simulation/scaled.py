"""A scaled machine: every time constant of singd and of its simulated surroundings is multiplied by one factor.

With a factor of 120 a heartbeat is sent every two minutes, a lease lasts ten, and a simulated day has 720 heartbeats
instead of 86,400: it is 12 minutes of a machine's life, in which the schedules of a whole day fall due. What is scaled
too: the time-outs of the twin of Postgres, how long faults last, and in these tests each schedule's grace, time-outs
and bodies. What is not: the triggers, and the delay of a few milliseconds that an answer may have. So a scaled day has as many
elections, heartbeats and races as 12 minutes have, and as many instants as a day has. A part of the seeds runs
unscaled.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Iterator
from datetime import timedelta
from types import ModuleType
from unittest import mock

import singd
import singd.edges.memory
import singd.testing
from singd.core import skew

FACTOR = 120.0
SHELL = (
    "attempts", "agenda", "cluster", "control", "daemon", "executing", "leadership", "presence", "runner",
    "scheduler", "shipping", "strangers",
)  # fmt: skip
TWIN = ("database", "election", "intake", "ledger", "locks", "outbox", "overrides", "wire")
SURROUNDINGS = ("cluster", "faults", "machine", "node", "simulate")


def modules() -> list[ModuleType]:
    """Those whose constants count."""
    names = [f"singd.{name}" for name in SHELL]
    names += [f"singd.edges.memory.{name}" for name in TWIN]
    names += [f"singd.testing.{name}" for name in SURROUNDINGS]
    names += [found.name for found in pkgutil.iter_modules(singd.__path__, "singd.") if not found.ispkg]
    return [importlib.import_module(name) for name in dict.fromkeys(names)]


def constants() -> Iterator[tuple[ModuleType, str, float]]:
    """Every module constant that is a number of seconds: its name ends in `_S`."""
    for module in modules():
        for name, value in vars(module).items():
            if name.endswith("_S") and isinstance(value, float | int):
                yield module, name, value


@contextlib.contextmanager
def scaled(factor: float = FACTOR) -> Iterator[None]:
    """While it is open, a second of singd's own lasts `factor` seconds."""
    with contextlib.ExitStack() as stack:
        for module, name, value in list(constants()):
            stack.enter_context(mock.patch.object(module, name, value * factor))
        stack.enter_context(mock.patch.object(skew, "MOST", skew.MOST * factor))
        yield


def span(seconds: float, factor: float) -> timedelta:
    """So many seconds of the machine's."""
    return timedelta(seconds=seconds * factor)
