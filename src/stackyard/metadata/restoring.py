"""Bringing back manifests that were deleted."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, select

from stackyard.metadata import clock, follow
from stackyard.metadata.manifests import REVIVE, count
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.quotas import Account
from stackyard.metadata.schema import LIVE, blob, blob_link, manifest, manifest_reference
from stackyard.metadata.tags import BY_RULE, point
from stackyard.oci.errors import NotRestorable

_parent = manifest.alias("parent")
_LOCK_TO_RESTORE = Prepared(
    select(
        manifest.c.id,
        manifest.c.deleted_at,
        manifest.c.media_type,
        manifest.c.size,
        clock.until(manifest.c.restorable_until),
    )
    .where(manifest.c.repository_id == bindparam("repository_id"), manifest.c.digest == bindparam("digest"))
    .with_for_update()
)
# Whoever is hiding one of these does so because what comes back here was not to be seen, and is waited for.
_LOCK_CHILDREN = Prepared(
    select(manifest.c.digest)
    .where(
        manifest.c.repository_id == bindparam("repository_id"),
        manifest.c.digest.in_(
            select(manifest_reference.c.digest)
            .join(_parent, _parent.c.id == manifest_reference.c.manifest_id)
            .where(
                _parent.c.repository_id == bindparam("repository_id"),
                _parent.c.digest == bindparam("digest"),
                manifest_reference.c.kind == "child",
            )
        ),
    )
    .order_by(manifest.c.digest)
    .with_for_update()
)
_LOCK_REFERRERS = Prepared(
    select(manifest.c.digest)
    .where(manifest.c.repository_id == bindparam("repository_id"), manifest.c.subject == bindparam("digest"))
    .order_by(manifest.c.digest)
    .with_for_update()
)
_hidden = (manifest.c.deleted_by.in_(BY_RULE), manifest.c.restorable_until > clock.now())
_HIDDEN_CHILDREN = Prepared(
    select(manifest.c.digest)
    .select_from(_parent)
    .join(manifest_reference, manifest_reference.c.manifest_id == _parent.c.id)
    .join(
        manifest,
        (manifest.c.repository_id == manifest_reference.c.repository_id)
        & (manifest.c.digest == manifest_reference.c.digest),
    )
    .where(
        _parent.c.repository_id == bindparam("repository_id"),
        _parent.c.digest == bindparam("digest"),
        manifest_reference.c.kind == "child",
        *_hidden,
    )
)
_HIDDEN_REFERRERS = Prepared(
    select(manifest.c.digest).where(
        manifest.c.repository_id == bindparam("repository_id"), manifest.c.subject == bindparam("digest"), *_hidden
    )
)
_DELETED_AT = Prepared(
    select(manifest.c.deleted_at).where(
        manifest.c.repository_id == bindparam("repository_id"), manifest.c.digest == bindparam("digest")
    )
)
# What a manifest that comes back needs and quotas do not count any more, with its size.
_LOCK_UNCOUNTED = Prepared(
    select(blob_link.c.digest, blob.c.size)
    .select_from(blob_link)
    .join(blob, (blob.c.digest == blob_link.c.digest) & (blob.c.state == LIVE))
    .where(
        blob_link.c.repository_id == bindparam("repository_id"),
        blob_link.c.digest.in_(
            select(manifest_reference.c.digest)
            .join(manifest, manifest.c.id == manifest_reference.c.manifest_id)
            .where(
                manifest.c.repository_id == bindparam("repository_id"),
                manifest.c.digest == bindparam("digest"),
                manifest_reference.c.required,
            )
        ),
        blob_link.c.deleted_at.is_(None),
        ~blob_link.c.counted,
    )
    .order_by(blob_link.c.digest)
    .with_for_update(of=blob_link)
)


def restore(
    c: Connection, account: Account, digest: str, tags: Sequence[str], *, actor: str, **spans: timedelta
) -> int:
    """Show a manifest again, if it was deleted, and let these tags stand for it. `spans` are those of `put`.

    What a rule hid together with it comes back as well.

    Returns its row.

    Raises:
        NotRestorable: It is gone, or its undo span is over.
        QuotaExceeded: It does not fit any more.
    """
    repository_id = account.repository_id
    _LOCK_CHILDREN.all(c, repository_id=repository_id, digest=digest)
    _LOCK_REFERRERS.all(c, repository_id=repository_id, digest=digest)
    links: dict[str, int] = dict(_LOCK_UNCOUNTED.all(c, repository_id=repository_id, digest=digest))
    row = _LOCK_TO_RESTORE.one(c, repository_id=repository_id, digest=digest)
    if row is None:
        raise NotRestorable(f"{digest} is no longer stored")
    manifest_id, deleted_at, media_type, size, left = row
    if deleted_at is not None:
        if left <= 0:
            raise NotRestorable(f"{digest} was deleted and the time to restore it is over")
        REVIVE.run(c, manifest_id=manifest_id, media_type=media_type, promise=spans["promise"])
        follow.add(c, repository_id, "manifest", digest)
    for name in tags:
        point(c, repository_id=repository_id, tag=name, manifest_id=manifest_id, actor=actor, undo=spans["undo"])
    if deleted_at is not None:
        count(c, account, links, {digest: size})
        values = {"repository_id": repository_id, "digest": digest}
        for one in _HIDDEN_CHILDREN.column(c, **values) + _HIDDEN_REFERRERS.column(c, **values):
            restore(c, account, one, (), actor=actor, **spans)
    found: int = manifest_id
    return found


def deleted_at(c: Connection, repository_id: int, digest: str) -> datetime | None:
    """When the manifest was deleted; None when it is to be seen, or gone."""
    found: datetime | None = _DELETED_AT.scalar(c, repository_id=repository_id, digest=digest)
    return found
