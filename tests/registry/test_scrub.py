"""Damage is found, told, kept from clients, and healed by a push."""

import asyncio
import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.metadata.making import ACTOR, HOUR, child, put
from tests.registry.making import push, push_image

from stackyard.metadata import imports, scrubbing
from stackyard.metadata.database import Database
from stackyard.metadata.manifests import Pushed
from stackyard.oci.digests import Digest
from stackyard.oci.errors import BlobUnknown
from stackyard.registry.registry import Registry
from stackyard.registry.scrub import Scrubbed, StoreMissing
from stackyard.registry.settings import Settings
from stackyard.storage.driver import StorageError
from stackyard.storage.filesystem.store import FilesystemStore

WHOLE, TORN = b"whole" * 1000, b"torn" * 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def registry(root: Path, database: Database) -> Registry:
    """Over files, which can be damaged."""
    return Registry.over(FilesystemStore(root), database, Settings(promise=HOUR))


async def file(registry: Registry, root: Path, digest: Digest) -> Path:
    return root / (await registry.blobs.find("a", digest)).location


async def test_a_blob_whose_bytes_changed_is_not_served_and_its_tags_are_named(
    registry: Registry, database: Database, root: Path
) -> None:
    image = await push_image(registry, database, "a", "v1", WHOLE, TORN)
    index = Pushed(Digest.of(b"i"), image.media_type, b"i", 1, [child(image.digest)])
    await database.write(put, "a", index, "all")
    path = await file(registry, root, Digest.of(TORN))
    path.write_bytes(TORN[:-1] + b"!")

    found = await registry.scrub.run()

    assert (found.blobs, found.damaged) == (2, [Digest.of(TORN)])
    with pytest.raises(BlobUnknown):
        await registry.blobs.find("a", Digest.of(TORN))
    assert await registry.blobs.find("a", Digest.of(WHOLE))
    assert await database.read(scrubbing.hurt, Digest.of(TORN)) == ["a:all", "a:v1"]
    [(digest, _, _, damage)] = await database.read(scrubbing.damaged, after="", limit=10)
    assert (digest, "sha256:" in damage) == (Digest.of(TORN), True)


@pytest.mark.parametrize("harm", ["truncated", "missing"])
async def test_a_push_heals_what_was_quarantined(registry: Registry, database: Database, root: Path, harm: str) -> None:
    await push_image(registry, database, "a", "v1", WHOLE, TORN)
    path = await file(registry, root, Digest.of(TORN))
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(TORN[:9])
    assert (await registry.scrub.run()).damaged == [Digest.of(TORN)]

    await push(registry, "a", TORN)

    reader = await registry.blobs.open(await registry.blobs.find("a", Digest.of(TORN)))
    assert b"".join([chunk async for chunk in reader.chunks(0, reader.size)]) == TORN
    reader.close()
    assert (await registry.scrub.run()).damaged == []


async def test_what_turns_out_right_is_shown_again(registry: Registry, database: Database, root: Path) -> None:
    await push_image(registry, database, "a", "v1", TORN)
    path = await file(registry, root, Digest.of(TORN))
    path.rename(root / "away")
    await registry.scrub.run()
    (root / "away").rename(path)

    assert (await registry.scrub.run()).healed == [Digest.of(TORN)]
    assert await registry.blobs.find("a", Digest.of(TORN))


async def test_a_store_that_is_not_there_is_no_damage(registry: Registry, database: Database, root: Path) -> None:
    for number in range(25):
        await push(registry, "a", b"%d" % number)
    root.rename(root.with_name("unmounted"))
    root.mkdir()

    with pytest.raises(StoreMissing, match="is the storage mounted"):
        await registry.scrub.run()
    shutil.rmtree(root)
    root.with_name("unmounted").rename(root)

    assert len((await registry.scrub.run()).damaged) == 0
    assert await registry.blobs.find("a", Digest.of(b"24"))


async def test_no_pass_begins_before_the_volume_is_read(registry: Registry, database: Database) -> None:
    await push(registry, "a", WHOLE)
    await database.write(imports.begin, "listing")
    await registry.scrub.leases.run("scrub", registry.scrub._pass_when_due)
    verified = "SELECT count(verified_at) FROM blob"
    assert await database.read(lambda c: c.execute(text(verified)).scalar()) == 0

    await database.write(imports.begin, "done")
    await registry.scrub.leases.run("scrub", registry.scrub._pass_when_due)

    assert await database.read(lambda c: c.execute(text(verified)).scalar()) == 1


