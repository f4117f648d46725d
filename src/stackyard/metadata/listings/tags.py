"""Tags as they are listed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import CTE, Connection, and_, bindparam, func, literal_column, select

from stackyard.metadata.clock import Instant
from stackyard.metadata.listings.images import IMAGE, Image, children_of, image_of
from stackyard.metadata.listings.pages import HERE, LIMIT, latest, picked
from stackyard.metadata.prepared import Prepared, Row
from stackyard.metadata.schema import manifest, manifest_pull, repository, tag, tag_history, tag_pull


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


def _with_images(page: CTE, *more: Any) -> Prepared:
    return Prepared(
        select(
            page.c.name,
            *IMAGE,
            children_of(manifest.c.id),
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
_TAGS = _with_images(picked(_tag_page.where(*HERE, tag.c.name > bindparam("after")).order_by(tag.c.name).limit(LIMIT)))
_TAG = _with_images(picked(_tag_page.where(*HERE, tag.c.name == bindparam("tag"))))

_last = (
    select(tag_history.c.name, func.max(tag_history.c.id).label("id"))
    .select_from(repository)
    .join(tag_history, tag_history.c.repository_id == repository.c.id)
    .where(
        *HERE,
        tag_history.c.name > bindparam("after"),
        ~select(tag.c.name).where(tag.c.repository_id == repository.c.id, tag.c.name == tag_history.c.name).exists(),
        select(manifest.c.id)
        .where(manifest.c.repository_id == tag_history.c.repository_id, manifest.c.digest == tag_history.c.digest)
        .exists(),
    )
    .group_by(tag_history.c.name)
    .order_by(tag_history.c.name)
    .limit(LIMIT)
    .cte("last")
)
_gone_page = picked(
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


def page(c: Connection, repository: str, *, after: str, limit: int) -> list[Tag]:
    """The tags of a repository in byte order, strictly after `after`."""
    return [_tag(row) for row in _TAGS.all(c, repository=repository, after=after, limit=limit)]


def find(c: Connection, repository: str, tag: str) -> Tag | None:
    """One tag."""
    row = _TAG.one(c, repository=repository, tag=tag)
    return _tag(row) if row else None


def deleted(c: Connection, repository: str, *, after: str, limit: int) -> list[Tag]:
    """Tags that are no more, and whose last manifest is not gone for good."""
    found = []
    for row in _DELETED_TAGS.all(c, repository=repository, after=after, limit=limit):
        *values, ended_at, ended_by, until, manifest_deleted_at, manifest_until = row
        until = until if manifest_deleted_at is None else manifest_until
        found.append(_tag(tuple(values), deleted_at=ended_at, deleted_by=ended_by, restorable_until=until))
    return found


def _tag(row: Row, **gone: Any) -> Tag:
    name, *image, pushed_at, pushed_by, expires_at, by_tag, by_tag_who, by_digest, by_digest_who = row
    pulled_at = latest(by_tag, by_digest)
    pulled_by = by_digest_who if by_digest is not None and pulled_at == by_digest else by_tag_who
    return Tag(name, image_of(tuple(image)), pushed_at, pushed_by, pulled_at, pulled_by, expires_at, **gone)
