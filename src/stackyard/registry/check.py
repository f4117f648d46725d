"""Check: do the database and the store tell the same story? Both ways, without reading any blob's bytes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from stackyard.metadata import checking, scrubbing, views
from stackyard.metadata.database import Database
from stackyard.metadata.scrubbing import Copy
from stackyard.oci import layout
from stackyard.oci.digests import Digest, is_digest
from stackyard.registry.batches import batches
from stackyard.registry.imports import Imports
from stackyard.storage.driver import BlobStore

_PAGE = 200
_AT_ONCE = 16  # questions to the store
_MOST = 1000
_YOUNG = timedelta(days=1)
"""A file may be there before its row is seen; one that no row owns for so long is nobody's."""


@dataclass(slots=True)
class Checked:
    """What was found so far. Each list names a thousand at most."""

    blobs: int = 0
    files: int = 0
    missing: list[str] = field(default_factory=list)
    """Digests whose row tells of a file that is not there."""
    wrong_size: list[str] = field(default_factory=list)
    """Digests whose file is shorter or longer than it should be."""
    unowned: list[str] = field(default_factory=list)
    """Files among the blobs, older than a day, that no row tells of."""
    unowned_size: int = 0
    """Bytes of those."""
    broken: list[str] = field(default_factory=list)
    """What rows name and is not there, in words."""
    quarantined: int = 0
    """Copies that are known to be damaged and kept from clients."""
    repaired: bool = False
    """Whether what is safe to repair was: missing and wrong files are quarantined, unowned ones given to collection."""

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.missing or self.wrong_size or self.unowned or self.broken)


Tell = Callable[[Checked], Awaitable[None]]


async def silent(so_far: Checked) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Check:
    """Compares."""

    store: BlobStore
    database: Database
    imports: Imports

    async def run(self, *, repair: bool = False, tell: Tell = silent) -> Checked:
        """All of it. Waits for nobody and holds nothing."""
        found = Checked(repaired=repair)
        await self._rows(found, tell, repair=repair)
        if not self.imports.pending:  # a volume that is being read is full of files that no row tells of yet
            await self._files(found, tell, repair=repair)
        found.broken += await self.database.survey(checking.broken, limit=_MOST)
        found.broken += await self.database.survey(checking.adrift, limit=_MOST)
        return found

    async def _rows(self, found: Checked, tell: Tell, *, repair: bool) -> None:
        after = 0
        while copies := await self.database.read(scrubbing.page, after=after, limit=_PAGE):
            after = copies[-1].id
            for batch in (copies[start : start + _AT_ONCE] for start in range(0, len(copies), _AT_ONCE)):
                sizes = await asyncio.gather(*(self.store.size(copy.location) for copy in batch))
                for copy, size in zip(batch, sizes, strict=True):
                    if size != copy.size and not copy.quarantined:
                        await self._wrong(copy, size, found, repair=repair)
            found.blobs += len(copies)
            found.quarantined += sum(copy.quarantined for copy in copies)
            await tell(found)

    async def _wrong(self, copy: Copy, size: int | None, found: Checked, *, repair: bool) -> None:
        still = await self.database.read(scrubbing.page, after=copy.id - 1, limit=1)
        if still != [copy]:
            return  # collected meanwhile
        names = found.missing if size is None else found.wrong_size
        if len(names) < _MOST:
            names.append(copy.digest)
        if repair:
            damage = "its file is missing" if size is None else f"its file has {size} bytes instead of {copy.size}"
            found.quarantined += await self.database.write(scrubbing.quarantine, copy, damage) is not None

    async def _files(self, found: Checked, tell: Tell, *, repair: bool) -> None:
        oldest = datetime.now(UTC) - _YOUNG
        async for batch in batches(self.store.walk(layout.BLOBS), _PAGE):
            found.files += len(batch)
            old = {one.location: one for one in batch if one.modified < oldest}
            for location in sorted(await self.database.read(checking.unknown, list(old)) if old else ()):
                owner = _owner(location)
                if owner and owner[1] == 0 and await self.database.read(views.has_second_name, owner[0]):
                    continue  # for Distribution, which looks for a blob only there
                found.unowned_size += old[location].size
                if len(found.unowned) < _MOST:
                    found.unowned.append(location)
                if repair and owner:
                    await self.database.write(checking.own, *owner, location, old[location].size)
            await tell(found)


def _owner(location: str) -> tuple[Digest, int] | None:
    """The digest and copy that would own this location; None for what is no location of a blob."""
    folder, _, name = location.removeprefix(f"{layout.BLOBS}/").rpartition("/")
    algorithm, _, rest = folder.partition("/")
    digest, copy = f"{algorithm}:{rest.rpartition('/')[2]}", layout.copy_number(name)
    if copy is None or not is_digest(digest) or layout.blob(Digest(digest), copy) != location:
        return None
    return Digest(digest), copy
