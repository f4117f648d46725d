"""The seam to what Distribution keeps beside its blobs: small files in folders, which may change and go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SmallFile:
    """A file as it was read."""

    content: bytes | None
    """None: it is larger than was asked for."""
    size: int
    """Bytes."""
    modified: datetime


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file as it stands in its folder."""

    name: str
    size: int
    """Bytes."""
    identity: int
    """Two names of one file have the same."""


class SmallFiles(Protocol):
    """Whole files of a few KiB, many per call: what costs is the call, to a thread or to a server.

    Locations are those of `BlobStore`. Nothing here looks at what they mean. Names that are no location are passed
    over. What the disk refuses, other than that nothing is there, raises StorageError: nobody may take a folder that
    could not be read for an empty one.
    """

    async def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly below `prefix`, in byte order; none when there is no such folder."""
        ...

    async def entries(self, folders: Sequence[str]) -> list[list[FileEntry]]:
        """The files directly in each of these folders, in no order."""
        ...

    async def read(self, locations: Sequence[str], *, limit: int) -> list[SmallFile | None]:
        """What lies at each of these, None where nothing does. `limit` in bytes, for each."""
        ...

    async def sizes(self, locations: Sequence[str]) -> list[int | None]:
        """Bytes at each of these, None where nothing lies."""
        ...

    async def changed(self, folders: Sequence[str]) -> list[int | None]:
        """When something was last added to each of these folders or removed from it; None where there is none.

        In nanoseconds, by a clock of the file system's own: only to be compared for being the same.
        """
        ...

    async def write(self, files: Mapping[str, bytes]) -> None:
        """All these files hold these bytes, durably, in place of what they held; no reader ever sees half of one.

        Raises OutOfSpace.
        """
        ...

    async def remove(self, folders: Sequence[str]) -> None:
        """These folders and all below them are gone, durably. Nothing there is not an error."""
        ...

    async def alias(self, origin: str, location: str) -> bool:
        """Give the file at `origin` a second name, durably; whether it has one now.

        False when the file system has no second names, or another file has this one. Raises LocationGone.
        """
        ...

    async def close(self) -> None:
        """Let go of threads and connections."""
        ...
