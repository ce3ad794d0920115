"""Durations and sizes: what people write is what is meant, and everything else is refused with a cure."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singd.core.units import LONGEST, counted, format_duration, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0), ("30s", 30), ("4m", 240), ("1h", 3600), ("1d", 86_400), ("2w", 1_209_600), ("250ms", 0.25), ("7us", 7e-6),
        ("1h30m", 5400), ("1h 30m", 5400), ("30m1h", 5400), ("1.5h", 5400), (" 10 s ", 10), ("2 weeks", 1_209_600),
        ("5 min", 300), ("1 hour 1 minute 1 second", 3661), ("3µs", 3e-6), ("0.5s", 0.5),
    ],
)  # fmt: skip
def test_a_duration_means_what_it_says(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(microseconds=round(seconds * 1e6))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a duration"), ("   ", "is not a duration"), ("30", "has no unit"), ("1h30", "has no unit"), ("s", "is not a duration"),
        ("-5s", "is negative"), ("5 parsecs", 'unknown unit "parsecs"'), ("5M", 'unknown unit "M"'), ("1h1h", 'says "h" twice'),
        ("1e3s", 'unknown unit "e"'), ("inf", "is not a duration"), ("nan", "is not a duration"), ("101w 5300w", 'says "w" twice'),
        ("36501d", "longer than 100 years"), ("0.1us", "finer than a microsecond"), ("9" * 5000 + "s", "is not a duration"),
        ("1,5s", "has no unit"), ("٣s", "is not a duration"), ("1s\x00", "is not a duration"), ("10s..5m", "is not a duration"),
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_a_cure(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        parse_duration(text)
    assert why in str(refusal.value)
    assert ": write " in str(refusal.value)
    assert len(str(refusal.value)) < 200


@given(st.timedeltas(min_value=timedelta(0), max_value=LONGEST))
def test_a_formatted_duration_reads_back_exactly(span: timedelta) -> None:
    assert parse_duration(format_duration(span)) == span


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(0), "0s"), (timedelta(seconds=30), "30s"), (timedelta(minutes=90), "1h30m"), (timedelta(days=7), "7d"),
        (timedelta(milliseconds=1500), "1s500ms"), (timedelta(microseconds=1), "1us"),
    ],
)  # fmt: skip
def test_a_duration_is_written_shortly(span: timedelta, text: str) -> None:
    assert format_duration(span) == text


def test_a_negative_duration_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        format_duration(timedelta(seconds=-1))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0), ("512 B", 512), ("1kB", 1000), ("1KB", 1000), ("64KiB", 65_536), ("1 MiB", 2**20), ("1.5GB", 1_500_000_000),
        ("2TiB", 2**41),
    ],
)  # fmt: skip
def test_a_size_means_what_it_says(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a size"), ("64", "has no unit"), ("64 K", 'unknown unit "K"'), ("1 mb", 'unknown unit "mb"'), ("-1B", "is negative"),
        ("0.5B", "not a whole number"), ("1MiB 1B", "is not a size"), ("999999999999TiB", "larger than"),
    ],
)  # fmt: skip
def test_what_is_no_size_is_refused_with_a_cure(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        parse_size(text)
    assert why in str(refusal.value)


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_a_refusal(text: str) -> None:
    for parse in (parse_duration, parse_size):
        with contextlib.suppress(ValueError):
            parse(text)


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [(1, "schedule", "1 schedule"), (0, "end", "0 ends"), (3, "process", "3 processes")],
)
def test_numbers_stand_with_their_nouns_as_people_say_them(number, noun, said):
    assert counted(number, noun) == said
