"""`python false_clock.py run` is `singd run` with a wall clock that the harness may step: the seconds in the file that
SINGD_FALSE_CLOCK names are added to the true time.

At the one door through which the daemon reads wall time (`singd.edges.clock`), not by libfaketime: with its library
loaded, and several threads in the interpreter, a daemon burns a core on the locks of the interpreter itself, and the
harness would test that. The steady clocks are true, as they are when an operator or NTP steps a machine's clock.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime, timedelta

VARIABLE = "SINGD_FALSE_CLOCK"


def plant() -> None:
    """From now on the clock is as the file says."""
    from singd.edges.clock import SystemClock

    true = SystemClock.now
    file = os.environ.pop(VARIABLE)

    def now(self: SystemClock) -> datetime:
        with open(file) as text:
            return true(self) + timedelta(seconds=int(text.read()))

    SystemClock.now = now  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.path.pop(0)
    plant()
    from singd.cli.main import main

    sys.exit(main())
