"""Pull times in the database: per tag and per manifest, by the database's clock."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, select
from tests.metadata.making import ACTOR, NOTHING, pushed, put, put_manifest

from stackyard.metadata import collection, manifests, pulls, tags
from stackyard.metadata.database import Database
from stackyard.metadata.pulls import Pulled
from stackyard.metadata.schema import manifest_pull, repository, tag_pull
from stackyard.oci.digests import Digest

MINUTE = timedelta(minutes=1)


async def test_a_pull_is_added_and_the_latest_one_is_remembered(database: Database) -> None:
    await put_manifest(database, "a", pushed(b"1"), "v1", "v2")

    await database.write(pulls.record, [Pulled("a", "v1", MINUTE, "user:bob", 3)])
    await database.write(pulls.record, [Pulled("a", "v1", NOTHING, "user:carol", 2)])
    await database.write(pulls.record, [Pulled("a", "v1", 2 * MINUTE, "user:late", 1)])

    [(name, when, who, count)] = await database.read(_of_tags)
    assert (name, who, count) == ("v1", "user:carol", 6)
    assert abs(when - datetime.now(UTC)) < MINUTE


async def test_a_pull_by_digest_is_the_manifests_and_what_is_gone_is_left_out(database: Database) -> None:
    digest = await put_manifest(database, "a", pushed(b"1"), "v1")
    other = Digest.of(b"2")

    await database.write(
        pulls.record,
        [
            Pulled("a", digest, NOTHING, "user:bob", 1),
            Pulled("a", other, NOTHING, "user:bob", 1),
            Pulled("a", "v2", NOTHING, "user:bob", 1),
            Pulled("b", digest, NOTHING, "user:bob", 1),
        ],
    )

    assert await database.read(_of_tags) == []
    assert [count for *_, count in await database.read(_of_manifests)] == [1]


async def test_rows_go_with_their_tag_and_their_manifest(database: Database) -> None:
    image = pushed(b"1")
    digest = await database.write(put, "a", image, "v1", "v2", "v3", promise=NOTHING)
    await database.write(pulls.record, [Pulled("a", one, NOTHING, ACTOR, 1) for one in ("v1", "v2", "v3", str(digest))])

    await database.write(tags.delete, "a", "v1", actor=ACTOR, undo=NOTHING)
    assert [name for name, *_ in await database.read(_of_tags)] == ["v2", "v3"]
    await database.write(manifests.delete, "a", digest, actor=ACTOR, undo=NOTHING)
    assert await database.read(_of_tags) == []
    assert len(await database.read(_of_manifests)) == 1

    [repository_id] = await database.read(_repositories)
    assert await database.write(collection.drop_manifest, repository_id, digest)
    assert await database.read(_of_manifests) == []


async def test_a_moved_tag_keeps_its_pull_time(database: Database) -> None:
    """Times are the tag's own."""
    await put_manifest(database, "a", pushed(b"1"), "v1")
    await database.write(pulls.record, [Pulled("a", "v1", MINUTE, ACTOR, 1)])

    await put_manifest(database, "a", pushed(b"2"), "v1")

    assert [count for *_, count in await database.read(_of_tags)] == [1]


async def test_tracking_began_when_the_database_was_made(database: Database) -> None:
    since = await database.read(pulls.since)

    assert datetime.now(UTC) - timedelta(hours=1) < since <= datetime.now(UTC) + MINUTE


def _of_tags(c: Connection) -> list[tuple[str, datetime, str, int]]:
    row = tag_pull.c
    return [
        tuple(one) for one in c.execute(select(row.name, row.pulled_at, row.pulled_by, row.pulls).order_by(row.name))
    ]


def _of_manifests(c: Connection) -> list[tuple[int, datetime, str, int]]:
    return [tuple(one) for one in c.execute(select(manifest_pull))]


def _repositories(c: Connection) -> list[int]:
    return list(c.scalars(select(repository.c.id)))
