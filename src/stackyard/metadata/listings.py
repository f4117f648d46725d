"""What administrators are shown: repositories, tags and manifests, page by page, each page in one statement.

A page first picks its rows by an index, then everything else is looked up for those alone. That may still be much (a
repository has as many links as it has), so these functions belong into `Database.survey`, which holds up nobody.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    CTE,
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
)

from stackyard.metadata.clock import Instant
from stackyard.metadata.prepared import Prepared, Row
from stackyard.metadata.schema import (
    LIVE,
    blob,
    blob_link,
    manifest,
    manifest_pull,
    manifest_reference,
    repository,
    tag,
    tag_history,
    tag_pull,
)
from stackyard.metadata.tags import json_list

_MOST_TAGS = 1000
_NOWHERE = frozenset({"", "unknown/unknown"})
"""Platforms of what runs on none, such as attestations."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as it is listed."""

    id: int
    name: str
    created_at: datetime
    deleted_at: datetime | None
    deleted_by: str | None
    restorable_until: datetime | None
    tags: int
    manifests: int
    size: int
    """Bytes of its blobs, each once."""
    last_pushed_at: datetime | None
    last_pulled_at: datetime | None
    """None: not since pulls are recorded."""


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest or an index, and what is known of all that it names."""

    digest: str
    media_type: str
    artifact_type: str | None
    size: int
    """Bytes of the document and of all that it names; of an index with all that its children name."""
    platforms: tuple[str, ...]
    """`os/architecture[/variant]`: its own, or its children's."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag as it is listed, with what it points to, or pointed to when it was deleted."""

    name: str
    image: Image
    pushed_at: datetime
    pushed_by: str
    pulled_at: datetime | None
    """By its name, or what it points to by digest. None: not since pulls are recorded."""
    pulled_by: str | None
    expires_at: datetime | None
    deleted_at: datetime | None = None
    deleted_by: str | None = None
    restorable_until: datetime | None = None


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


# -- repositories

_PLACE = (
    repository.c.id,
    repository.c.name,
    repository.c.created_at,
    repository.c.deleted_at,
    repository.c.deleted_by,
    repository.c.restorable_until,
)
_SHOWN = and_(repository.c.deleted_at.is_(None), repository.c.listed)
# What is being imported is hidden as well, by nobody.
_DELETED = and_(repository.c.deleted_at.is_not(None), repository.c.restorable_until.is_not(None))
_LIMIT: BindParameter[int] = bindparam("limit")


def _with_sums(page: CTE) -> Prepared:
    tags = (
        select(
            page.c.id,
            func.count().label("tags"),
            func.max(tag.c.updated_at).label("pushed"),
            func.max(tag_pull.c.pulled_at).label("pulled"),
        )
        .select_from(page)
        .join(tag, tag.c.repository_id == page.c.id)
        .outerjoin(tag_pull, and_(tag_pull.c.repository_id == tag.c.repository_id, tag_pull.c.name == tag.c.name))
        .group_by(page.c.id)
        .cte("tags")
    )
    manifests = (
        select(
            page.c.id,
            func.count().label("manifests"),
            func.max(manifest.c.created_at).label("pushed"),
            func.max(manifest_pull.c.pulled_at).label("pulled"),
        )
        .select_from(page)
        .join(manifest, and_(manifest.c.repository_id == page.c.id, manifest.c.deleted_at.is_(None)))
        .outerjoin(manifest_pull, manifest_pull.c.manifest_id == manifest.c.id)
        .group_by(page.c.id)
        .cte("manifests")
    )
    links = (
        select(page.c.id, func.sum(blob.c.size).label("size"))
        .select_from(page)
        .join(blob_link, and_(blob_link.c.repository_id == page.c.id, blob_link.c.deleted_at.is_(None)))
        .join(blob, and_(blob.c.digest == blob_link.c.digest, blob.c.state == LIVE))
        .group_by(page.c.id)
        .cte("links")
    )
    return Prepared(
        select(
            *page.c,
            tags.c.tags,
            manifests.c.manifests,
            links.c.size,
            tags.c.pushed.label("tag_pushed"),
            manifests.c.pushed.label("manifest_pushed"),
            tags.c.pulled.label("tag_pulled"),
            manifests.c.pulled.label("manifest_pulled"),
        )
        .select_from(page)
        .outerjoin(tags, tags.c.id == page.c.id)
        .outerjoin(manifests, manifests.c.id == page.c.id)
        .outerjoin(links, links.c.id == page.c.id)
        .order_by(page.c.name, page.c.id)
    )


