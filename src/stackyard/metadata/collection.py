"""Taking away what nothing needs: the locked check and the mark. When to look is `due`'s business.

Each function takes the row for itself (skipping one that somebody holds: it will be due again), and only then, in a
second statement, looks for what needs it. Both matter on PostgreSQL: a statement that waited for a lock judges other
tables by what they held before the wait. Whoever relies on the row holds a share lock from before it looks until what
needs the row is committed, so one of the two always sees the other.

A span of grace shortens what can be restored, never what was promised.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, select
from sqlalchemy.dialects.postgresql import insert

from stackyard.metadata import clock, due, follow, pulls, quotas, schema
from stackyard.metadata.blobs import PENDING_SPAN, READER_SPAN
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import (
    DELETING,
    blob,
    blob_link,
    manifest,
    manifest_reference,
    tag,
    tombstone,
)

AT_ONCE = timedelta()
BUSY_SPAN = timedelta(seconds=10)
"""What somebody holds locked is looked at again after so long."""
SOON = timedelta(milliseconds=1)
"""There is more to do at once."""
NO_GRACE = timedelta(days=365 * 100)
"""What can be restored is kept until its own time is over."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """Bytes that no row shows any more, and that nobody can be about to open."""

    blob_id: int
    location: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Look:
    """What looking at something came to."""

    gone: int = 0
    """Rows that went or, of blobs, are no longer shown."""
    again: timedelta = AT_ONCE
    """When to look once more; zero for not before something changes, which then says so in the queue."""
    manifests: int = 0
    """Of what went with a repository."""
    doomed: tuple[Doomed, ...] = ()
    """Whose bytes are to be deleted now, and then forgotten with `forget_blobs`."""


NOTHING_TO_DO = Look()
GONE = Look(gone=1)


def undo_ends(table: Any) -> ColumnElement[Any]:
    """When a deleted row's undo span is over; the grace counts from its deletion, and only shortens."""
    graced = table.c.deleted_at + clock.span("grace")
    return case((table.c.restorable_until > graced, graced), else_=table.c.restorable_until)


def wait_over(table: Any) -> ColumnElement[int]:
    """Microseconds until neither promise nor undo span protects a row."""
    ends = func.coalesce(undo_ends(table), table.c.promised_until)
    return clock.until(case((ends > table.c.promised_until, ends), else_=table.c.promised_until))


_LOCK_BLOBS = Prepared(
    select(
        blob.c.id,
        blob.c.state,
        blob.c.location,
        blob.c.size,
        clock.until(blob.c.created_at + clock.span("pending")),
        clock.until(func.coalesce(blob.c.marked_at, blob.c.created_at) + clock.span("readers")),
    )
    .where(blob.c.digest == bindparam("digest"))
    .with_for_update(skip_locked=True)
)
_COUNT_BLOBS = Prepared(select(func.count()).select_from(blob).where(blob.c.digest == bindparam("digest")))
_IS_LINKED = Prepared(select(blob_link.c.repository_id).where(blob_link.c.digest == bindparam("digest")).limit(1))
_IS_MANIFEST = Prepared(select(manifest.c.id).where(manifest.c.digest == bindparam("digest")).limit(1))
_MARK_BLOB = Prepared(
    blob.update().where(blob.c.id == bindparam("blob_id")).values(state=DELETING, marked_at=clock.now())
)

_link = (blob_link.c.repository_id == bindparam("repository_id"), blob_link.c.digest == bindparam("digest"))
_LOCK_LINK = Prepared(select(wait_over(blob_link)).where(*_link).with_for_update(skip_locked=True))
_HAS_LINK = Prepared(select(blob_link.c.digest).where(*_link))
_IS_NAMED = Prepared(
    select(manifest_reference.c.manifest_id)
    .where(
        manifest_reference.c.repository_id == bindparam("repository_id"),
        manifest_reference.c.digest == bindparam("digest"),
    )
    .limit(1)
)
_DROP_LINK = Prepared(blob_link.delete().where(*_link).returning(blob_link.c.counted))

_manifest = (manifest.c.repository_id == bindparam("repository_id"), manifest.c.digest == bindparam("digest"))
_LOCK_MANIFEST = Prepared(
    select(manifest.c.id, manifest.c.deleted_at, wait_over(manifest))
    .where(*_manifest)
    .with_for_update(skip_locked=True)
)
_HAS_MANIFEST = Prepared(select(manifest.c.id).where(*_manifest))
_IS_TAGGED = Prepared(select(tag.c.name).where(tag.c.manifest_id == bindparam("manifest_id")).limit(1))
_NAMED = Prepared(
    select(manifest_reference.c.digest, manifest_reference.c.kind).where(
        manifest_reference.c.manifest_id == bindparam("manifest_id")
    )
)
_REFERRERS = Prepared(
    select(manifest.c.digest).where(
        manifest.c.repository_id == bindparam("repository_id"), manifest.c.subject == bindparam("digest")
    )
)
_DROP_REFERENCES = Prepared(
    manifest_reference.delete().where(manifest_reference.c.manifest_id == bindparam("manifest_id"))
)
_DROP_MANIFEST = Prepared(
    manifest.delete().where(manifest.c.id == bindparam("manifest_id")).returning(manifest.c.deleted_at)
)

