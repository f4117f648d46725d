"""Taking a deleted repository apart, a bounded part at a time, once it can no longer be restored."""

from datetime import timedelta

from sqlalchemy import Connection, bindparam, func, select, union_all

from stackyard.metadata import clock, counting, due
from stackyard.metadata.collection import (
    AT_ONCE,
    BUSY_SPAN,
    GONE,
    NO_GRACE,
    NOTHING_TO_DO,
    SOON,
    Look,
    erase_manifest,
    span,
    undo_ends,
)
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import blob_link, manifest, repository, tag, tag_history, tag_pull, upload

_MOST_ROWS = 500

_LOCK = Prepared(
    select(repository.c.deleted_at, clock.until(undo_ends(repository)))
    .where(repository.c.id == bindparam("repository_id"))
    .with_for_update(skip_locked=True)
)
_EXISTS = Prepared(select(repository.c.id).where(repository.c.id == bindparam("repository_id")))
# Also when a span of grace cut the undo span short: from its first part on it cannot come back.
_END_UNDO = Prepared(
    repository.update()
    .where(repository.c.id == bindparam("repository_id"), repository.c.restorable_until > clock.now())
    .values(restorable_until=clock.now())
)
# One statement for each table whose rows nothing else depends on.
_LEAVES = [
    Prepared(
        table.delete().where(
            table.c.repository_id == bindparam("repository_id"),
            key.in_(select(key).where(table.c.repository_id == bindparam("repository_id")).limit(bindparam("limit"))),
        )
    )
    for table, key in (
        (tag, tag.c.name),
        (tag_history, tag_history.c.id),
        (tag_pull, tag_pull.c.name),
        (upload, upload.c.id),  # its bytes go as those of any ended session
    )
]
_MANIFESTS = Prepared(
    select(manifest.c.id, manifest.c.digest)
    .where(manifest.c.repository_id == bindparam("repository_id"), manifest.c.promised_until <= clock.now())
    .limit(_MOST_ROWS // 10)
    .with_for_update()
)
_LINKS = Prepared(
    select(blob_link.c.digest)
    .where(blob_link.c.repository_id == bindparam("repository_id"), blob_link.c.promised_until <= clock.now())
    .limit(_MOST_ROWS // 2)
    .with_for_update()
)
_DROP_LINK = Prepared(
    blob_link.delete().where(
        blob_link.c.repository_id == bindparam("repository_id"), blob_link.c.digest == bindparam("digest")
    )
)
_promises = union_all(
    *(
        select(clock.until(table.c.promised_until).label("left")).where(
            table.c.repository_id == bindparam("repository_id")
        )
        for table in (manifest, blob_link)
    )
).subquery()
_LAST_PROMISE = Prepared(select(func.max(_promises.c.left)))
_DROP = Prepared(repository.delete().where(repository.c.id == bindparam("repository_id")))


def drop_repository(c: Connection, repository_id: int, *, grace: timedelta = NO_GRACE) -> Look:
    """Remove a part of a deleted repository whose undo span is over; what was promised in it stays so long.

    It is `gone` with the last part.
    """
    row = _LOCK.one(c, repository_id=repository_id, grace=grace)
    if row is None:
        return Look(again=BUSY_SPAN) if _EXISTS.one(c, repository_id=repository_id) else NOTHING_TO_DO
    deleted_at, left = row
    if deleted_at is None:
        return NOTHING_TO_DO
    if left > 0:
        return Look(again=span(left))
    _END_UNDO.run(c, repository_id=repository_id)
    if not counting.settle_one(c, repository_id, limit=_MOST_ROWS // 2):
        return Look(again=SOON)
    anything, manifests = _drop_some(c, repository_id)
    if anything:
        return Look(again=SOON, manifests=manifests)
    promised = _LAST_PROMISE.scalar(c, repository_id=repository_id)
    if promised is not None:
        return Look(again=max(SOON, span(promised)))
    _DROP.run(c, repository_id=repository_id)
    return GONE


def _drop_some(c: Connection, repository_id: int) -> tuple[bool, int]:
    """Whether there was anything to do, and how many manifests went."""
    if any(statement.run(c, repository_id=repository_id, limit=_MOST_ROWS) for statement in _LEAVES):
        return True, 0
    manifests = _MANIFESTS.all(c, repository_id=repository_id)
    for manifest_id, digest in manifests:
        erase_manifest(c, repository_id, manifest_id, digest)
    # A manifest that was promised keeps what it names for so long.
    links = [] if manifests or _has_manifests(c, repository_id) else _LINKS.column(c, repository_id=repository_id)
    for digest in links:
        _DROP_LINK.run(c, repository_id=repository_id, digest=digest)
        due.add_blob(c, digest, wait=AT_ONCE)
    return bool(manifests or links), len(manifests)


_HAS_MANIFESTS = Prepared(select(manifest.c.id).where(manifest.c.repository_id == bindparam("repository_id")).limit(1))


def _has_manifests(c: Connection, repository_id: int) -> bool:
    return _HAS_MANIFESTS.one(c, repository_id=repository_id) is not None
