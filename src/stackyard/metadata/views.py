"""What Distribution's view of the volume has to show, as the rows say now. See `registry/following.py`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, exists, select

from stackyard.metadata import blobs
from stackyard.metadata.prepared import Prepared, Row
from stackyard.metadata.schema import (
    LIVE,
    PENDING,
    QUARANTINED,
    blob,
    blob_link,
    manifest,
    manifest_reference,
    repository,
    tag,
    tag_history,
    tombstone,
)
from stackyard.oci.digests import Digest

_NAME = Prepared(select(repository.c.name).where(repository.c.id == bindparam("repository_id")))
_shown = (repository.c.name == bindparam("name"), repository.c.deleted_at.is_(None))
_REPOSITORY = Prepared(select(repository.c.id).where(*_shown))
_TAG = Prepared(
    select(manifest.c.digest)
    .select_from(repository)
    .join(tag, tag.c.repository_id == repository.c.id)
    .join(manifest, manifest.c.id == tag.c.manifest_id)
    .where(*_shown, tag.c.name == bindparam("tag"), manifest.c.deleted_at.is_(None))
)
_MANIFEST = Prepared(
    select(manifest.c.size)
    .select_from(repository)
    .join(manifest, manifest.c.repository_id == repository.c.id)
    .where(*_shown, manifest.c.digest == bindparam("digest"), manifest.c.deleted_at.is_(None))
)
_LINK = Prepared(
    select(blob.c.location)
    .select_from(repository)
    .join(blob_link, blob_link.c.repository_id == repository.c.id)
    .join(blob, blob.c.digest == blob_link.c.digest)
    .where(*_shown, blob_link.c.digest == bindparam("digest"), blob_link.c.deleted_at.is_(None), blob.c.state == LIVE)
)
_LIVE = Prepared(select(blob.c.location).where(blob.c.digest == bindparam("digest"), blob.c.state == LIVE))
_FIRST_COPY = Prepared(select(blob.c.state).where(blob.c.digest == bindparam("digest"), blob.c.copy == 0))
_WAS_COPIED = Prepared(select(tombstone.c.next_copy).where(tombstone.c.digest == bindparam("digest")))
_PAYLOAD = Prepared(select(manifest.c.payload).where(manifest.c.digest == bindparam("digest")).limit(1))
_LOCK_LIVE = Prepared(
    select(blob.c.id).where(blob.c.digest == bindparam("digest"), blob.c.state == LIVE).with_for_update(read=True)
)
# Whoever removes the manifest's row queues its bytes in the same transaction, so that one sees our blob or we its end.
_LOCK_MANIFEST = Prepared(
    select(manifest.c.id).where(manifest.c.digest == bindparam("digest")).limit(1).with_for_update(read=True)
)
_MAKE_LIVE = Prepared(
    blob.update().where(blob.c.id == bindparam("blob_id"), blob.c.state == PENDING).values(state="live")
)

_page = {
    "links": select(blob_link.c.digest, blob_link.c.deleted_at.is_(None)).where(
        blob_link.c.repository_id == bindparam("repository_id"), blob_link.c.digest > bindparam("after")
    ),
    "manifests": select(manifest.c.digest, manifest.c.deleted_at.is_(None)).where(
        manifest.c.repository_id == bindparam("repository_id"), manifest.c.digest > bindparam("after")
    ),
    "tags": select(tag.c.name).where(
        tag.c.repository_id == bindparam("repository_id"), tag.c.name > bindparam("after")
    ),
    "ended": select(tag_history.c.name)
    .where(tag_history.c.repository_id == bindparam("repository_id"), tag_history.c.name > bindparam("after"))
    .distinct(),
}
_LINKS = Prepared(_page["links"].order_by(blob_link.c.digest).limit(bindparam("limit")))
_MANIFESTS = Prepared(_page["manifests"].order_by(manifest.c.digest).limit(bindparam("limit")))
_TAGS = Prepared(_page["tags"].order_by(tag.c.name).limit(bindparam("limit")))
_ENDED = Prepared(_page["ended"].order_by(tag_history.c.name).limit(bindparam("limit")))
_REPOSITORIES = Prepared(
    select(repository.c.id, repository.c.name)
    .where(repository.c.id > bindparam("after"), repository.c.deleted_at.is_(None))
    .order_by(repository.c.id)
    .limit(bindparam("limit"))
)


@dataclass(slots=True)
class View:
    """What has to be so, for some of the things that the view shows. Repositories are named, not numbered."""

    gone: list[str] = field(default_factory=list)
    """Repositories that are not there."""
    manifests: dict[tuple[str, Digest], bool] = field(default_factory=dict)
    """Whether the repository shows the manifest."""
    links: dict[tuple[str, Digest], bool] = field(default_factory=dict)
    """Whether the repository shows the blob."""
    tags: dict[tuple[str, str], Digest | None] = field(default_factory=dict)
    """What the tag points to; None: it is not there."""
    copies: dict[Digest, str] = field(default_factory=dict)
    """Where the bytes of a digest lie that must be found at its first location, and are elsewhere."""
    loose: list[Digest] = field(default_factory=list)
    """Whose first location no row owns or ever will: what lies there is a second name of what is gone."""
    homeless: list[Digest] = field(default_factory=list)
    """Manifests whose bytes lie nowhere but in the database."""
    whole: list[tuple[int, str]] = field(default_factory=list)
    """Repositories of which everything has to be looked at."""


def resolve(c: Connection, entries: Sequence[Row]) -> View:
    """What the rows say about these entries of `follow`."""
    view = View()
    names: dict[int, str | None] = {}
    for _, repository_id, kind, what in entries:
        if repository_id and repository_id not in names:
            names[repository_id] = _NAME.scalar(c, repository_id=repository_id)
        name = names.get(repository_id)
        if kind == "blob":
            _resolve_blob(c, view, Digest(what))
        elif kind == "repository":
            _resolve_repository(c, view, what)
        elif name is None:
            continue  # it was followed as a whole when it was deleted
        elif kind == "tag":
            view.tags[name, what] = _digest(_TAG.scalar(c, name=name, tag=what))
        elif kind == "manifest":
            _resolve_manifest(c, view, name, Digest(what))
        else:
            _resolve_link(c, view, name, Digest(what))
    return view


def _resolve_repository(c: Connection, view: View, name: str) -> None:
    repository_id = _REPOSITORY.scalar(c, name=name)
    if repository_id is None:
        view.gone.append(name)
    else:
        view.whole.append((repository_id, name))


def _resolve_manifest(c: Connection, view: View, name: str, digest: Digest) -> None:
    shown = _MANIFEST.one(c, name=name, digest=digest) is not None
    view.manifests[name, digest] = shown
    if shown:
        location = _LIVE.scalar(c, digest=digest)
        if location is None:
            view.homeless.append(digest)
        else:
            _resolve_copy(view, digest, location)


def _resolve_link(c: Connection, view: View, name: str, digest: Digest) -> None:
    location = _LINK.scalar(c, name=name, digest=digest)
    view.links[name, digest] = location is not None
    if location is not None:
        _resolve_copy(view, digest, location)


def _resolve_blob(c: Connection, view: View, digest: Digest) -> None:
    location = _LIVE.scalar(c, digest=digest)
    if location is not None:
        _resolve_copy(view, digest, location)
    # Once there was a second copy, no row gets the first location any more.
    elif _FIRST_COPY.one(c, digest=digest) is None and (_WAS_COPIED.scalar(c, digest=digest) or 0) > 1:
        view.loose.append(digest)


def is_second_name(c: Connection, digest: str, location: str) -> bool:
    """Whether what lies at the digest's first location is a second name of this one of its locations, if anything."""
    return not location.endswith("/data") and _FIRST_COPY.one(c, digest=digest) is None


