"""Purging: a named thing goes at once and for good, such as a secret that was pushed by mistake."""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from stackyard.metadata import audit, collection, emptying, imports, purging, repositories, views
from stackyard.metadata.collection import Doomed
from stackyard.metadata.database import Database
from stackyard.metadata.purging import Purged
from stackyard.oci import layout
from stackyard.oci.digests import Digest
from stackyard.oci.errors import NameUnknown, Unavailable
from stackyard.storage.driver import BlobStore

_BATCH = 100
_AT_ONCE = timedelta()


@dataclass(frozen=True, slots=True)
class Gone:
    """What a purge took away."""

    tags: list[str]
    manifests: list[str]
    blobs: list[str]
    """Digests whose bytes are gone."""
    size: int
    """Bytes of those."""
    kept: list[str]
    """Digests of blobs that are part of it and stay, as other manifests or repositories need them."""


@dataclass(frozen=True, slots=True)
class Purge:
    """Takes things away without waiting for anybody.

    All of it raises Unavailable while a volume is being imported: what is not read yet may need the same bytes.
    """

    store: BlobStore
    database: Database

    async def manifest(self, repository: str, reference: str, *, actor: str) -> Gone:
        """A manifest, by tag or Digest, with its tags, its untagged children and what only they name.

        Raises:
            NameUnknown, ManifestUnknown: There is no such thing.
            StillNeeded: An index names it.
        """
        await self._check()
        purged = await self.database.write(_purge_manifest, repository, reference, actor)
        return await self._finish(purged, [*purged.blobs, *purged.manifests])

    async def blob(self, digest: Digest, *, actor: str) -> Gone:
        """A blob, in every repository.

        Raises:
            BlobUnknown: No repository has it.
            StillNeeded: Manifests name it.
        """
        await self._check()
        return await self._finish(await self.database.write(_purge_blob, digest, actor), [digest])

    async def repository(self, name: str, *, actor: str) -> Gone:
        """A repository with all it holds, and all that were deleted under its name before. Raises NameUnknown."""
        await self._check()
        blobs: list[str] = []
        manifests: list[str] = []
        for repository_id in await self.database.write(_hide, name, actor):
            blobs += [digest async for digest in self._pages(purging.digests, repository_id)]
            manifests += [digest async for digest in self._pages(purging.manifests, repository_id)]
            while await self.database.write(purging.end_promises, repository_id):
                pass
            while (await self.database.write(emptying.drop_repository, repository_id, grace=_AT_ONCE)).again:
                pass  # the collector may be at it as well
        return await self._finish(Purged(blobs=blobs, manifests=manifests), [*blobs, *manifests])

    async def _check(self) -> None:
        if (await self.database.read(imports.progress)).state in ("listing", "reading"):
            raise Unavailable("the volume is still being imported: what is to be purged may be needed; try again later")

    async def _pages(self, read: Callable[..., list[str]], repository_id: int) -> AsyncIterator[str]:
        after = ""
        while page := await self.database.read(read, repository_id, after=after):
            for digest in page:
                yield digest
            after = page[-1]

    async def _finish(self, purged: Purged, digests: list[str]) -> Gone:
        """Delete the bytes of what nothing needs any more, now: who reads them has them open."""
        gone: list[str] = []
        size = 0
        for start in range(0, len(digests), _BATCH):
            batch = digests[start : start + _BATCH]
            for digest, doomed in await self.database.write(_doom, batch):
                await self.store.delete(doomed.location)
                if await self.database.read(views.is_second_name, digest, doomed.location):
                    await self.store.delete(layout.blob(Digest(digest), 0))
                await self.database.write(collection.forget_blobs, [doomed])
                gone.append(digest)
                size += doomed.size
        kept = sorted({*purged.shared, *purged.blobs}.difference(gone))
        return Gone(purged.tags, purged.manifests, gone, size, kept)


def _purge_manifest(c: Connection, repository: str, reference: str, actor: str) -> Purged:
    digest = reference if isinstance(reference, Digest) else purging.manifest_of_tag(c, repository, reference)
    purged = purging.purge_manifest(c, repository, digest)
    audit.record(
        c, actor=actor, action="manifest.purge", repository=repository, manifests=purged.manifests, tags=purged.tags
    )
    return purged


def _purge_blob(c: Connection, digest: str, actor: str) -> Purged:
    purged = purging.purge_blob(c, digest)
    audit.record(c, actor=actor, action="blob.purge", digest=digest)
    return purged


def _hide(c: Connection, name: str, actor: str) -> list[int]:
    if repositories.find_locked(c, name) is not None:
        repositories.delete(c, name, actor=actor, undo=_AT_ONCE)
    found = purging.deleted_repositories(c, name)
    if not found:
        raise NameUnknown(f"there is no repository {name}")
    audit.record(c, actor=actor, action="repository.purge", repository=name)
    return found


def _doom(c: Connection, digests: Iterable[str]) -> list[tuple[str, Doomed]]:
    """Mark, and see at once what was marked: a purge waits for no reader."""
    found = []
    for digest in digests:
        found += [(digest, one) for one in collection.mark_blobs(c, digest, readers=_AT_ONCE).doomed]
    return found
