"""Joining: blobs that came with several requests become one object, so that clients can be sent to it.

Only for buckets, where nothing can be appended. The bytes pass through this process, and their digest is verified on
the way. Whoever reads the old objects meanwhile goes on: they are deleted like every blob's, when their readers are
gone.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import structlog

from stackyard.metadata import blobs, holds, joining
from stackyard.metadata.database import Database
from stackyard.metadata.scrubbing import Copy
from stackyard.oci.digests import Digest, Hasher
from stackyard.registry.leases import Lease, Leases
from stackyard.storage.driver import BlobStore, LocationGone

LEASE = "joining"
INTERVAL = timedelta(hours=1)
_PAGE = 100

log = structlog.get_logger("stackyard.joining")


@dataclass(slots=True)
class Joining:
    """Joins."""

    store: BlobStore
    database: Database
    leases: Leases

    async def keep(self) -> None:
        """Join in the background, for ever; cancel to stop."""
        if self.store.several:
            await self.leases.keep_running(LEASE, self.join_all, every=INTERVAL)

    async def join_all(self, lease: Lease) -> int:
        """All that there are now; how many blobs."""
        joined, after = 0, 0
        largest = self.store.largest
        while copies := await self.database.survey(
            joining.page, self.store.several, after=after, largest=largest, limit=_PAGE
        ):
            for copy in copies:
                if await self.database.read(holds.current):
                    return joined  # what is being copied elsewhere stays where it is
                joined += await self._join(lease, copy)
            after = copies[-1].id
        if joined:
            log.info("blobs of several objects were joined", blobs=joined)
        return joined

    async def _join(self, lease: Lease, copy: Copy) -> bool:
        digest = Digest.parse(copy.digest)
        blob_id, location = await lease.write(blobs.allocate, digest, copy.size)
        try:
            if await self._write(copy, location, digest):
                return await lease.write(joining.replace, copy, blob_id)
            log.error("a blob of several objects is damaged: scrub, and push it again", digest=digest)
        except LocationGone:
            pass  # collected a moment ago
        finally:
            # Shown by now, or nobody's: then this does nothing.
            await asyncio.shield(self.database.write_relaxed(blobs.abandon, blob_id))
        return False

    async def _write(self, copy: Copy, location: str, digest: Digest) -> bool:
        """Whether the bytes are what they should be."""
        hasher = Hasher(digest.algorithm)
        reader = await self.store.open(copy.location)
        try:
            async with self.store.writer(location, 0, hasher) as writer:
                async for piece in reader.chunks(0, copy.size):
                    await writer.write(piece)
                await writer.finish(durable=True)
        finally:
            reader.close()
        return hasher.digest() == digest
