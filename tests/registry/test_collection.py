"""The collector over a real store: what goes, what stays, and that it can be killed anywhere."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from tests.metadata.making import ACTOR, HOUR, NOTHING, WEEK, child, pushed, put
from tests.registry.making import SHORT, delete, locations, push, push_image

from stackyard.metadata import blobs, holds, leases
from stackyard.metadata.database import Database
from stackyard.metadata.due import add_blob, add_link, ready
from stackyard.metadata.errors import LeaseLost
from stackyard.metadata.schema import blob, blob_link, due, manifest_reference
from stackyard.oci.digests import Digest
from stackyard.oci.errors import ManifestUnknown, Unavailable
from stackyard.registry.collection import Collection, Freed, Held, Untagged
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.storage.driver import StorageError
from stackyard.storage.memory import MemoryStore

BASE, LAYER, OTHER = b"base" * 10, b"layer" * 10, b"other" * 10


async def rows(database: Database, table: Any) -> int:
    return len(await database.read(lambda c: c.execute(select(table)).all()))


async def collect(registry: Registry, **how: Any) -> Freed:
    return await registry.collection.run(readers=NOTHING, **how)


async def test_an_image_that_was_deleted_goes_to_its_last_byte(
    registry: Registry, database: Database, store: MemoryStore
) -> None:
    image = await push_image(registry, database, "a", "v1", BASE, LAYER)
    await delete(database, "a", image)

    freed = await collect(registry)

    assert freed == Freed(manifests=1, links=2, blobs=2, size=len(BASE) + len(LAYER))
    assert await locations(store) == set()
    assert await rows(database, blob) == await rows(database, manifest_reference) == 0
    assert await database.read(ready, limit=1) == []


async def test_what_another_image_shares_stays(registry: Registry, database: Database, store: MemoryStore) -> None:
    old = await push_image(registry, database, "a", "v1", BASE, LAYER)
    await push_image(registry, database, "a", "v2", BASE)
    await push_image(registry, database, "b", "v1", OTHER)
    await delete(database, "a", old)

    freed = await collect(registry)

    assert (freed.blobs, freed.size) == (1, len(LAYER))
    assert await registry.blobs.find("a", Digest.of(BASE))
    assert await registry.blobs.find("b", Digest.of(OTHER))


async def test_untagged_manifests_and_what_they_name_stay(registry: Registry, database: Database) -> None:
    """As in Distribution: deployments pin digests."""
    await push_image(registry, database, "a", "v1", BASE)
    await push_image(registry, database, "a", "v1", LAYER)

    assert await collect(registry, grace=NOTHING) == Freed()
    assert await registry.blobs.find("a", Digest.of(BASE))


async def test_children_stay_with_their_index_and_go_after_it(registry: Registry, database: Database) -> None:
    image = await push_image(registry, database, "a", "v1", BASE)
    index = pushed(b"index", [child(image.digest)])
    await database.write(put, "a", index, "all", promise=NOTHING)
    await delete(database, "a", image)

    assert (await collect(registry)).manifests == 0
    await delete(database, "a", index)
    freed = await collect(registry)

    assert (freed.manifests, freed.blobs) == (2, 1)


async def test_what_was_promised_stays_whatever_else_is_asked(store: MemoryStore, database: Database) -> None:
    registry = Registry.over(store, database, Settings(promise=HOUR, undo=NOTHING))
    digest = await push(registry, "a", BASE)
    await database.write(blobs.unlink, "a", digest, actor=ACTOR, undo=NOTHING)

    assert await collect(registry, grace=NOTHING) == Freed()
    assert await locations(store) != set()


async def test_grace_cuts_the_undo_span_and_only_that(registry: Registry, database: Database) -> None:
    image = await push_image(registry, database, "a", "v1", BASE)
    await delete(database, "a", image, undo=WEEK)

    assert await collect(registry) == Freed()
    assert await collect(registry, grace=WEEK) == Freed()
    assert (await collect(registry, grace=NOTHING)).blobs == 1


async def test_a_look_too_early_loses_no_entry(registry: Registry, database: Database) -> None:
    """What a run with a grace passes over is still due at its own time."""
    image = await push_image(registry, database, "a", "v1", BASE)
    await delete(database, "a", image, undo=WEEK)
    await collect(registry, grace=HOUR)
    await database.write(
        lambda c: c.execute(text("UPDATE manifest SET restorable_until = restorable_until - 604800000000"))
    )
    await database.write(lambda c: c.execute(text("UPDATE due SET due_at = due_at - 604800000000")))

    assert (await collect(registry)).manifests == 1


async def test_a_survey_says_what_a_run_then_frees_and_changes_nothing(registry: Registry, database: Database) -> None:
    keep = await push_image(registry, database, "a", "v1", BASE, LAYER)
    gone = [await push_image(registry, database, "a", "v2", BASE, OTHER)]
    gone.append(await push_image(registry, database, "b", "v2", BASE, OTHER))
    index = pushed(b"index", [child(gone[0].digest)])
    await database.write(put, "a", index, "all", promise=NOTHING)
    loose = await push(registry, "c", b"loose")
    for repository, one in [("a", gone[0]), ("b", gone[1]), ("a", index)]:
        await delete(database, repository, one, undo=WEEK)

    before = await rows(database, due)
    found = await registry.collection.survey(grace=NOTHING)
    assert await rows(database, due) == before
    freed = await collect(registry, grace=NOTHING)

    assert sorted(found.blobs) == sorted([Digest.of(OTHER), loose])
    assert (found.manifests, len(found.blobs), found.size) == (freed.manifests, freed.blobs, freed.size)
    assert await registry.manifests.find("a", keep.digest)


async def test_bytes_outlive_their_row_for_those_who_saw_it(
    registry: Registry, database: Database, store: MemoryStore
) -> None:
    digest = await push(registry, "a", BASE)
    found = await registry.blobs.find("a", digest)

    running = asyncio.create_task(registry.collection.run(readers=timedelta(milliseconds=700)))
    while await rows(database, blob_link):
        await asyncio.sleep(0.01)

    reader = await registry.blobs.open(found)
    assert b"".join([chunk async for chunk in reader.chunks(0, found.size)]) == BASE
    reader.close()
    assert (await running).blobs == 1


async def test_nothing_is_collected_while_somebody_holds_it(
    registry: Registry, database: Database, store: MemoryStore
) -> None:
    digest = await push(registry, "a", BASE)
    await database.write(holds.place, "backup", "nightly", span=HOUR)

    with pytest.raises(Held, match="backup nightly"):
        await collect(registry)
    assert await registry.blobs.find("a", digest)
    await database.write(holds.release, "backup", "nightly")

    assert (await collect(registry)).blobs == 1


async def test_a_collector_that_lost_its_lease_deletes_nothing(
    registry: Registry, database: Database, store: MemoryStore
) -> None:
    await push(registry, "a", BASE)
    before = await locations(store)

    async def lose(freed: Freed) -> None:
        raise AssertionError("unreachable: it told of something it may not have done")

    async def take_over(lease: Any) -> None:
        await database.write(leases.release, lease.grant)
        with pytest.raises(LeaseLost):
            await registry.collection._drain(lease, Freed(), _style(lose))

    await registry.collection.leases.run(holds.COLLECTION, take_over)

    assert await locations(store) == before


def _style(tell: Any) -> Any:
    from stackyard.registry.collection import _Style

    return _Style(readers=NOTHING, share=1.0, tell=tell)


async def test_bytes_that_cannot_be_deleted_are_tried_again_and_their_place_stays_taken(
    registry: Registry, database: Database, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await push(registry, "a", BASE)

    async def fail(location: str) -> None:
        raise StorageError("the disk is away")

    monkeypatch.setattr(store, "delete", fail)
    assert (await collect(registry)).blobs == 0
    monkeypatch.undo()
    assert await rows(database, blob) == 1
    await push(registry, "a", BASE)
    assert len(await locations(store)) == 2
    await database.write(lambda c: c.execute(text("UPDATE due SET due_at = due_at - 3600000000")))
    await database.write(blobs.unlink, "a", digest, actor=ACTOR, undo=NOTHING)

    assert (await collect(registry)).blobs == 2
    assert await locations(store) == set()


async def test_two_collectors_do_the_work_of_one(registry: Registry, database: Database, store: MemoryStore) -> None:
    for number in range(5):
        await push(registry, "a", b"%d" % number)
    other = Registry.over(store, database, SHORT)

    freed = await asyncio.gather(collect(registry), collect(other))

    assert sum(one.blobs for one in freed) == 5
    assert await rows(database, blob) == 0


async def test_a_registry_that_slept_for_a_month_asks_before_it_collects(
    registry: Registry, database: Database
) -> None:
    await push(registry, "a", BASE)
    seen = datetime.now(UTC) - timedelta(days=31)

    async def note(lease: Any) -> None:
        await lease.save(json.dumps({"seen": seen.isoformat(), "paused": ""}))

    await registry.collection.leases.run(holds.COLLECTION, note)

    for _ in range(2):  # it does not forget by being asked
        with pytest.raises(Unavailable, match=r"last ran at .* --resume"):
            await collect(registry)
    await registry.collection.resume(actor=ACTOR)
    assert (await collect(registry)).blobs == 1


async def test_a_clock_that_leaps_stops_collection(registry: Registry, database: Database) -> None:
    collection: Collection = registry.collection
    await push(registry, "a", BASE)
    passed = [0.0]
    collection.watch.monotonic = lambda: passed[0]
    await collect(registry)
    passed[0] -= timedelta(days=2).total_seconds()  # two days by the wall, none really

    with pytest.raises(Unavailable, match="the clock leapt"):
        await collect(registry)


async def test_it_runs_by_itself(registry: Registry, database: Database, store: MemoryStore) -> None:
    await push(registry, "a", BASE)

    running = asyncio.create_task(registry.collection.keep())
    while await database.read(lambda c: c.scalar(select(blob.c.state))) != "deleting":
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert await rows(database, blob_link) == 0
    assert await locations(store) != set()


async def test_the_background_gives_way_before_all_is_done(registry: Registry, database: Database) -> None:
    for number in range(40):  # more than it takes at a time
        await push(registry, "a", b"%d" % number)
    collection: Collection = registry.collection
    collection.turn = NOTHING

    await collection.leases.run(holds.COLLECTION, collection._round)
    left = await rows(database, blob_link)
    freed = await collect(registry)

    assert 0 < left < 40
    assert freed.blobs == 40


async def test_of_entries_about_one_thing_each_counts_once(registry: Registry, database: Database) -> None:
    await push(registry, "a", BASE)
    for wait in (NOTHING, timedelta(milliseconds=-1), timedelta(milliseconds=-2)):
        await database.write(add_link, 1, Digest.of(BASE), wait=wait)
        await database.write(add_blob, Digest.of(BASE), wait=wait)

    freed = await collect(registry)

    assert freed == Freed(links=1, blobs=1, size=len(BASE))
    assert await database.read(ready, limit=1) == []


async def test_untagged_manifests_go_when_asked_and_can_be_restored(registry: Registry, database: Database) -> None:
    old = await push_image(registry, database, "a", "v1", BASE)
    image = await push_image(registry, database, "a", "v1", LAYER)
    index = pushed(b"index", [child(image.digest)])
    await database.write(put, "a", index, "all", promise=NOTHING)
    untagged = Untagged(NOTHING, WEEK)

    assert (await registry.collection.survey(delete_untagged=True)).untagged == 1
    freed = await collect(registry, untagged=untagged)

    assert freed.blobs == 0
    with pytest.raises(ManifestUnknown):
        await registry.manifests.find("a", old.digest)
    assert await registry.manifests.find("a", image.digest)
    await registry.manifests.restore("a", old.digest, actor=ACTOR)
    assert (await collect(registry, untagged=untagged, grace=NOTHING)).blobs == 1
    assert await registry.manifests.find("a", index.digest)
