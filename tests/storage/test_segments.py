"""Which objects a location is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard.storage.locations import is_location
from stackyard.storage.objects import segments

UPLOAD = "stackyard/uploads/0190.1"


def at(*starts: int) -> list[str]:
    return [segments.later(UPLOAD, start) if start else UPLOAD for start in starts]


@pytest.mark.parametrize(
    ("sizes", "reached"),
    [
        ({}, []),
        ({0: 10}, [(0, 10)]),
        ({0: 0}, [(0, 0)]),
        ({0: 10, 10: 5, 15: 1}, [(0, 10), (10, 15), (15, 16)]),
        ({10: 5}, []),
        ({0: 10, 11: 5}, [(0, 10)]),
        ({0: 10, 10: 5, 12: 9}, [(0, 10), (10, 15)]),
        ({0: 10, 10: 0}, [(0, 10), (10, 10)]),
    ],
)
def test_what_counts_is_reached_from_the_first_byte(sizes: dict[int, int], reached: list[tuple[int, int]]) -> None:
    objects = dict(zip(at(*sizes), sizes.values(), strict=True))

    found = segments.chain(segments.of(UPLOAD), objects)

    assert [(one.start, one.stop) for one in found] == reached
    assert [one.key for one in found] == at(*(start for start, _ in reached))


@given(st.integers(min_value=1, max_value=2**60), st.integers(min_value=1, max_value=2**60))
def test_names_are_locations_in_the_order_of_their_bytes(one: int, other: int) -> None:
    first, second = segments.later(UPLOAD, one), segments.later(UPLOAD, other)

    assert is_location(first)
    assert (first < second) == (one < other)
    assert segments.of(first) == segments.of(UPLOAD) == segments.of(segments.of(UPLOAD)) == f"{UPLOAD}.segments"
    assert segments.first(segments.of(UPLOAD)) == UPLOAD
