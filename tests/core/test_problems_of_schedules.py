"""What `status` says is wrong with schedules, from a snapshot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from singd.answers import problems_of
from singd.core.values import Every, Schedule, TaskCall
from singd.views import ScheduleView, Snapshot

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def snapshot(cursor: datetime) -> Snapshot:
    schedule = Schedule("tick", "tick", TaskCall("tick"), Every(timedelta(minutes=1)))
    return Snapshot("a", "", "1", "leading", "", NOW, NOW, "", schedules=[ScheduleView(schedule, cursor)])


@pytest.mark.parametrize(
    ("behind_s", "said"), [(0, ""), (60, ""), (3600, "tick is late"), (-5, ""), (-3600, "rests until")]
)
def test_a_cursor_that_is_far_behind_or_ahead_of_the_clock_is_a_problem(behind_s: int, said: str) -> None:
    told = [problem.text for problem in problems_of(snapshot(NOW - timedelta(seconds=behind_s)), {})]
    assert len(told) == bool(said)
    assert not said or said in told[0]
