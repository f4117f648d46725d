"""Manifests of a repository, what they name, and what names them.

Invariant: a manifest row exists, deleted or not, as long as every blob and child it names is in the store. `put` locks
the links and children it relies on before it writes the row; the collector takes them away only under its own locks,
after looking for rows that name them. It locks links, not blob rows: bytes stay while any link exists.

Locks, in this order: repository, children by digest, links by digest, the manifest itself, tags, quotas.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import BindParameter, Connection, Text, bindparam, exists, false, func, literal_column, select, true

from stackyard.metadata import clock, due, follow, quotas, repositories
from stackyard.metadata.prepared import Prepared, TextList, each
from stackyard.metadata.quotas import Account
from stackyard.metadata.schema import LIVE, blob, blob_link, manifest, manifest_reference, repository, tag
from stackyard.metadata.tags import Guard, delete_all_of, point
from stackyard.oci.digests import Digest
from stackyard.oci.errors import ManifestBlobUnknown

OF_REPOSITORY = (repository.c.name == bindparam("repository"), repository.c.deleted_at.is_(None))
_BY_DIGEST = (
    select(manifest.c.media_type, manifest.c.size)
    .select_from(repository)
    .join(manifest, manifest.c.repository_id == repository.c.id)
    .where(*OF_REPOSITORY, manifest.c.digest == bindparam("digest"), manifest.c.deleted_at.is_(None))
)

STAT = Prepared(_BY_DIGEST, "repository", "digest")
"""(repository, digest) to (media type, size)."""

PAYLOAD = Prepared(_BY_DIGEST.with_only_columns(manifest.c.payload), "repository", "digest")
"""(repository, digest) to (bytes,)."""

RESOLVE = Prepared(
    select(manifest.c.digest, manifest.c.media_type, manifest.c.size)
    .select_from(repository)
    .join(tag, tag.c.repository_id == repository.c.id)
    .join(manifest, manifest.c.id == tag.c.manifest_id)
    .where(*OF_REPOSITORY, tag.c.name == bindparam("tag"), manifest.c.deleted_at.is_(None)),
    "repository",
    "tag",
)
"""(repository, tag) to (digest, media type, size)."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Something that a manifest names."""

    kind: Literal["config", "layer", "child"]
    digest: Digest
    size: int
    """Bytes, as the manifest says."""
    media_type: str
    required: bool = True
    """False for what need not be here: foreign layers, children of sparse indexes."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """A manifest that a client sent, read and checked."""

    digest: Digest
    media_type: str
    payload: bytes
    total_size: int
    """Bytes of the manifest and of everything it names."""
    references: Sequence[Reference] = ()
    artifact_type: str | None = None
    config_media_type: str | None = None
    subject: Digest | None = None
    platform: str | None = None
    annotations: Mapping[str, str] | None = None
    expires_after: timedelta | None = None
    """How long a tag may point here."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it is shown: the bytes are exactly those that were pushed."""

    digest: Digest
    media_type: str
    size: int
    """Bytes."""
    payload: bytes


