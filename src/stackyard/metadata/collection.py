"""Taking away what nothing needs: the locked check and the mark. When to look is `due`'s business.

Each function takes the row for itself (skipping one that somebody holds: it will be due again), and only then, in a
second statement, looks for what needs it. Both matter on PostgreSQL: a statement that waited for a lock judges other
tables by what they held before the wait. Whoever relies on the row holds a share lock from before it looks until what
needs the row is committed, so one of the two always sees the other.

A span of grace shortens what can be restored, never what was promised.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, select
from sqlalchemy.dialects.postgresql import insert

from stackyard.metadata import clock, due, follow, pulls, quotas, schema
from stackyard.metadata.blobs import PENDING_SPAN, READER_SPAN
from stackyard.metadata.prepared import NumberList, Prepared, Row, TextList, each
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


_digests = each(bindparam("digests", type_=TextList()))
_blob_ids = each(bindparam("blob_ids", type_=NumberList()))
_LOCK_BLOBS = Prepared(
    select(
        blob.c.digest,
        blob.c.id,
        blob.c.state,
        blob.c.location,
        blob.c.size,
        clock.until(blob.c.created_at + clock.span("pending")),
        clock.until(func.coalesce(blob.c.marked_at, blob.c.created_at) + clock.span("readers")),
    )
    .where(blob.c.digest.op("IN")(_digests))
    .with_for_update(skip_locked=True)
)
_ALL_BLOBS = Prepared(select(blob.c.digest).where(blob.c.digest.op("IN")(_digests)))
_NEEDED_BLOBS = Prepared(
    select(blob.c.digest).where(
        blob.c.digest.op("IN")(_digests),
        select(blob_link.c.repository_id).where(blob_link.c.digest == blob.c.digest).exists()
        | select(manifest.c.id).where(manifest.c.digest == blob.c.digest).exists(),
    )
)
_MARK_BLOBS = Prepared(blob.update().where(blob.c.id.op("IN")(_blob_ids)).values(state=DELETING, marked_at=clock.now()))

_links = (blob_link.c.repository_id == bindparam("repository_id"), blob_link.c.digest.op("IN")(_digests))
_LOCK_LINKS = Prepared(
    select(blob_link.c.digest, wait_over(blob_link)).where(*_links).with_for_update(skip_locked=True)
)
_HAVE_LINKS = Prepared(select(blob_link.c.digest).where(*_links))
_NAMED_LINKS = Prepared(
    select(blob_link.c.digest).where(
        *_links,
        select(manifest_reference.c.manifest_id)
        .where(
            manifest_reference.c.repository_id == blob_link.c.repository_id,
            manifest_reference.c.digest == blob_link.c.digest,
        )
        .exists(),
    )
)
_IS_NAMED = Prepared(
    select(manifest_reference.c.manifest_id)
    .where(
        manifest_reference.c.repository_id == bindparam("repository_id"),
        manifest_reference.c.digest == bindparam("digest"),
    )
    .limit(1)
)
_DROP_LINKS = Prepared(blob_link.delete().where(*_links).returning(blob_link.c.digest, blob_link.c.counted))

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
    select(blob.c.id, blob.c.digest, blob.c.copy, blob.c.location)
    .where(blob.c.id.op("IN")(_blob_ids), blob.c.state == DELETING)
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
_DROP_BLOBS = Prepared(blob.delete().where(blob.c.id.op("IN")(_blob_ids)))


def mark_all(c: Connection, digests: Sequence[str], *, readers: timedelta = READER_SPAN) -> dict[str, Look]:
    """Mark what nothing needs of these digests' blobs as `deleting`: readers no longer see it.

    Args:
        readers: How long bytes outlive their mark, for those who saw the row just before; with none they are doomed at
            once.
    """
    digests = sorted(digests)
    rows: dict[str, list[Row]] = {digest: [] for digest in digests}
    for digest, *row in _LOCK_BLOBS.all(c, digests=digests, pending=PENDING_SPAN, readers=readers):
        rows[digest].append(tuple(row))
    there = Counter(_ALL_BLOBS.column(c, digests=digests))
    shown = [digest for digest, found in rows.items() if any(row[1] in ("live", "quarantined") for row in found)]
    needed = set(_NEEDED_BLOBS.column(c, digests=shown)) if shown else set()
    marked: list[Doomed] = []
    looks = {}
    for digest, found in rows.items():
        unneeded, again, doomed = _judge_blobs(found, is_needed=digest in needed)
        marked += unneeded
        if not readers:
            doomed += unneeded
        if unneeded and readers:
            again.append(readers)
        if len(found) < there[digest]:
            again.append(BUSY_SPAN)
        looks[digest] = Look(len(unneeded), min(again, default=AT_ONCE), doomed=tuple(doomed))
    if marked:
        _MARK_BLOBS.run(c, blob_ids=[one.blob_id for one in marked])
    return looks


def mark_blobs(c: Connection, digest: str, *, readers: timedelta = READER_SPAN) -> Look:
    """As `mark_all`, for one digest."""
    return mark_all(c, [digest], readers=readers)[digest]


def _judge_blobs(rows: Sequence[Row], *, is_needed: bool) -> tuple[list[Doomed], list[timedelta], list[Doomed]]:
    """Of the blobs of one digest: those to mark, when to look again at others, and those whose readers are gone."""
    unneeded: list[Doomed] = []
    again: list[timedelta] = []
    doomed: list[Doomed] = []
    is_live = any(row[1] == "live" for row in rows)
    for blob_id, state, location, size, pending_left, readers_left in rows:
        if state == "deleting" and readers_left <= 0:
            doomed.append(Doomed(blob_id, location, size))
        elif state == "deleting":
            again.append(span(readers_left))
        elif state == "pending" and pending_left > 0:
            again.append(span(pending_left))
        elif state == "pending" or (state == "quarantined" and is_live) or not is_needed:
            unneeded.append(Doomed(blob_id, location, size))
    return unneeded, again, doomed


def drop_links(
    c: Connection, repository_id: int, digests: Sequence[str], *, grace: timedelta = NO_GRACE
) -> dict[str, Look]:
    """Remove links whose promise and undo span are over and that no manifest of the repository needs."""
    values = {"repository_id": repository_id, "digests": sorted(digests)}
    left: dict[str, int] = dict(_LOCK_LINKS.all(c, **values, grace=grace))
    busy = set(_HAVE_LINKS.column(c, **values)).difference(left) if len(left) < len(digests) else set()
    over = sorted(digest for digest, wait in left.items() if wait <= 0)
    named = set(_NAMED_LINKS.column(c, repository_id=repository_id, digests=over)) if over else set()
    gone = [digest for digest in over if digest not in named]
    if gone:
        _drop_links(c, repository_id, gone)
    looks = dict.fromkeys(digests, NOTHING_TO_DO) | dict.fromkeys(gone, GONE)
    looks |= dict.fromkeys(busy, Look(again=BUSY_SPAN))
    looks |= {digest: Look(again=span(wait)) for digest, wait in left.items() if wait > 0}
    return looks


def drop_link(c: Connection, repository_id: int, digest: str, *, grace: timedelta = NO_GRACE) -> Look:
    """As `drop_links`, for one."""
    return drop_links(c, repository_id, [digest], grace=grace)[digest]


def _drop_links(c: Connection, repository_id: int, digests: Sequence[str]) -> None:
    dropped = _DROP_LINKS.all(c, repository_id=repository_id, digests=digests)
    follow.add_all(c, repository_id, "link", digests)
    due.add_blobs(c, digests, wait=AT_ONCE)
    counted = sorted(digest for digest, was_counted in dropped if was_counted)
    if counted:
        quotas.discharge(c, quotas.account(c, repository_id), counted)


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
    named = _NAMED.all(c, manifest_id=manifest_id)
    for child in (one for one, kind in named if kind == "child"):
        due.add_manifest(c, repository_id, child, wait=AT_ONCE)
    due.add_links(c, repository_id, [one for one, _ in named], wait=AT_ONCE)
    for referrer in _REFERRERS.column(c, repository_id=repository_id, digest=digest):
        due.add_manifest(c, repository_id, referrer, wait=AT_ONCE)
    follow.add(c, repository_id, "manifest", digest)
    due.add_blob(c, digest, wait=AT_ONCE)  # its own bytes, where they lie in the store as well
    _DROP_REFERENCES.run(c, manifest_id=manifest_id)
    pulls.forget_manifest(c, manifest_id)
    if _DROP_MANIFEST.scalar(c, manifest_id=manifest_id) is None:  # it could be seen to its end
        quotas.discharge(c, quotas.account(c, repository_id), [digest])


def forget_blobs(c: Connection, doomed: Iterable[Doomed]) -> list[int]:
    """Remove the rows of blobs whose bytes are gone; which there were. Their locations stay used up: a tombstone
    remembers.

    Another collector may have removed the row before, and SQLite gives the number of a last row again. Only the
    location is never given twice.
    """
    locations = {one.blob_id: one.location for one in doomed}
    rows = [row for row in _LOCK_DELETING.all(c, blob_ids=sorted(locations)) if row[3] == locations[row[0]]]
    _BURY.many(c, [{"digest": digest, "next_copy": copy + 1} for _, digest, copy, _ in rows])
    dropped = [row[0] for row in rows]
    _DROP_BLOBS.run(c, blob_ids=dropped)
    follow.add_all(c, 0, "blob", [row[1] for row in rows])
    return dropped


def count_marked(c: Connection, *, readers: timedelta) -> int:
    """Blobs whose bytes wait for their last readers."""
    found: int = _COUNT_MARKED.scalar(c, ahead=readers)
    return found


def span(microseconds: int) -> timedelta:
    """Of that length."""
    return timedelta(microseconds=microseconds)
