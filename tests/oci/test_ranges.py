import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard.oci import ranges
from stackyard.oci.errors import RangeNotSatisfiable, RegistryError, UploadInvalid


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-4", (0, 5)),
        ("bytes=5-5", (5, 6)),
        ("bytes=0-", (0, 10)),
        ("bytes=3-", (3, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=5-100", (5, 10)),
        ("Bytes=0-0", (0, 1)),
        ("bytes=0-1,4-5", None),
        ("lines=0-1", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=--1", None),
    ],
)
def test_range_of_ten_bytes(header: str | None, expected: tuple[int, int] | None) -> None:
    assert ranges.requested(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-11", "bytes=-0", "bytes=4-2", "bytes=99999999999999999-"])
def test_a_range_past_the_end_is_refused_with_the_size(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        ranges.requested(header, 10)

    assert refused.value.headers == {"Content-Range": "bytes */10"}


@given(st.text(), st.integers(min_value=0, max_value=2**62))
def test_any_range_header_gives_a_part_of_the_blob_or_a_refusal(header: str, size: int) -> None:
    try:
        part = ranges.requested(header, size)
    except RangeNotSatisfiable:
        return

    assert part is None or 0 <= part[0] < part[1] <= size


@pytest.mark.parametrize(("header", "expected"), [("0-0", (0, 1)), ("5-9", (5, 10)), (None, None)])
def test_chunk_ranges(header: str | None, expected: tuple[int, int] | None) -> None:
    assert ranges.chunk(header) == expected


@pytest.mark.parametrize(
    "header", ["", "5", "a-b", "9-5", "0--1", "bytes 0-4", "bytes=0-4", "-5", "5-", "1-2-3", "\u0661-\u0662"]
)
def test_malformed_chunk_ranges_are_refused(header: str) -> None:
    with pytest.raises(UploadInvalid):
        ranges.chunk(header)


@given(st.text())
def test_any_chunk_range_is_read_or_refused(header: str) -> None:
    try:
        window = ranges.chunk(header)
    except RegistryError:
        return

    assert window is not None
    assert 0 <= window[0] < window[1]
