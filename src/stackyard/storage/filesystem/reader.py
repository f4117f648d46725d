"""Reading an open file: straight from the page cache on the loop, from the disk in a thread."""

import os
from collections.abc import AsyncIterator

from stackyard.storage.driver import StorageError
from stackyard.storage.filesystem.failures import translated
from stackyard.storage.filesystem.files import Files
from stackyard.storage.filesystem.shares import Shares
from stackyard.storage.filesystem.threads import Threads


class FileReader:
    """A BlobReader."""

    def __init__(self, files: Files, threads: Threads, shares: Shares, location: str, opened: tuple[int, int]) -> None:
        """Takes over the descriptor in `opened`, beside which is the size in bytes."""
        self._files = files
        self._threads = threads
        self._shares = shares
        self._location = location
        self._descriptor: int | None
        self._descriptor, self.size = opened

    def fileno(self) -> int | None:
        """The open file; None where it is another machine's. Raises StorageError after `close`.

        There even bytes in the page cache may have to be asked for again, for which no event loop must wait, and
        mapped ones may vanish under whoever touches them.
        """
        descriptor = self._opened()
        return descriptor if self._files.is_local() else None

    async def chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield bytes `start` up to, not including, `stop`. Raises StorageError when the file is shorter."""
        with self._shares.stream(), translated(self._location):
            known = start
            at_once = _AT_ONCE if stop - start > _LONG else stop - start
            while start < stop:
                piece = min(self._shares.piece, stop - start)
                if start >= known and is_cached(self._opened(), start, piece):
                    known = start + piece
                if start < known:
                    chunk = os.pread(self._opened(), min(at_once, known - start), start)
                else:
                    chunk = await self._threads.run(os.pread, self._opened(), piece, start)
                    known = start + len(chunk)
                if not chunk:
                    raise StorageError(f"{self._location}: ends at {start}, {stop - start} bytes early")
                start += len(chunk)
                yield chunk
                del chunk  # the next one then takes its memory, which the processor still has at hand

    def _opened(self) -> int:
        if self._descriptor is None:
            raise StorageError(f"{self._location}: closed")
        return self._descriptor

    def close(self) -> None:
        """Let go. May be called twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


# Of a long stream so many bytes are handed on at a time: over TLS they and their encrypted copy then stay in the
# processor's second cache, which saves a tenth of its time. For a short one the steps between cost more than that.
_AT_ONCE = 128 << 10
_LONG = 8 << 20

# Reading into a bytearray with RWF_NOWAIT would be exact, but it has to be zeroed first: 40 % more processor time for
# a chunk of 1 MiB. So single bytes are read this way, this far apart, and the rest is taken to be there as well: the
# kernel reads ahead and evicts in long runs. Where there is a gap after all, the loop waits for one read of the disk.
_STRIDE = 256 << 10


def is_cached(descriptor: int, start: int, size: int) -> bool:
    """Whether reading will not wait for the disk, as far as one can tell cheaply."""
    probe = [bytearray(1)]
    try:
        for place in range(start, start + size, _STRIDE):
            os.preadv(descriptor, probe, place, os.RWF_NOWAIT)
        os.preadv(descriptor, probe, start + size - 1, os.RWF_NOWAIT)
    except OSError:
        return False  # not in the cache (EAGAIN), or a file system that cannot tell (EOPNOTSUPP)
    return True
