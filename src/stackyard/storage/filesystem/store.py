"""The store itself: checks locations and hands the work to threads."""

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, closing
from datetime import timedelta
from itertools import islice
from pathlib import Path

from stackyard.oci.digests import Hasher
from stackyard.oci.layout import OWN
from stackyard.storage.driver import BlobReader, BlobWriter, Found, Room
from stackyard.storage.filesystem.files import Files
from stackyard.storage.filesystem.reader import FileReader
from stackyard.storage.filesystem.shares import Shares
from stackyard.storage.filesystem.threads import Threads
from stackyard.storage.filesystem.writer import FileWriter, Tail
from stackyard.storage.locations import check_location

# Files named per change of thread while walking.
_BATCH = 500


class FilesystemStore:
    """A BlobStore of the files below one folder, which processes and, on NFS or CephFS, nodes may share."""

    renames = True
    several = ""
    largest = 0

    def __init__(self, root: Path, threads: int = 100) -> None:
        """`root` need not exist yet. At most `threads` blocking calls are under way at once. Starts no thread yet."""
        self._files = Files(os.path.abspath(root))
        self._threads = Threads(threads)
        self._writing = Shares()
        self._reading = Shares()

    def writer(
        self, location: str, offset: int, hasher: Hasher | None = None
    ) -> AbstractAsyncContextManager[BlobWriter]:
        """See BlobStore. Opens nothing before there is a piece to write."""
        tail = Tail(self._files, check_location(location), offset, hasher)
        return FileWriter(self._threads, self._writing, tail)

    async def open(self, location: str) -> BlobReader:
        """See BlobStore. In place when nothing has to be waited for; changing threads costs ten times as much."""
        opened = self._files.open_cached(check_location(location))
        if opened is None:
            opened = await self._threads.run(self._files.open, location)
        return FileReader(self._files, self._threads, self._reading, location, opened)

    async def put(self, location: str, content: bytes) -> None:
        """See BlobStore. Written in place: nobody reads a location before it has been put."""
        await self._threads.run(self._files.put, check_location(location), content)

    async def put_all(self, contents: Mapping[str, bytes]) -> list[str]:
        """See BlobStore."""
        return await self._threads.run(self._files.put_all, {check_location(one): contents[one] for one in contents})

    async def publish(self, source: str, target: str, size: int) -> str:
        """See BlobStore."""
        await self._threads.run(self._files.publish, check_location(source), check_location(target), size)
        return target

    async def copy(self, source: str, target: str, size: int) -> str:
        """See BlobStore. Shares the extents where the file system can."""
        await self._threads.run(self._files.copy, check_location(source), check_location(target), size)
        return target

    async def delete(self, *locations: str) -> None:
        """See BlobStore."""
        await self._threads.run(_each, self._files.delete, [check_location(one) for one in locations])

    async def size(self, location: str) -> int | None:
        """See BlobStore."""
        return await self._threads.run(self._files.size, check_location(location))

    async def redirect(self, location: str) -> str | None:
        """None: clients cannot reach the files."""
        return None

    async def walk(self, prefix: str) -> AsyncIterator[Found]:
        """See BlobStore. Links, devices and names that are no location are passed over."""
        with closing(self._files.walk(check_location(prefix))) as found:
            while batch := await self._threads.run(next_batch, found):
                for one in batch:
                    yield one

    async def sweep(self, age: timedelta) -> int:
        """None: a walk meets everything."""
        return 0

    async def room(self) -> Room | None:
        """See BlobStore."""
        return await self._threads.run(self._files.room)

    async def check(self) -> None:
        """See BlobStore. Writes and syncs a file of a few bytes."""
        await self._threads.run(self._files.check, f"{OWN}/check/{secrets.token_hex(8)}")

    async def close(self) -> None:
        """See BlobStore."""
        await self._threads.close()


def _each(function: Callable[[str], None], locations: Iterable[str]) -> None:
    for location in locations:
        function(location)


def next_batch(found: Iterator[Found]) -> list[Found]:
    """The next files of a walk."""
    return list(islice(found, _BATCH))
