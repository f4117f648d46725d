"""Tags: what they point to, and what they pointed to."""

import json
from typing import Any

from sqlalchemy import Connection, Row, select
from tests.metadata.making import ACTOR, WEEK, pushed, put_manifest

from stackyard.metadata import manifests, tags
from stackyard.metadata.database import Database
from stackyard.metadata.schema import due, tag_history
from stackyard.oci.digests import Digest

NAMES = ["v1", "V1", "latest", "1.0", "a-b", "a.b", "a_b", "ab", "Z", "10"]


async def test_page_returns_tags_in_byte_order_after_the_given_name(database: Database) -> None:
    await put_manifest(database, "a", pushed(b"m"), *NAMES)
    await put_manifest(database, "b", pushed(b"m"), "other")
    ordered = sorted(NAMES, key=str.encode)

    assert await database.read(tags.page, "a", after="", limit=100) == ordered
    assert await database.read(tags.page, "a", after="", limit=3) == ordered[:3]
    assert await database.read(tags.page, "a", after=ordered[2], limit=2) == ordered[3:5]
    assert await database.read(tags.page, "a", after="aa", limit=1) == ["ab"]
    assert await database.read(tags.page, "a", after="zzz", limit=100) == []
    assert await database.read(tags.page, "nowhere", after="", limit=100) == []

    for after, limit in [("", 100), ("", 3), (ordered[2], 2), ("zzz", 100)]:
        expected = await database.read(tags.page, "a", after=after, limit=limit)
        count, last, array = await database.read(tags.page_as_json, "a", after=after, limit=limit)
        assert (count, last, json.loads(array)) == (len(expected), expected[-1] if expected else "", expected)


async def test_a_moved_tag_remembers_what_it_pointed_to(database: Database) -> None:
    """Invariant 6."""
    first = await put_manifest(database, "a", pushed(b"1"), "v1")

    second = await put_manifest(database, "a", pushed(b"2"), "v1")

    resolved = await database.fetch(manifests.RESOLVE, "a", "v1")
    assert resolved is not None
    assert resolved[0] == second
    assert await database.fetch(manifests.STAT, "a", first) is not None
    [was] = await database.read(_history)
    assert (was.name, was.digest, was.set_by, was.ended_by, was.reason) == ("v1", first, ACTOR, ACTOR, "moved")
    assert was.set_at <= was.ended_at
    assert was.restorable_until - was.ended_at == WEEK
    assert await database.read(_queued) == [first]


async def test_delete_removes_the_tag_and_nothing_else(database: Database) -> None:
    digest = await put_manifest(database, "a", pushed(b"1"), "v1", "latest")

    assert await database.write(tags.delete, "a", "v1", actor="user:bob", undo=WEEK)

    assert await database.fetch(manifests.RESOLVE, "a", "v1") is None
    assert await database.fetch(manifests.RESOLVE, "a", "latest") is not None
    assert await database.fetch(manifests.STAT, "a", digest) is not None
    [was] = await database.read(_history)
    assert (was.name, was.digest, was.ended_by, was.reason) == ("v1", digest, "user:bob", "deleted")
    assert await database.read(_queued) == [digest]
    assert not await database.write(tags.delete, "a", "v1", actor=ACTOR, undo=WEEK)
    assert not await database.write(tags.delete, "nowhere", "v1", actor=ACTOR, undo=WEEK)


async def test_a_tag_of_another_repository_is_left_alone(database: Database) -> None:
    await put_manifest(database, "a", pushed(b"1"), "v1")
    await put_manifest(database, "b", pushed(b"1"), "v1")

    await database.write(tags.delete, "a", "v1", actor=ACTOR, undo=WEEK)

    assert await database.fetch(manifests.RESOLVE, "b", "v1") is not None


def _history(c: Connection) -> list[Row[Any]]:
    return list(c.execute(select(tag_history).order_by(tag_history.c.id)))


def _queued(c: Connection) -> list[Digest]:
    return [Digest(found) for found in c.scalars(select(due.c.digest).where(due.c.kind == "manifest"))]
