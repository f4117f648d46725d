"""Amounts of bytes: "4MiB", "64 KiB", "10MB", or a bare number of bytes."""

import re

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SIZE = re.compile(r"(\d{1,18}) ?([KMGT]?i?B)?", re.ASCII | re.IGNORECASE)


def parse(text: str) -> int:
    """Bytes. Raises ValueError when `text` is not an amount."""
    match = _SIZE.fullmatch(text)
    unit = (match[2] or "").lower() if match else None
    if match is None or unit not in _UNITS:
        raise ValueError("is not a size such as 4MiB, 64KiB or a number of bytes")
    return int(match[1]) * _UNITS[unit]


def text_of(size: int) -> str:
    """`size` bytes in the largest unit that leaves a whole number."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _UNITS[unit.lower()] == 0:
            return f"{size // _UNITS[unit.lower()]}{unit}"
    return str(size)
