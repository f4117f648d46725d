"""What a location is in a bucket, where nothing can be appended to an object.

A location is one object, or several that follow each other: each writer that goes on where another ended begins one of
its own, and a very large one begins another from time to time. The first has the location's own name, the others are
named after the byte that they begin with:

    stackyard/uploads/0190.1                                   bytes 0 to 5 MiB
    stackyard/uploads/0190.1.segments/00000000000005242880     bytes 5 MiB to 9 MiB
    stackyard/uploads/0190.1.segments/00000000000009437184     and on

`stackyard/uploads/0190.1` is the location of the first object alone, `stackyard/uploads/0190.1.segments` that of all.
A writer that failed may have left an object that nobody goes on from; so what counts is what can be reached from the
first byte, each object beginning where the one before it ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass

ENDING = ".segments"
_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Segment:
    """One object, and the bytes of its location that it holds."""

    key: str
    start: int
    stop: int


def is_segmented(location: str) -> bool:
    """Whether the location may be several objects."""
    return location.endswith(ENDING)


def first(location: str) -> str:
    """The object with the first byte."""
    return location.removesuffix(ENDING)


def of(location: str) -> str:
    """The location of all objects that this one, or the first of it, may belong to."""
    return location.partition(f"{ENDING}/")[0].removesuffix(ENDING) + ENDING


def later(location: str, start: int) -> str:
    """The object that begins with byte `start`, which is not the first."""
    return f"{of(location)}/{start:0{_DIGITS}}"


def chain(location: str, sizes: Mapping[str, int]) -> list[Segment]:
    """The segments that follow each other from the first byte on; `sizes` in bytes by object, those that there are."""
    found: list[Segment] = []
    key, start = first(location), 0
    while (size := sizes.get(key)) is not None:
        found.append(Segment(key, start, start + size))
        if not size:
            break
        start += size
        key = later(location, start)
    return found
