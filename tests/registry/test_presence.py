"""What rows tell of is looked for, after somebody else had the volume, before a client relies on it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.metadata.making import HOUR
from tests.registry.making import push, push_image

from stackyard.metadata import imports as rows
from stackyard.metadata import scrubbing
from stackyard.metadata.database import Database
from stackyard.oci import layout
from stackyard.oci.digests import Digest
from stackyard.oci.errors import BlobUnknown, ManifestBlobUnknown
from stackyard.registry.leases import Leases
from stackyard.registry.presence import LEASE
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.storage.filesystem.smallfiles import FilesystemSmallFiles
from stackyard.storage.filesystem.store import FilesystemStore

KEPT, GONE = b"kept", b"gone"


class Volume:
    """A volume, and the registries over it one after the other."""

    def __init__(self, root: Path, database: Database) -> None:
        self.root, self.database = root, database
        self.files, self.store = FilesystemSmallFiles(root), FilesystemStore(root)

    async def start(self) -> Registry:
        """As a process does that begins to serve."""
        registry = Registry.over(self.store, self.database, Settings(promise=HOUR), self.files)
        await registry.presence.look()
        return registry

    async def background(self, registry: Registry) -> None:
        """What the background does at its start, and every minute."""
        await Leases(self.database).run(LEASE, registry.presence.renew)

    def lose(self, content: bytes) -> Path:
        """What docker-registry's collection does to a blob."""
        path = self.root / layout.blob(Digest.of(content), 0)
        path.unlink()
        path.parent.rmdir()
        return path

    async def damaged(self) -> list[str]:
        return [row[0] for row in await self.database.read(scrubbing.damaged, after="", limit=10)]


@pytest.fixture
async def volume(tmp_path: Path, database: Database) -> AsyncIterator[Volume]:
    (tmp_path / layout.IN_USE).parent.mkdir()
    (tmp_path / layout.IN_USE).touch()
    await database.write(rows.settle, written=False)
    made = Volume(tmp_path, database)
    registry = await made.start()
    await push_image(registry, database, "a", "v1", KEPT, GONE)
    await made.background(registry)
    yield made
    await made.files.close()
    await made.store.close()


async def test_nobody_doubts_where_nothing_changed(volume: Volume) -> None:
    registry = await volume.start()

    assert not registry.presence.doubtful


async def test_what_changes_after_a_start_without_doubt_is_our_own_work_and_not_looked_through(volume: Volume) -> None:
    registry = await volume.start()
    volume.lose(GONE)

    await volume.background(registry)

    assert await volume.damaged() == []
    assert not (await volume.start()).presence.doubtful


async def test_a_client_that_asks_is_not_told_that_a_gone_blob_is_here(volume: Volume) -> None:
    volume.lose(GONE)
    registry = await volume.start()

    with pytest.raises(BlobUnknown):
        await registry.blobs.promise("a", Digest.of(GONE))
    assert await registry.blobs.promise("a", Digest.of(KEPT))


async def test_a_gone_blob_is_not_mounted(volume: Volume) -> None:
    volume.lose(GONE)
    registry = await volume.start()

    mounted = [
        await registry.blobs.mount("b", Digest.of(each), source="a", may_pull=lambda _: True, actor="user:a")
        for each in (KEPT, GONE)
    ]

    assert mounted[0] is not None
    assert mounted[1] is None


async def test_bytes_that_are_sent_again_are_kept(volume: Volume) -> None:
    volume.lose(GONE)
    registry = await volume.start()

    await push(registry, "b", GONE)

    for repository in ("a", "b"):
        reader = await registry.blobs.open(await registry.blobs.find(repository, Digest.of(GONE)))
        assert b"".join([chunk async for chunk in reader.chunks(0, reader.size)]) == GONE
        reader.close()


async def test_a_manifest_of_a_gone_blob_is_refused(volume: Volume) -> None:
    volume.lose(GONE)
    registry = await volume.start()
    descriptor = {"mediaType": "application/octet-stream", "digest": Digest.of(GONE), "size": len(GONE)}
    payload = image_payload(descriptor)

    with pytest.raises(ManifestBlobUnknown):
        await registry.manifests.put("a", "v2", (), payload, None, actor="user:a")


async def test_the_background_finds_what_is_gone_and_ends_all_doubt(volume: Volume) -> None:
    volume.lose(GONE)
    registry, background = await volume.start(), await volume.start()

    await volume.background(background)

    assert await volume.damaged() == [Digest.of(GONE)]
    await registry.presence.settle([Digest.of(KEPT)])
    assert not registry.presence.doubtful
    assert not (await volume.start()).presence.doubtful


async def test_our_own_work_is_not_looked_through_again(volume: Volume) -> None:
    registry = await volume.start()
    await volume.background(registry)
    await push(registry, "a", b"more")

    volume.lose(b"more")  # what only a scrub would notice
    await volume.background(registry)

    assert await volume.damaged() == []


async def test_a_store_that_is_away_is_not_taken_for_an_empty_one(volume: Volume) -> None:
    volume.lose(GONE)
    (volume.root / layout.IN_USE).unlink()
    registry = await volume.start()

    await volume.background(registry)
    await registry.presence.settle([Digest.of(GONE)])

    assert await volume.damaged() == []
    assert registry.presence.doubtful


def image_payload(layer: dict[str, object]) -> bytes:
    """An image of the kept blob and this layer."""
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest.of(KEPT), "size": len(KEPT)}
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": empty,
            "layers": [layer],
        }
    ).encode()
