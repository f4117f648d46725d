"""What collection would free now, without taking anything away.

It follows the queue, as collection does, so its cost is that of the garbage and not of the store. One state of the
database is looked at throughout (`Database.survey`).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, bindparam, func, literal, select, union, union_all

from stackyard.metadata import clock
from stackyard.metadata.collection import NO_GRACE, undo_ends, wait_over
from stackyard.metadata.prepared import NumberList, Prepared, each
from stackyard.metadata.schema import (
    DELETING,
    LIVE,
    PENDING,
    QUARANTINED,
    blob,
    blob_link,
    due,
    manifest,
    manifest_reference,
    repository,
    tag,
)

_over = each(bindparam("over", type_=NumberList()))
_going = each(bindparam("going", type_=NumberList()))

# Their repository's time is over, and with it that of all they hold.
_OVER_REPOSITORIES = Prepared(
    select(repository.c.id).where(
        repository.c.id.in_(select(due.c.repository_id).where(due.c.kind == "repository")),
        repository.c.deleted_at.is_not(None),
        clock.until(undo_ends(repository)) <= 0,
    )
)
_ALL_MANIFESTS = Prepared(
    select(manifest.c.id).where(manifest.c.repository_id.op("IN")(_over), manifest.c.promised_until <= clock.now())
)
_OVER_MANIFESTS = Prepared(
    select(manifest.c.id)
    .distinct()
    .select_from(due)
    .join(manifest, (manifest.c.repository_id == due.c.repository_id) & (manifest.c.digest == due.c.digest))
    .where(
        due.c.kind == "manifest",
        manifest.c.repository_id.op("NOT IN")(_over),
        manifest.c.deleted_at.is_not(None),
        wait_over(manifest) <= 0,
        ~select(tag.c.name).where(tag.c.manifest_id == manifest.c.id).exists(),
    )
)
_NAMERS = Prepared(
    select(manifest.c.id, manifest_reference.c.manifest_id)
    .select_from(manifest)
    .join(
        manifest_reference,
        (manifest_reference.c.repository_id == manifest.c.repository_id)
        & (manifest_reference.c.digest == manifest.c.digest),
    )
    .where(manifest.c.id.op("IN")(_going))
)

# What stood in the way of going, step by step. Each step comes sorted, so that the next one reads its index in order;
# the planner must not begin at the other end, with all that is stored.
_places = (
    union(
        select(manifest_reference.c.repository_id, manifest_reference.c.digest).where(
            manifest_reference.c.manifest_id.op("IN")(_going)
        ),
        select(due.c.repository_id, due.c.digest).where(due.c.kind == "link"),
    )
    .cte("places")
    .prefix_with("MATERIALIZED")
)
_links = (
    union_all(
        select(blob_link.c.repository_id, blob_link.c.digest)
        .select_from(_places)
        .join(
            blob_link,
            (blob_link.c.repository_id == _places.c.repository_id) & (blob_link.c.digest == _places.c.digest),
        )
        .where(
            _places.c.repository_id.op("NOT IN")(_over),
            wait_over(blob_link) <= 0,
            ~select(manifest_reference.c.manifest_id)
            .where(
                manifest_reference.c.repository_id == _places.c.repository_id,
                manifest_reference.c.digest == _places.c.digest,
                manifest_reference.c.manifest_id.op("NOT IN")(_going),
            )
            .exists(),
        ),
        select(blob_link.c.repository_id, blob_link.c.digest).where(
            blob_link.c.repository_id.op("IN")(_over), blob_link.c.promised_until <= clock.now()
        ),
    )
    .cte("links")
    .prefix_with("MATERIALIZED")
)
_mentions = union_all(
    select(_links.c.digest, literal(1).label("links")),
    select(due.c.digest, literal(0)).where(due.c.kind == "blob"),
    select(manifest.c.digest, literal(0)).where(manifest.c.id.op("IN")(_going)),
).subquery()
_candidates = (
    select(_mentions.c.digest, func.sum(_mentions.c.links).label("links"))
    .group_by(_mentions.c.digest)
    .cte("candidates")
    .prefix_with("MATERIALIZED")
)
_count_links = (
    select(func.count()).select_from(blob_link).where(blob_link.c.digest == _candidates.c.digest).scalar_subquery()
)
_other_manifest = (
    select(manifest.c.id).where(manifest.c.digest == _candidates.c.digest, manifest.c.id.op("NOT IN")(_going)).exists()
)
_BLOBS = Prepared(
    select(blob.c.digest, blob.c.size)
    .select_from(_candidates)
    .join(blob, blob.c.digest == _candidates.c.digest)
    .where(
        (blob.c.state == DELETING)
        | ((blob.c.state == PENDING) & (clock.until(blob.c.created_at + clock.span("pending")) <= 0))
        | (blob.c.state.in_((LIVE, QUARANTINED)) & (_count_links == _candidates.c.links) & ~_other_manifest)
    )
)


@dataclass(frozen=True, slots=True)
class Reclaimable:
    """What can go. A layer that several images share counts once, and only when all of them go."""

    manifests: int
    blobs: Sequence[str]
    """Digests of blobs that nothing would need, one for each copy."""
    size: int
    """Bytes that those take in the store, and those that are marked already."""


def survey(c: Connection, *, grace: timedelta = NO_GRACE, pending: timedelta) -> Reclaimable:
    """Find it, with undo spans cut to `grace`, and unfinished blobs given up after `pending`."""
    over = _OVER_REPOSITORIES.column(c, grace=grace)
    going = _manifests(c, over, grace)
    rows = _BLOBS.all(c, going=going, over=over, grace=grace, pending=pending)
    return Reclaimable(len(going), [digest for digest, _ in rows], sum(size for _, size in rows))


def _manifests(c: Connection, over: Sequence[int], grace: timedelta) -> list[int]:
    """Rows of manifests that go: no tag and no manifest that stays needs them."""
    found = set(_OVER_MANIFESTS.column(c, grace=grace, over=over))
    namers: dict[int, set[int]] = defaultdict(set)
    for named, namer in _NAMERS.all(c, going=list(found)):
        namers[named].add(namer)
    while kept := [one for one in namers.keys() & found if namers[one] - found]:
        found.difference_update(kept)
    return sorted(found.union(_ALL_MANIFESTS.column(c, over=over)))
