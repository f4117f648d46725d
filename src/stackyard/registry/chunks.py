"""What one request brings of a blob."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from stackyard.oci.errors import SizeInvalid

# A body of so many bytes is taken into memory before anything is locked, written or hashed.
_SMALL = 128 * 1024


class BodyCut(Exception):
    """The sender went away, or fell silent, in the middle of a request's body."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one request brings: its bytes and, where it said so, the half-open range they fill."""

    body: AsyncIterator[bytes] | None
    """None: the request has none."""
    window: tuple[int, int] | None = None
    length: int | None = None
    """Bytes, where it said how many."""

    async def small(self) -> bytes | None:
        """All of it, if it is known to be small; then nothing is left of `body`. Raises SizeInvalid, BodyCut."""
        if self.body is None:
            return b""
        if self.length is None or self.length > _SMALL:
            return None
        content = b"".join([piece async for piece in self.body])
        if len(content) != self.length:
            raise SizeInvalid()
        return content


async def once(content: bytes) -> AsyncIterator[bytes]:
    """A body of these bytes."""
    yield content


async def nothing() -> AsyncIterator[bytes]:
    """A body of none."""
    empty: tuple[bytes, ...] = ()
    for piece in empty:
        yield piece
