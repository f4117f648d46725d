"""What was deleted or overwritten comes back as it was, until its time is over."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from tests.metadata.making import ACTOR, NOTHING, WEEK, put
from tests.registry.making import delete, push, push_image

from stackyard.metadata import repositories, tags
from stackyard.metadata.database import Database
from stackyard.oci.digests import Digest
from stackyard.oci.errors import AlreadyThere, ManifestUnknown, NameUnknown, NotRestorable
from stackyard.registry.registry import Registry

FIRST = 1 << 62


async def history(registry: Registry, tag: str = "v1") -> list[tuple[str, str | None]]:
    return [(past.digest, past.reason) for _, past in await registry.tags.history("a", tag, before=FIRST, limit=10)]


async def test_a_tag_that_was_moved_goes_back(registry: Registry, database: Database) -> None:
    old = await push_image(registry, database, "a", "v1", b"old")
    new = await push_image(registry, database, "a", "v2", b"new")
    await database.write(put, "a", new, "v1")
    assert await history(registry) == [(old.digest, "moved")]

    assert await registry.tags.restore("a", "v1", digest=None, at=None, actor=ACTOR) == old.digest

    assert (await registry.manifests.find("a", "v1")).digest == old.digest
    assert await history(registry) == [(new.digest, "moved"), (old.digest, "moved")]
    now = await registry.tags.current("a", "v1")
    assert now is not None
    assert (now.digest, now.set_by, now.ended_at) == (old.digest, ACTOR, None)


async def test_restoring_twice_swaps_and_restoring_what_is_there_changes_nothing(
    registry: Registry, database: Database
) -> None:
    old = await push_image(registry, database, "a", "v1", b"old")
    new = await push_image(registry, database, "a", "v2", b"new")
    await database.write(put, "a", new, "v1")

    for expected in (old, new, old):
        assert await registry.tags.restore("a", "v1", digest=None, at=None, actor=ACTOR) == expected.digest
    before = await history(registry)
    await registry.tags.restore("a", "v1", digest=old.digest, at=None, actor=ACTOR)

    assert await history(registry) == before


async def test_a_deleted_tag_comes_back(registry: Registry, database: Database) -> None:
    image = await push_image(registry, database, "a", "v1", b"old")
    await database.write(tags.delete, "a", "v1", actor=ACTOR, undo=WEEK)
    assert await history(registry) == [(image.digest, "deleted")]

    await registry.tags.restore("a", "v1", digest=None, at=None, actor=ACTOR)

    assert (await registry.manifests.find("a", "v1")).digest == image.digest


async def test_a_deleted_manifest_comes_back_with_its_tags_but_for_those_that_are_taken(
    registry: Registry, database: Database
) -> None:
    image = await push_image(registry, database, "a", "v1", b"old")
    await database.write(put, "a", image, "v2")
    await delete(database, "a", image, undo=WEEK)
    other = await push_image(registry, database, "a", "v2", b"other")

    assert await registry.manifests.restore("a", image.digest, actor=ACTOR) == ["v1"]

    assert (await registry.manifests.find("a", "v1")).digest == image.digest
    assert (await registry.manifests.find("a", "v2")).digest == other.digest
    with pytest.raises(AlreadyThere, match="is not deleted"):
        await registry.manifests.restore("a", image.digest, actor=ACTOR)


async def test_a_tag_comes_back_with_its_deleted_manifest(registry: Registry, database: Database) -> None:
    image = await push_image(registry, database, "a", "v1", b"old")
    await delete(database, "a", image, undo=WEEK)

    await registry.tags.restore("a", "v1", digest=None, at=None, actor=ACTOR)

    assert (await registry.manifests.find("a", image.digest)).digest == image.digest


async def test_a_tag_goes_back_to_what_it_was_at_a_time(registry: Registry, database: Database) -> None:
    old = await push_image(registry, database, "a", "v1", b"old")
    new = await push_image(registry, database, "a", "v2", b"new")
    await database.write(put, "a", new, "v1")
    await database.write(lambda c: c.execute(text("UPDATE tag_history SET set_at = set_at - 7200000000")))
    hour_ago = datetime.now(UTC) - timedelta(hours=1)

    with pytest.raises(NotRestorable, match="did not exist at"):
        await registry.tags.restore("a", "v1", digest=None, at=hour_ago - timedelta(hours=2), actor=ACTOR)
    now = datetime.now(UTC) + timedelta(seconds=1)
    assert await registry.tags.restore("a", "v1", digest=None, at=now, actor=ACTOR) == new.digest
    assert await registry.tags.restore("a", "v1", digest=None, at=hour_ago, actor=ACTOR) == old.digest


async def test_what_is_over_or_gone_is_refused_in_a_sentence(registry: Registry, database: Database) -> None:
    image = await push_image(registry, database, "a", "v1", b"old")
    await delete(database, "a", image)

    with pytest.raises(NotRestorable, match="the time to restore it is over"):
        await registry.tags.restore("a", "v1", digest=None, at=None, actor=ACTOR)
    await registry.collection.run(readers=NOTHING)
    for restoring in (
        registry.tags.restore("a", "v1", digest=None, at=None, actor=ACTOR),
        registry.manifests.restore("a", image.digest, actor=ACTOR),
    ):
        with pytest.raises(NotRestorable, match="no longer stored"):
            await restoring
    with pytest.raises(NotRestorable, match="never pointed to anything else"):
        await registry.tags.restore("a", "nothing", digest=None, at=None, actor=ACTOR)
    for unknown in (
        registry.tags.restore("b", "v1", digest=None, at=None, actor=ACTOR),
        registry.manifests.restore("b", image.digest, actor=ACTOR),
        registry.tags.history("b", "v1", before=FIRST, limit=1),
    ):
        with pytest.raises(NameUnknown):
            await unknown


async def test_only_what_is_or_was_a_tag_has_a_history(registry: Registry, database: Database) -> None:
    await push_image(registry, database, "a", "v1", b"old")

    assert await registry.tags.history("a", "v1", before=None, limit=1) == []
    with pytest.raises(ManifestUnknown, match="a has no tag v2 and had none"):
        await registry.tags.history("a", "v2", before=None, limit=1)


async def test_history_says_until_when(registry: Registry, database: Database) -> None:
    image = await push_image(registry, database, "a", "v1", b"old")
    await delete(database, "a", image, undo=WEEK)

    [(_, past)] = await registry.tags.history("a", "v1", before=FIRST, limit=1)
    assert past.restorable_until is not None
    assert past.ended_at is not None
    assert abs(past.restorable_until - past.ended_at - WEEK) < timedelta(seconds=1)
    await registry.collection.run(grace=NOTHING, readers=NOTHING)

    [(_, past)] = await registry.tags.history("a", "v1", before=FIRST, limit=1)
    assert past.restorable_until is None


async def test_a_deleted_repository_comes_back_as_it_was(registry: Registry, database: Database) -> None:
    image = await push_image(registry, database, "a", "v1", b"old")
    await database.write(repositories.delete, "a", actor=ACTOR, undo=WEEK)
    with pytest.raises(ManifestUnknown):
        await registry.manifests.find("a", "v1")
    assert (await registry.repositories.page(after="", limit=None, may_see=None))[0] == []
    assert (await registry.collection.run(readers=NOTHING)).size == 0

    await registry.repositories.restore("a", actor=ACTOR)

    assert (await registry.manifests.find("a", "v1")).digest == image.digest
    assert await registry.blobs.find("a", Digest.of(b"old"))


async def test_a_repository_under_whose_name_something_new_was_pushed_is_not_restored(
    registry: Registry, database: Database
) -> None:
    await push_image(registry, database, "a", "v1", b"old")
    await database.write(repositories.delete, "a", actor=ACTOR, undo=WEEK)
    await push_image(registry, database, "a", "v2", b"new")

    with pytest.raises(AlreadyThere, match="delete that one first"):
        await registry.repositories.restore("a", actor=ACTOR)
    assert await registry.manifests.find("a", "v2")


async def test_an_upload_alone_is_not_in_the_way(registry: Registry, database: Database) -> None:
    image = await push_image(registry, database, "a", "v1", b"old")
    await database.write(repositories.delete, "a", actor=ACTOR, undo=WEEK)
    await push(registry, "a", b"new")

    await registry.repositories.restore("a", actor=ACTOR)

    assert (await registry.manifests.find("a", "v1")).digest == image.digest


async def test_a_deleted_repository_goes_when_its_time_is_over(registry: Registry, database: Database) -> None:
    await push_image(registry, database, "a", "v1", b"old", b"base")
    await push_image(registry, database, "b", "v1", b"base")
    await database.write(repositories.delete, "a", actor=ACTOR, undo=WEEK)
    found = await registry.collection.survey(grace=NOTHING)

    freed = await registry.collection.run(grace=NOTHING, readers=NOTHING)

    assert (freed.repositories, freed.blobs, freed.size) == (1, 1, len(b"old"))
    assert (found.blobs, found.size) == ([Digest.of(b"old")], len(b"old"))
    with pytest.raises(NotRestorable):
        await registry.repositories.restore("a", actor=ACTOR)
    for table in ("tag", "manifest", "blob_link", "repository"):
        assert await database.read(lambda c, t=table: c.execute(text(f"SELECT count(*) FROM {t}")).scalar()) == 1  # type: ignore[misc]


async def test_who_did_it_is_recorded(registry: Registry, database: Database) -> None:
    await push_image(registry, database, "a", "v1", b"old")
    await database.write(repositories.delete, "a", actor=ACTOR, undo=WEEK)
    await registry.repositories.restore("a", actor="user:bob")

    found = await database.read(lambda c: c.execute(text("SELECT actor, action, repository FROM audit")).all())
    assert found == [(ACTOR, "repository.delete", "a"), ("user:bob", "repository.restore", "a")]