def _page(statement: Select[Any]) -> CTE:
    return statement.cte("page")


_REPOSITORIES = _with_sums(
    _page(
        select(*_PLACE).where(_SHOWN, repository.c.name > bindparam("after")).order_by(repository.c.name).limit(_LIMIT)
    )
)
_REPOSITORY = _with_sums(_page(select(*_PLACE).where(_SHOWN, repository.c.name == bindparam("name"))))
_DELETED_REPOSITORIES = _with_sums(
    _page(
        select(*_PLACE)
        .where(
            _DELETED,
            or_(
                repository.c.name > bindparam("after"),
                and_(repository.c.name == bindparam("after"), repository.c.id > bindparam("after_id")),
            ),
        )
        .order_by(repository.c.name, repository.c.id)
        .limit(_LIMIT)
    )
)


def repositories(c: Connection, *, after: str, limit: int) -> list[Repository]:
    """Repositories in byte order of names, strictly after `after` ('': from the first)."""
    return [_repository(row) for row in _REPOSITORIES.all(c, after=after, limit=limit)]


def deleted_repositories(c: Connection, *, after: str, after_id: int, limit: int) -> list[Repository]:
    """Those that are deleted and not gone yet, by name and id, strictly after these. A name may come several times."""
    return [_repository(row) for row in _DELETED_REPOSITORIES.all(c, after=after, after_id=after_id, limit=limit)]


def find_repository(c: Connection, name: str) -> Repository | None:
    """The one of this name."""
    row = _REPOSITORY.one(c, name=name)
    return _repository(row) if row else None


def _repository(row: Row) -> Repository:
    number, name, created_at, deleted_at, deleted_by, until, *sums = row
    tags, manifests, size, tag_pushed, manifest_pushed, tag_pulled, manifest_pulled = sums
    return Repository(
        number,
        name,
        created_at,
        deleted_at,
        deleted_by,
        until,
        tags=tags or 0,
        manifests=manifests or 0,
        size=int(size or 0),
        last_pushed_at=_latest(tag_pushed, manifest_pushed),
        last_pulled_at=_latest(tag_pulled, manifest_pulled),
    )


def _latest(*times: datetime | None) -> datetime | None:
    return max((time for time in times if time is not None), default=None)


# -- what manifests are made of

_IMAGE = (
    manifest.c.digest,
    manifest.c.media_type,
    manifest.c.artifact_type,
    manifest.c.total_size,
    manifest.c.platform,
)


def _children(manifest_id: ColumnElement[int]) -> ColumnElement[str]:
    """The children of a manifest that are here, as JSON: texts of their bytes and platform, a space between."""
    child = manifest.alias("child")
    size = cast(child.c.total_size - child.c.size, Text)
    return (
        select(json_list(size + " " + func.coalesce(child.c.platform, "")))
        .select_from(manifest_reference)
        .join(
            child,
            and_(
                child.c.repository_id == manifest_reference.c.repository_id,
                child.c.digest == manifest_reference.c.digest,
            ),
        )
        .where(manifest_reference.c.manifest_id == manifest_id, manifest_reference.c.kind == "child")
        .correlate(manifest)
        .scalar_subquery()
        .label("children")
    )


def _image(values: Row) -> Image:
    digest, media_type, artifact_type, size, platform, children = values
    platforms = {platform or ""}
    for child in json.loads(children or "[]"):
        child_size, _, child_platform = child.partition(" ")
        size += int(child_size)
        platforms.add(child_platform)
    return Image(digest, media_type, artifact_type, size, tuple(sorted(platforms - _NOWHERE)))


# -- tags

_HERE = (repository.c.name == bindparam("repository"), repository.c.deleted_at.is_(None))


def _with_images(page: CTE, *more: Any) -> Prepared:
    return Prepared(
        select(
            page.c.name,
            *_IMAGE,
            _children(manifest.c.id),
            page.c.pushed_at,
            page.c.pushed_by,
            page.c.expires_at,
            tag_pull.c.pulled_at.label("by_tag"),
            tag_pull.c.pulled_by.label("by_tag_who"),
            manifest_pull.c.pulled_at.label("by_digest"),
            manifest_pull.c.pulled_by.label("by_digest_who"),
            *more,
        )
        .select_from(page)
        .join(manifest, manifest.c.id == page.c.manifest_id)
        .outerjoin(tag_pull, and_(tag_pull.c.repository_id == page.c.repository_id, tag_pull.c.name == page.c.name))
        .outerjoin(manifest_pull, manifest_pull.c.manifest_id == page.c.manifest_id)
        .order_by(page.c.name)
    )


