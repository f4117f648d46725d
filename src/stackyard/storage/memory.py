"""A store that forgets: for tests, and for `storage.inmemory`. One process only."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

from stackyard.oci.digests import Hasher
from stackyard.storage.driver import (
    BlobReader,
    BlobWriter,
    Found,
    LocationGone,
    LocationTaken,
    OutOfSpace,
    Room,
    StorageError,
)
from stackyard.storage.locations import check_location

CHUNK = 256 << 10


@dataclass(slots=True)
class Held:
    """The bytes of one location."""

    content: bytearray = field(default_factory=bytearray)
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))
    published: bool = False


class MemoryStore:
    """A BlobStore in this process's memory."""

    renames = True
    several = ""
    largest = 0

    def __init__(self, capacity: int | None = None) -> None:
        """Hold at most `capacity` bytes, of all locations together."""
        self.capacity = capacity
        self._held: dict[str, Held] = {}

    def writer(
        self, location: str, offset: int, hasher: Hasher | None = None
    ) -> AbstractAsyncContextManager[BlobWriter]:
        """See BlobStore."""
        return MemoryWriter(self, check_location(location), offset, hasher)

    async def open(self, location: str) -> BlobReader:
        """See BlobStore."""
        return MemoryReader(location, self.find(check_location(location)))

    async def put(self, location: str, content: bytes) -> None:
        """See BlobStore."""
        self._claim(check_location(location))
        if self.left() < len(content):
            raise OutOfSpace(f"{location}: the store's capacity is used up")
        self._held[location] = Held(bytearray(content), published=True)

    async def put_all(self, contents: Mapping[str, bytes]) -> list[str]:
        """See BlobStore."""
        free = {location: content for location, content in contents.items() if location not in self._held}
        if self.left() < sum(map(len, free.values())):
            raise OutOfSpace("the store's capacity is used up")
        for location, content in free.items():
            await self.put(location, content)
        return [location for location in contents if location not in free]

    async def publish(self, source: str, target: str, size: int) -> str:
        """See BlobStore."""
        held = self.find(check_location(source), size)
        if len(held.content) != size:
            raise LocationGone(f"{source}: has {len(held.content)} bytes, not {size}")
        self._claim(check_location(target))
        held.published = True
        self._held[target] = self._held.pop(source)
        return target

    async def copy(self, source: str, target: str, size: int) -> str:
        """See BlobStore."""
        held = self.find(check_location(source), size)
        self._claim(check_location(target))
        if self.left() < size:
            raise OutOfSpace(f"{target}: the store's capacity is used up")
        self._held[target] = Held(held.content[:size])
        return target

    async def delete(self, *locations: str) -> None:
        """See BlobStore."""
        for location in locations:
            self._held.pop(check_location(location), None)

    async def size(self, location: str) -> int | None:
        """See BlobStore."""
        held = self._held.get(check_location(location))
        return None if held is None else len(held.content)

    async def redirect(self, location: str) -> str | None:
        """None: clients cannot reach this memory."""
        return None

    async def walk(self, prefix: str) -> AsyncIterator[Found]:
        """See BlobStore."""
        folder = f"{check_location(prefix)}/"
        for location, held in list(self._held.items()):
            if location.startswith(folder):
                yield Found(location, len(held.content), held.modified)

    async def sweep(self, age: timedelta) -> int:
        """None: a walk meets everything."""
        return 0

    async def room(self) -> Room | None:
        """See BlobStore."""
        return None if self.capacity is None else Room(int(self.left()), self.capacity)

    async def check(self) -> None:
        """See BlobStore."""
        if self.left() <= 0:
            raise OutOfSpace("the store's capacity is used up")

    async def close(self) -> None:
        """Nothing to let go of."""

    def find(self, location: str, size: int = 0) -> Held:
        """What lies there. Raises LocationGone when that is nothing, or less than `size` bytes."""
        held = self._held.get(location)
        if held is None:
            raise LocationGone(f"{location}: nothing lies there")
        if len(held.content) < size:
            raise LocationGone(f"{location}: has {len(held.content)} of {size} bytes")
        return held

    def begin(self, location: str) -> Held:
        """An empty location, made for it or emptied."""
        return self._held.setdefault(location, Held())

    def left(self) -> float:
        """Bytes that still fit."""
        if self.capacity is None:
            return float("inf")
        return self.capacity - sum(len(held.content) for held in self._held.values())

    def _claim(self, location: str) -> None:
        if location in self._held:
            raise LocationTaken(f"{location}: something lies there already")


class MemoryWriter:
    """A BlobWriter, and the context that ends it."""

    def __init__(self, store: MemoryStore, location: str, offset: int, hasher: Hasher | None) -> None:
        """Touches nothing."""
        self._store = store
        self.location = location
        self._hasher = hasher
        self._held: Held | None = None
        self._failure: StorageError | None = None
        self._ended = False
        self.size = offset

    async def write(self, chunk: bytes) -> None:
        """Keep the next bytes, or as many of them as fit."""
        self._check_open()
        if chunk:
            self._keep(chunk)

    async def finish(self, *, durable: bool) -> None:
        """End. `durable` is beyond this store."""
        self._check_open()
        self._ended = True
        self._opened()

    async def __aenter__(self) -> Self:
        """Opens nothing yet, as files do not."""
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Everything is handed over already."""
        self._ended = True

    def _check_open(self) -> None:
        if self._failure:
            raise self._failure
        if self._ended:
            raise StorageError("nothing can be written after the end")

    def _keep(self, chunk: bytes) -> None:
        held = self._opened()
        kept = chunk[: int(min(len(chunk), self._store.left()))]
        held.content += kept
        held.modified = datetime.now(UTC)
        self.size += len(kept)
        if self._hasher:
            self._hasher.update(kept)
        if len(kept) < len(chunk):
            self._failure = OutOfSpace(f"{self.location}: the store's capacity is used up")
            raise self._failure

    def _opened(self) -> Held:
        if self._held is None:
            try:
                self._held = self._opened_at(self.size)
            except StorageError as failure:
                self._failure = failure
                raise
        return self._held

    def _opened_at(self, size: int) -> Held:
        held = self._store.find(self.location, size) if size else self._store.begin(self.location)
        if held.published:
            raise LocationTaken(f"{self.location}: already published")
        held.content = held.content[:size]  # a new object, because a reader may hold the old one
        return held


class MemoryReader:
    """A BlobReader of the bytes as they were when it was opened."""

    def __init__(self, location: str, held: Held) -> None:
        """Keeps the bytes, whatever becomes of the location."""
        self._location = location
        self._content = held.content
        self.size = len(held.content)

    def fileno(self) -> int | None:
        """None: there is no file."""
        return None

    async def chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield bytes `start` up to, not including, `stop`. Raises StorageError when there are fewer."""
        while start < stop:
            chunk = bytes(self._content[start : min(start + CHUNK, stop)])
            if not chunk:
                raise StorageError(f"{self._location}: ends at {start}, {stop - start} bytes early")
            start += len(chunk)
            yield chunk

    def close(self) -> None:
        """Nothing to let go of."""
