"""What may be said of any instant, and how ranges are counted out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from singd.answers import output_from
from singd.core.cron import Cron
from singd.core.history import OccurrenceRow, expand, is_instant, nearest
from singd.core.values import At, Every, Log, Startup

T = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
FIVE = timedelta(minutes=5)


def test_the_nearest_instants_are_found_for_rare_and_for_frequent_triggers() -> None:
    assert nearest(Cron.parse("*/5 * * * *"), T) == (T - FIVE, T + FIVE)
    assert nearest(Every(timedelta(seconds=1)), T) == (T - timedelta(seconds=1), T + timedelta(seconds=1))
    leap = (datetime(2024, 2, 29, tzinfo=UTC), datetime(2028, 2, 29, tzinfo=UTC))
    assert nearest(Cron.parse("0 0 29 2 *"), T) == leap
    assert nearest(At(T), T) == (None, None)
    assert nearest(At(T), T + FIVE) == (T, None)
    assert nearest(Startup(), T) == (None, None)


def test_an_instant_is_one_to_the_microsecond() -> None:
    cron = Cron.parse("0 3 * * *")
    assert is_instant(cron, T)
    assert not is_instant(cron, T + timedelta(microseconds=1))
    assert is_instant(At(T), T)


def row(count: int, until: datetime | None) -> OccurrenceRow:
    return OccurrenceRow(1, "s", T, "command", 1, due_until=until, count=count, verdict="missed", reason="r")


def test_a_range_is_counted_out_only_where_the_trigger_has_exactly_its_instants() -> None:
    cron = Cron.parse("*/5 * * * *")
    range_row = row(10, T + 9 * FIVE)
    assert [one.due_at for one in expand(range_row, cron, 3)] == [T + 9 * FIVE, T + 8 * FIVE, T + 7 * FIVE]
    assert len(expand(range_row, cron, 99)) == 10
    assert all(one.count == 1 and one.due_until is None for one in expand(range_row, cron, 99))
    assert expand(row(9, T + 9 * FIVE), cron, 99) == [row(9, T + 9 * FIVE)]
    assert expand(row(10, T + 9 * FIVE), Cron.parse("*/10 * * * *"), 99) == [range_row]
    assert expand(range_row, None, 99) == [range_row]
    assert expand(row(1, None), cron, 99) == [row(1, None)]


@given(st.binary(max_size=40), st.binary(max_size=40), st.lists(st.integers(0, 60), max_size=6))
def test_output_that_is_asked_for_piece_by_piece_is_the_output(
    first: bytes, second: bytes, cuts: list[int]
) -> None:
    whole = first + second
    offset, seen = 0, b""
    for end in [*sorted(min(cut, len(whole)) for cut in cuts), len(whole)]:
        part, gap, offset = output_from(Log(whole[:end]), offset)
        assert gap == 0
        seen += part
    assert (seen, offset) == (whole, len(whole))


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 99), st.integers(0, 200))
def test_what_is_not_kept_is_counted(head: int, tail: int, dropped: int, asked: int) -> None:
    text = bytes(range(200))[: head + tail + dropped]
    log = Log(text[:head], text[head + dropped :], dropped)
    part, gap, end = output_from(log, asked)
    assert end == head + tail + dropped
    if asked >= head:
        assert part == text[max(asked, head + dropped) :]
        assert gap == max(0, head + dropped - asked)
    else:
        assert part.startswith(text[asked:head])
        assert f"{dropped} bytes are not kept".encode() in part
        assert gap == dropped
