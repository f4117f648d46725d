"""Proving a quota's counts: everything counted again from the rows that they tell of, in one snapshot."""

from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Text,
    and_,
    bindparam,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    union_all,
)

from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import LIVE, blob, blob_link, manifest, quota, quota_digest, repository

_NAMED = 20
"""Digests that are named; more are only counted."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that the counts say otherwise than the rows."""

    what: str
    """A digest, or `bytes` or `repositories`."""
    counted: int
    found: int


@dataclass(frozen=True, slots=True)
class Recount:
    """A quota, counted again."""

    prefix: str
    counting: bool
    """It is still being counted for the first time, so nothing was compared."""
    digests: int
    used_bytes: int
    used_repositories: int
    differences: list[Difference]
    more: int = 0
    """Digests with a difference that are not in the list."""


_prefix = bindparam("prefix", type_=quota.c.prefix.type)
_id = bindparam("quota_id", type_=quota.c.id.type)
_below = func.substr(repository.c.name, 1, func.length(_prefix)) == _prefix
_listed_in = literal(",") + repository.c.quotas + literal(",")


def _counts(digest: ColumnElement[str]) -> ColumnElement[bool]:
    unsettled = and_(
        _listed_in.like(literal("%,") + cast(_id, Text) + literal(",%")),
        digest > func.coalesce(repository.c.uncounted_to, ""),
    )
    return and_(_below, or_(repository.c.deleted_at.is_(None), unsettled))


_one = literal_column("1", BigInteger()).label("links")
_both = union_all(
    select(blob_link.c.digest, _one)
    .join(repository, repository.c.id == blob_link.c.repository_id)
    .where(blob_link.c.counted, _counts(blob_link.c.digest)),
    select(manifest.c.digest, _one)
    .join(repository, repository.c.id == manifest.c.repository_id)
    .where(manifest.c.deleted_at.is_(None), _counts(manifest.c.digest)),
    select(quota_digest.c.digest, (-quota_digest.c.links).label("links")).where(quota_digest.c.quota_id == _id),
).subquery()
_LINKS = Prepared(
    select(_both.c.digest, func.sum(_both.c.links))
    .group_by(_both.c.digest)
    .having(func.sum(_both.c.links) != 0)
    .order_by(_both.c.digest)
)
_KEPT = Prepared(
    select(quota_digest.c.links).where(
        quota_digest.c.quota_id == _id, quota_digest.c.digest == bindparam("digest", type_=quota_digest.c.digest.type)
    )
)
_SIZES = Prepared(
    select(quota_digest.c.digest, quota_digest.c.size, blob.c.size)
    .select_from(quota_digest)
    .join(blob, and_(blob.c.digest == quota_digest.c.digest, blob.c.state == LIVE))
    .where(quota_digest.c.quota_id == _id, quota_digest.c.size != blob.c.size)
    .order_by(quota_digest.c.digest)
)
_TOTAL = Prepared(
    select(func.count(), func.coalesce(func.sum(quota_digest.c.size), 0)).where(quota_digest.c.quota_id == _id)
)
_REPOSITORIES = Prepared(select(func.count()).where(repository.c.listed, repository.c.deleted_at.is_(None), _below))
_QUOTAS = Prepared(
    select(quota.c.id, quota.c.prefix, quota.c.counted_to, quota.c.used_bytes, quota.c.used_repositories).order_by(
        quota.c.prefix
    )
)


def recount(c: Connection, prefix: str | None = None) -> list[Recount]:
    """Count every quota again, or the one on `prefix`. Long, and exact only in a snapshot."""
    rows = [row for row in _QUOTAS.all(c) if prefix is None or row[1] == prefix]
    return [_recount(c, *row) for row in rows]


def _recount(
    c: Connection, quota_id: int, prefix: str, counted_to: int | None, used_bytes: int, used_repositories: int
) -> Recount:
    if counted_to is not None:
        return Recount(prefix, True, 0, used_bytes, used_repositories, [])
    row = _TOTAL.one(c, quota_id=quota_id)
    assert row is not None
    digests, total = row
    found = [
        Difference("bytes", used_bytes, int(total)),
        Difference("repositories", used_repositories, _REPOSITORIES.scalar(c, prefix=prefix)),
    ]
    wrong = _LINKS.all(c, quota_id=quota_id, prefix=prefix)
    for digest, more in wrong[:_NAMED]:
        kept = _KEPT.scalar(c, quota_id=quota_id, digest=digest) or 0
        found.append(Difference(digest, kept, kept + int(more)))
    sizes = [Difference(f"size of {digest}", kept, size) for digest, kept, size in _SIZES.all(c, quota_id=quota_id)]
    differences = [each for each in found if each.counted != each.found] + sizes[:_NAMED]
    more_wrong = max(0, len(wrong) - _NAMED) + max(0, len(sizes) - _NAMED)
    return Recount(prefix, False, digests, used_bytes, used_repositories, differences, more_wrong)