# What BuildKit's attestations say of themselves.
_NO_PLATFORM = literal_column("'unknown/unknown'", Text())
_wanted = each(bindparam("digests", type_=TextList()))
_LOCK_LINKS = Prepared(
    select(blob_link.c.digest, blob.c.size, blob_link.c.counted)
    .join(blob, blob.c.digest == blob_link.c.digest)
    .where(
        blob_link.c.repository_id == bindparam("repository_id"),
        blob_link.c.digest.op("IN")(_wanted),
        blob_link.c.deleted_at.is_(None),
        blob.c.state == LIVE,
    )
    .order_by(blob_link.c.digest)
    .with_for_update(read=True, of=blob_link)
)
_COUNT_LINK = Prepared(
    blob_link.update()
    .where(
        blob_link.c.repository_id == bindparam("repository_id_"),
        blob_link.c.digest == bindparam("digest_"),
        ~blob_link.c.counted,
    )
    .values(counted=true())
)
_LOCK_CHILDREN = Prepared(
    select(manifest.c.digest)
    .where(
        manifest.c.repository_id == bindparam("repository_id"),
        manifest.c.digest.op("IN")(_wanted),
        manifest.c.deleted_at.is_(None),
    )
    .order_by(manifest.c.digest)
    .with_for_update(read=True)
)
_SECOND = timedelta(seconds=1)
_EXPIRY = Prepared(
    select(func.count(), func.count(manifest.c.expires_after), func.max(manifest.c.expires_after)).where(
        manifest.c.repository_id == bindparam("repository_id"),
        manifest.c.digest.op("IN")(_wanted),
        manifest.c.deleted_at.is_(None),
        manifest.c.platform != _NO_PLATFORM,
    )
)
_LOCK = Prepared(
    select(manifest.c.id, manifest.c.deleted_at)
    .where(manifest.c.repository_id == bindparam("repository_id"), manifest.c.digest == bindparam("digest"))
    .with_for_update()
)
PUSHED: dict[str, BindParameter[Any]] = {
    name: bindparam(name)
    for name in (
        "repository_id",
        "digest",
        "media_type",
        "size",
        "total_size",
        "artifact_type",
        "config_media_type",
        "platform",
        "subject",
        "annotations",
        "payload",
        "expires_after",
    )
}
"""The columns of a manifest's row that come from what was pushed, for INSERTs; their values are `pushed_row`'s."""
REFERENCE: dict[str, BindParameter[Any]] = {
    name: bindparam(name) for name in ("repository_id", "digest", "manifest_id", "kind", "required")
}
"""The columns of a reference's row; their values are those of `reference_rows`."""
_INSERT = Prepared(
    manifest.insert()
    .values(**PUSHED, created_at=clock.now(), created_by=bindparam("actor"), promised_until=clock.after("promise"))
    .returning(manifest.c.id)
)
_REFER = Prepared(manifest_reference.insert().values(**REFERENCE))
REVIVE = Prepared(
    manifest.update()
    .where(manifest.c.id == bindparam("manifest_id"))
    .values(
        media_type=bindparam("media_type"),
        promised_until=clock.after("promise"),
        deleted_at=None,
        deleted_by=None,
        restorable_until=None,
        unneeded_by=None,
    )
)
_named = (
    select(manifest_reference.c.digest)
    .join(manifest, manifest.c.id == manifest_reference.c.manifest_id)
    .where(manifest.c.repository_id == bindparam("repository_id_"), manifest.c.digest == bindparam("digest_"))
)
_counted = (blob_link.c.repository_id == bindparam("repository_id_"), blob_link.c.counted)
_LOCK_NAMED_LINKS = Prepared(
    select(blob_link.c.digest)
    .where(*_counted, blob_link.c.digest.in_(_named))
    .order_by(blob_link.c.digest)
    .with_for_update()
)
_other = manifest_reference.alias("other")
_UNCOUNT_LINKS = Prepared(
    blob_link.update()
    .where(
        *_counted,
        blob_link.c.digest.in_(_named.where(manifest_reference.c.required)),
        ~exists(
            select(_other.c.manifest_id)
            .join(manifest, manifest.c.id == _other.c.manifest_id)
            .where(
                _other.c.repository_id == blob_link.c.repository_id,
                _other.c.digest == blob_link.c.digest,
                manifest.c.deleted_at.is_(None),
            )
            .correlate(blob_link)
        ),
    )
    .values(counted=false())
    .returning(blob_link.c.digest)
)
_DELETE = Prepared(
    manifest.update()
    .where(manifest.c.id == bindparam("manifest_id"))
    .values(deleted_at=clock.now(), deleted_by=bindparam("actor"), restorable_until=clock.after("undo"))
)


_FIND = Prepared(_BY_DIGEST.add_columns(manifest.c.payload))


def find(c: Connection, repository: str, digest: Digest) -> Manifest | None:
    """The manifest of this repository, or None."""
    row = _FIND.one(c, repository=repository, digest=digest)
    return Manifest(digest, *row) if row else None


def put(  # noqa: PLR0913 - one transaction has to know all of it
    c: Connection,
    *,
    repository: str,
    manifest: Pushed,
    tags: Sequence[str],
    actor: str,
    promise: timedelta,
    undo: timedelta,
    guard: Guard | None = None,
) -> None:
    """Show the manifest in this repository, under its digest and these tags. Pushing it again changes nothing else.

    A bounded number of statements, however much the manifest names.

    Args:
        promise: It is not collected for so long, whatever happens.
        undo: What the tags pointed to before can be restored for so long.

    Raises:
        ManifestBlobUnknown: With everything it needs that is not in this repository.
        QuotaExceeded: It does not fit, or is the first of one repository too many.
        RegistryError: The guard refuses a tag.
    """
    account, listed = repositories.ensure_account(c, repository)
    repository_id = account.repository_id
    uncounted = _check_references(c, repository_id, manifest.references)
    expires_after = manifest.expires_after or _expiry_of_children(c, repository_id, manifest.references)
    manifest_id, is_new = _store(c, repository_id, replace(manifest, expires_after=expires_after), actor, promise)
    if is_new:
        follow.add(c, repository_id, "manifest", manifest.digest)
    for name in tags:
        point(
            c,
            repository_id=repository_id,
            tag=name,
            manifest_id=manifest_id,
            actor=actor,
            undo=undo,
            expires_after=expires_after,
            guard=guard,
        )
    if not tags:
        due.add_manifest(c, repository_id, manifest.digest, wait=promise)
    if not listed:
        repositories.list_(c, account)
    count(c, account, uncounted, {manifest.digest: len(manifest.payload)} if is_new else {})


