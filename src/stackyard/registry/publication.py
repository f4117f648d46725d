"""From the bytes of an upload to a blob: bytes first, row second."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from stackyard.metadata import blobs
from stackyard.metadata.blobs import Commit
from stackyard.metadata.database import Database
from stackyard.metadata.errors import BlobVanished
from stackyard.metadata.uploads import Upload
from stackyard.oci.digests import Digest
from stackyard.registry.imports import Imports
from stackyard.registry.presence import Presence
from stackyard.storage.driver import LocationTaken

# More takeovers of one path than anybody sees: each is a copy of the blob that was collected, or a crash just there.
_MAX_COPIES = 1000

Keep = Callable[[str], Awaitable[object]]
"""Brings an upload's bytes to a location. Raises LocationTaken."""


@dataclass(frozen=True, slots=True)
class Place:
    """A location that nothing ever had, and the pending row that owns it."""

    blob_id: int
    location: str


@dataclass(slots=True)
class Publication:
    """One upload on its way to be a blob of `digest`."""

    database: Database
    imports: Imports
    presence: Presence
    digest: Digest
    actor: str
    promise: timedelta
    place: Place | None
    """Where its bytes will lie, once that is settled."""

    async def commit(self, upload: Upload, keep: Keep) -> Commit:
        """Keep the bytes, unless the blob is there already, and close the session.

        Raises:
            FenceLost: The session ended, or another writer has taken it over.
            And what `keep` raises. Then, too, `give_up` must follow.
        """
        return await self._commit_found(upload) or await self._commit_row(upload, await self._keep(upload, keep))

    async def commit_in_place(self, upload: Upload) -> Commit:
        """As `commit`, for bytes that stay where the session has them: its location is the blob's from then on."""
        stored = (upload.location, upload.offset)
        return await self._commit_found(upload) or await self._commit_row(upload, None, stored=stored)

    async def give_up(self) -> None:
        """Leave to the collector what may lie at the place."""
        if self.place:
            await self.database.write_relaxed(blobs.abandon, self.place.blob_id)
            self.place = None

    async def _commit_found(self, upload: Upload) -> Commit | None:
        """Close the session with the blob that is there already, if there is one."""
        if self.imports.pending:
            await self.imports.adopt(self.digest, upload.offset)
        if self.place is None:
            if self.presence.doubtful:
                await self.presence.settle([self.digest])
            live = await self.database.read(blobs.find_live, self.digest)
            if live:
                try:
                    return await self._commit_row(upload, None)
                except BlobVanished:
                    pass  # a moment ago
        return None

    async def _keep(self, upload: Upload, keep: Keep) -> int:
        for _ in range(_MAX_COPIES):
            if self.place is None:
                self.place = Place(*await self.database.write_relaxed(blobs.allocate, self.digest, upload.offset))
            try:
                await keep(self.place.location)
            except LocationTaken:
                # A file without a row, left by a power cut. It is never overwritten and never trusted: the row
                # now owns it until it is collected, and the next number is tried.
                await self.give_up()
                continue
            return self.place.blob_id
        raise RuntimeError(f"{_MAX_COPIES} locations of {self.digest} are taken by files that no row knows")

    async def _commit_row(
        self, upload: Upload, blob_id: int | None, *, stored: tuple[str, int] | None = None
    ) -> Commit:
        return await self.database.write(
            blobs.commit,
            repository=upload.repository,
            blob_id=blob_id,
            digest=self.digest,
            upload_id=upload.id,
            fence=upload.fence,
            actor=self.actor,
            promise=self.promise,
            stored=stored,
        )