_LOCK_DELETING = Prepared(
    select(blob.c.digest, blob.c.copy)
    .where(blob.c.id == bindparam("blob_id"), blob.c.state == DELETING)
    .with_for_update(skip_locked=True)
)
_COUNT_MARKED = Prepared(
    select(func.count())
    .select_from(schema.due)
    .join(blob, blob.c.digest == schema.due.c.digest)
    .where(schema.due.c.kind == "blob", schema.due.c.due_at <= clock.after("ahead"), blob.c.state == DELETING)
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


def mark_blobs(c: Connection, digest: str, *, readers: timedelta = READER_SPAN) -> Look:
    """Mark what nothing needs of a digest's blobs as `deleting`: readers no longer see it.

    Args:
        readers: How long bytes outlive their mark, for those who saw the row just before.
    """
    rows = _LOCK_BLOBS.all(c, digest=digest, pending=PENDING_SPAN, readers=readers)
    again = [BUSY_SPAN] if len(rows) < _COUNT_BLOBS.scalar(c, digest=digest) else []
    states = {row[1] for row in rows}
    marked, doomed = 0, []
    for blob_id, state, location, size, pending_left, readers_left in rows:
        if state == "deleting" and readers_left <= 0:
            doomed.append(Doomed(blob_id, location, size))
        elif state == "deleting":
            again.append(span(readers_left))
        elif state == "pending" and pending_left > 0:
            again.append(span(pending_left))
        elif state == "pending" or (state == "quarantined" and "live" in states) or not _is_needed(c, digest):
            _MARK_BLOB.run(c, blob_id=blob_id)
            again.append(readers or SOON)
            marked += 1
    return Look(marked, min(again, default=AT_ONCE), doomed=tuple(doomed))


def drop_link(c: Connection, repository_id: int, digest: str, *, grace: timedelta = NO_GRACE) -> Look:
    """Remove a link whose promise and undo span are over and that no manifest of the repository needs."""
    values = {"repository_id": repository_id, "digest": digest}
    left = _LOCK_LINK.scalar(c, **values, grace=grace)
    if left is None:
        return Look(again=BUSY_SPAN) if _HAS_LINK.one(c, **values) else NOTHING_TO_DO
    if left > 0:
        return Look(again=span(left))
    if _IS_NAMED.one(c, **values) is not None:
        return NOTHING_TO_DO
    was_counted = _DROP_LINK.scalar(c, **values)
    follow.add(c, repository_id, "link", digest)
    due.add_blob(c, digest, wait=AT_ONCE)
    if was_counted:
        quotas.discharge(c, quotas.account(c, repository_id), [digest])
    return GONE


def drop_manifest(c: Connection, repository_id: int, digest: str, *, grace: timedelta = NO_GRACE) -> Look:
    """Remove a deleted manifest whose undo span is over and that no tag and no other manifest needs."""
    values = {"repository_id": repository_id, "digest": digest}
    row = _LOCK_MANIFEST.one(c, **values, grace=grace)
    if row is None:
        return Look(again=BUSY_SPAN) if _HAS_MANIFEST.one(c, **values) else NOTHING_TO_DO
    manifest_id, deleted_at, left = row
    if deleted_at is None:
        return NOTHING_TO_DO
    if left > 0:
        return Look(again=span(left))
    if _IS_TAGGED.one(c, manifest_id=manifest_id) is not None or _IS_NAMED.one(c, **values) is not None:
        return NOTHING_TO_DO
    erase_manifest(c, repository_id, manifest_id, digest)
    return GONE


def erase_manifest(c: Connection, repository_id: int, manifest_id: int, digest: str) -> None:
    """Remove the row of a manifest that this transaction holds locked, and queue all that it kept."""
    for named, kind in _NAMED.all(c, manifest_id=manifest_id):
        if kind == "child":
            due.add_manifest(c, repository_id, named, wait=AT_ONCE)
        due.add_link(c, repository_id, named, wait=AT_ONCE)
    for referrer in _REFERRERS.column(c, repository_id=repository_id, digest=digest):
        due.add_manifest(c, repository_id, referrer, wait=AT_ONCE)
    follow.add(c, repository_id, "manifest", digest)
    due.add_blob(c, digest, wait=AT_ONCE)  # its own bytes, where they lie in the store as well
    _DROP_REFERENCES.run(c, manifest_id=manifest_id)
    pulls.forget_manifest(c, manifest_id)
    if _DROP_MANIFEST.scalar(c, manifest_id=manifest_id) is None:  # it could be seen to its end
        quotas.discharge(c, quotas.account(c, repository_id), [digest])


def forget_blobs(c: Connection, blob_ids: Sequence[int]) -> None:
    """Remove the rows of blobs whose bytes are gone. Their locations stay used up: a tombstone remembers."""
    for blob_id in blob_ids:
        row = _LOCK_DELETING.one(c, blob_id=blob_id)
        if row is not None:
            digest, copy = row
            _BURY.run(c, digest=digest, next_copy=copy + 1)
            _DROP_BLOB.run(c, blob_id=blob_id)
            follow.add(c, 0, "blob", digest)


def _is_needed(c: Connection, digest: str) -> bool:
    return _IS_LINKED.one(c, digest=digest) is not None or _IS_MANIFEST.one(c, digest=digest) is not None


def count_marked(c: Connection, *, readers: timedelta) -> int:
    """Blobs whose bytes wait for their last readers."""
    found: int = _COUNT_MARKED.scalar(c, ahead=readers)
    return found


def span(microseconds: int) -> timedelta:
    """Of that length."""
    return timedelta(microseconds=microseconds)
