"""Reading a location: one request for each of its segments that is asked for."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import obstore

from stackyard.storage.driver import StorageError
from stackyard.storage.objects.connect import Bucket
from stackyard.storage.objects.failures import Calls
from stackyard.storage.objects.segments import Segment

_PIECE = 512 << 10


class ObjectReader:
    """A BlobReader. What is deleted while it is open can be read no more: deletions wait for readers."""

    def __init__(self, bucket: Bucket, calls: Calls, location: str, segments: Sequence[Segment]) -> None:
        """`segments` follow each other, the first one begins at 0."""
        self._bucket = bucket
        self._calls = calls
        self._location = location
        self._segments = segments
        self.size = segments[-1].stop

    def fileno(self) -> int | None:
        """None: the bytes are elsewhere."""
        return None

    async def chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield bytes `start` up to, not including, `stop`. Raises StorageError when there are fewer."""
        for segment in self._segments:
            end = min(stop, segment.stop)
            if segment.start <= start < end:
                async for piece in self._piece(segment.key, start - segment.start, end - segment.start):
                    start += len(piece)
                    yield piece
        if start < stop:
            raise StorageError(f"{self._location}: ends at {start}, {stop - start} bytes early")

    async def _piece(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        with self._calls.about(self._location):
            answer = await obstore.get_async(self._bucket, key, options={"range": (start, stop)})
            async for piece in answer.stream(min_chunk_size=_PIECE):
                start += len(piece)
                yield piece
        if start < stop:
            raise StorageError(f"{self._location}: {key} ends at {start}, {stop - start} bytes early")

    def close(self) -> None:
        """Nothing to let go of."""


async def sizes(bucket: Bucket, keys: Sequence[str]) -> dict[str, int]:
    """Bytes of each of these objects that there is."""
    found = await asyncio.gather(*(_size(bucket, key) for key in keys))
    return {key: size for key, size in zip(keys, found, strict=True) if size is not None}


async def _size(bucket: Bucket, key: str) -> int | None:
    try:
        return (await obstore.head_async(bucket, key))["size"]
    except FileNotFoundError:
        return None