_tag_page = (
    select(
        tag.c.repository_id,
        tag.c.name,
        tag.c.manifest_id,
        tag.c.updated_at.label("pushed_at"),
        tag.c.updated_by.label("pushed_by"),
        tag.c.expires_at,
    )
    .select_from(repository)
    .join(tag, tag.c.repository_id == repository.c.id)
)
_TAGS = _with_images(_page(_tag_page.where(*_HERE, tag.c.name > bindparam("after")).order_by(tag.c.name).limit(_LIMIT)))
_TAG = _with_images(_page(_tag_page.where(*_HERE, tag.c.name == bindparam("tag"))))

_last = (
    select(tag_history.c.name, func.max(tag_history.c.id).label("id"))
    .select_from(repository)
    .join(tag_history, tag_history.c.repository_id == repository.c.id)
    .where(
        *_HERE,
        tag_history.c.name > bindparam("after"),
        ~select(tag.c.name).where(tag.c.repository_id == repository.c.id, tag.c.name == tag_history.c.name).exists(),
        select(manifest.c.id)
        .where(manifest.c.repository_id == tag_history.c.repository_id, manifest.c.digest == tag_history.c.digest)
        .exists(),
    )
    .group_by(tag_history.c.name)
    .order_by(tag_history.c.name)
    .limit(_LIMIT)
    .cte("last")
)
_gone_page = _page(
    select(
        tag_history.c.repository_id,
        tag_history.c.name,
        manifest.c.id.label("manifest_id"),
        tag_history.c.set_at.label("pushed_at"),
        tag_history.c.set_by.label("pushed_by"),
        literal_column("NULL", Instant()).label("expires_at"),
        tag_history.c.ended_at,
        tag_history.c.ended_by,
        tag_history.c.restorable_until,
    )
    .select_from(_last)
    .join(tag_history, tag_history.c.id == _last.c.id)
    .join(
        manifest,
        and_(manifest.c.repository_id == tag_history.c.repository_id, manifest.c.digest == tag_history.c.digest),
    )
)
_DELETED_TAGS = _with_images(
    _gone_page,
    _gone_page.c.ended_at,
    _gone_page.c.ended_by,
    _gone_page.c.restorable_until,
    manifest.c.deleted_at.label("manifest_deleted_at"),
    manifest.c.restorable_until.label("manifest_until"),
)


def tags(c: Connection, repository: str, *, after: str, limit: int) -> list[Tag]:
    """The tags of a repository in byte order, strictly after `after`."""
    return [_tag(row) for row in _TAGS.all(c, repository=repository, after=after, limit=limit)]


def find_tag(c: Connection, repository: str, tag: str) -> Tag | None:
    """One tag."""
    row = _TAG.one(c, repository=repository, tag=tag)
    return _tag(row) if row else None


def deleted_tags(c: Connection, repository: str, *, after: str, limit: int) -> list[Tag]:
    """Tags that are no more, and whose last manifest is not gone for good."""
    found = []
    for row in _DELETED_TAGS.all(c, repository=repository, after=after, limit=limit):
        *values, ended_at, ended_by, until, manifest_deleted_at, manifest_until = row
        until = until if manifest_deleted_at is None else manifest_until
        found.append(_tag(tuple(values), deleted_at=ended_at, deleted_by=ended_by, restorable_until=until))
    return found


def _tag(row: Row, **gone: Any) -> Tag:
    name, *image, pushed_at, pushed_by, expires_at, by_tag, by_tag_who, by_digest, by_digest_who = row
    pulled_at = _latest(by_tag, by_digest)
    pulled_by = by_digest_who if by_digest is not None and pulled_at == by_digest else by_tag_who
    return Tag(name, _image(tuple(image)), pushed_at, pushed_by, pulled_at, pulled_by, expires_at, **gone)


# -- manifests


