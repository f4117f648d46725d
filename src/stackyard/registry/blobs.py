"""Blobs: find, read, mount, delete."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import Connection

from stackyard.metadata import blobs, repositories
from stackyard.metadata.blobs import Blob
from stackyard.metadata.database import Database
from stackyard.oci.digests import Digest
from stackyard.oci.errors import BlobUnknown, Unsupported
from stackyard.registry.guards import TagGuard
from stackyard.registry.presence import Presence
from stackyard.registry.remembered import Remembered
from stackyard.registry.rules import Rules
from stackyard.registry.settings import Settings
from stackyard.storage.driver import BlobReader, BlobStore, LocationGone, StorageError

# How many repositories are asked for when a mount names no source: enough for any base image, bounded for all.
_HOLDERS = 100
_REMEMBERED = 10_000  # blobs


@dataclass(slots=True)
class Blobs:
    """The blobs of every repository. A digest is no capability: each method needs the repository that links it."""

    store: BlobStore
    database: Database
    settings: Settings
    rules: Rules
    presence: Presence
    _found: Remembered[Blob] = field(init=False)

    def __post_init__(self) -> None:
        self._found = Remembered(self.database, _REMEMBERED)

    async def find(self, repository: str, digest: Digest) -> Blob:
        """The blob, where this repository links it. Raises BlobUnknown."""
        key, found = (repository, digest), self._found.now()
        blob = found.get(key)
        return blob or self._found.keep(found, key, (await self._find(repository, digest))[0])

    async def promise(self, repository: str, digest: Digest) -> Blob:
        """As `find`, and keep the blob from collection for the promise span: a client will now skip its upload.

        A write only when less than half of an earlier promise is left. Raises BlobUnknown, also when the blob's
        collection began in between.
        """
        if self.presence.doubtful:
            await self.presence.settle([digest])
        blob, left = await self._find(repository, digest)
        if left < self._half_a_promise and not await self.database.write(
            blobs.promise, repository, digest, self.settings.promise
        ):
            raise BlobUnknown(digest=digest)
        return blob

    @property
    def _half_a_promise(self) -> float:
        return self.settings.promise.total_seconds() * 500_000  # microseconds

    async def _find(self, repository: str, digest: Digest) -> tuple[Blob, int]:
        row = await self.database.fetch(blobs.FIND, repository, digest)
        if row is None:
            raise BlobUnknown(digest=digest)
        blob_id, size, location, left = row
        return Blob(blob_id, digest, size, location), left

    async def open(self, blob: Blob) -> BlobReader:
        """Open the bytes, all of them.

        Raises:
            BlobUnknown: They have just been collected.
            StorageError: The store has more or fewer.
        """
        reader = await self._open(blob)
        if reader.size != blob.size:
            reader.close()
            reader = await self._open(blob)  # a shared file system may show another node's last bytes late
            if reader.size != blob.size:
                reader.close()
                raise StorageError(f"{blob.location}: has {reader.size} bytes, not {blob.size}")
        return reader

    async def _open(self, blob: Blob) -> BlobReader:
        try:
            return await self.store.open(blob.location)
        except LocationGone:
            raise BlobUnknown(digest=blob.digest) from None

    async def redirect(self, blob: Blob) -> str | None:
        """Where the client can fetch the bytes itself, when the store can say and the settings allow."""
        return await self.store.redirect(blob.location) if self.settings.redirect else None

    async def mount(
        self, target: str, digest: Digest, *, source: str | None, may_pull: Callable[[str], bool], actor: str
    ) -> Blob | None:
        """Link the blob to `target` from a repository that the caller may pull; None when there is none.

        Without `source` any such repository does (end-11 with `from` omitted).
        """
        if self.presence.doubtful:
            await self.presence.settle([digest])
        candidates = [source] if source else await self.database.read(blobs.holders, digest, limit=_HOLDERS)
        for candidate in filter(may_pull, candidates):
            blob = await self.database.write(
                blobs.mount, source=candidate, target=target, digest=digest, actor=actor, promise=self.settings.promise
            )
            if blob is not None:
                return blob
        return None

    async def delete(self, repository: str, digest: Digest, *, actor: str, admin: bool = False) -> None:
        """Take the blob out of this repository; it can be restored until the undo span ends.

        Raises BlobUnknown, and TagImmutable unless the actor is an administrator.
        """
        if not self.settings.delete_enabled:
            raise Unsupported("deleting is disabled: set storage.delete.enabled")
        guard = TagGuard(self.rules, repository, actor, override=admin)
        if not await self.database.write(_delete, repository, digest, guard, undo=self.settings.undo):
            raise BlobUnknown(digest=digest)


def _delete(c: Connection, repository: str, digest: Digest, guard: TagGuard, *, undo: timedelta) -> bool:
    repository_id = repositories.find_locked(c, repository)
    if repository_id is None or not blobs.unlink(c, repository, digest, actor=guard.actor, undo=undo):
        return False
    # Only now: whoever pushes an image of it holds the link locked.
    guard.on_delete_manifest(c, repository_id, digest)
    return True
