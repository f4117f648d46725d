"""Which of a digest's copies on a volume is whole, when the database that knew is lost."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from stackyard.metadata.takeover import FoundBlob
from stackyard.oci import layout
from stackyard.oci.digests import Digest, Hasher
from stackyard.storage.driver import BlobStore
from stackyard.storage.smallfiles import FileEntry, SmallFiles


@dataclass(frozen=True, slots=True)
class Copies:
    """The files in the folders of blobs."""

    store: BlobStore
    files: SmallFiles

    async def find(self, links: Sequence[tuple[Digest, datetime]]) -> list[FoundBlob]:
        """The copy to serve for each digest that something links.

        Of one copy its link says that it was whole. Of several, which a crash or a collection left, the newest whose
        bytes have the digest is taken. Two names of one file are one copy, which belongs to the later name: the first
        one is there for Distribution.
        """
        folders = await self.files.entries([layout.blob_folder(digest) for digest, _ in links])
        return [
            await self._choose(digest, at, _numbered(entries))
            for (digest, at), entries in zip(links, folders, strict=True)
        ]

    async def _choose(self, digest: Digest, at: datetime, copies: Sequence[tuple[int, FileEntry]]) -> FoundBlob:
        for number, entry in copies:
            if len(copies) == 1 or await self._is_whole(digest, number):
                others = tuple((other, file.size) for other, file in copies if other != number)
                return FoundBlob(digest, entry.size, at, number, others)
        others = tuple((other, file.size) for other, file in copies)
        return FoundBlob(digest, None, at, 0, others)

    async def _is_whole(self, digest: Digest, number: int) -> bool:
        hasher = Hasher(digest.algorithm)
        reader = await self.store.open(layout.blob(digest, number))
        try:
            async for piece in reader.chunks(0, reader.size):
                await asyncio.to_thread(hasher.update, piece)
        finally:
            reader.close()
        return hasher.digest() == digest


def _numbered(entries: Sequence[FileEntry]) -> list[tuple[int, FileEntry]]:
    """Copies from the newest to the first, each file once."""
    found = [(number, entry) for entry in entries if (number := layout.copy_number(entry.name)) is not None]
    by_file = {entry.identity: (number, entry) for number, entry in sorted(found, key=lambda one: one[0])}
    return sorted(by_file.values(), key=lambda one: one[0], reverse=True)
