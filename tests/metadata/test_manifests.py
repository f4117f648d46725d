"""Manifests, what they name, and what names them."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, Row, Table, func, select
from tests.metadata.making import (
    ACTOR,
    HOUR,
    IMAGE,
    NOTHING,
    WEEK,
    child,
    drop_link,
    drop_manifest,
    layer,
    mark,
    push,
    push_blob,
    pushed,
    put,
    put_manifest,
)

from stackyard.metadata import blobs, manifests, referrers, repositories, tags
from stackyard.metadata.database import Database
from stackyard.metadata.schema import blob, due, manifest, manifest_reference, tag_history
from stackyard.oci.digests import Digest
from stackyard.oci.errors import ManifestBlobUnknown

MISSING = Digest.of(b"missing")
PAYLOAD = b'{ "schemaVersion": 2 }\n'


async def test_a_manifest_is_found_by_digest_and_by_tag_with_the_bytes_pushed(database: Database) -> None:
    digest = await put_manifest(database, "a/b", pushed(PAYLOAD), "v1", "latest")

    for tag in ("v1", "latest"):
        assert await database.fetch(manifests.RESOLVE, "a/b", tag) == (digest, IMAGE, len(PAYLOAD))
    assert await database.fetch(manifests.STAT, "a/b", digest) == (IMAGE, len(PAYLOAD))
    row = await database.fetch(manifests.PAYLOAD, "a/b", digest)
    assert row is not None
    assert bytes(row[0]) == PAYLOAD
    found = await database.read(manifests.find, "a/b", digest)
    assert found == manifests.Manifest(digest, IMAGE, len(PAYLOAD), PAYLOAD)


async def test_a_manifest_is_seen_in_its_repository_only(database: Database) -> None:
    """Invariant 8."""
    digest = await put_manifest(database, "private", pushed(PAYLOAD), "v1")
    await put_manifest(database, "public", pushed(b"other"), "v2")

    for repository in ("public", "nowhere"):
        assert await database.fetch(manifests.RESOLVE, repository, "v1") is None
        assert await database.fetch(manifests.STAT, repository, digest) is None
        assert await database.fetch(manifests.PAYLOAD, repository, digest) is None
        assert await database.read(manifests.find, repository, digest) is None


async def test_a_manifest_without_what_it_names_is_refused_and_leaves_nothing(database: Database) -> None:
    """Invariant 1."""
    here = await push_blob(database, "a", b"layer")
    elsewhere = await push_blob(database, "b", b"elsewhere")
    references = [layer(MISSING), layer(here.digest), layer(elsewhere.digest), layer(MISSING)]

    with pytest.raises(ManifestBlobUnknown) as refused:
        await put_manifest(database, "a", pushed(PAYLOAD, references), "v1")

    assert refused.value.missing == [MISSING, elsewhere.digest]
    assert await database.fetch(manifests.RESOLVE, "a", "v1") is None
    assert not await database.read(repositories.exists, "a")


async def test_a_blob_deleted_here_counts_as_missing(database: Database) -> None:
    """Invariant 1."""
    here = await push_blob(database, "a", b"layer")
    await database.write(blobs.unlink, "a", here.digest, actor=ACTOR, undo=WEEK)

    with pytest.raises(ManifestBlobUnknown):
        await put_manifest(database, "a", pushed(PAYLOAD, [layer(here.digest)]))


@pytest.mark.parametrize("state", ["quarantined", "deleting", "pending"])
async def test_a_blob_whose_bytes_are_not_good_counts_as_missing(database: Database, state: str) -> None:
    """Invariant 1."""
    here = await push_blob(database, "a", b"layer")
    await database.write(lambda c: c.execute(blob.update().values(state=state)).rowcount)

    with pytest.raises(ManifestBlobUnknown):
        await put_manifest(database, "a", pushed(PAYLOAD, [layer(here.digest)]))
    assert await database.fetch(blobs.FIND, "a", here.digest) is None


async def test_what_a_manifest_row_names_cannot_be_collected(database: Database) -> None:
    """Invariant 1: not when its link is deleted, not when the manifest is, until the row itself goes."""
    here = await push_blob(database, "a", b"layer", promise=NOTHING)
    image = pushed(PAYLOAD, [layer(here.digest)])
    await database.write(put, "a", image, "v1", promise=NOTHING)
    index = pushed(b"index", [child(image.digest)])
    await database.write(put, "a", index, "all", promise=NOTHING)
    repository_id = await database.write(repositories.find_locked, "a")
    assert repository_id is not None

    await database.write(blobs.unlink, "a", here.digest, actor=ACTOR, undo=NOTHING)
    await database.write(manifests.delete, "a", image.digest, actor=ACTOR, undo=NOTHING)

    assert not await database.write(drop_manifest, repository_id, image.digest)
    assert not await database.write(drop_link, repository_id, here.digest)
    assert await database.write(mark, here.digest) == []

    await database.write(manifests.delete, "a", index.digest, actor=ACTOR, undo=NOTHING)
    for digest in (index.digest, image.digest):
        assert await database.write(drop_manifest, repository_id, digest)
    assert await database.write(drop_link, repository_id, here.digest)
    assert await database.write(mark, here.digest) == [here.id]
    assert await _count(database, manifest) == await _count(database, manifest_reference) == 0


async def test_what_need_not_be_here_is_marked_and_not_asked_for(database: Database) -> None:
    references = [layer(MISSING, required=False), child(Digest.of(b"sparse"), required=False)]

    await put_manifest(database, "a", pushed(PAYLOAD, references))

    rows = await database.read(lambda c: c.execute(select(manifest_reference)).all())
    assert {(row.digest, row.required) for row in rows} == {(r.digest, False) for r in references}


async def test_an_index_needs_its_children(database: Database) -> None:
    """Invariant 1."""
    image = await put_manifest(database, "a", pushed(PAYLOAD))
    gone = await put_manifest(database, "a", pushed(b"gone"))
    await database.write(manifests.delete, "a", gone, actor=ACTOR, undo=WEEK)

    with pytest.raises(ManifestBlobUnknown) as refused:
        await put_manifest(database, "a", pushed(b"bad", [child(image), child(gone), child(MISSING)]))

    assert refused.value.missing == [gone, MISSING]
    await put_manifest(database, "a", pushed(b"good", [child(image)]))


async def test_a_child_may_be_a_blob(database: Database) -> None:
    """An old build cache is an index of layers."""
    cached = await push_blob(database, "a", b"cached")
    image = await put_manifest(database, "a", pushed(PAYLOAD))

    await put_manifest(database, "a", pushed(b"cache", [child(cached.digest), child(image)]))


async def test_one_digest_named_often_is_one_reference_and_required_wins(database: Database) -> None:
    here = await push_blob(database, "a", b"layer")
    references = [layer(here.digest), layer(here.digest, required=False), layer(here.digest)]

    await put_manifest(database, "a", pushed(PAYLOAD, references))

    rows = await database.read(lambda c: c.execute(select(manifest_reference)).all())
    assert [(row.digest, row.required) for row in rows] == [(here.digest, True)]


async def test_a_manifest_may_name_hundreds_of_blobs(database: Database) -> None:
    digests = await database.write(_push_many, 300)

    await put_manifest(database, "a", pushed(PAYLOAD, [layer(digest) for digest in digests]), "v1")

    assert await _count(database, manifest_reference) == 300


async def test_pushing_again_changes_nothing_but_the_tags(database: Database) -> None:
    here = await push_blob(database, "a", b"layer")
    image = pushed(PAYLOAD, [layer(here.digest)])
    await put_manifest(database, "a", image, "v1")

    await put_manifest(database, "a", image, "v1", "v2")

    assert await _count(database, manifest) == 1
    assert await _count(database, manifest_reference) == 1
    assert await _count(database, tag_history) == 0
    assert await database.read(tags.page, "a", after="", limit=100) == ["v1", "v2"]


async def test_delete_removes_the_manifest_and_every_tag_that_points_to_it(database: Database) -> None:
    digest = await put_manifest(database, "a", pushed(PAYLOAD), "v1", "latest")
    other = await put_manifest(database, "a", pushed(b"other"), "v2")

    assert await database.write(manifests.delete, "a", digest, actor="user:bob", undo=WEEK)

    for tag in ("v1", "latest"):
        assert await database.fetch(manifests.RESOLVE, "a", tag) is None
    assert await database.fetch(manifests.STAT, "a", digest) is None
    assert await database.fetch(manifests.PAYLOAD, "a", digest) is None
    assert await database.fetch(manifests.STAT, "a", other) is not None
    assert await database.read(tags.page, "a", after="", limit=100) == ["v2"]
    assert await database.read(repositories.exists, "a")
    assert not await database.write(manifests.delete, "a", digest, actor=ACTOR, undo=WEEK)
    assert not await database.write(manifests.delete, "nowhere", digest, actor=ACTOR, undo=WEEK)


async def test_delete_keeps_what_restoring_needs(database: Database) -> None:
    """Invariant 6: the row with its bytes, what it names, and which tags pointed to it."""
    here = await push_blob(database, "a", b"layer")
    digest = await put_manifest(database, "a", pushed(PAYLOAD, [layer(here.digest)]), "v1", "latest")

    await database.write(manifests.delete, "a", digest, actor="user:bob", undo=WEEK)

    row = await database.read(_manifest)
    assert row.payload == PAYLOAD
    assert row.deleted_by == "user:bob"
    assert row.restorable_until - row.deleted_at == WEEK
    assert await _count(database, manifest_reference) == 1
    history = await database.read(lambda c: c.execute(select(tag_history).order_by(tag_history.c.name)).all())
    assert [(h.name, h.digest, h.set_by, h.ended_by, h.reason) for h in history] == [
        ("latest", digest, ACTOR, "user:bob", "manifest"),
        ("v1", digest, ACTOR, "user:bob", "manifest"),
    ]
    assert max(await database.read(_looks)) >= row.restorable_until
    repository_id = await database.write(repositories.find_locked, "a")
    assert repository_id is not None
    assert not await database.write(drop_manifest, repository_id, digest)


async def test_pushing_a_deleted_manifest_brings_it_back(database: Database) -> None:
    digest = await put_manifest(database, "a", pushed(PAYLOAD), "v1")
    await database.write(manifests.delete, "a", digest, actor=ACTOR, undo=WEEK)

    await put_manifest(database, "a", pushed(PAYLOAD), "v2")

    assert await database.fetch(manifests.RESOLVE, "a", "v2") == (digest, IMAGE, len(PAYLOAD))
    row = await database.read(_manifest)
    assert (row.deleted_at, row.deleted_by, row.restorable_until) == (None, None, None)


async def test_an_untagged_push_is_looked_at_after_its_promise(database: Database) -> None:
    await put_manifest(database, "a", pushed(PAYLOAD), "v1")
    assert await database.read(_looks) == []

    await put_manifest(database, "a", pushed(b"untagged"))
    assert len(await database.read(_looks)) == 1


async def test_referrers_are_paged_in_digest_order_with_what_a_descriptor_needs(database: Database) -> None:
    subject = Digest.of(b"not pushed yet")
    signature = pushed(b"1", subject=subject, artifact_type="application/sig", annotations={"k": "v"})
    config = pushed(b"2", subject=subject, config_media_type="application/config")
    plain = pushed(b"3", subject=subject)
    for one in (signature, config, plain, pushed(b"4"), pushed(b"5", subject=MISSING)):
        await put_manifest(database, "a", one)
    await put_manifest(database, "b", pushed(b"6", subject=subject))

    found = await database.read(referrers.page, "a", subject, artifact_type=None, after="", limit=10)

    assert [one.digest for one in found] == sorted([signature.digest, config.digest, plain.digest])
    facts = {one.digest: (one.artifact_type, one.annotations) for one in found}
    assert facts == {
        signature.digest: ("application/sig", {"k": "v"}),
        config.digest: ("application/config", {}),
        plain.digest: (None, {}),
    }
    rest = await database.read(referrers.page, "a", subject, artifact_type=None, after=found[0].digest, limit=1)
    assert rest == found[1:2]
    for wanted, expected in (("application/sig", signature), ("application/config", config)):
        only = await database.read(referrers.page, "a", subject, artifact_type=wanted, after="", limit=10)
        assert [one.digest for one in only] == [expected.digest]


async def test_a_deleted_referrer_leaves_the_list(database: Database) -> None:
    subject = Digest.of(b"subject")
    digest = await put_manifest(database, "a", pushed(b"1", subject=subject))

    await database.write(manifests.delete, "a", digest, actor=ACTOR, undo=WEEK)

    assert await database.read(referrers.page, "a", subject, artifact_type=None, after="", limit=10) == []


async def test_a_promised_manifest_outlives_its_undo_span(database: Database) -> None:
    await database.write(put, "a", pushed(PAYLOAD), "v1", promise=HOUR)
    digest = Digest.of(PAYLOAD)
    await database.write(manifests.delete, "a", digest, actor=ACTOR, undo=NOTHING)
    repository_id = await database.write(repositories.find_locked, "a")
    assert repository_id is not None

    assert not await database.write(drop_manifest, repository_id, digest)


def _push_many(c: Connection, count: int) -> list[Digest]:
    return [push(c, "a", b"%d" % number).blob.digest for number in range(count)]


def _manifest(c: Connection) -> Row[Any]:
    return c.execute(select(manifest)).one()


def _looks(c: Connection) -> list[datetime]:
    return list(c.scalars(select(due.c.due_at).where(due.c.kind == "manifest")))


async def _count(database: Database, table: Table) -> int:
    return await database.read(lambda c: c.execute(select(func.count()).select_from(table)).scalar_one())
