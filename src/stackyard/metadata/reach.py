"""Which tags reach which manifests, directly and through indexes, and what those lack.

Level by level, one statement each: there are seldom more than two.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from stackyard.metadata.prepared import Prepared, TextList, each
from stackyard.metadata.schema import LIVE, blob, manifest, manifest_pull, manifest_reference, repository, tag

_DEEPEST = 32
"""An index cannot hold itself, but rows are no proof."""
_wanted = each(bindparam("digests", type_=TextList()))
_of_repository = manifest.c.repository_id == bindparam("repository_id")
_PARENTS = Prepared(
    select(manifest.c.digest)
    .select_from(manifest_reference)
    .join(manifest, manifest.c.id == manifest_reference.c.manifest_id)
    .where(
        manifest_reference.c.repository_id == bindparam("repository_id"),
        manifest_reference.c.digest.op("IN")(_wanted),
        manifest.c.deleted_at.is_(None),
    )
)
_CHILDREN = Prepared(
    select(manifest.c.digest, manifest_reference.c.digest)
    .select_from(manifest)
    .join(manifest_reference, manifest_reference.c.manifest_id == manifest.c.id)
    .where(_of_repository, manifest.c.digest.op("IN")(_wanted), manifest_reference.c.kind == "child")
)
_ID = Prepared(
    select(repository.c.id).where(repository.c.name == bindparam("repository"), repository.c.deleted_at.is_(None))
)
_NEEDS = Prepared(
    select(manifest_reference.c.digest)
    .select_from(manifest)
    .join(manifest_reference, manifest_reference.c.manifest_id == manifest.c.id)
    .where(
        _of_repository,
        manifest.c.digest.op("IN")(_wanted),
        manifest_reference.c.kind != "child",
        manifest_reference.c.required,
    )
)
_LIVE = Prepared(select(blob.c.digest).where(blob.c.digest.op("IN")(_wanted), blob.c.state == LIVE))
_TAGS = Prepared(
    select(tag.c.name)
    .select_from(manifest)
    .join(tag, tag.c.manifest_id == manifest.c.id)
    .where(_of_repository, manifest.c.digest.op("IN")(_wanted))
    .limit(bindparam("limit"))
)
_PULLS = Prepared(
    select(manifest.c.digest, manifest_pull.c.pulled_at)
    .select_from(manifest)
    .join(manifest_pull, manifest_pull.c.manifest_id == manifest.c.id)
    .where(_of_repository, manifest.c.digest.op("IN")(_wanted))
)


def tags_above(c: Connection, repository_id: int, digest: str, *, limit: int) -> list[str]:
    """Tags that point to this manifest, or through indexes to what names this manifest or blob, in no order."""
    found, level = {digest}, {digest}
    for _ in range(_DEEPEST):
        level = set(_PARENTS.column(c, repository_id=repository_id, digests=sorted(level))) - found
        if not level:
            break
        found |= level
    return _TAGS.column(c, repository_id=repository_id, digests=sorted(found), limit=limit)


def needs(c: Connection, repository: str, digest: str) -> list[str]:
    """Blobs that have to be there for this manifest and those below it, in order."""
    repository_id = _ID.scalar(c, repository=repository)
    found, level = {digest}, {digest}
    for _ in range(_DEEPEST):
        level = {child for _, child in _CHILDREN.all(c, repository_id=repository_id, digests=sorted(level))} - found
        if not level:
            break
        found |= level
    return sorted(set(_NEEDS.column(c, repository_id=repository_id, digests=sorted(found))))


def lacking(c: Connection, digests: Sequence[str]) -> list[str]:
    """Those of these blobs of which no bytes can be served."""
    live = set(_LIVE.column(c, digests=digests))
    return [digest for digest in digests if digest not in live]


def last_pulls(c: Connection, repository_id: int, digests: Iterable[str]) -> Mapping[str, datetime]:
    """For each of these manifests, when it or what it holds was last pulled by digest; missing: not known to be."""
    roots = {digest: {digest} for digest in digests}
    level = set(roots)
    for _ in range(_DEEPEST):
        edges = _CHILDREN.all(c, repository_id=repository_id, digests=sorted(level)) if level else []
        level = set()
        for parent, child in edges:
            new = roots[parent] - roots.get(child, set())
            if new:
                roots.setdefault(child, set()).update(new)
                level.add(child)
        if not level:
            break
    last: dict[str, datetime] = {}
    for digest, pulled_at in _PULLS.all(c, repository_id=repository_id, digests=sorted(roots)):
        for root in roots[digest]:
            last[root] = max(pulled_at, last.get(root, pulled_at))
    return last
