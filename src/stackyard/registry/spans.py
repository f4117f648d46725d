"""Lengths of time as people write and read them: "14d", "36h", "1w", "1h30m", "3 days ago"."""

import re
from datetime import timedelta

_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PART = re.compile(r"(\d{1,12})([wdhms])", re.ASCII)
_WORDS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
LONGEST = timedelta(days=36_500)


def parse(text: str) -> timedelta:
    """The span that `text` means. Raises ValueError when it means none, or more than a hundred years."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text[:40]!r} is not a length of time such as 14d, 36h or 1w")
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in parts)
    if seconds > LONGEST.total_seconds():
        raise ValueError(f"{text[:40]!r} is longer than a hundred years")
    return timedelta(seconds=seconds)


def text_of(span: timedelta) -> str:
    """As `parse` reads it, in the largest unit that leaves whole numbers; no fractions of a second."""
    seconds = int(span.total_seconds())
    unit = next((unit for unit in "dhms" if seconds and seconds % _SECONDS[unit] == 0), "s")
    return f"{seconds // _SECONDS[unit]}{unit}"


def ago(span: timedelta) -> str:
    """In the largest unit that leaves something: "3 days ago"."""
    seconds = max(0, int(span.total_seconds()))
    word, size = next((one for one in _WORDS if seconds >= one[1]), _WORDS[-1])
    count = seconds // size
    return f"{count} {word}{'' if count == 1 else 's'} ago"
