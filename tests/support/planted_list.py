"""The planted bugs: mistakes that other schedulers really made, each of which the tests must catch in singd.

A checker that has not caught a planted bug proves nothing. The numbers are those of the project's list of faults; 14 and 16
(a watchdog fed from a thread, a watched file instead of its directory) belong to parts that are tested elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

SIMULATION, CHAOS = "simulation", "chaos"


@dataclass(frozen=True, slots=True)
class Planted:
    """One of them: `caught` says by which tests it is switched on and caught."""

    number: int
    name: str
    sentence: str
    caught: tuple[str, ...]


PLANTED = (
    Planted(1, "no_fence", "the ledger takes writes of any epoch", (SIMULATION, CHAOS)),
    Planted(2, "key_share", "the fence's lock does not hold up the next election", (SIMULATION, CHAOS)),
    Planted(3, "trust_from_reply", "trust is counted from the answer of a heartbeat, not from its sending", (SIMULATION, CHAOS)),
    Planted(4, "no_lease", "the server never ends a silent lock session", (SIMULATION, CHAOS)),
    Planted(5, "leads_on_error", "a leader whose heartbeat fails goes on (Oban 1488)", (SIMULATION, CHAOS)),
    Planted(6, "leads_by_name", "leadership is renewed by the node's name (oban-py 32)", (SIMULATION, CHAOS)),
    Planted(7, "pooled_lock", "the lock session comes from a pool that recycles it (leoflow 1199)", (SIMULATION, CHAOS)),
    Planted(8, "no_unique", "an occurrence's identity is not unique", (SIMULATION, CHAOS)),
    Planted(9, "rounded_now", "an instant is the rounded time at which somebody looked (GoodJob 1543)", (SIMULATION, CHAOS)),
    Planted(10, "cursor_in_memory", "how far a schedule is, only its leader knows (Dkron 1210)", (SIMULATION, CHAOS)),
    Planted(11, "looks_back", "a new schedule owes the past (Kubernetes 63371)", (SIMULATION, CHAOS)),
    Planted(12, "finish_without_token", "an attempt's end is taken from whoever says it (Solid Queue 589)", (SIMULATION, CHAOS)),
    Planted(13, "one_step_start", "an attempt begins though nobody knows whether its start was recorded", (SIMULATION, CHAOS)),
    Planted(15, "direct_child", "only the direct child of a run is killed", (CHAOS,)),
)  # fmt: skip
