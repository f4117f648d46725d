"""Blobs one after the other, what was found when their bytes were read back, and whom a damaged one hurts."""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, or_, select

from stackyard.metadata import audit, clock, due, follow
from stackyard.metadata.collection import AT_ONCE
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import (
    LIVE,
    QUARANTINED,
    blob,
    blob_link,
    manifest,
    manifest_reference,
    repository,
    tag,
)

_MOST_NAMES = 100


@dataclass(frozen=True, slots=True)
class Copy:
    """Bytes that a row tells of, as the row tells it."""

    id: int
    digest: str
    location: str
    size: int
    """Bytes."""
    quarantined: bool


_PAGE = Prepared(
    select(blob.c.id, blob.c.digest, blob.c.location, blob.c.size, blob.c.state)
    .where(blob.c.id > bindparam("after"), or_(blob.c.state == LIVE, blob.c.state == QUARANTINED))
    .order_by(blob.c.id)
    .limit(bindparam("limit"))
)
_LIVE = Prepared(
    select(blob.c.id, blob.c.digest, blob.c.location, blob.c.size)
    .where(blob.c.digest >= bindparam("first"), blob.c.digest <= bindparam("last"), blob.c.state == LIVE)
    .order_by(blob.c.digest)
    .limit(bindparam("limit"))
)
_VERIFY = Prepared(
    blob.update().where(blob.c.id == bindparam("blob_id"), blob.c.state == LIVE).values(verified_at=clock.now())
)
_QUARANTINE = Prepared(
    blob.update()
    .where(blob.c.id == bindparam("blob_id"), blob.c.state == LIVE)
    .values(state=QUARANTINED, damage=bindparam("damage"))
    .returning(blob.c.digest)
)
_MANIFEST_OF = Prepared(
    select(manifest.c.repository_id).where(manifest.c.digest == bindparam("digest"), manifest.c.deleted_at.is_(None))
)
_HAS_LIVE = Prepared(select(blob.c.id).where(blob.c.digest == bindparam("digest"), blob.c.state == LIVE))
_RELEASE = Prepared(
    blob.update()
    .where(blob.c.id == bindparam("blob_id"), blob.c.state == QUARANTINED)
    .values(state=LIVE, damage=None, verified_at=clock.now())
)
_DAMAGED = Prepared(
    select(blob.c.digest, blob.c.location, blob.c.size, blob.c.damage)
    .where(blob.c.state == QUARANTINED, blob.c.digest > bindparam("after"))
    .order_by(blob.c.digest)
    .limit(bindparam("limit"))
)
_parent_of = manifest_reference.alias("parent_of")
_HURT = Prepared(
    select(repository.c.name, tag.c.name)
    .distinct()
    .select_from(blob_link)
    .join(
        manifest_reference,
        (manifest_reference.c.repository_id == blob_link.c.repository_id)
        & (manifest_reference.c.digest == blob_link.c.digest),
    )
    .join(manifest, manifest.c.id == manifest_reference.c.manifest_id)
    .outerjoin(
        _parent_of,
        (_parent_of.c.repository_id == manifest.c.repository_id) & (_parent_of.c.digest == manifest.c.digest),
    )
    .join(tag, or_(tag.c.manifest_id == manifest.c.id, tag.c.manifest_id == _parent_of.c.manifest_id))
    .join(repository, repository.c.id == tag.c.repository_id)
    .where(blob_link.c.digest == bindparam("digest"), repository.c.deleted_at.is_(None))
    .limit(bindparam("limit"))
)


def page(c: Connection, *, after: int, limit: int) -> list[Copy]:
    """Copies that are shown or quarantined, by row id, strictly after `after`."""
    return [
        Copy(blob_id, digest, location, size, state == "quarantined")
        for blob_id, digest, location, size, state in _PAGE.all(c, after=after, limit=limit)
    ]


def live(c: Connection, first: str, last: str, *, limit: int) -> list[Copy]:
    """Copies that are shown, by digest, from `first` to `last`."""
    return [
        Copy(blob_id, digest, location, size, quarantined=False)
        for blob_id, digest, location, size in _LIVE.all(c, first=first, last=last, limit=limit)
    ]


def verified(c: Connection, blob_ids: list[int]) -> None:
    """Their bytes were read back and have the right digest."""
    for blob_id in blob_ids:
        _VERIFY.run(c, blob_id=blob_id)


def quarantine(c: Connection, copy: Copy, damage: str) -> list[str] | None:
    """Show the copy no more: a push of the same content may bring the blob back, at another location.

    Returns:
        Tags that it hurts, `repository:tag`, a hundred at most; None when it is not shown any more as it is.
    """
    digest: str | None = _QUARANTINE.scalar(c, blob_id=copy.id, damage=damage)
    if digest is None:
        return None
    names = hurt(c, digest)
    for repository_id in _MANIFEST_OF.column(c, digest=digest):
        # Nothing is lost, for the row holds the bytes, too; only Distribution needs them in the store.
        follow.add(c, repository_id, "manifest", digest)
    due.add_blob(c, digest, wait=AT_ONCE)
    audit.record(c, actor="system:scrub", action="blob.quarantine", digest=digest, damage=damage, tags=names)
    return names


def release(c: Connection, copy: Copy) -> bool:
    """Show it again: its bytes are what they should be. False when another copy has taken its place."""
    if _HAS_LIVE.one(c, digest=copy.digest) is not None:
        due.add_blob(c, copy.digest, wait=AT_ONCE)
        return False
    if not _RELEASE.run(c, blob_id=copy.id):
        return False
    audit.record(c, actor="system:scrub", action="blob.release", digest=copy.digest)
    return True


def hurt(c: Connection, digest: str) -> list[str]:
    """Tags through which the blob is reached, also by way of an index, as `repository:tag`; a hundred at most."""
    return sorted(f"{name}:{tag}" for name, tag in _HURT.all(c, digest=digest, limit=_MOST_NAMES))


def damaged(c: Connection, *, after: str, limit: int) -> list[tuple[str, str, int, str]]:
    """(digest, location, bytes, damage) of what is in quarantine, by digest."""
    return [(row[0], row[1], row[2], row[3] or "") for row in _DAMAGED.all(c, after=after, limit=limit)]
