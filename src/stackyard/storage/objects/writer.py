"""Filling a location: an object of its own for each writer, sent in parts, several at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Self

import obstore

from stackyard.oci.digests import Hasher
from stackyard.storage.driver import StorageError
from stackyard.storage.objects import segments
from stackyard.storage.objects.connect import Bucket
from stackyard.storage.objects.failures import Calls
from stackyard.storage.objects.settings import Settings

if TYPE_CHECKING:
    from obstore import AsyncWritableFile

_PARTS_AT_ONCE = 3
_GATHERED = 1 << 20  # bytes that are handed on together: each step to the client's own threads costs some 50 µs
ATTRIBUTES: dict[str, str] = {"Content-Type": "application/octet-stream"}


class ObjectWriter:
    """A BlobWriter, and the context that ends it.

    An object is seen, whole, when its last part has come, and never before. So a writer that fails in the middle of
    one keeps nothing of it; what it may have left behind is not reached from the first byte.
    """

    def __init__(  # noqa: PLR0913 - where, and how
        self,
        bucket: Bucket,
        calls: Calls,
        location: str,
        offset: int,
        hasher: Hasher | None,
        *,
        settings: Settings,
        attributes: dict[str, str],
        check: Callable[[], Awaitable[None]],
    ) -> None:
        """Touches nothing. `check` sees to it that the location ends at the offset; before the first byte."""
        self._bucket = bucket
        self._calls = calls
        self._hasher = hasher
        self._settings = settings
        self._attributes = attributes
        self._check = check
        self._checked = False
        self._base = location
        self._kept = offset
        self._accepted = offset
        self._taken = offset
        self._pieces: list[bytes] = []
        self._file: AsyncWritableFile | None = None
        self._failure: StorageError | None = None
        self._told = False
        self._ended = False

    @property
    def size(self) -> int:
        """Bytes accepted, or, after a failure, bytes kept."""
        return self._kept if self._failure else self._accepted

    @property
    def location(self) -> str:
        """Where the bytes of this and all earlier writers lie."""
        return self._base

    async def write(self, chunk: bytes) -> None:
        """Accept the next bytes; waits while too many are on their way."""
        self._check_open()
        if not chunk:
            return
        self._pieces.append(chunk)
        self._accepted += len(chunk)
        if self._accepted - self._taken >= _GATHERED:
            await self._attempt(self._send)

    async def finish(self, *, durable: bool) -> None:
        """Send the rest; the object is durable when the store says that it is there."""
        self._check_open()
        self._ended = True
        await self._attempt(self._end)

    async def __aenter__(self) -> Self:
        """Opens nothing yet."""
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Keep what was accepted, unless `finish` did or nothing was."""
        if self._ended:
            return
        self._ended, told = True, self._told
        if self._accepted > self._kept and not self._failure:
            try:
                await self._attempt(self._end)
            except StorageError:
                if error is None and not told:
                    raise
        elif self._failure and not told and error is None:
            raise self._failure

    def _check_open(self) -> None:
        if self._failure:
            self._told = True
            raise self._failure
        if self._ended:
            raise StorageError("nothing can be written after the end")

    async def _attempt(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            with self._calls.about(self._base):
                await step()
        except StorageError as error:
            self._failure, self._told, self._file = error, True, None
            raise
        except BaseException as error:
            # Some of it may be on its way: nobody can go on from there.
            self._failure, self._told, self._file = StorageError(f"{self._base}: was interrupted"), True, None
            self._failure.__cause__ = error
            raise

    async def _send(self) -> None:
        """Hand on what was gathered, hashed at the same time."""
        while self._pieces:
            piece = b"".join(self._pieces)
            room = self._kept + self._settings.segment - self._taken
            self._pieces = [piece[room:]] if len(piece) > room else []
            piece = piece[:room]
            sending = (await self._opened()).write(piece)
            if self._hasher:
                await asyncio.gather(sending, asyncio.to_thread(self._hasher.update, piece))
            else:
                await sending
            self._taken += len(piece)
            if self._taken - self._kept == self._settings.segment:
                await self._close()

    async def _end(self) -> None:
        await self._send()
        if self._file or self._taken == 0:
            await self._opened()
            await self._close()
        elif not self._checked:
            await self._check()

    async def _opened(self) -> "AsyncWritableFile":
        if not self._checked:
            await self._check()
            self._checked = True
        if self._file is None:
            start = self._kept
            key = segments.later(self._base, start) if start else segments.first(self._base)
            self._base = segments.of(self._base) if start else key
            self._file = obstore.open_writer_async(
                self._bucket,
                key,
                buffer_size=self._settings.part,
                max_concurrency=_PARTS_AT_ONCE,
                attributes=self._attributes,
            )
        return self._file

    async def _close(self) -> None:
        assert self._file
        file, self._file = self._file, None
        await file.close()
        self._kept = self._taken