def has_second_name(c: Connection, digest: str) -> bool:
    """Whether the digest's live copy is a later one, and may be found at the first location as well."""
    location = _LIVE.scalar(c, digest=digest)
    return location is not None and is_second_name(c, digest, location)


def _resolve_copy(view: View, digest: Digest, location: str) -> None:
    if not location.endswith("/data"):
        view.copies[digest] = location


def _digest(text: str | None) -> Digest | None:
    return Digest(text) if text else None


def payloads(c: Connection, digests: Sequence[Digest], *, limit: int) -> list[tuple[Digest, bytes | None]]:
    """The bytes of the first manifests of these, of whichever repository; None where there is none any more.

    As many as have `limit` bytes together, but one at least.
    """
    found: list[tuple[Digest, bytes | None]] = []
    for digest in digests:
        payload = _PAYLOAD.scalar(c, digest=digest)
        found.append((digest, payload and bytes(payload)))
        limit -= len(payload or b"")
        if limit <= 0:
            break
    return found


def settle_all(c: Connection, rows: Mapping[Digest, int], refused: Collection[Digest]) -> list[Digest]:
    """Durable bytes of manifests lie at the locations that were allocated with these rows: they have blobs from now on.

    Not those that were `refused`, that have one already, or are no manifests of any repository any more: their
    locations are given up.

    Returns:
        The digests that have one now. In the order of digests, as all who lock several.
    """
    return [digest for digest in sorted(rows) if _settle(c, digest, rows[digest], digest not in refused)]


