"""A file beside the database that only takes space, and is given back when there is no other.

On a full disk nothing can be deleted either: that, too, is rows to be written. So the first write that does not fit
removes the ballast and is tried again, and what it then deletes makes room for the rest.
"""

import os
from contextlib import suppress
from pathlib import Path

from stackyard.metadata.database import Database, Function, P, T
from stackyard.metadata.errors import DatabaseFull, DatabaseUnavailable

_LARGEST = 16 << 20
_SHARE = 100  # of the file system, at most one part in so many
# Below it the disk is full, whatever words SQLite has for what it met.
_NOTHING_LEFT = 256 << 10


class Ballast:
    """The file. May be removed by any process, and is made by one."""

    def __init__(self, database: Path, size: int | None = None) -> None:
        """Touches nothing. `size` in bytes, 0 for none; None: what suits the file system."""
        self._path = Path(f"{database}-ballast")
        self._size = size

    def size(self) -> int:
        """Bytes that it has when it is there."""
        return min(_LARGEST, self.disk()[1] // _SHARE) if self._size is None else self._size

    def disk(self) -> tuple[int, int]:
        """Bytes free on its file system, and bytes in all. Raises OSError."""
        found = os.statvfs(self._path.parent)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def is_there(self) -> bool:
        """Whether there is something to be given back; also when none is wanted."""
        try:
            return self._path.stat().st_size >= self.size()
        except OSError:
            return self._size == 0

    def make(self) -> None:
        """Take the space. Raises OSError, and then takes none."""
        size = self.size()
        if not size:
            self.release()
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
            os.ftruncate(descriptor, size)
        except OSError:
            self.release()
            raise
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give the space back. Nothing to give is no error."""
        with suppress(OSError):
            self._path.unlink()

    def is_needed(self, error: Exception) -> bool:
        """Whether the database failed because the disk is full."""
        if isinstance(error, DatabaseFull):
            return True
        with suppress(OSError):
            return self.disk()[0] < _NOTHING_LEFT
        return False


class Ballasted:
    """A `Database` that gives its ballast back when it is full."""

    def __init__(self, database: Database, ballast: Ballast) -> None:
        """Take the database over."""
        self._database = database
        self._ballast = ballast
        # Reads have nothing to do with it.
        self.read = database.read
        self.survey = database.survey
        self.fetch = database.fetch
        self.version = database.version
        self.reads_in_place = database.reads_in_place
        self.close = database.close

    async def write(self, function: Function[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Database`."""
        try:
            return await self._database.write(function, *args, **kwargs)
        except (DatabaseFull, DatabaseUnavailable) as error:
            self._make_room(error)
        return await self._database.write(function, *args, **kwargs)

    async def write_relaxed(self, function: Function[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Database`."""
        try:
            return await self._database.write_relaxed(function, *args, **kwargs)
        except (DatabaseFull, DatabaseUnavailable) as error:
            self._make_room(error)
        return await self._database.write_relaxed(function, *args, **kwargs)

    def _make_room(self, error: Exception) -> None:
        if not self._ballast.is_needed(error):
            raise error
        self._ballast.release()
