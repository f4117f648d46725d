"""Uploads of which a request failed, and which are finished all the same."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.metadata.making import ACTOR
from tests.registry.making import SHORT

from stackyard.metadata.database import Database
from stackyard.oci.digests import Digest
from stackyard.oci.errors import DigestInvalid, SizeInvalid
from stackyard.registry.chunks import Chunk
from stackyard.registry.registry import Registry
from stackyard.storage.driver import BlobStore
from stackyard.storage.filesystem import FilesystemStore
from stackyard.storage.memory import MemoryStore

FIRST, SECOND = b"first" * 50_000, b"second" * 50_000


@pytest.fixture(params=["files", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    store = FilesystemStore(tmp_path / "data", threads=25) if request.param == "files" else MemoryStore()
    yield store
    await store.close()


@pytest.fixture
def registry(store: BlobStore, database: Database) -> Registry:
    return Registry.over(store, database, SHORT)


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 65536):
        yield content[start : start + 65536]


@pytest.mark.parametrize("before", [b"", FIRST])
@pytest.mark.parametrize("fault", ["short", "digest"])
async def test_what_a_refused_request_brought_is_no_part_of_the_blob(
    registry: Registry, store: BlobStore, before: bytes, fault: str
) -> None:
    upload = await registry.uploads.start("a", algorithm="sha256", actor=ACTOR)
    if before:
        await registry.uploads.append("a", upload.id, Chunk(pieces(before)))

    if fault == "short":
        window = (len(before), len(before) + 2 * len(SECOND))
        with pytest.raises(SizeInvalid):
            await registry.uploads.append("a", upload.id, Chunk(pieces(SECOND), window))
    else:
        with pytest.raises(DigestInvalid):
            await registry.uploads.finish("a", upload.id, Digest.of(b"other"), Chunk(pieces(SECOND)), actor=ACTOR)
    blob = await registry.uploads.finish("a", upload.id, Digest.of(before), Chunk(None), actor=ACTOR)

    assert await store.size(blob.location) == blob.size == len(before)
    reader = await registry.blobs.open(blob)
    assert b"".join([piece async for piece in reader.chunks(0, blob.size)]) == before
    reader.close()
