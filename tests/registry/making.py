"""Content for the tests: pushed through the registry, byte by byte."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta

from tests.metadata.making import ACTOR, NOTHING, layer, pushed, put

from stackyard.metadata import manifests
from stackyard.metadata.database import Database
from stackyard.metadata.manifests import Pushed
from stackyard.oci.digests import Digest
from stackyard.registry.chunks import Chunk
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.storage.memory import MemoryStore

SHORT = Settings(delete_enabled=True, promise=NOTHING, undo=NOTHING)
"""Nothing is promised, and nothing can be restored."""


async def push(registry: Registry, repository: str, content: bytes) -> Digest:
    """A blob."""
    digest = Digest.of(content)
    upload = await registry.uploads.start(repository, algorithm="sha256", actor=ACTOR)

    async def body() -> AsyncIterator[bytes]:
        yield content

    await registry.uploads.finish(repository, upload.id, digest, Chunk(body(), length=len(content)), actor=ACTOR)
    return digest


async def push_image(
    registry: Registry, database: Database, repository: str, tag: str, *contents: bytes, undo: timedelta = NOTHING
) -> Pushed:
    """A manifest with these layers; another tag makes another manifest."""
    layers = [layer(await push(registry, repository, content)) for content in contents]
    image = pushed(json.dumps([tag, *(one.digest for one in layers)]).encode(), layers)
    await database.write(put, repository, image, tag, promise=NOTHING, undo=undo)
    return image


async def delete(database: Database, repository: str, image: Pushed, undo: timedelta = NOTHING) -> None:
    """The manifest, with its tags."""
    assert await database.write(manifests.delete, repository, image.digest, actor=ACTOR, undo=undo)


async def locations(store: MemoryStore) -> set[str]:
    """Where there are bytes of blobs."""
    return {found.location async for found in store.walk("docker")}
