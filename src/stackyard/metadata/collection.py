"""Taking away what nothing needs: the locked check and the mark. When to look is `due`'s business.

Each function takes the row for itself (skipping one that somebody holds: it will be due again), and only then, in a
second statement, looks for what needs it. Both matter on PostgreSQL: a statement that waited for a lock judges other
tables by what they held before the wait. Whoever relies on the row holds a share lock from before it looks until what
needs the row is committed, so one of the two always sees the other.
"""

from datetime import timedelta

from sqlalchemy import Connection, bindparam, case, select
from sqlalchemy.dialects.postgresql import insert

from stackyard.metadata import clock, due, pulls
from stackyard.metadata.blobs import READER_SPAN
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import (
    DELETING,
    LIVE,
    blob,
    blob_link,
    manifest,
    manifest_reference,
    tag,
    tombstone,
)

_AT_ONCE = timedelta()

_LOCK_BLOB = Prepared(
    select(blob.c.id)
    .where(blob.c.digest == bindparam("digest"), blob.c.state == LIVE)
    .with_for_update(skip_locked=True)
)
_IS_LINKED = Prepared(select(blob_link.c.repository_id).where(blob_link.c.digest == bindparam("digest")).limit(1))
_MARK_BLOB = Prepared(
    blob.update().where(blob.c.id == bindparam("blob_id")).values(state=DELETING, marked_at=clock.now())
)

_LOCK_LINK = Prepared(
    select(blob_link.c.digest)
    .where(
        blob_link.c.repository_id == bindparam("repository_id"),
        blob_link.c.digest == bindparam("digest"),
        blob_link.c.promised_until <= clock.now(),
        (blob_link.c.restorable_until.is_(None)) | (blob_link.c.restorable_until <= clock.now()),
    )
    .with_for_update(skip_locked=True)
)
_IS_NAMED = Prepared(
    select(manifest_reference.c.manifest_id)
    .where(
        manifest_reference.c.repository_id == bindparam("repository_id"),
        manifest_reference.c.digest == bindparam("digest"),
    )
    .limit(1)
)
_DROP_LINK = Prepared(
    blob_link.delete().where(
        blob_link.c.repository_id == bindparam("repository_id"), blob_link.c.digest == bindparam("digest")
    )
)

_LOCK_MANIFEST = Prepared(
    select(manifest.c.id)
    .where(
        manifest.c.repository_id == bindparam("repository_id"),
        manifest.c.digest == bindparam("digest"),
        manifest.c.deleted_at.is_not(None),
        manifest.c.restorable_until <= clock.now(),
        manifest.c.promised_until <= clock.now(),
    )
    .with_for_update(skip_locked=True)
)
_IS_TAGGED = Prepared(select(tag.c.name).where(tag.c.manifest_id == bindparam("manifest_id")).limit(1))
_NAMED = Prepared(
    select(manifest_reference.c.digest, manifest_reference.c.kind).where(
        manifest_reference.c.manifest_id == bindparam("manifest_id")
    )
)
_DROP_REFERENCES = Prepared(
    manifest_reference.delete().where(manifest_reference.c.manifest_id == bindparam("manifest_id"))
)
_DROP_MANIFEST = Prepared(manifest.delete().where(manifest.c.id == bindparam("manifest_id")))

_LOCK_DELETING = Prepared(
    select(blob.c.digest, blob.c.copy)
    .where(blob.c.id == bindparam("blob_id"), blob.c.state == DELETING)
    .with_for_update(skip_locked=True)
)
_bury = insert(tombstone).values(digest=bindparam("digest"), next_copy=bindparam("next_copy"))
_BURY = Prepared(
    _bury.on_conflict_do_update(
        index_elements=["digest"],
        set_={
            "next_copy": case(
                (tombstone.c.next_copy > _bury.excluded.next_copy, tombstone.c.next_copy),
                else_=_bury.excluded.next_copy,
            )
        },
    )
)
_DROP_BLOB = Prepared(blob.delete().where(blob.c.id == bindparam("blob_id")))


def mark_blob(c: Connection, digest: str) -> int | None:
    """Mark the live blob of this digest as `deleting` if no repository links it: readers no longer see it.

    Returns its id, or None when it is needed, held by somebody or not there.
    """
    blob_id: int | None = _LOCK_BLOB.scalar(c, digest=digest)
    if blob_id is None or _IS_LINKED.one(c, digest=digest) is not None:
        return None
    _MARK_BLOB.run(c, blob_id=blob_id)
    due.add_blob(c, digest, wait=READER_SPAN)
    return blob_id


def drop_link(c: Connection, repository_id: int, digest: str) -> bool:
    """Remove a link whose promise and undo span are over and that no manifest of the repository needs."""
    if _LOCK_LINK.one(c, repository_id=repository_id, digest=digest) is None:
        return False
    if _IS_NAMED.one(c, repository_id=repository_id, digest=digest) is not None:
        return False
    _DROP_LINK.run(c, repository_id=repository_id, digest=digest)
    due.add_blob(c, digest, wait=_AT_ONCE)
    return True


def drop_manifest(c: Connection, repository_id: int, digest: str) -> bool:
    """Remove a deleted manifest whose undo span is over and that no tag and no other manifest needs."""
    manifest_id = _LOCK_MANIFEST.scalar(c, repository_id=repository_id, digest=digest)
    if manifest_id is None or _IS_TAGGED.one(c, manifest_id=manifest_id) is not None:
        return False
    if _IS_NAMED.one(c, repository_id=repository_id, digest=digest) is not None:
        return False
    for named, kind in _NAMED.all(c, manifest_id=manifest_id):
        if kind == "child":
            due.add_manifest(c, repository_id, named, wait=_AT_ONCE)
        due.add_link(c, repository_id, named, wait=_AT_ONCE)
    _DROP_REFERENCES.run(c, manifest_id=manifest_id)
    _DROP_MANIFEST.run(c, manifest_id=manifest_id)
    pulls.forget_manifest(c, manifest_id)
    return True


def forget_blob(c: Connection, blob_id: int) -> bool:
    """Remove the row of a blob whose bytes are gone. Its location stays used up: a tombstone remembers."""
    row = _LOCK_DELETING.one(c, blob_id=blob_id)
    if row is None:
        return False
    digest, copy = row
    _BURY.run(c, digest=digest, next_copy=copy + 1)
    _DROP_BLOB.run(c, blob_id=blob_id)
    return True
