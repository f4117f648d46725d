"""Adding bytes to a file: gathered on the loop, written and hashed in a thread, one piece ahead."""

import os
from contextlib import ExitStack, suppress
from typing import Self

from stackyard.oci.digests import Hasher
from stackyard.storage.driver import StorageError
from stackyard.storage.filesystem import kernel
from stackyard.storage.filesystem.failures import storage_error
from stackyard.storage.filesystem.files import Files
from stackyard.storage.filesystem.shares import Shares
from stackyard.storage.filesystem.threads import Call, Threads

# Bytes after which the disk is told to begin. For 100 MiB this makes the last sync take 3 ms instead of 40.
_AHEAD = 8 << 20


class FileWriter:
    """A BlobWriter, and the context that ends it.

    While a thread writes and hashes one piece, the next is accepted; a third waits. A file of less than a piece costs
    one change of thread in all: opening, writing and syncing it happen in `finish`. So errors of opening and writing
    come with a later `write`, or with `finish`.
    """

    def __init__(self, threads: Threads, shares: Shares, tail: "Tail") -> None:
        """Touches nothing."""
        self.location = tail.location
        self._threads = threads
        self._shares = shares
        self._open = ExitStack()
        self._tail = tail
        self._gathered: bytes | bytearray = bytearray()
        self._accepted = tail.size
        self._flying: Call[None] | None = None
        self._ended = False
        self._told = False

    @property
    def size(self) -> int:
        """Bytes accepted, or, after a failure, bytes kept."""
        return self._tail.size if self._tail.failure else self._accepted

    async def write(self, chunk: bytes) -> None:
        """Accept the next bytes; waits while a full piece is still being written."""
        self._check_open()
        if not chunk:
            return
        if not self._gathered and 2 * len(chunk) > self._shares.piece:
            self._gathered = chunk
        else:
            self._gathered += chunk  # copied, not listed: a client may send single bytes
        self._accepted += len(chunk)
        if len(self._gathered) + len(chunk) > self._shares.piece:  # another one like it would be too much
            await self._landed()
            self._flying = self._threads.start(self._tail.add, self._gather())

    async def finish(self, *, durable: bool) -> None:
        """Write the rest and close the file; with `durable`, sync it first. The writer takes nothing more."""
        self._check_open()
        await self._landed()
        self._ended = True
        await self._threads.run(self._tail.finish, self._gather(), durable=durable)

    async def __aenter__(self) -> Self:
        """Opens nothing yet: see the class."""
        self._open.enter_context(self._shares.stream())
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Hand over what was accepted, unless `finish` did, and close."""
        self._open.close()
        if self._ended:
            return
        self._ended, told = True, self._told
        with suppress(StorageError):
            try:
                await self._landed()
            finally:
                await self._threads.run(self._tail.leave, self._gather())
        if self._tail.failure and not told and error is None:
            raise self._tail.failure

    def _check_open(self) -> None:
        if self._tail.failure:
            self._told = True
            raise self._tail.failure
        if self._ended:
            raise StorageError("nothing can be written after the end")

    def _gather(self) -> bytes | bytearray:
        piece, self._gathered = self._gathered, bytearray()
        return piece

    async def _landed(self) -> None:
        """Wait for the piece being written, if any."""
        if self._flying:
            flying, self._flying = self._flying, None
            try:
                await flying.finished()
            except StorageError:
                self._told = True
                raise


class Tail:
    """The end of a file that grows: the half of a writer that works in threads, one call at a time.

    Attributes:
        size: Bytes in the file, counted as the file took them.
        failure: What ended the writing, once something did. Then `size` and the hasher agree on what was kept,
            except after a failed sync: see `_doubt`.
    """

    def __init__(self, files: Files, location: str, offset: int, hasher: Hasher | None) -> None:
        """Touches nothing."""
        self._files = files
        self.location = location
        self._hasher = hasher
        self._descriptor: int | None = None
        self._begun = offset
        self.size = offset
        self.failure: StorageError | None = None

    def add(self, piece: bytes | bytearray) -> None:
        """Write the piece."""
        try:
            self._write(self._opened(), piece)
        except OSError as error:
            self.failure = storage_error(error, self.location)
            raise self.failure from error
        except StorageError as error:
            self.failure = error
            raise

    def finish(self, piece: bytes | bytearray, *, durable: bool) -> None:
        """Write the last piece, make everything durable if asked, and close."""
        try:
            self.add(piece)
            if durable:
                self._sync()
        finally:
            self._close()

    def leave(self, piece: bytes | bytearray) -> None:
        """Write the last piece unless an earlier write failed, and close. Of nothing, no file is made."""
        try:
            if piece and not self.failure:
                self.add(piece)
        finally:
            self._close()

    def _opened(self) -> int:
        if self._descriptor is None:
            if self.size:
                self._descriptor = self._files.reopen(self.location, self.size)
            else:
                self._descriptor = self._files.begin(self.location)
        return self._descriptor

    def _write(self, descriptor: int, piece: bytes | bytearray) -> None:
        rest = memoryview(piece)
        while rest:
            written = os.pwrite(descriptor, rest, self.size)
            if self._hasher:
                self._hasher.update(rest[:written])
            self.size += written
            rest = rest[written:]
        if self.size - self._begun >= _AHEAD:
            kernel.start_writing_back(descriptor, self._begun, self.size - self._begun)
            self._begun = self.size

    def _sync(self) -> None:
        assert self._descriptor is not None
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            self._doubt(error)

    def _close(self) -> None:
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        try:
            os.close(descriptor)
        except OSError as error:
            self._doubt(error)

    def _doubt(self, error: OSError) -> None:
        """Drop all bytes: the disk lost some that it had taken, and nobody can know which.

        A second fsync(2) would succeed over the hole: the kernel reports a lost page once. So the file is emptied,
        that nobody may publish it, and `size` is 0, whatever the hasher has seen.
        """
        with suppress(OSError):
            os.truncate(self._files.path(self.location), 0)
        self.size = 0
        self.failure = storage_error(error, self.location)
        raise self.failure from error
