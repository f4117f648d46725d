"""Repositories: known from their first manifest on."""

from sqlalchemy import Connection
from tests.metadata.making import new_id, push_blob, pushed, put_manifest, start

from stackyard.metadata import blobs, clock, manifests, referrers, repositories, tags, uploads
from stackyard.metadata.database import Database
from stackyard.metadata.schema import repository
from stackyard.oci.digests import Digest


async def test_page_returns_names_in_byte_order_after_the_given_name(database: Database) -> None:
    for name in ("b", "a/b", "a", "a-b", "ab", "a.b"):
        await put_manifest(database, name, pushed(b"m"))

    assert await database.read(repositories.page, after="", limit=10) == ["a", "a-b", "a.b", "a/b", "ab", "b"]
    assert await database.read(repositories.page, after="a.", limit=2) == ["a.b", "a/b"]


async def test_uploads_and_blobs_alone_make_no_repository_known(database: Database) -> None:
    await database.write(start, "a", new_id())
    await push_blob(database, "b", b"layer")

    assert await database.read(repositories.page, after="", limit=10) == []
    assert not await database.read(repositories.exists, "a")
    assert not await database.read(repositories.exists, "b")


async def test_a_repository_is_made_once_and_known_once_it_is_listed(database: Database) -> None:
    assert await database.write(repositories.find_locked, "a") is None
    made = await database.write(repositories.ensure_locked, "a")

    assert await database.write(repositories.ensure_locked, "a") == made
    assert await database.write(repositories.find_locked, "a") == made
    assert not await database.read(repositories.exists, "a")
    assert await database.write(repositories.ensure_listed, "a") == made
    assert await database.read(repositories.exists, "a")
    assert await database.write(repositories.ensure_listed, "b") != made


async def test_a_deleted_repository_shows_nothing_and_its_name_is_free(database: Database) -> None:
    upload_id = new_id()
    blob = await push_blob(database, "a", b"layer")
    digest = await put_manifest(database, "a", pushed(b"m", subject=blob.digest), "v1")
    await database.write(start, "a", upload_id)
    await database.write(_delete)

    assert not await database.read(repositories.exists, "a")
    assert await database.read(repositories.page, after="", limit=10) == []
    assert await database.read(tags.page, "a", after="", limit=10) == []
    assert await database.fetch(manifests.RESOLVE, "a", "v1") is None
    assert await database.fetch(manifests.STAT, "a", digest) is None
    assert await database.fetch(manifests.PAYLOAD, "a", digest) is None
    assert await database.fetch(blobs.FIND, "a", blob.digest) is None
    assert await database.read(uploads.find, "a", upload_id) is None
    assert await database.read(blobs.holders, blob.digest, limit=10) == []
    assert await _referrers(database, blob.digest) == []

    await put_manifest(database, "a", pushed(b"new"), "v2")
    assert await database.read(tags.page, "a", after="", limit=10) == ["v2"]


def _delete(c: Connection) -> None:
    c.execute(repository.update().values(deleted_at=clock.now()))


async def _referrers(database: Database, digest: Digest) -> list[referrers.Referrer]:
    return await database.read(referrers.page, "a", digest, artifact_type=None, after="", limit=10)
