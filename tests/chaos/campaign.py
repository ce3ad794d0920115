"""The fault scheduler: lanes that draw faults from a seed, calms between, and the end that everything must reach.

    start ─ calm ─ ┬ lane a   ▇▇▇  ▇▇  ▇▇▇▇▇  ┬ heal ─ calm ─ probe ─ … ─ heal ─ calm ─ settle ─ stop ─ check
                   ├ lane b   ▇▇ ▇▇▇▇▇▇▇  ▇▇▇ ┤
                   ├ lane c     ▇▇▇▇▇  ▇▇  ▇▇ ┤
                   ├ server   ▇▇▇    ▇▇▇   ▇▇ ┤
                   └ quick    ▇ ▇ ▇ ▇ ▇ ▇ ▇ ▇ ┘

A seed decides what each lane draws, in which order and with which holds; what overlaps with what is up to the machine.
"""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from chaos.faults import KINDS, Kind
from chaos.world import NotNow, World, load
from support.cluster import Node

CALM_S = 6.0
ROUND_S = 90.0
"""Faults between two calms."""


@dataclass(frozen=True)
class Limits:
    """How long a campaign goes on: until so many faults are done, or the minutes are over."""

    faults: int
    minutes: float = 120.0
    round_s: float = ROUND_S
    kinds: tuple[str, ...] = ()
    """Only these, if any are named."""


class Campaign:
    """One run's faults."""

    def __init__(self, world: World, seed: int, limits: Limits, say: Callable[[str], None]) -> None:
        self._world = world
        self._limits = limits
        self._say = say
        self._seed = seed
        self._random = random.Random(f"{seed} campaign")
        self._gate = threading.Event()
        self._over = threading.Event()
        self._busy = 0
        self._idle = threading.Condition()
        self._failures: list[str] = []
        missing = world.cluster.missing
        wanted = [kind for kind in KINDS if not limits.kinds or kind.name in limits.kinds]
        self.kinds = [kind for kind in wanted if not kind.needs or kind.needs not in missing]
        self.skipped = {
            kind.name: missing[kind.needs] for kind in wanted if kind.needs in missing and kind.needs
        }

    def run(self) -> None:
        """Make the faults.

        Raises:
            RuntimeError: The harness itself failed, or the cluster never came back.
        """
        until = time.monotonic() + self._limits.minutes * 60
        lanes = self._lanes()
        for lane in lanes:
            lane.start()
        try:
            self._calm()
            while (
                sum(self._world.counts.values()) < self._limits.faults
                and time.monotonic() < until
                and not self._over.is_set()
            ):
                self._round(until)
                self._calm()
                self._alone()
            self._calm()
        finally:
            self._over.set()
            self._gate.set()
            for lane in lanes:
                lane.join(60)
        if self._failures:
            raise RuntimeError("the harness failed:\n" + "\n".join(self._failures))

    def _lanes(self) -> list[threading.Thread]:
        lanes = [
            threading.Thread(target=self._lane, args=(f"node {node.name}", "node", node), daemon=True)
            for node in self._world.cluster.nodes
        ]
        lanes += [
            threading.Thread(target=self._lane, args=(name, name, None), daemon=True)
            for name in ("server", "quick")
        ]
        return lanes

    def _round(self, until: float) -> None:
        end = min(time.monotonic() + self._limits.round_s, until)
        self._gate.set()
        while (
            time.monotonic() < end
            and sum(self._world.counts.values()) < self._limits.faults
            and not self._failures
        ):
            time.sleep(0.1)
        self._gate.clear()
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0, 90)
        total = sum(self._world.counts.values())
        self._say(f"{total} faults of {len(self._world.counts)} kinds")

    def _calm(self) -> None:
        """Nothing is wrong for a while: what is due has to run."""
        if self._failures or self._over.is_set():
            return
        if not self._world.wait_healthy():
            self._world.note("sick", text="90 s after the last fault: " + self._world.unfinished())
            self._over.set()
            return
        begin = time.time()
        time.sleep(CALM_S)
        self._world.note("calm", begin=begin, end=time.time() - 1.0, load=load())

    def _alone(self) -> None:
        """One fault with nothing beside it: on the leader, to see how long nobody leads; or on everybody."""
        probes = [kind for kind in self.kinds if kind.probe]
        everybody = [kind for kind in self.kinds if kind.lane == "all"]
        chosen = self._random.choice([*probes, *everybody, *probes]) if probes or everybody else None
        leader = self._world.cluster.leader()
        if chosen is None or leader is None or self._over.is_set():
            return
        node = self._world.cluster.node(leader[1]) if chosen.lane == "node" else None
        self._make(chosen, self._random, node)

    def _lane(self, name: str, lane: str, node: Node | None) -> None:
        rng = random.Random(f"{self._seed} {name}")
        kinds = [kind for kind in self.kinds if kind.lane == lane]
        while kinds and not self._over.is_set():
            self._gate.wait()
            with self._idle:
                if not self._gate.is_set() or self._over.is_set():
                    continue
                self._busy += 1
            try:
                chosen = rng.choices(kinds, [kind.weight for kind in kinds])[0]
                self._make(chosen, rng, node)
            finally:
                with self._idle:
                    self._busy -= 1
                    self._idle.notify_all()
            self._over.wait(rng.uniform(0.1, 1.0))

    def _make(self, kind: Kind, rng: random.Random, node: Node | None) -> None:
        try:
            if node is not None:
                self._world.look_after(node)
                kind.make(self._world, rng, node)
            else:
                kind.make(self._world, rng)
        except NotNow:
            pass  # drawn again another time
        except Exception:
            self._failures.append(f"{kind.name}: {traceback.format_exc()}")
            self._gate.clear()
