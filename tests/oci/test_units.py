"""Amounts of bytes in words."""

import pytest

from stackyard.oci.units import human


@pytest.mark.parametrize(
    ("size", "like", "says"),
    [
        (0, 0, "0 B"),
        (999, 0, "999 B"),
        (1000, 0, "1 kB"),
        (1023, 0, "1.02 kB"),
        (999_600, 0, "1 MB"),
        (49_800_000_000, 50 * 10**9, "49.8 GB"),
        (300_000_000, 0, "300 MB"),
        (50 * 2**30, 50 * 2**30, "50 GiB"),
        (1023, 2**20, "1023 B"),
        (2**20 - 1, 2**20, "1 MiB"),
        (3 * 10**20, 0, "300000 PB"),
        (-1500, 0, "-1.5 kB"),
    ],
)
def test_sizes_have_three_digits_and_the_unit_of_what_they_are_compared_with(size: int, like: int, says: str) -> None:
    assert human(size, like=like) == says
