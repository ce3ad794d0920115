"""The machine's clocks: the only place that reads wall time for the shell."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """Wall time, and a clock that runs through suspend (`ports.Clock`)."""

    def now(self) -> datetime:
        """Wall time, aware UTC."""
        return datetime.now(UTC)

    def boot(self) -> float:
        """Seconds on CLOCK_BOOTTIME."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