async def test_an_interrupted_pass_goes_on_where_it_was(
    registry: Registry, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackyard.registry.scrub._PAGE", 2)
    for number in range(5):
        await push(registry, "a", b"%d" % number)
    fail_after = 3
    opened = registry.blobs.store.open

    async def flaky(location: str) -> object:
        nonlocal fail_after
        fail_after -= 1
        if fail_after < 0:
            raise asyncio.CancelledError
        return await opened(location)

    monkeypatch.setattr(registry.blobs.store, "open", flaky)
    with pytest.raises(asyncio.CancelledError):
        await registry.scrub.leases.run("scrub", registry.scrub._pass_when_due)
    fail_after = 3  # three are left: a page was finished
    await registry.scrub.leases.run("scrub", registry.scrub._pass_when_due)
    await registry.scrub.leases.run("scrub", registry.scrub._pass_when_due)  # not due again

    found = await database.read(lambda c: c.execute(text("SELECT count(*), count(verified_at) FROM blob")).one())
    assert tuple(found) == (5, 5)


async def test_a_disk_that_cannot_read_is_damage(
    registry: Registry, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push(registry, "a", TORN)

    async def fail(location: str) -> object:
        raise StorageError("Input/output error")

    monkeypatch.setattr(registry.blobs.store, "open", fail)

    assert (await registry.scrub.run()).damaged == [Digest.of(TORN)]


async def test_progress_is_told(registry: Registry, database: Database) -> None:
    for content in (WHOLE, TORN):
        await push(registry, "a", content)
    told: list[tuple[int, int]] = []

    async def tell(so_far: Scrubbed) -> None:
        told.append((so_far.blobs, so_far.size))

    await registry.scrub.run(tell=tell)

    assert told == [(1, len(WHOLE)), (2, len(WHOLE) + len(TORN))]


async def test_a_check_finds_what_rows_and_files_do_not_tell_of_each_other(
    registry: Registry, database: Database, root: Path
) -> None:
    image = await push_image(registry, database, "a", "v1", WHOLE, TORN)
    lost = await push(registry, "a", b"lost")
    assert (await registry.comparison.run()).is_well
    (await file(registry, root, Digest.of(TORN))).write_bytes(b"short")
    (await file(registry, root, lost)).unlink()
    stray = root / f"docker/registry/v2/blobs/sha256/ab/{'ab' * 32}/data.3"
    young = stray.with_name("data")
    stray.parent.mkdir(parents=True)
    for path in (stray, young):
        path.write_bytes(b"stray")
    os.utime(stray, (0, 0))
    await database.write(lambda c: c.execute(text("DELETE FROM blob_link WHERE digest = :d"), {"d": Digest.of(WHOLE)}))

    found = await registry.comparison.run()

    assert (found.missing, found.wrong_size) == ([lost], [Digest.of(TORN)])
    assert (found.unowned, found.unowned_size) == ([str(stray.relative_to(root))], 5)
    assert found.broken == [f"a@{image.digest} names {Digest.of(WHOLE)}, which a does not have"]
    assert await registry.blobs.find("a", lost), "without --repair nothing changes"


async def test_a_repair_quarantines_what_is_wrong_and_gives_strays_to_collection(
    registry: Registry, database: Database, root: Path
) -> None:
    lost = await push(registry, "a", b"lost")
    (await file(registry, root, lost)).unlink()
    stray = root / f"docker/registry/v2/blobs/sha256/ab/{'ab' * 32}/data.3"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stray")
    os.utime(stray, (0, 0))

    assert (await registry.comparison.run(repair=True)).quarantined == 1
    await registry.collection.run(readers=timedelta())

    with pytest.raises(BlobUnknown):
        await registry.blobs.find("a", lost)
    assert not stray.exists()
    after = await registry.comparison.run()
    assert (after.is_well, after.quarantined) == (True, 1)


async def test_a_blob_that_was_collected_meanwhile_is_no_damage(registry: Registry, database: Database) -> None:
    """A page was read, then the blob went: neither quarantined nor told."""
    await push(registry, "a", TORN)
    [copy] = await database.read(scrubbing.page, after=0, limit=1)
    await registry.purge.blob(Digest.of(TORN), actor=ACTOR)

    assert await database.write(scrubbing.quarantine, copy, "missing") is None
