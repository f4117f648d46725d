"""Spans of time as Go writes them ("1h30m", "500ms"), since Distribution's file does.

A bare number is nanoseconds there, so it is here.
"""

import re
from datetime import timedelta
from fractions import Fraction

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # micro sign
    "μs": 1_000,  # greek mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
}
_PART = re.compile(r"(\d{1,19}(?:\.\d{0,19})?|\.\d{1,19})(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_LONG_PART = re.compile(r"(\d{1,9})([wdhms])", re.ASCII)
_LONG = {"w": timedelta(weeks=1), "d": timedelta(days=1), "h": timedelta(hours=1)} | {
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_NUMBER = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_UNITS = (("h", 3600), ("m", 60), ("s", 1))

# What Go's int64 of nanoseconds can hold, about 292 years.
_LONGEST = 2**63 - 1


def parse(text: str) -> timedelta:
    """The span `text` means, to the microsecond. Raises ValueError when it is not a Go duration."""
    nanoseconds = int(text) if _NUMBER.fullmatch(text) else _sum_of_parts(text)
    if abs(nanoseconds) > _LONGEST:
        raise ValueError("is longer than 292 years")
    return timedelta(microseconds=nanoseconds // 1_000)


def parse_long(text: str) -> timedelta:
    """As `parse`, also of days and weeks ("14d", "2w"), for keys that Distribution does not read.

    A number without unit but 0 is refused: whoever writes 30 does not mean nanoseconds.
    """
    if text == "0":
        return timedelta(0)
    parts = _LONG_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("is not a span such as 14d, 36h or 2w")
    if len(text) > 40 or (seconds := sum(int(number) * _LONG[unit].total_seconds() for number, unit in parts)) > 3e9:
        raise ValueError("is longer than a hundred years")
    return timedelta(seconds=seconds)


def is_bare_number(text: str) -> bool:
    """Whether `text` gives no unit, which means nanoseconds and seldom what its writer meant."""
    return _NUMBER.fullmatch(text) is not None and int(text) != 0


def _sum_of_parts(text: str) -> int:
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    parts = _PART.findall(rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        raise ValueError("is not a duration such as 30s, 5m or 168h")
    return sign * int(sum(Fraction(number.rstrip(".")) * _NANOSECONDS[unit] for number, unit in parts))


def text_of(span: timedelta) -> str:
    """`span` as Go would read it back: "168h", "1h30m", "500ms", "0s"."""
    if span < timedelta(0):
        return "-" + text_of(-span)
    seconds, rest = divmod(span, timedelta(seconds=1))
    microseconds = rest // timedelta(microseconds=1)
    written = ""
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        written += f"{count}{unit}" if count else ""
    if microseconds:
        written += f"{microseconds // 1000}ms" if microseconds % 1000 == 0 else f"{microseconds}us"
    return written or "0s"
