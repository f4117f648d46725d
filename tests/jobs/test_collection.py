"""Collecting as a job: what it tells, before and after, also when it took two attempts."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from tests.metadata.making import ACTOR, NOTHING, WEEK, child, pushed, put
from tests.registry.making import SHORT, delete, push_image

from stackyard.jobs.collection import Tasks
from stackyard.metadata.database import Database
from stackyard.oci.digests import Digest
from stackyard.registry.jobs import Work
from stackyard.registry.registry import Registry
from stackyard.storage.memory import MemoryStore

BASE, LAYER, OTHER = b"base" * 10, b"layer" * 10, b"other" * 10


@pytest.fixture
def registry(database: Database) -> Registry:
    registry = Registry.over(MemoryStore(), database, SHORT)
    registry.collection.linger = NOTHING
    return registry


async def gc(registry: Registry, *, grace: int | None = None, **more: bool) -> dict[str, Any]:
    request = {"grace_seconds": grace, "dry_run": False, "delete_untagged": False} | more
    asked = await registry.jobs.ask("gc", request, actor=ACTOR)
    await registry.jobs.do("gc", Tasks(registry).collect)
    done = await registry.jobs.find(asked.id)
    assert done.state == "done", done.result
    assert done.result is not None
    return dict(done.result)


async def test_a_dry_run_counts_what_lost_its_tag_only_where_it_would_go(
    registry: Registry, database: Database
) -> None:
    await push_image(registry, database, "a", "v1", BASE, OTHER)
    await push_image(registry, database, "a", "v1", BASE)

    later = await gc(registry, dry_run=True, delete_untagged=True)
    found = await gc(registry, dry_run=True, delete_untagged=True, grace=0)
    freed = await gc(registry, delete_untagged=True, grace=0)

    assert (later["bytes"], later["untagged"], later["restorable"]) == (0, 1, len(OTHER))
    assert found["digests"] == [Digest.of(OTHER)]
    for result in (found, freed):
        assert (result["manifests"], result["blobs"], result["bytes"]) == (1, 1, len(OTHER))
        assert (result["untagged"], result["restorable"]) == (1, 0)


async def test_what_lost_its_tag_takes_along_what_only_it_held(registry: Registry, database: Database) -> None:
    image = await push_image(registry, database, "a", "image", BASE)
    other = await push_image(registry, database, "a", "other", OTHER)
    signature = pushed(b"signature", subject=image.digest)
    index = pushed(b"index", [child(image.digest), child(other.digest)])
    for one in (signature, index):
        await database.write(put, "a", one, promise=NOTHING)
    await registry.manifests.remove("a", "image", actor=ACTOR)

    found = await gc(registry, dry_run=True, delete_untagged=True, grace=0)
    freed = await gc(registry, delete_untagged=True, grace=0)

    assert (found["untagged"], found["manifests"], found["bytes"]) == (3, 3, len(BASE))
    assert (freed["untagged"], freed["manifests"], freed["bytes"]) == (3, 3, len(BASE))
    assert await registry.manifests.find("a", other.digest)


async def test_what_could_be_restored_is_told_and_not_freed(registry: Registry, database: Database) -> None:
    image = await push_image(registry, database, "a", "v1", LAYER)
    await delete(database, "a", image, undo=WEEK)

    found, freed = await gc(registry, dry_run=True), await gc(registry)

    assert (found["bytes"], found["restorable"]) == (0, len(LAYER))
    assert (freed["bytes"], freed["restorable"]) == (0, len(LAYER))


async def test_what_an_attempt_freed_that_did_not_end_counts_as_well(registry: Registry, database: Database) -> None:
    await delete(database, "a", await push_image(registry, database, "a", "v1", BASE))
    tasks = Tasks(registry)

    async def interrupted(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        await tasks.collect(work, request)
        await work.flush()
        raise asyncio.CancelledError

    await registry.jobs.ask("gc", {"grace_seconds": None, "dry_run": False, "delete_untagged": False}, actor=ACTOR)
    with pytest.raises(asyncio.CancelledError):
        await registry.jobs.do("gc", interrupted)
    await delete(database, "b", await push_image(registry, database, "b", "v1", OTHER))
    await registry.jobs.do("gc", tasks.collect)

    [done] = await registry.jobs.page(before=None, limit=10)
    assert done.result
    assert (done.attempts, done.result["blobs"], done.result["bytes"]) == (2, 2, len(BASE) + len(OTHER))
