"""The disk: some of it is kept free, by refusing pushes, so that everything else goes on.

Each process looks for itself, once a second at most, and counts what it writes in between; so the reserve may be
touched by what other processes write within a second, and is chosen large enough for that.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from stackyard.metadata import reclaimable
from stackyard.metadata.ballast import Ballast
from stackyard.metadata.blobs import PENDING_SPAN
from stackyard.metadata.database import Database
from stackyard.metadata.errors import MetadataError
from stackyard.oci.errors import LowSpace
from stackyard.oci.units import human
from stackyard.storage.driver import BlobStore, Room, StorageError

_EVERY = 1.0  # seconds between two looks at the disk
_TRASH_AGE = 60.0  # seconds that a count of what could be freed is told
_PATIENCE = 2.0  # seconds that a refusal waits for it
_LARGEST = 1 << 30
_SHARE = 20  # one part in so many of the disk

log = structlog.get_logger("stackyard.space")


@dataclass(slots=True)
class Space:
    """What is left of the disk, looked at once a second at most, and only while somebody pushes."""

    store: BlobStore
    database: Database
    reserve: int | None = None
    """Bytes that no push takes, 0 for none; None: 1 GiB, or a twentieth of the disk where that is less."""
    ballast: Ballast | None = None
    _left: int | None = None
    """Bytes that pushes may still take; None: any number."""
    _kept: int = 0
    _looked: float = float("-inf")
    _trash: int | None = None
    _counted: float = float("-inf")
    _counting: "asyncio.Task[None] | None" = field(default=None)

    async def check(self, more: int | None = None) -> None:
        """Refuse a push, of `more` bytes if that is known, that would take of the reserve. Raises LowSpace."""
        if time.monotonic() - self._looked >= _EVERY:
            await self._look()
        if self._left is not None and self._left < (more or 0):
            raise await self._refusal()

    async def take(self, size: int) -> None:
        """As `check`, for bytes that are then written, so that they count before the next look. Raises LowSpace."""
        await self.check(size)
        if self._left is not None:
            self._left -= size

    async def keep(self) -> None:
        """Make the ballast again whenever there is room; cancel to stop. For one process of all."""
        while True:
            with suppress(StorageError):
                await self._look()
            if self.ballast and not self.ballast.is_there():
                await asyncio.to_thread(self.make_ballast)
            await asyncio.sleep(_EVERY)

    def make_ballast(self) -> None:
        """Take its space, if the reserve stays free besides. Blocks."""
        assert self.ballast
        with suppress(OSError):
            free, total = self.ballast.disk()
            if not self.ballast.is_there() and free >= self.kept(total) + self.ballast.size():
                self.ballast.make()

    def kept(self, total: int) -> int:
        """The reserve on a disk of `total` bytes."""
        usual = min(_LARGEST, total // _SHARE)
        return usual if self.reserve is None else self.reserve

    async def _look(self) -> None:
        # Before the first wait: others go on with what was seen last.
        self._looked = time.monotonic()
        if self.reserve == 0:
            return
        with suppress(StorageError):  # that is for whoever needs the store to tell
            room = await self.store.room()
            if room is not None:
                self._kept = self.kept(room.total)
                left = room.free - self._kept
                self._tell(min([left, *(await asyncio.to_thread(self._beside_database, room))]), room.free)

    def _beside_database(self, store: Room) -> list[int]:
        """What the database's disk has left, which may be another one. Without its ballast, that has to fit as well."""
        if self.ballast is None:
            return []
        with suppress(OSError):
            free, total = self.ballast.disk()
            missing = 0 if self.ballast.is_there() else self.ballast.size()
            kept = self._kept if total == store.total else min(self._kept, total // _SHARE)
            return [free - kept - missing]
        return []

    def _tell(self, left: int, free: int) -> None:
        was_low, self._left = self._left is not None and self._left < 0, left
        if left < 0 and not was_low:
            log.warning("the disk is nearly full: pushes are refused", free=human(free), reserve=human(self._kept))
        elif was_low and left >= 0:
            log.info("the disk has room again: pushes are taken", free=human(free))

    async def _refusal(self) -> LowSpace:
        trash = await self._reclaimable()
        kept = human(self._kept, like=self._kept)
        text = f"no space for pushes: less than {kept} of the registry's disk would stay free"
        if trash:
            text += (
                f"; {human(trash)} are deleted content that can still be restored: `stackyard gc --grace 0` frees them"
            )
        elif trash == 0:
            text += "; no deleted content waits to be freed: delete images, then run `stackyard gc --grace 0`"
        else:
            text += "; `stackyard gc --grace 0` frees what was deleted"
        return LowSpace(text, headers={"Retry-After": "60"})

    async def _reclaimable(self) -> int | None:
        """Bytes that collection could free at once; None when that takes too long to find out."""
        if time.monotonic() - self._counted >= _TRASH_AGE and self._counting is None:
            self._counting = asyncio.create_task(self._count())
        if self._counting is not None:
            await asyncio.wait({self._counting}, timeout=_PATIENCE)
        return self._trash

    async def _count(self) -> None:
        try:
            found = await self.database.survey(reclaimable.survey, grace=timedelta(), pending=PENDING_SPAN)
            self._trash = found.size
        except MetadataError:
            self._trash = None
        finally:
            self._counted, self._counting = time.monotonic(), None
