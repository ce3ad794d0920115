"""What a kind of fault is, and the table of all kinds, which the modules `faults_*` fill.

node    kinds that hurt one daemon, its link, its clock, its disk      one lane a node: never two at once on one
server  kinds that hurt Postgres                                       one lane
quick   kinds that are over in a moment                                one lane, beside all others
all     kinds that hurt every daemon at once                           alone, after a calm
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from chaos.world import World
from support.cluster import Node

NodeFault = Callable[[World, Random, Node], None]
Fault = Callable[[World, Random], None]


@dataclass(frozen=True)
class Kind:
    """A fault and when it may be drawn.

    Attributes:
        needs: Parts of the machine it cannot do without (`Cluster.missing`).
        probe: Made alone after a calm, to measure how long nobody leads.
    """

    name: str
    lane: str
    make: Callable[..., None]
    weight: int
    needs: str
    probe: bool


KINDS: list[Kind] = []


def kind(
    name: str, lane: str, weight: int = 2, needs: str = "", probe: bool = False
) -> Callable[[NodeFault | Fault], NodeFault | Fault]:
    """Declare a kind of fault."""

    def declare(make: NodeFault | Fault) -> NodeFault | Fault:
        KINDS.append(Kind(name, lane, make, weight, needs, probe))
        return make

    return declare