def count(c: Connection, account: Account, links: Mapping[str, int], manifests: Mapping[str, int]) -> None:
    """Count, by digest with their sizes, these links that only deleted manifests needed, and these manifests.

    To be called last, for what came back to sight. Raises QuotaExceeded.
    """
    digests = [each for each in links if _COUNT_LINK.run(c, repository_id_=account.repository_id, digest_=each)]
    if manifests:
        quotas.charge(c, account, manifests)
    if digests:
        quotas.charge(c, account, {each: links[each] for each in digests})


def delete(
    c: Connection, repository: str, digest: Digest, *, actor: str, undo: timedelta, guard: Guard | None = None
) -> bool:
    """Hide the manifest and remove every tag that points to it; both can be restored for `undo`.

    False when it was not to be seen. What it names stays until the row goes, and quotas count it no more, unless
    another manifest needs it. Raises what the guard does.
    """
    account = repositories.find_account(c, repository)
    if account is None:
        return False
    repository_id = account.repository_id
    _LOCK_NAMED_LINKS.all(c, repository_id_=repository_id, digest_=digest)
    row = _LOCK.one(c, repository_id=repository_id, digest=digest)
    if row is None or row[1] is not None:
        return False
    if guard:
        guard.on_delete_manifest(c, repository_id, digest)
    _DELETE.run(c, manifest_id=row[0], actor=actor, undo=undo)
    delete_all_of(c, repository_id, manifest_id=row[0], digest=digest, actor=actor, undo=undo)
    due.add_manifest(c, repository_id, digest, wait=undo)
    follow.add(c, repository_id, "manifest", digest)
    quotas.discharge(c, account, [digest])
    quotas.discharge(c, account, _UNCOUNT_LINKS.column(c, repository_id_=repository_id, digest_=digest))
    return True


def _expiry_of_children(c: Connection, repository_id: int, references: Sequence[Reference]) -> timedelta | None:
    """An index of images which all expire, each for its platform, expires with the last of them."""
    children = [one.digest for one in references if one.kind == "child"]
    if not children:
        return None
    images, expire, last = _EXPIRY.one(c, repository_id=repository_id, digests=children) or (0, 0, None)
    return last * _SECOND if images and images == expire else None


def _check_references(c: Connection, repository_id: int, references: Sequence[Reference]) -> dict[str, int]:
    """What it names is there, and stays. The sizes of the links among it that quotas do not count."""
    children = sorted({r.digest for r in references if r.required and r.kind == "child"})
    blobs = {r.digest for r in references if r.required and r.kind != "child"}
    found = set(_LOCK_CHILDREN.column(c, repository_id=repository_id, digests=children)) if children else set()
    # An old build cache is an index whose children are layers.
    wanted = sorted(blobs.union(children) - found)
    links = _LOCK_LINKS.all(c, repository_id=repository_id, digests=wanted) if wanted else []
    found.update(row[0] for row in links)
    missing = dict.fromkeys(r.digest for r in references if r.required and r.digest not in found)
    if missing:
        raise ManifestBlobUnknown(list(missing))
    return {digest: size for digest, size, counted in links if not counted}


def _store(c: Connection, repository_id: int, pushed: Pushed, actor: str, promise: timedelta) -> tuple[int, bool]:
    """Its row's id, and whether it was not to be seen before."""
    row = _LOCK.one(c, repository_id=repository_id, digest=pushed.digest)
    if row is not None:
        manifest_id: int = row[0]
        REVIVE.run(c, manifest_id=manifest_id, media_type=pushed.media_type, promise=promise)
        return manifest_id, row[1] is not None
    manifest_id = _INSERT.scalar(c, **pushed_row(repository_id, pushed), actor=actor, promise=promise)
    _REFER.many(c, reference_rows(repository_id, manifest_id, pushed))
    return manifest_id, True


def pushed_row(repository_id: int, pushed: Pushed) -> dict[str, Any]:
    """The values of `PUSHED`."""
    return {
        "repository_id": repository_id,
        "digest": pushed.digest,
        "media_type": pushed.media_type,
        "size": len(pushed.payload),
        "total_size": pushed.total_size,
        "artifact_type": pushed.artifact_type,
        "config_media_type": pushed.config_media_type,
        "platform": pushed.platform,
        "subject": pushed.subject,
        "annotations": json.dumps(dict(pushed.annotations)) if pushed.annotations else None,
        "payload": pushed.payload,
        "expires_after": pushed.expires_after // _SECOND if pushed.expires_after else None,
    }


def reference_rows(repository_id: int, manifest_id: int, pushed: Pushed) -> list[dict[str, Any]]:
    """The values of `REFERENCE`, one row for each digest that is named."""
    # The last of several entries for one digest wins, and a required one over others.
    named = {r.digest: r for r in sorted(pushed.references, key=lambda r: r.required)}
    return [
        {
            "repository_id": repository_id,
            "digest": r.digest,
            "manifest_id": manifest_id,
            "kind": r.kind,
            "required": r.required,
        }
        for r in named.values()
    ]
