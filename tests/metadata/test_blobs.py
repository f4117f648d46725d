"""Blobs and where they may be seen."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, Row, Table, func, select
from tests.metadata.making import (
    ACTOR,
    HOUR,
    NOTHING,
    WEEK,
    claim,
    commit,
    drop_link,
    forget,
    mark,
    new_id,
    push,
    push_blob,
    start,
)

from stackyard.metadata import blobs, collection, repositories, uploads
from stackyard.metadata.database import Database
from stackyard.metadata.errors import BlobVanished, FenceLost
from stackyard.metadata.schema import blob, blob_link, due
from stackyard.oci import layout
from stackyard.oci.digests import Digest

CONTENT = b"layer"
DIGEST = Digest.of(CONTENT)


async def test_a_committed_blob_is_found_where_it_was_pushed(database: Database) -> None:
    pushed = await push_blob(database, "a/b", CONTENT)

    assert pushed.location == layout.blob(DIGEST, 0)
    assert await database.read(blobs.find, "a/b", DIGEST) == pushed
    assert await database.read(blobs.find_live, DIGEST) == pushed


async def test_a_blob_is_seen_only_where_it_is_linked(database: Database) -> None:
    """Invariant 8: knowing a digest opens nothing."""
    await push_blob(database, "private", CONTENT)
    await push_blob(database, "public", b"other")

    assert await database.read(blobs.find, "public", DIGEST) is None
    assert await database.fetch(blobs.FIND, "public", DIGEST) is None
    assert await database.fetch(blobs.FIND, "nowhere", DIGEST) is None
    assert (
        await database.write(blobs.mount, source="public", target="loot", digest=DIGEST, actor=ACTOR, promise=HOUR)
        is None
    )


async def test_fetch_tells_how_long_the_promise_lasts(database: Database) -> None:
    pushed = await push_blob(database, "a/b", CONTENT, promise=HOUR)

    row = await database.fetch(blobs.FIND, "a/b", DIGEST)

    assert row is not None
    assert row[:3] == (pushed.id, pushed.size, pushed.location)
    assert 3_500_000_000 < row[3] <= 3_600_000_000


async def test_promise_is_moved_only_when_less_than_half_is_left(database: Database) -> None:
    await push_blob(database, "a/b", CONTENT, promise=HOUR)
    looks = await _count(database, due)

    assert await database.write(blobs.promise, "a/b", DIGEST, HOUR)
    assert await _count(database, due) == looks

    assert await database.write(blobs.promise, "a/b", DIGEST, 3 * HOUR)
    assert await _count(database, due) == looks + 1
    row = await database.fetch(blobs.FIND, "a/b", DIGEST)
    assert row is not None
    assert row[3] > 2 * 3_600_000_000


async def test_promise_of_what_is_not_there_is_refused(database: Database) -> None:
    await push_blob(database, "a/b", CONTENT)

    assert not await database.write(blobs.promise, "other", DIGEST, HOUR)
    assert not await database.write(blobs.promise, "a/b", Digest.of(b"other"), HOUR)


async def test_the_same_bytes_again_share_the_first_copy(database: Database) -> None:
    first = await push_blob(database, "a", CONTENT)
    again = await database.write(push, "b", CONTENT)

    assert again.blob == first
    assert not again.published


async def test_of_two_uploads_of_one_blob_the_later_gives_its_copy_up(database: Database) -> None:
    ids = [new_id(), new_id()]
    claims, copies = [], []
    for upload_id in ids:
        await database.write(start, "a", upload_id)
        claims.append(await database.write(claim, "a", upload_id))
        copies.append(await database.write(blobs.allocate, DIGEST, 5))

    first = await database.write(commit, claims[0], copies[0][0], DIGEST)
    second = await database.write(commit, claims[1], copies[1][0], DIGEST)

    assert copies[0][1] != copies[1][1]
    assert first.published
    assert not second.published
    assert second.blob == first.blob
    assert await database.read(_states) == ["live", "deleting"]


async def test_commit_closes_the_session(database: Database) -> None:
    upload_id = new_id()
    await database.write(start, "a", upload_id)
    claimed = await database.write(claim, "a", upload_id)
    blob_id, _ = await database.write(blobs.allocate, DIGEST, 5)

    await database.write(commit, claimed, blob_id, DIGEST)

    assert await database.read(uploads.find, "a", upload_id) is None
    with pytest.raises(FenceLost):
        await database.write(commit, claimed, blob_id, DIGEST)


async def test_commit_under_an_old_fence_changes_nothing(database: Database) -> None:
    upload_id = new_id()
    await database.write(start, "a", upload_id)
    slept = await database.write(claim, "a", upload_id, NOTHING)
    await database.write(claim, "a", upload_id, HOUR)
    blob_id, _ = await database.write(blobs.allocate, DIGEST, 5)

    with pytest.raises(FenceLost):
        await database.write(commit, slept, blob_id, DIGEST)

    assert await database.read(blobs.find, "a", DIGEST) is None
    assert await database.read(uploads.find, "a", upload_id) is not None
    assert await database.read(_states) == ["pending"]


async def test_commit_of_a_session_of_another_repository_is_refused(database: Database) -> None:
    upload_id = new_id()
    await database.write(start, "a", upload_id)
    claimed = await database.write(claim, "a", upload_id)

    with pytest.raises(FenceLost):
        await database.write(
            blobs.commit,
            repository="b",
            blob_id=None,
            digest=DIGEST,
            upload_id=upload_id,
            fence=claimed.fence,
            actor=ACTOR,
            promise=HOUR,
        )


async def test_linking_a_blob_that_has_gone_says_so_and_keeps_the_session(database: Database) -> None:
    upload_id = new_id()
    await database.write(start, "a", upload_id)
    claimed = await database.write(claim, "a", upload_id)

    with pytest.raises(BlobVanished):
        await database.write(commit, claimed, None, DIGEST)

    assert await database.read(uploads.find, "a", upload_id) is not None


async def test_commit_of_a_copy_that_was_given_up_says_so(database: Database) -> None:
    upload_id = new_id()
    await database.write(start, "a", upload_id)
    claimed = await database.write(claim, "a", upload_id)
    blob_id, _ = await database.write(blobs.allocate, DIGEST, 5)
    await database.write(blobs.abandon, blob_id)

    with pytest.raises(BlobVanished):
        await database.write(commit, claimed, blob_id, DIGEST)


async def test_abandon_leaves_a_live_blob_alone(database: Database) -> None:
    pushed = await push_blob(database, "a", CONTENT)

    await database.write(blobs.abandon, pushed.id)

    assert await database.read(blobs.find, "a", DIGEST) == pushed


async def test_a_location_is_never_given_out_twice(database: Database) -> None:
    """Invariant 3: also when every row that knew of the earlier ones is gone."""
    given: list[str] = []

    async def allocate() -> int:
        blob_id, location = await database.write(blobs.allocate, DIGEST, 5)
        assert location not in given
        given.append(location)
        return blob_id

    for _ in range(3):
        blob_id = await allocate()
        await database.write(blobs.abandon, blob_id)
    await allocate()
    assert await database.write(forget, blob_id)
    await allocate()
    for row in await database.read(_ids):
        await database.write(blobs.abandon, row)
        await database.write(forget, row)
    assert await database.read(_ids) == []
    await allocate()

    assert given == [layout.blob(DIGEST, n) for n in range(6)]


async def test_a_collector_that_slept_cannot_touch_the_next_copy(database: Database) -> None:
    """Invariant 3: what it knows is a row and a location, and both stay the old ones."""
    pushed = await push_blob(database, "a", CONTENT, promise=NOTHING)
    await database.write(_unlink_for_good, "a", DIGEST)
    assert await database.write(mark, DIGEST) == [pushed.id]

    again = await push_blob(database, "a", CONTENT)
    assert await database.write(forget, pushed.id)

    assert again.location != pushed.location
    assert await database.read(blobs.find, "a", DIGEST) == again
    assert not await database.write(forget, again.id)


async def test_a_collector_that_slept_forgets_no_other_blob_of_the_same_number(database: Database) -> None:
    """SQLite gives the number of a last row again: the bytes of its next owner would be left without a row."""
    pushed = await push_blob(database, "a", CONTENT, promise=NOTHING)
    await database.write(_unlink_for_good, "a", DIGEST)
    await database.write(mark, DIGEST)
    assert await database.write(forget, pushed.id)
    other = await push_blob(database, "a", b"other", promise=NOTHING)
    await database.write(_unlink_for_good, "a", other.digest)
    await database.write(mark, other.digest)

    await database.write(collection.forget_blobs, [collection.Doomed(other.id, pushed.location, pushed.size)])

    assert await database.read(_ids) == [other.id]


async def test_mount_links_and_makes_the_target(database: Database) -> None:
    pushed = await push_blob(database, "a", CONTENT)

    mounted = await database.write(blobs.mount, source="a", target="new", digest=DIGEST, actor=ACTOR, promise=HOUR)

    assert mounted == pushed
    assert await database.read(blobs.find, "new", DIGEST) == pushed
    assert sorted(await database.read(blobs.holders, DIGEST, limit=10)) == ["a", "new"]
    assert len(await database.read(blobs.holders, DIGEST, limit=1)) == 1
    assert not await database.read(repositories.exists, "new")


async def test_unlink_hides_the_blob_here_only(database: Database) -> None:
    for repository in ("a", "b"):
        await push_blob(database, repository, CONTENT)

    assert await database.write(blobs.unlink, "a", DIGEST, actor=ACTOR, undo=WEEK)

    assert await database.read(blobs.find, "a", DIGEST) is None
    assert await database.read(blobs.find, "b", DIGEST) is not None
    assert await database.read(blobs.holders, DIGEST, limit=10) == ["b"]
    assert not await database.write(blobs.unlink, "a", DIGEST, actor=ACTOR, undo=WEEK)
    assert not await database.write(blobs.unlink, "nowhere", DIGEST, actor=ACTOR, undo=WEEK)


async def test_unlink_marks_and_queues_and_removes_nothing(database: Database) -> None:
    """Invariant 6."""
    await push_blob(database, "a", CONTENT, promise=NOTHING)

    await database.write(blobs.unlink, "a", DIGEST, actor=ACTOR, undo=WEEK)

    marked = await database.read(_link)
    assert marked.deleted_at is not None
    assert marked.deleted_by == ACTOR
    assert marked.restorable_until - marked.deleted_at == WEEK
    assert max(await database.read(_looks, "link")) >= marked.restorable_until
    assert not await database.write(drop_link, marked.repository_id, DIGEST)
    assert await database.write(mark, DIGEST) == []


async def test_pushing_a_deleted_blob_again_brings_it_back(database: Database) -> None:
    pushed = await push_blob(database, "a", CONTENT)
    await database.write(blobs.unlink, "a", DIGEST, actor=ACTOR, undo=WEEK)

    again = await push_blob(database, "a", CONTENT)

    assert again == pushed
    link = await database.read(_link)
    assert (link.deleted_at, link.deleted_by, link.restorable_until) == (None, None, None)


async def test_a_shorter_promise_never_ends_a_longer_one(database: Database) -> None:
    await push_blob(database, "a", CONTENT, promise=3 * HOUR)
    await push_blob(database, "a", CONTENT, promise=HOUR)

    row = await database.fetch(blobs.FIND, "a", DIGEST)

    assert row is not None
    assert row[3] > 2 * 3_600_000_000


async def test_every_write_that_may_leave_garbage_queues_a_look(database: Database) -> None:
    """Invariant 6: or the collector would need a full scan."""
    blob_id, _ = await database.write(blobs.allocate, DIGEST, 5)
    assert len(await database.read(_looks, "blob")) == 1

    await database.write(blobs.abandon, blob_id)
    assert len(await database.read(_looks, "blob")) == 2

    await push_blob(database, "a", CONTENT)
    assert len(await database.read(_looks, "link")) == 1


def _states(c: Connection) -> list[str]:
    return list(c.scalars(select(blob.c.state).order_by(blob.c.copy)))


def _ids(c: Connection) -> list[int]:
    return list(c.scalars(select(blob.c.id).order_by(blob.c.id)))


def _link(c: Connection) -> Row[Any]:
    return c.execute(select(blob_link)).one()


def _looks(c: Connection, kind: str) -> list[datetime]:
    return list(c.scalars(select(due.c.due_at).where(due.c.kind == kind)))


def _unlink_for_good(c: Connection, repository: str, digest: Digest) -> None:
    blobs.unlink(c, repository, digest, actor=ACTOR, undo=NOTHING)
    repository_id = repositories.find_locked(c, repository)
    assert repository_id is not None
    assert drop_link(c, repository_id, digest)


async def _count(database: Database, table: Table) -> int:
    return await database.read(lambda c: c.execute(select(func.count()).select_from(table)).scalar_one())
