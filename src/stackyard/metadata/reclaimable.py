"""What collection would free now, without taking anything away.

It follows the queue, as collection does, so its cost is that of the garbage and not of the store. One state of the
database is looked at throughout (`Database.survey`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TypeVar

from sqlalchemy import BindParameter, Connection, bindparam, func, select

from stackyard.metadata import clock
from stackyard.metadata.collection import NO_GRACE, undo_ends, wait_over
from stackyard.metadata.prepared import Prepared, TextList, each
from stackyard.metadata.schema import blob, blob_link, due, manifest, manifest_reference, repository, tag

T = TypeVar("T")
Place = tuple[int, str]
"""A repository's id and a digest."""

_BATCH = 1000

_here: BindParameter[int] = bindparam("repository_id")
_wanted = each(bindparam("digests", type_=TextList()))

# Their repository's time is over, and with it that of all they hold.
_OVER_REPOSITORIES = Prepared(
    select(repository.c.id).where(
        repository.c.id.in_(select(due.c.repository_id).where(due.c.kind == "repository")),
        repository.c.deleted_at.is_not(None),
        clock.until(undo_ends(repository)) <= 0,
    )
)
_ALL_MANIFESTS = Prepared(
    select(manifest.c.id, manifest.c.digest).where(
        manifest.c.repository_id == _here, manifest.c.promised_until <= clock.now()
    )
)
_ALL_LINKS = Prepared(
    select(blob_link.c.digest).where(blob_link.c.repository_id == _here, blob_link.c.promised_until <= clock.now())
)
_OVER_MANIFESTS = Prepared(
    select(manifest.c.id, manifest.c.repository_id, manifest.c.digest)
    .distinct()
    .select_from(due)
    .join(manifest, (manifest.c.repository_id == due.c.repository_id) & (manifest.c.digest == due.c.digest))
    .where(
        due.c.kind == "manifest",
        manifest.c.deleted_at.is_not(None),
        wait_over(manifest) <= 0,
        ~select(tag.c.name).where(tag.c.manifest_id == manifest.c.id).exists(),
    )
)
_QUEUED_LINKS = Prepared(
    select(blob_link.c.repository_id, blob_link.c.digest)
    .distinct()
    .select_from(due)
    .join(blob_link, (blob_link.c.repository_id == due.c.repository_id) & (blob_link.c.digest == due.c.digest))
    .where(due.c.kind == "link", wait_over(blob_link) <= 0)
)
_QUEUED_BLOBS = Prepared(select(due.c.digest).distinct().where(due.c.kind == "blob"))
_reference = manifest_reference.c
_NAMED = Prepared(select(_reference.digest).where(_reference.manifest_id == bindparam("manifest_id")))
_OVER_LINKS = Prepared(
    select(blob_link.c.digest).where(
        blob_link.c.repository_id == _here, blob_link.c.digest.op("IN")(_wanted), wait_over(blob_link) <= 0
    )
)
_NAMERS = Prepared(
    select(_reference.digest, _reference.manifest_id).where(
        _reference.repository_id == _here, _reference.digest.op("IN")(_wanted)
    )
)
_COUNT_NAMERS = Prepared(
    select(_reference.digest, func.count())
    .where(_reference.repository_id == _here, _reference.digest.op("IN")(_wanted))
    .group_by(_reference.digest)
)
_COUNT_LINKS = Prepared(
    select(blob_link.c.digest, func.count()).where(blob_link.c.digest.op("IN")(_wanted)).group_by(blob_link.c.digest)
)
_MANIFESTS_OF = Prepared(select(manifest.c.digest, manifest.c.id).where(manifest.c.digest.op("IN")(_wanted)))
_BLOBS = Prepared(
    select(
        blob.c.digest,
        blob.c.state,
        blob.c.size,
        clock.until(blob.c.created_at + clock.span("pending")),
    ).where(blob.c.digest.op("IN")(_wanted))
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
    over = set(_OVER_REPOSITORIES.column(c, grace=grace))
    manifests = _manifests(c, over, grace)
    links = _links(c, over, manifests, grace)
    blobs, size = _blobs(c, manifests, links, pending)
    return Reclaimable(len(manifests), blobs, size)


def _manifests(c: Connection, over: set[int], grace: timedelta) -> dict[int, Place]:
    """Manifests that go, by row id: no tag and no manifest that stays needs them."""
    found = {row[0]: (row[1], row[2]) for row in _OVER_MANIFESTS.all(c, grace=grace) if row[1] not in over}
    namers: dict[Place, set[int]] = defaultdict(set)
    for repository_id, digests in _by_repository(found.values()):
        for digest, manifest_id in _NAMERS.all(c, repository_id=repository_id, digests=digests):
            namers[repository_id, digest].add(manifest_id)
    while kept := [one for one, place in found.items() if namers[place] - found.keys()]:
        for one in kept:
            del found[one]
    for repository_id in over:
        found.update((row[0], (repository_id, row[1])) for row in _ALL_MANIFESTS.all(c, repository_id=repository_id))
    return found


def _links(c: Connection, over: set[int], manifests: dict[int, Place], grace: timedelta) -> set[Place]:
    """Links that go: only manifests that go name them."""
    gone: Counter[Place] = Counter()
    for manifest_id, (repository_id, _) in manifests.items():
        gone.update((repository_id, digest) for digest in _NAMED.column(c, manifest_id=manifest_id))
    found = {place for place in _QUEUED_LINKS.all(c, grace=grace) if place[0] not in over}
    for repository_id, digests in _by_repository(gone.keys() - found):
        over_links = _OVER_LINKS.column(c, repository_id=repository_id, digests=digests, grace=grace)
        found.update((repository_id, digest) for digest in over_links)
    for repository_id, digests in _by_repository(found):
        for digest, namers in _COUNT_NAMERS.all(c, repository_id=repository_id, digests=digests):
            if namers > gone[repository_id, digest]:
                found.discard((repository_id, digest))
    for repository_id in over:
        found.update((repository_id, digest) for digest in _ALL_LINKS.column(c, repository_id=repository_id))
    return found


def _blobs(c: Connection, manifests: dict[int, Place], links: set[Place], pending: timedelta) -> tuple[list[str], int]:
    """Digests of blobs that go, and the bytes of all copies that go."""
    gone = Counter(digest for _, digest in links)
    candidates = set(gone).union(_QUEUED_BLOBS.column(c), (digest for _, digest in manifests.values()))
    needed: set[str] = set()
    digests, size = [], 0
    for batch in _batches(candidates):
        needed.update(digest for digest, count in _COUNT_LINKS.all(c, digests=batch) if count > gone[digest])
        needed.update(digest for digest, one in _MANIFESTS_OF.all(c, digests=batch) if one not in manifests)
        for digest, state, length, pending_left in _BLOBS.all(c, digests=batch, pending=pending):
            marked = state == "deleting" or (state == "pending" and pending_left <= 0)
            if marked or (state in ("live", "quarantined") and digest not in needed):
                digests.append(digest)
                size += length
    return digests, size


def _by_repository(places: Iterable[Place]) -> Iterator[tuple[int, list[str]]]:
    digests: dict[int, list[str]] = defaultdict(list)
    for repository_id, digest in places:
        digests[repository_id].append(digest)
    for repository_id, found in digests.items():
        for batch in _batches(found):
            yield repository_id, batch


def _batches(values: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(values)
    while batch := list(islice(rest, _BATCH)):
        yield batch
