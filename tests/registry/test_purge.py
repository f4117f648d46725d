"""A purge takes a named thing at once, whatever was promised, and nothing else."""

import pytest
from sqlalchemy import text
from tests.metadata.making import ACTOR, HOUR, WEEK, child, put
from tests.registry.making import locations, push, push_image

from stackyard.metadata.database import Database
from stackyard.metadata.manifests import Pushed
from stackyard.oci.digests import Digest
from stackyard.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, NotRestorable, StillNeeded
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.storage.memory import MemoryStore

SECRET, BASE = b"secret" * 9, b"base" * 9


@pytest.fixture
def registry(store: MemoryStore, database: Database) -> Registry:
    """With everything promised."""
    return Registry.over(store, database, Settings(promise=HOUR, undo=WEEK))


async def promised(database: Database, repository: str, image: Pushed, *tags: str) -> None:
    await database.write(put, repository, image, *tags, promise=HOUR)


async def test_an_image_goes_with_all_its_tags_and_what_only_it_names(
    registry: Registry, database: Database, store: MemoryStore
) -> None:
    image = await push_image(registry, database, "a", "v1", SECRET, BASE)
    await promised(database, "a", image, "v1", "again")
    await push_image(registry, database, "a", "v2", BASE)

    gone = await registry.purge.manifest("a", "v1", actor=ACTOR)

    assert (gone.tags, gone.manifests) == (["again", "v1"], [image.digest])
    assert (gone.blobs, gone.size, gone.kept) == ([Digest.of(SECRET)], len(SECRET), [Digest.of(BASE)])
    assert len(await locations(store)) == 1
    with pytest.raises(NotRestorable):
        await registry.tags.restore("a", "v1", digest=None, at=None, actor=ACTOR)
    with pytest.raises(NotRestorable):
        await registry.manifests.restore("a", image.digest, actor=ACTOR)


async def test_what_was_deleted_before_can_be_purged(
    registry: Registry, database: Database, store: MemoryStore
) -> None:
    image = await push_image(registry, database, "a", "v1", SECRET)
    await promised(database, "a", image, "v1")
    await registry.manifests.remove("a", "v1", actor=ACTOR)

    with pytest.raises(ManifestUnknown, match=f"v1 is deleted already; .* still here: a@{image.digest}"):
        await registry.purge.manifest("a", "v1", actor=ACTOR)
    gone = await registry.purge.manifest("a", image.digest, actor=ACTOR)

    assert gone.blobs == [Digest.of(SECRET)]
    assert await locations(store) == set()


async def test_a_repository_goes_with_those_that_were_deleted_under_its_name(
    registry: Registry, database: Database, store: MemoryStore
) -> None:
    for tag in ("v1", "v2"):
        await push_image(registry, database, "a", tag, SECRET + tag.encode())
        await registry.repositories.delete("a", actor=ACTOR)
    await push_image(registry, database, "a", "v3", BASE)

    gone = await registry.purge.repository("a", actor=ACTOR)

    assert (len(gone.manifests), len(gone.blobs)) == (3, 3)
    assert await locations(store) == set()
    with pytest.raises(NotRestorable):
        await registry.repositories.restore("a", actor=ACTOR)
    with pytest.raises(NameUnknown):
        await registry.purge.repository("a", actor=ACTOR)


async def test_what_another_repository_has_stays_there(
    registry: Registry, database: Database, store: MemoryStore
) -> None:
    await push_image(registry, database, "a", "v1", SECRET)
    await push_image(registry, database, "b", "v1", SECRET)

    gone = await registry.purge.manifest("a", "v1", actor=ACTOR)

    assert (gone.blobs, gone.kept) == ([], [Digest.of(SECRET)])
    assert await registry.blobs.find("b", Digest.of(SECRET))
    with pytest.raises(BlobUnknown):
        await registry.blobs.find("a", Digest.of(SECRET))


async def test_an_index_goes_with_its_untagged_children(
    registry: Registry, database: Database, store: MemoryStore
) -> None:
    one = await push_image(registry, database, "a", "one", SECRET)
    two = await push_image(registry, database, "a", "two", BASE)
    index = Pushed(Digest.of(b"i"), one.media_type, b"i", 1, [child(one.digest), child(two.digest)])
    await promised(database, "a", index, "all")
    await database.write(lambda c: c.execute(text("DELETE FROM tag WHERE name = 'one'")))

    with pytest.raises(StillNeeded, match=index.digest):
        await registry.purge.manifest("a", one.digest, actor=ACTOR)
    gone = await registry.purge.manifest("a", "all", actor=ACTOR)

    assert gone.manifests == [index.digest, one.digest]
    assert gone.blobs == [Digest.of(SECRET)]
    assert await registry.manifests.find("a", "two")


async def test_a_blob_goes_from_everywhere_unless_an_image_names_it(
    registry: Registry, database: Database, store: MemoryStore
) -> None:
    for repository in ("a", "b"):
        await push(registry, repository, SECRET)
    image = await push_image(registry, database, "c", "v1", BASE)

    gone = await registry.purge.blob(Digest.of(SECRET), actor=ACTOR)

    assert (gone.blobs, gone.size) == ([Digest.of(SECRET)], len(SECRET))
    with pytest.raises(StillNeeded, match=f"c@{image.digest}"):
        await registry.purge.blob(Digest.of(BASE), actor=ACTOR)
    with pytest.raises(BlobUnknown):
        await registry.purge.blob(Digest.of(SECRET), actor=ACTOR)


async def test_a_repository_goes_to_its_last_byte(registry: Registry, database: Database, store: MemoryStore) -> None:
    image = await push_image(registry, database, "a", "v1", SECRET, BASE)
    await promised(database, "a", image, "v1")
    await push_image(registry, database, "b", "v1", BASE)

    gone = await registry.purge.repository("a", actor=ACTOR)

    assert (gone.blobs, gone.kept) == ([Digest.of(SECRET)], [Digest.of(BASE)])
    with pytest.raises(NotRestorable):
        await registry.repositories.restore("a", actor=ACTOR)
    assert await database.read(lambda c: c.execute(text("SELECT name FROM repository")).all()) == [("b",)]


async def test_what_is_pushed_again_afterwards_is_new(
    registry: Registry, database: Database, store: MemoryStore
) -> None:
    await push_image(registry, database, "a", "v1", SECRET)
    await registry.purge.manifest("a", "v1", actor=ACTOR)

    await push_image(registry, database, "a", "v1", SECRET)

    found = await registry.blobs.open(await registry.blobs.find("a", Digest.of(SECRET)))
    assert b"".join([chunk async for chunk in found.chunks(0, found.size)]) == SECRET
    found.close()


async def test_what_is_not_there_is_told(registry: Registry, database: Database) -> None:
    await push_image(registry, database, "a", "v1", BASE)

    for purging, refusal in (
        (registry.purge.manifest("b", "v1", actor=ACTOR), NameUnknown),
        (registry.purge.manifest("a", "v2", actor=ACTOR), ManifestUnknown),
        (registry.purge.manifest("a", Digest.of(b"no"), actor=ACTOR), ManifestUnknown),
        (registry.purge.repository("b", actor=ACTOR), NameUnknown),
    ):
        with pytest.raises(refusal):
            await purging
