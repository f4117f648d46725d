"""`gc.untagged`: what nothing holds and nobody uses goes after its span, and can be restored."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, select, text, update
from tests.metadata.making import ACTOR, NOTHING, WEEK, child, pushed, put
from tests.registry.making import push_image

from stackyard.metadata import manifests, pulls, tags
from stackyard.metadata.database import Database
from stackyard.metadata.due import ready
from stackyard.metadata.pulls import Pulled
from stackyard.metadata.schema import due, manifest
from stackyard.registry.leases import Leases
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.registry.untagged import Untagged
from stackyard.storage.memory import MemoryStore

DAY = timedelta(days=1)
SETTINGS = Settings(promise=NOTHING, undo=WEEK, untagged=3 * DAY)


@pytest.fixture
def registry(store: MemoryStore, database: Database) -> Registry:
    return Registry.over(store, database, SETTINGS)


async def search(database: Database) -> int:
    """One round, as if all rows were settled."""
    work = Untagged(database, SETTINGS, Leases(database), settled=-DAY)
    found = await Leases(database).run("untagged", work.round)
    assert found is not None
    return found


async def later(database: Database, days: float) -> None:
    """Time goes by: everything was so much longer ago."""

    def shift(c: Connection) -> None:
        microseconds = int(days * 86_400_000_000)
        for where in ("manifest.created_at", "tag_history.ended_at", "manifest_pull.pulled_at"):
            table, _, column = where.partition(".")
            c.execute(text(f"UPDATE {table} SET {column} = {column} - {microseconds}"))
        entries = c.execute(select(due)).all()
        c.execute(due.delete())
        for entry in entries:
            c.execute(due.insert().values(**{**entry._mapping, "due_at": entry.due_at - days * DAY}))

    await database.write(shift)


async def hidden(database: Database) -> set[str]:
    query = select(manifest.c.digest).where(manifest.c.deleted_by == "untagged")
    return set(await database.read(lambda c: c.scalars(query).all()))


async def collect(registry: Registry, database: Database) -> set[str]:
    """What is gone from sight after one run of the collector."""
    await registry.collection.run(readers=NOTHING)
    return await hidden(database)


async def test_what_lost_its_tag_goes_when_the_span_is_over(registry: Registry, database: Database) -> None:
    old = pushed(b"old")
    await database.write(put, "a", old, "v1", promise=NOTHING)
    await later(database, 30)  # that it is old means nothing while it has a tag
    await database.write(put, "a", pushed(b"new"), "v1", promise=NOTHING)
    await search(database)

    assert await collect(registry, database) == set()
    await later(database, 2.9)
    assert await collect(registry, database) == set()
    await later(database, 0.2)
    assert await collect(registry, database) == {old.digest}

    await registry.tags.restore("a", "v1", digest=old.digest, at=None, actor=ACTOR)
    assert await hidden(database) == set()


async def test_a_pull_by_digest_within_the_span_spares_it(registry: Registry, database: Database) -> None:
    used = pushed(b"used")
    await database.write(put, "a", used, promise=NOTHING)
    await search(database)
    await later(database, 2)
    await database.write(pulls.record, [Pulled("a", used.digest, NOTHING, ACTOR, 1)])

    await later(database, 2)
    assert await collect(registry, database) == set()
    await later(database, 2)
    assert await collect(registry, database) == {used.digest}


async def test_children_referrers_and_what_a_person_deleted_keep_what_they_need(
    registry: Registry, database: Database
) -> None:
    image, index = pushed(b"image"), pushed(b"index", [child(pushed(b"image").digest)])
    signature = pushed(b"signature", subject=index.digest)
    signature_of_it = pushed(b"again", subject=signature.digest)
    for one, names in ((image, ()), (index, ("v1",)), (signature, ()), (signature_of_it, ())):
        await database.write(put, "a", one, *names, promise=NOTHING)
    await search(database)
    await later(database, 30)
    assert await collect(registry, database) == set()

    await database.write(manifests.delete, "a", index.digest, actor=ACTOR, undo=WEEK)
    await later(database, 5)
    assert await collect(registry, database) == set()  # the index can be restored, and needs its image
    await database.write(lambda c: c.execute(update(manifest).values(restorable_until=datetime.now(UTC))))
    await later(database, 5)
    assert await collect(registry, database) == {image.digest, signature.digest, signature_of_it.digest}


async def test_those_from_before_the_setting_and_of_an_import_are_found(registry: Registry, database: Database) -> None:
    images = [pushed(b"%d" % number) for number in range(450)]
    for one in images:
        await database.write(put, "a", one, promise=NOTHING)
    tagged = pushed(b"tagged")
    await database.write(put, "a", tagged, "v1", promise=NOTHING)
    await database.write(lambda c: c.execute(due.delete()))
    await later(database, 30)

    assert await search(database) == 451
    assert await search(database) == 0
    assert await collect(registry, database) == {one.digest for one in images}

    await database.write(put, "a", pushed(b"imported"), promise=NOTHING)
    await database.write(lambda c: c.execute(due.delete()))
    assert await search(database) == 1
    [entry] = await database.read(ready, limit=10, ahead=4 * DAY)
    assert abs(entry.due_at - datetime.now(UTC) - 3 * DAY) < timedelta(minutes=1)


async def test_a_row_that_may_have_a_younger_elder_is_left_for_later(database: Database) -> None:
    await database.write(put, "a", pushed(b"1"), "v1", promise=NOTHING)
    await database.write(put, "a", pushed(b"2"), "v1", promise=NOTHING)
    work = Untagged(database, SETTINGS, Leases(database))

    assert await Leases(database).run("untagged", work.round) == 0


async def test_without_the_setting_all_stay(store: MemoryStore, database: Database) -> None:
    registry = Registry.over(store, database, Settings(promise=NOTHING, undo=NOTHING))
    await database.write(put, "a", pushed(b"old"), promise=NOTHING)
    await later(database, 300)

    assert await collect(registry, database) == set()


async def test_its_bytes_go_when_it_can_no_longer_be_restored(store: MemoryStore, database: Database) -> None:
    registry = Registry.over(store, database, Settings(promise=NOTHING, undo=NOTHING, untagged=3 * DAY))
    await push_image(registry, database, "a", "v1", b"layer")
    await database.write(tags.delete, "a", "v1", actor=ACTOR, undo=NOTHING)
    await search(database)
    await later(database, 4)

    await registry.collection.run(readers=NOTHING)

    assert {found.location async for found in store.walk("docker")} == set()


async def test_an_entry_for_what_is_gone_is_no_error(registry: Registry, database: Database) -> None:
    def queue(c: Connection) -> None:
        for number in (1, 99):
            values = {"due_at": datetime.now(UTC), "kind": "manifest", "digest": "sha256:" + "0" * 64}
            c.execute(due.insert().values(repository_id=number, **values))

    await database.write(put, "a", pushed(b"1"), "v1")
    await database.write(queue)

    assert await collect(registry, database) == set()
