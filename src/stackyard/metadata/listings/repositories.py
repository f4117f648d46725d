"""Repositories as they are listed."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import CTE, Connection, and_, bindparam, func, or_, select

from stackyard.metadata.listings.pages import LIMIT, SHOWN, latest, picked
from stackyard.metadata.prepared import Prepared, Row
from stackyard.metadata.schema import LIVE, blob, blob_link, manifest, manifest_pull, repository, tag, tag_pull


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


_PLACE = (
    repository.c.id,
    repository.c.name,
    repository.c.created_at,
    repository.c.deleted_at,
    repository.c.deleted_by,
    repository.c.restorable_until,
)
# What is being imported is hidden as well, by nobody.
_DELETED = and_(repository.c.deleted_at.is_not(None), repository.c.restorable_until.is_not(None))


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


_shown = select(*_PLACE).where(SHOWN).order_by(repository.c.name)
_PAGE = _with_sums(picked(_shown.where(repository.c.name > bindparam("after")).limit(LIMIT)))
_ONE = _with_sums(picked(_shown.where(repository.c.name == bindparam("name"))))
_DELETED_PAGE = _with_sums(
    picked(
        select(*_PLACE)
        .where(
            _DELETED,
            or_(
                repository.c.name > bindparam("after"),
                and_(repository.c.name == bindparam("after"), repository.c.id > bindparam("after_id")),
            ),
        )
        .order_by(repository.c.name, repository.c.id)
        .limit(LIMIT)
    )
)


def page(c: Connection, *, after: str, limit: int) -> list[Repository]:
    """Repositories in byte order of names, strictly after `after` ('': from the first)."""
    return [_repository(row) for row in _PAGE.all(c, after=after, limit=limit)]


def deleted(c: Connection, *, after: str, after_id: int, limit: int) -> list[Repository]:
    """Those that are deleted and not gone yet, by name and id, strictly after these. A name may come several times."""
    return [_repository(row) for row in _DELETED_PAGE.all(c, after=after, after_id=after_id, limit=limit)]


def find(c: Connection, name: str) -> Repository | None:
    """The one of this name."""
    row = _ONE.one(c, name=name)
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
        last_pushed_at=latest(tag_pushed, manifest_pushed),
        last_pulled_at=latest(tag_pulled, manifest_pulled),
    )
