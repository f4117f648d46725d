"""The seam between the registry and whatever holds its bytes."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from stackyard.oci.digests import Hasher


class StorageError(Exception):
    """The store could not do it. Not the client's fault, unless it is one of the three below."""


class LocationGone(StorageError):
    """Nothing lies at this location."""


class LocationTaken(StorageError):
    """Something lies there already; a location is never overwritten."""


class OutOfSpace(StorageError):
    """The disk or its quota is full. What was stored before is untouched."""


@dataclass(frozen=True, slots=True)
class Found:
    """One location met on a walk."""

    location: str
    size: int
    """Bytes."""
    modified: datetime
    part_of: tuple[str, ...] = ()
    """Other locations that its bytes may belong to as well."""


@dataclass(frozen=True, slots=True)
class Room:
    """The disk that a store fills, in bytes."""

    free: int
    """What we may still take: what the file system keeps for root is not part of it."""
    total: int


class BlobWriter(Protocol):
    """Adds bytes to one location, in order. One task at a time."""

    @property
    def size(self) -> int:
        """Bytes accepted at the location so far, earlier writers' included. Not all need be on the disk yet.

        After a failure: the bytes that are kept. 0 when the disk lost bytes that it had taken (a failed sync): then
        all are dropped, because nobody can know which are whole, and the location can be begun again.
        """
        ...

    @property
    def location(self) -> str:
        """Where the bytes of this writer and of earlier ones lie, once it is finished: where it was opened, or, for a
        store that cannot append, a location that stands for several objects.
        """
        ...

    async def write(self, chunk: bytes) -> None:
        """Accept the next bytes. Waits while the store is behind, so that many writers need little memory.

        Raises what `writer` does. After an error nothing more is taken, and `size` says what is kept.
        """
        ...

    async def finish(self, *, durable: bool) -> None:
        """Hand every accepted byte to the store; with `durable`, return only when they survive a power cut (and
        their name does once it is published).

        Earlier writers' bytes are included. The writer takes nothing afterwards. Raises what `writer` does.
        """
        ...


class BlobReader(Protocol):
    """One open location. Stays readable while open where the store `renames`, even when it is deleted meanwhile."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def fileno(self) -> int | None:
        """A descriptor for sendfile(2) and pread(2), or None where the bytes are not in a local file."""
        ...

    def chunks(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield bytes `start` up to, not including, `stop`. Raises StorageError when the file is shorter."""
        ...

    def close(self) -> None:
        """Let go. May be called twice."""
        ...


class BlobStore(Protocol):
    """Bytes by location. Knows no digests' meaning, repositories, tags or users.

    A location (a relative path of `[A-Za-z0-9._-]` components) is written by one writer at a time, published once and
    never given out again: no reader ever sees half of a published one, and deleting one never touches another.
    No folder holds both locations and folders of locations. What is no location raises ValueError.
    All methods may be called concurrently and from several processes and nodes at once.
    `tests/storage/contract.py` is the rest of this interface; a driver is done when it passes.
    """

    @property
    def renames(self) -> bool:
        """Whether bytes can get another name without being copied. Otherwise what is published stays where it is, and
        `put` cannot tell that something lies there.
        """
        ...

    @property
    def several(self) -> str:
        """How locations end that stand for several objects; '' where there are none."""
        ...

    @property
    def largest(self) -> int:
        """The most bytes that one writer puts into one object, where locations can stand for several."""
        ...

    def writer(
        self, location: str, offset: int, hasher: Hasher | None = None
    ) -> AbstractAsyncContextManager[BlobWriter]:
        """Open `location` for more bytes at `offset`; 0 creates it. What lies past `offset` is cut off first; where
        that cannot be done, `offset` has to be the end of a finished writer's bytes.

        Only for a location that is the caller's own and not published: not every driver notices the difference.

        `hasher`, when given, sees exactly the bytes that are kept, in the thread that stores them; it is complete when
        `finish` returned or the context was left. (After a failed sync it has seen more than `size`.) Leaving the
        context without `finish` hands over what was accepted, not durably, and raises only what was not raised before,
        and never over an exception under way; when nothing was accepted at offset 0, no location is made.

        A driver may open the location as late as in `finish`, so these come from any of the writer's methods, or from
        leaving the context without `finish`.

        Raises:
            LocationGone: `offset` is not 0 and nothing lies there, or less than `offset` bytes do.
            LocationTaken: The location is a folder, or is seen to be published.
            OutOfSpace: The bytes do not fit; as many as did are kept.
            StorageError: The disk failed.
        """
        ...

    async def open(self, location: str) -> BlobReader:
        """Open for reading. Raises LocationGone."""
        ...

    async def put(self, location: str, content: bytes) -> None:
        """Make `location` of these bytes, as durably as `publish` does, in one go. A failure leaves nothing there.

        Raises LocationTaken, OutOfSpace.
        """
        ...

    async def put_all(self, contents: Mapping[str, bytes]) -> list[str]:
        """As `put`, for many at once: one exchange with the disk where that is possible.

        Returns:
            The locations that are taken; the others are made. An error leaves nothing at any.
        """
        ...

    async def publish(self, source: str, target: str, size: int) -> str:
        """Give the durable `size` bytes at `source` the name `target`, durably, and drop the name `source`.

        Returns only when `target` and every directory made for it survive a power cut. A store that does not rename
        makes sure that there are just so many bytes at `source`, and returns that.

        Returns:
            Where the bytes lie from now on.

        Raises LocationGone, LocationTaken (then `source` is as it was), OutOfSpace.
        """
        ...

    async def copy(self, source: str, target: str, size: int) -> str:
        """Make `target` of the first `size` bytes of `source`, not durably. A failure leaves nothing at `target`.

        Returns:
            `target`, or the location that stands for all of its objects, as `BlobWriter.location` does.

        Raises LocationGone (also when `source` has less), LocationTaken, OutOfSpace.
        """
        ...

    async def delete(self, *locations: str) -> None:
        """Remove what lies there, and its folder when that is empty then. Nothing there is not an error.

        An error leaves those locations as they are that come after the one that it is about.
        """
        ...

    async def size(self, location: str) -> int | None:
        """Bytes at the location, None when nothing lies there."""
        ...

    async def redirect(self, location: str) -> str | None:
        """A URL where clients can fetch the bytes themselves for a while, or None: stream them."""
        ...

    def walk(self, prefix: str) -> AsyncIterator[Found]:
        """Every location below the folder `prefix`, in no order. A missing folder yields nothing.

        A location made or deleted meanwhile may be met or not.
        """
        ...

    async def sweep(self, age: timedelta) -> int:
        """Remove what killed writers left at least `age` ago and no walk meets; how many there were."""
        ...

    async def room(self) -> Room | None:
        """What the disk below has left; None where nobody can say. Raises StorageError."""
        ...

    async def check(self) -> None:
        """Prove that the store can be written and read. Raises StorageError with the reason.

        (OutOfSpace among them: then what is stored can still be read.)
        """
        ...

    async def close(self) -> None:
        """Let go of threads and connections."""
        ...
