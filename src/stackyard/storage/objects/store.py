"""The store itself."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from functools import partial

import obstore

from stackyard.oci.digests import Hasher
from stackyard.oci.layout import OWN
from stackyard.storage.driver import BlobReader, BlobWriter, Found, LocationGone, Room, StorageError
from stackyard.storage.locations import check_location
from stackyard.storage.objects import segments
from stackyard.storage.objects.connect import connect
from stackyard.storage.objects.failures import Calls
from stackyard.storage.objects.reader import ObjectReader, sizes
from stackyard.storage.objects.segments import Segment
from stackyard.storage.objects.settings import S3, Settings
from stackyard.storage.objects.writer import ATTRIBUTES, ObjectWriter

_AT_ONCE = 16  # requests
_DELETED_AT_ONCE = 1000


class ObjectStore:
    """A BlobStore in a bucket, for any number of nodes.

    Buckets can neither rename nor append, and not all of them can refuse to overwrite: see `segments`, and
    `BlobStore.renames`. The database decides who may write where; a bucket only holds the bytes.
    """

    renames = False
    several = segments.ENDING

    def __init__(self, settings: Settings) -> None:
        """Asks nothing of the store yet. Raises ValueError: With what is wrong in the settings."""
        self.largest = settings.segment
        self._settings = settings
        self._bucket, self._public = connect(settings)
        self._calls = Calls(told=settings.log)
        self._attributes = dict(ATTRIBUTES)
        if isinstance(settings.where, S3) and settings.where.storage_class:
            self._attributes["Storage-Class"] = settings.where.storage_class

    def writer(
        self, location: str, offset: int, hasher: Hasher | None = None
    ) -> AbstractAsyncContextManager[BlobWriter]:
        """See BlobStore. Nothing is cut off: the offset has to be where an earlier writer finished."""
        return ObjectWriter(
            self._bucket,
            self._calls,
            check_location(location),
            offset,
            hasher,
            settings=self._settings,
            attributes=self._attributes,
            check=partial(self._check_end, location, offset),
        )

    async def open(self, location: str) -> BlobReader:
        """See BlobStore."""
        found = await self._segments(check_location(location))
        if not found:
            raise LocationGone(f"{location}: nothing lies there")
        return ObjectReader(self._bucket, self._calls, location, found)

    async def put(self, location: str, content: bytes) -> None:
        """See BlobStore. What lies there already is overwritten: nobody relies on it, as no row tells of it."""
        await self._put(check_location(location), content)

    async def put_all(self, contents: Mapping[str, bytes]) -> list[str]:
        """See BlobStore. None is taken."""
        places = asyncio.Semaphore(_AT_ONCE)

        async def put(location: str) -> None:
            async with places:
                await self._put(location, contents[location])

        await asyncio.gather(*[put(check_location(location)) for location in contents])
        return []

    async def publish(self, source: str, target: str, size: int) -> str:
        """See BlobStore. The bytes stay at the source."""
        check_location(target)
        if segments.is_segmented(check_location(source)):
            listed = await self._listed(source)
            found = _up_to(source, segments.chain(source, listed), size)
            if stray := sorted(listed.keys() - {segment.key for segment in found}):
                await self.delete(*stray)
        return source

    async def copy(self, source: str, target: str, size: int) -> str:
        """See BlobStore. Done by the store, but where the bytes end within a segment."""
        found = _up_to(source, await self._segments(check_location(source)), size, whole=False)
        first, location = check_location(target), target
        with self._calls.about(target):
            for segment in found:
                key = segments.later(target, segment.start) if segment.start else segments.first(first)
                location = segments.of(target) if segment.start else key
                if segment.stop <= size:
                    await obstore.copy_async(self._bucket, segment.key, key)
                else:
                    await self._copy_part(segment, key, size - segment.start)
        return location

    async def delete(self, *locations: str) -> None:
        """See BlobStore."""
        keys: list[str] = []
        for location in map(check_location, locations):
            keys += await self._listed(location) if segments.is_segmented(location) else [location]
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            with self._calls.about(keys[start]), suppress(FileNotFoundError):
                batch = keys[start : start + _DELETED_AT_ONCE]
                await obstore.delete_async(self._bucket, batch if len(batch) > 1 else batch[0])

    async def size(self, location: str) -> int | None:
        """See BlobStore."""
        found = await self._segments(check_location(location))
        return found[-1].stop if found else None

    async def redirect(self, location: str) -> str | None:
        """See BlobStore. None for several segments: a URL names one object."""
        if segments.is_segmented(location):
            return None
        with self._calls.about(location):
            return await obstore.sign_async(self._public, "GET", location, self._settings.redirect)

    async def walk(self, prefix: str) -> AsyncIterator[Found]:
        """See BlobStore. Objects whose name is no location are passed over; each segment is met by itself."""
        with self._calls.about(check_location(prefix)):
            async for batch in obstore.list(self._bucket, prefix, chunk_size=1000):
                for one in batch:
                    with suppress(ValueError):
                        location = check_location(one["path"])
                        yield Found(location, one["size"], one["last_modified"], (segments.of(location),))

    async def sweep(self, age: timedelta) -> int:
        """See BlobStore. Elsewhere than in S3 the service does it by itself."""
        if not isinstance(self._settings.where, S3):
            return 0
        from stackyard.storage.objects import amazon

        prefix = f"{self._settings.root.strip('/')}/{OWN}/".lstrip("/")
        return await asyncio.to_thread(amazon.abort_unfinished, self._settings.where, prefix, age)

    async def room(self) -> Room | None:
        """None: a bucket has no end that it tells of."""
        return None

    async def check(self) -> None:
        """See BlobStore. Writes, reads and deletes an object of a few bytes."""
        location, content = f"{OWN}/check/{secrets.token_hex(8)}", secrets.token_bytes(16)
        await self._put(location, content)
        with self._calls.about(location):
            answer = await obstore.get_async(self._bucket, location)
            if bytes(await answer.bytes_async()) != content:
                raise StorageError("the store does not give back what was written")
        await self.delete(location)

    async def close(self) -> None:
        """Connections end by themselves."""

    async def _put(self, location: str, content: bytes) -> None:
        with self._calls.about(location):
            await obstore.put_async(self._bucket, location, content, use_multipart=False, attributes=self._attributes)

    async def _check_end(self, location: str, offset: int) -> None:
        """Raises LocationGone unless a writer has finished there."""
        if offset:
            _up_to(location, await self._segments(segments.of(location)), offset)

    async def _segments(self, location: str) -> list[Segment]:
        """What can be reached from the first byte on."""
        found = segments.chain(location, await self._listed(location))
        if not found:
            # An answer to HEAD does not say whether it is the object that is missing, or the bucket.
            with self._calls.about(location):
                await anext(aiter(obstore.list(self._bucket, location, chunk_size=1)), None)
        return found

    async def _listed(self, location: str) -> dict[str, int]:
        """Bytes by object, of all that belong to the location."""
        first = segments.first(location)
        with self._calls.about(location):
            found = await sizes(self._bucket, [first])
            if segments.is_segmented(location):
                async for batch in obstore.list(self._bucket, location, chunk_size=1000):
                    found |= {one["path"]: one["size"] for one in batch}
        return found

    async def _copy_part(self, segment: Segment, key: str, size: int) -> None:
        reader = ObjectReader(
            self._bucket, self._calls, segment.key, [Segment(segment.key, 0, segment.stop - segment.start)]
        )
        async with ObjectWriter(
            self._bucket,
            self._calls,
            key,
            0,
            None,
            settings=self._settings,
            attributes=self._attributes,
            check=_nothing,
        ) as writer:
            async for piece in reader.chunks(0, size):
                await writer.write(piece)
            await writer.finish(durable=True)


async def _nothing() -> None:
    """Nothing to check."""


def _up_to(location: str, found: list[Segment], size: int, *, whole: bool = True) -> list[Segment]:
    """Those with the first `size` bytes. Raises LocationGone when they are fewer; or, `whole`, when none ends there."""
    wanted = [segment for segment in found if segment.start < size or segment.start == 0]
    if not wanted or wanted[-1].stop < size or (whole and wanted[-1].stop != size):
        raise LocationGone(f"{location}: has {found[-1].stop if found else 0} bytes, not {size} that were finished")
    return wanted
