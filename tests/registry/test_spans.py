"""Lengths of time as people write them."""

from datetime import timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from stackyard.registry import spans


@given(st.integers(0, 3_000_000_000))
def test_what_is_written_is_read_back(seconds: int) -> None:
    assert spans.parse(spans.text_of(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize(("text", "seconds"), [("1h30m", 5400), ("2w", 1209600), ("0s", 0), ("14d", 1209600)])
def test_units_add_up(text: str, seconds: int) -> None:
    assert spans.parse(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "d", "1y", "-1d", "1.5h", "1 d", "9999999999999d", "\uff11d"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"length of time|hundred years"):
        spans.parse(text)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 seconds ago"), (1, "1 second ago"), (7200, "2 hours ago"), (-5, "0 seconds ago")]
)
def test_ago_is_in_the_largest_unit(seconds: int, words: str) -> None:
    assert spans.ago(timedelta(seconds=seconds)) == words