def _manifests(*conditions: Any) -> Prepared:
    page = _page(
        select(manifest.c.id.label("manifest_id"))
        .select_from(repository)
        .join(manifest, manifest.c.repository_id == repository.c.id)
        .where(*_HERE, *conditions)
        .order_by(manifest.c.digest)
        .limit(_LIMIT)
    )
    return Prepared(
        select(
            page.c.manifest_id,
            *_IMAGE,
            _children(manifest.c.id),
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
    .where(*_HERE, tag.c.name == bindparam("tag"))
)
_TAGS_OF = Prepared(
    select(tag.c.name).where(tag.c.manifest_id == bindparam("manifest_id")).order_by(tag.c.name).limit(_LIMIT)
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


def manifests(c: Connection, repository: str, *, which: str, after: str, limit: int) -> list[Manifest]:
    """Manifests in byte order of digests, strictly after `after`; `which` is all, untagged or deleted."""
    return [_manifest(row) for row in _MANIFESTS[which].all(c, repository=repository, after=after, limit=limit)]


def find_manifest(
    c: Connection, repository: str, *, tag: str | None = None, digest: str | None = None
) -> Details | None:
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
    return Manifest(number, _image(tuple(values[:6])), *values[6:])


# -- how much is where


@dataclass(frozen=True, slots=True)
class Usage:
    """The bytes of a group of repositories."""

    repositories: int
    logical: int
    """If every repository had its blobs to itself."""
    stored: int
    """Each blob once."""
    unique: int
    """Of blobs that no other repository has: what would go if these repositories went."""
    reclaimable: int
    """Of blobs that only deleted things need, or nothing: what goes by itself when the undo spans are over."""


_in_group = and_(
    repository.c.name >= bindparam("first"),
    or_(bindparam("last") == "", repository.c.name < bindparam("last")),
    or_(repository.c.deleted_at.is_(None), repository.c.restorable_until.is_not(None)),
)
_mine = (
    select(blob_link.c.digest, func.count().label("links"))
    .select_from(repository)
    .join(blob_link, blob_link.c.repository_id == repository.c.id)
    .where(_in_group)
    .group_by(blob_link.c.digest)
    .cte("mine")
)
_owner = repository.alias("owner")
_needed = (
    select(manifest.c.id)
    .select_from(blob_link)
    .join(
        manifest_reference,
        and_(
            manifest_reference.c.repository_id == blob_link.c.repository_id,
            manifest_reference.c.digest == blob_link.c.digest,
        ),
    )
    .join(manifest, and_(manifest.c.id == manifest_reference.c.manifest_id, manifest.c.deleted_at.is_(None)))
    .join(_owner, and_(_owner.c.id == blob_link.c.repository_id, _owner.c.deleted_at.is_(None)))
    .where(blob_link.c.digest == _mine.c.digest)
    .correlate(_mine)
    .exists()
)
_all_links = select(func.count()).where(blob_link.c.digest == _mine.c.digest).correlate(_mine).scalar_subquery()
_USAGE = Prepared(
    select(
        func.sum(blob.c.size * _mine.c.links),
        func.sum(blob.c.size),
        func.sum(blob.c.size).filter(_all_links == _mine.c.links),
        func.sum(blob.c.size).filter(~_needed),
    )
    .select_from(_mine)
    .join(blob, and_(blob.c.digest == _mine.c.digest, blob.c.state == LIVE))
)
_COUNT = Prepared(select(func.count()).select_from(repository).where(_in_group, _SHOWN))


_NAMES = Prepared(
    select(repository.c.name)
    .where(
        _SHOWN,
        repository.c.name > bindparam("after"),
        repository.c.name >= bindparam("first"),
        or_(bindparam("last") == "", repository.c.name < bindparam("last")),
    )
    .order_by(repository.c.name)
    .limit(_LIMIT)
)


def usage(c: Connection, *, prefix: str) -> Usage:
    """Of all repositories whose names begin with `prefix`, deleted ones included while they can be restored."""
    return _usage(c, _span(prefix))


def usages(c: Connection, *, prefix: str, after: str, limit: int) -> list[tuple[str, Usage]]:
    """Of each of them that is not deleted, in byte order of names, strictly after `after`."""
    names = _NAMES.column(c, after=after, limit=limit, **_span(prefix))
    return [(name, _usage(c, {"first": name, "last": name + "\x01"})) for name in names]


def _span(prefix: str) -> dict[str, str]:
    """Names are ASCII, and none holds the last character of it."""
    return {"first": prefix, "last": prefix and prefix + "\x7f"}


def _usage(c: Connection, span: dict[str, str]) -> Usage:
    row = _USAGE.one(c, **span)
    assert row is not None
    count: int = _COUNT.scalar(c, **span)
    return Usage(count, *(int(value or 0) for value in row))
