"""Byte ranges: of downloads (RFC 9110, 14) and of upload chunks (distribution-spec 1.1.1, end-5)."""

import re

from stackyard.oci.errors import RangeNotSatisfiable, UploadInvalid

_ONE_RANGE = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII | re.IGNORECASE)
_CHUNK = re.compile(r"([0-9]{1,18})-([0-9]{1,18})", re.ASCII)


def requested(header: str | None, size: int) -> tuple[int, int] | None:
    """The half-open byte range that a `Range` header asks of `size` bytes; None means all of them.

    Another unit, several ranges and what is malformed are ignored, as RFC 9110, 14.2 allows.

    Raises:
        RangeNotSatisfiable: It starts past the end, ends before it starts, or asks for the last 0 bytes.
    """
    match = _ONE_RANGE.fullmatch(header) if header else None
    if match is None:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        start, stop = max(size - int(last), 0), size
    else:
        start = int(first)
        stop = min(int(last) + 1, size) if last else size
    if start >= stop:
        raise RangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return start, stop


def chunk(header: str | None) -> tuple[int, int] | None:
    """The half-open range of a chunk's `Content-Range: <first>-<last>`; None when the header is absent.

    Raises:
        UploadInvalid: The header has another form, or ends before it starts.
    """
    if header is None:
        return None
    match = _CHUNK.fullmatch(header.strip())
    if match is None or int(match[2]) < int(match[1]):
        raise UploadInvalid("Content-Range is not of the form <first>-<last>, both inclusive")
    return int(match[1]), int(match[2]) + 1
