"""How much is where."""

from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, func, or_, select

from stackyard.metadata.listings.pages import LIMIT, SHOWN
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import LIVE, blob, blob_link, manifest, manifest_reference, repository


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
_COUNT = Prepared(select(func.count()).select_from(repository).where(_in_group, SHOWN))


_NAMES = Prepared(
    select(repository.c.name)
    .where(
        SHOWN,
        repository.c.name > bindparam("after"),
        repository.c.name >= bindparam("first"),
        or_(bindparam("last") == "", repository.c.name < bindparam("last")),
    )
    .order_by(repository.c.name)
    .limit(LIMIT)
)


def of_group(c: Connection, *, prefix: str) -> Usage:
    """Of all repositories whose names begin with `prefix`, deleted ones included while they can be restored."""
    return _usage(c, _span(prefix))


def page(c: Connection, *, prefix: str, after: str, limit: int) -> list[tuple[str, Usage]]:
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
