"""Go's durations and amounts of bytes."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard.config import durations, sizes

MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("168h", timedelta(days=7)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("500ms", timedelta(milliseconds=500)),
        ("10us", timedelta(microseconds=10)),
        ("10µs", timedelta(microseconds=10)),
        ("2500ns", timedelta(microseconds=2)),
        ("1h0m.5s", timedelta(seconds=3600.5)),
        ("-5s", timedelta(seconds=-5)),
        ("+5s", timedelta(seconds=5)),
        ("0", timedelta(0)),
        ("10000000000", timedelta(seconds=10)),
    ],
)
def test_duration_is_read_as_go_reads_it(text: str, span: timedelta) -> None:
    assert durations.parse(text) == span


@pytest.mark.parametrize(
    "text", ["", "s", "5", "5 s", "1d", "1h 30m", "h1", "5s5", "٣s", "1e3s", ".s", "--5s", "9" * 5000]
)
def test_what_is_no_duration_is_a_value_error_or_nanoseconds(text: str) -> None:
    if text == "5":
        assert durations.parse(text) == timedelta(0)
    else:
        with pytest.raises(ValueError, match=r"is not a duration|292 years"):
            durations.parse(text)


def test_duration_longer_than_go_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="292 years"):
        durations.parse("9999999h")


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36500)))
def test_written_duration_reads_back_as_itself(span: timedelta) -> None:
    assert durations.parse(durations.text_of(span)) == span


@given(st.text(max_size=40))
def test_parsing_any_text_raises_nothing_but_value_error(text: str) -> None:
    for parse in (durations.parse, sizes.parse):
        try:
            parse(text)
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("text", "size"),
    [("4MiB", 4 * 2**20), ("64 KiB", 65536), ("1gib", 2**30), ("10MB", 10**7), ("3", 3), ("3B", 3), ("1kb", 1000)],
)
def test_size_is_read_in_bytes(text: str, size: int) -> None:
    assert sizes.parse(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "1.5MiB", "-1", "4 MiBs", "4PiB", "4iB"])
def test_what_is_no_size_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        sizes.parse(text)


@given(st.integers(min_value=0, max_value=2**50))
def test_written_size_reads_back_as_itself(size: int) -> None:
    assert sizes.parse(sizes.text_of(size)) == size