def _settle(c: Connection, digest: Digest, blob_id: int, is_there: bool) -> bool:
    if is_there and not _LOCK_LIVE.one(c, digest=digest) and _LOCK_MANIFEST.one(c, digest=digest):
        return bool(_MAKE_LIVE.run(c, blob_id=blob_id))
    blobs.abandon(c, blob_id)
    return False


_MISSING = Prepared(
    select(repository.c.name, manifest.c.digest)
    .join(manifest, manifest.c.repository_id == repository.c.id)
    .where(
        repository.c.deleted_at.is_(None),
        manifest.c.deleted_at.is_(None),
        manifest.c.id.in_(
            select(manifest_reference.c.manifest_id).where(
                manifest_reference.c.missing,
                ~exists().where(
                    blob_link.c.repository_id == manifest_reference.c.repository_id,
                    blob_link.c.digest == manifest_reference.c.digest,
                    blob_link.c.deleted_at.is_(None),
                ),
            )
        ),
    )
    .order_by(repository.c.name, manifest.c.digest)
    .limit(bindparam("limit"))
)
_QUARANTINED = Prepared(
    select(blob.c.digest)
    .where(
        blob.c.state == QUARANTINED,
        blob.c.digest.not_in(select(blob.c.digest).where(blob.c.state == LIVE)),
        exists()
        .where(
            blob_link.c.digest == blob.c.digest,
            blob_link.c.deleted_at.is_(None),
            repository.c.id == blob_link.c.repository_id,
            repository.c.deleted_at.is_(None),
        )
        .correlate(blob),
    )
    .order_by(blob.c.digest)
    .limit(bindparam("limit"))
)


def unservable(c: Connection, *, limit: int) -> list[tuple[str, str]]:
    """What nobody can serve whole: (what, `missing` or `quarantined`). Looks at every manifest: a survey."""
    incomplete = [(f"{name}@{digest}", "missing") for name, digest in _MISSING.all(c, limit=limit)]
    return incomplete + [(digest, "quarantined") for digest in _QUARANTINED.column(c, limit=limit)]


def repositories(c: Connection, *, after: int, limit: int) -> list[Row]:
    """(id, name) of repositories, by ascending id after `after`."""
    return _REPOSITORIES.all(c, after=after, limit=limit)


def links(c: Connection, repository_id: int, *, after: str, limit: int) -> list[Row]:
    """(digest, shown) of a repository's links in byte order, strictly after `after`."""
    return _LINKS.all(c, repository_id=repository_id, after=after, limit=limit)


def manifests(c: Connection, repository_id: int, *, after: str, limit: int) -> list[Row]:
    """(digest, shown) of a repository's manifests in byte order, strictly after `after`."""
    return _MANIFESTS.all(c, repository_id=repository_id, after=after, limit=limit)


def tags(c: Connection, repository_id: int, *, after: str, limit: int) -> list[Row]:
    """(name,) of a repository's tags in byte order, strictly after `after`."""
    return _TAGS.all(c, repository_id=repository_id, after=after, limit=limit)


def ended(c: Connection, repository_id: int, *, after: str, limit: int) -> list[Row]:
    """(name,) of tags that pointed to something else once, or are no more."""
    return _ENDED.all(c, repository_id=repository_id, after=after, limit=limit)
