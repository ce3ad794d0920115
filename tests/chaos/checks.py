"""The invariants (I1 to I22, as far as daemons can show them): pure functions over a history.

    checks_ledger   I1 every instant has one row   I2 one start an attempt   I5 nothing unfinished   I6, I7
    checks_terms    I3 one holder an epoch         I4 no stale write, no stale belief                I17 gaps
    checks_time     I9 no overlap                  I10 never early           I11, I13, I14           I22 alive

Each returns what it found wrong, with the evidence; nothing found = it holds. `tests/chaos/test_checks.py` feeds every one
of them a history that it must refuse.
"""

from __future__ import annotations

from collections.abc import Callable

from chaos.checks_ledger import (
    i1_every_instant_has_one_row,
    i2_no_start_after_the_end,
    i2_one_daemon_a_name,
    i2_one_start_an_attempt,
    i5_nothing_unfinished,
    i6_the_end_is_the_end,
    i7_delivery,
)  # fmt: skip
from chaos.checks_terms import (
    gaps,
    i3_one_holder_an_epoch,
    i4_no_stale_writes,
    i4_nobody_leads_on,
    i17_gaps,
    i17_no_change_in_the_calm,
)  # fmt: skip
from chaos.checks_time import i9_no_overlap, i10_never_early, i22_alive, no_tracebacks, noted
from chaos.history import History
from chaos.violation import Violation

Check = Callable[[History], list[Violation]]

CHECKS: tuple[Check, ...] = (
    i1_every_instant_has_one_row, i2_one_start_an_attempt, i2_one_daemon_a_name, i2_no_start_after_the_end, i3_one_holder_an_epoch,
    i4_no_stale_writes, i4_nobody_leads_on,
    i5_nothing_unfinished, i6_the_end_is_the_end, i7_delivery, i9_no_overlap, i10_never_early,
    noted, no_tracebacks, i17_gaps, i17_no_change_in_the_calm, i22_alive,
)  # fmt: skip


def check(history: History) -> list[Violation]:
    """Every invariant."""
    return [violation for one in CHECKS for violation in one(history)]


__all__ = ["CHECKS", "Check", "Violation", "check", "gaps"]
