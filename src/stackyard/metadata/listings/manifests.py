"""Manifests as they are listed."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, select

from stackyard.metadata.listings.images import IMAGE, Image, children_of, image_of
from stackyard.metadata.listings.pages import HERE, LIMIT, picked
from stackyard.metadata.prepared import Prepared, Row
from stackyard.metadata.schema import LIVE, blob, manifest, manifest_pull, manifest_reference, repository, tag

_MOST_TAGS = 1000


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it is listed."""

    id: int
    image: Image
    subject: str | None
    pushed_at: datetime
    pushed_by: str
    pulled_at: datetime | None
    """By digest; a pull by tag is the tag's."""
    pulled_by: str | None
    deleted_at: datetime | None
    deleted_by: str | None
    restorable_until: datetime | None
    tags: int


@dataclass(frozen=True, slots=True)
class Named:
    """What a manifest names."""

    kind: str
    """config, layer or child."""
    digest: str
    size: int | None
    """Bytes; of a child with all that it names. None: it is not here."""
    platform: str | None
    missing: bool
    """It was not there when the manifest was imported."""


@dataclass(frozen=True, slots=True)
class Details:
    """A manifest with all that surrounds it."""

    manifest: Manifest
    tags: list[str] = field(default_factory=list)
    """At most a thousand."""
    references: list[Named] = field(default_factory=list)


def _manifests(*conditions: Any) -> Prepared:
    page = picked(
        select(manifest.c.id.label("manifest_id"))
        .select_from(repository)
        .join(manifest, manifest.c.repository_id == repository.c.id)
        .where(*HERE, *conditions)
        .order_by(manifest.c.digest)
        .limit(LIMIT)
    )
    return Prepared(
        select(
            page.c.manifest_id,
            *IMAGE,
            children_of(manifest.c.id),
            manifest.c.subject,
            manifest.c.created_at,
            manifest.c.created_by,
            manifest_pull.c.pulled_at,
            manifest_pull.c.pulled_by,
            manifest.c.deleted_at,
            manifest.c.deleted_by,
            manifest.c.restorable_until,
            select(func.count()).where(tag.c.manifest_id == page.c.manifest_id).scalar_subquery(),
        )
        .select_from(page)
        .join(manifest, manifest.c.id == page.c.manifest_id)
        .outerjoin(manifest_pull, manifest_pull.c.manifest_id == page.c.manifest_id)
        .order_by(manifest.c.digest)
    )


_after = manifest.c.digest > bindparam("after")
_here, _gone = manifest.c.deleted_at.is_(None), manifest.c.deleted_at.is_not(None)
_parent, _subject = manifest.alias("parent"), manifest.alias("subject")
# What an index names, or is about an image that is here, belongs to it: it is no rubbish for want of a tag.
_held_by_nothing = (
    ~select(tag.c.name).where(tag.c.manifest_id == manifest.c.id).exists(),
    ~select(_parent.c.id)
    .join(manifest_reference, manifest_reference.c.manifest_id == _parent.c.id)
    .where(
        manifest_reference.c.repository_id == manifest.c.repository_id,
        manifest_reference.c.digest == manifest.c.digest,
        _parent.c.deleted_at.is_(None),
    )
    .exists(),
    ~select(_subject.c.id)
    .where(
        _subject.c.repository_id == manifest.c.repository_id,
        _subject.c.digest == manifest.c.subject,
        _subject.c.deleted_at.is_(None),
    )
    .exists(),
)
_MANIFESTS = {
    "all": _manifests(_after, _here),
    "untagged": _manifests(_after, _here, *_held_by_nothing),
    "deleted": _manifests(_after, _gone),
}
_MANIFEST = _manifests(manifest.c.digest == bindparam("digest"), _here)
_RESOLVE = Prepared(
    select(manifest.c.digest)
    .select_from(repository)
    .join(tag, tag.c.repository_id == repository.c.id)
    .join(manifest, manifest.c.id == tag.c.manifest_id)
    .where(*HERE, tag.c.name == bindparam("tag"))
)
_TAGS_OF = Prepared(
    select(tag.c.name).where(tag.c.manifest_id == bindparam("manifest_id")).order_by(tag.c.name).limit(LIMIT)
)
_child = manifest.alias("child")
_REFERENCES = Prepared(
    select(
        manifest_reference.c.kind,
        manifest_reference.c.digest,
        func.coalesce(_child.c.total_size, blob.c.size),
        _child.c.platform,
        manifest_reference.c.missing,
    )
    .select_from(manifest_reference)
    .outerjoin(
        _child,
        and_(
            manifest_reference.c.kind == "child",
            _child.c.repository_id == manifest_reference.c.repository_id,
            _child.c.digest == manifest_reference.c.digest,
        ),
    )
    .outerjoin(blob, and_(blob.c.digest == manifest_reference.c.digest, blob.c.state == LIVE))
    .where(manifest_reference.c.manifest_id == bindparam("manifest_id"))
    .order_by(manifest_reference.c.kind, manifest_reference.c.digest)
)


def page(c: Connection, repository: str, *, which: str, after: str, limit: int) -> list[Manifest]:
    """Manifests in byte order of digests, strictly after `after`; `which` is all, untagged or deleted."""
    return [_manifest(row) for row in _MANIFESTS[which].all(c, repository=repository, after=after, limit=limit)]


def find(c: Connection, repository: str, *, tag: str | None = None, digest: str | None = None) -> Details | None:
    """The manifest of this digest, or the one that the tag points to, with all that surrounds it."""
    if tag is not None:
        digest = _RESOLVE.scalar(c, repository=repository, tag=tag)
    row = None if digest is None else _MANIFEST.one(c, repository=repository, digest=digest, limit=1)
    if row is None:
        return None
    found = _manifest(row)
    references = [Named(*row) for row in _REFERENCES.all(c, manifest_id=found.id)]
    return Details(found, _TAGS_OF.column(c, manifest_id=found.id, limit=_MOST_TAGS), references)


def _manifest(row: Row) -> Manifest:
    number, *values = row
    return Manifest(number, image_of(tuple(values[:6])), *values[6:])
