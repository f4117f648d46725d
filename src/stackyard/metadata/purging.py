"""Taking a named thing away at once and for good, whatever was promised and could be restored.

What other content needs stays, and is told.
"""

from dataclasses import dataclass, field

from sqlalchemy import BindParameter, Connection, bindparam, select

from stackyard.metadata import clock, due, follow, quotas
from stackyard.metadata.collection import AT_ONCE, erase_manifest
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import blob_link, manifest, manifest_reference, repository, tag, tag_history
from stackyard.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, StillNeeded

_MOST_NAMED = 10
_MOST_ROWS = 500


@dataclass(slots=True)
class Purged:
    """What went, and what had to stay."""

    tags: list[str] = field(default_factory=list)
    manifests: list[str] = field(default_factory=list)
    blobs: list[str] = field(default_factory=list)
    """Digests that this repository no longer links; their bytes go unless others link them."""
    shared: list[str] = field(default_factory=list)
    """Blobs that other manifests of the repository name."""


_REPOSITORY = Prepared(
    select(repository.c.id)
    .where(repository.c.name == bindparam("name"), repository.c.deleted_at.is_(None))
    .with_for_update()
)
_here: BindParameter[int] = bindparam("repository_id")
_TAG = Prepared(
    select(manifest.c.digest)
    .join(tag, tag.c.manifest_id == manifest.c.id)
    .where(tag.c.repository_id == _here, tag.c.name == bindparam("tag"))
)
_WAS = Prepared(
    select(tag_history.c.digest)
    .join(
        manifest,
        (manifest.c.repository_id == tag_history.c.repository_id) & (manifest.c.digest == tag_history.c.digest),
    )
    .where(tag_history.c.repository_id == _here, tag_history.c.name == bindparam("tag"))
    .order_by(tag_history.c.id.desc())
    .limit(1)
)
_DELETED = Prepared(
    select(repository.c.id)
    .where(repository.c.name == bindparam("name"), repository.c.deleted_at.is_not(None))
    .order_by(repository.c.id)
)
_LOCK_MANIFEST = Prepared(
    select(manifest.c.id)
    .where(manifest.c.repository_id == _here, manifest.c.digest == bindparam("digest"))
    .with_for_update()
)
_NAMERS = Prepared(
    select(manifest.c.id, manifest.c.digest)
    .join(manifest_reference, manifest_reference.c.manifest_id == manifest.c.id)
    .where(manifest_reference.c.repository_id == _here, manifest_reference.c.digest == bindparam("digest"))
    .limit(_MOST_NAMED)
)
_NAMED = Prepared(
    select(manifest_reference.c.digest, manifest_reference.c.kind).where(
        manifest_reference.c.manifest_id == bindparam("manifest_id")
    )
)
_TAGS = Prepared(select(tag.c.name).where(tag.c.manifest_id == bindparam("manifest_id")).order_by(tag.c.name))
_DROP_TAGS = Prepared(tag.delete().where(tag.c.manifest_id == bindparam("manifest_id")))
_DROP_HISTORY = Prepared(
    tag_history.delete().where(tag_history.c.repository_id == _here, tag_history.c.digest == bindparam("digest"))
)
_DROP_LINK = Prepared(
    blob_link.delete()
    .where(blob_link.c.repository_id == _here, blob_link.c.digest == bindparam("digest"))
    .returning(blob_link.c.counted)
)
# Of every repository, for the answer to who still needs a blob.
_NAMERS_ANYWHERE = Prepared(
    select(repository.c.name, manifest.c.digest)
    .select_from(blob_link)
    .join(
        manifest_reference,
        (manifest_reference.c.repository_id == blob_link.c.repository_id)
        & (manifest_reference.c.digest == blob_link.c.digest),
    )
    .join(manifest, manifest.c.id == manifest_reference.c.manifest_id)
    .join(repository, repository.c.id == manifest.c.repository_id)
    .where(blob_link.c.digest == bindparam("digest"))
    .limit(_MOST_NAMED)
)
_DROP_LINKS = Prepared(
    blob_link.delete()
    .where(blob_link.c.digest == bindparam("digest"))
    .returning(blob_link.c.repository_id, blob_link.c.counted)
)
_END_PROMISES = [
    Prepared(
        table.update()
        .where(
            table.c.repository_id == bindparam("repository_id_"),
            table.c.promised_until > clock.now(),
            table.c.digest.in_(
                select(table.c.digest)
                .where(table.c.repository_id == bindparam("repository_id_"), table.c.promised_until > clock.now())
                .limit(_MOST_ROWS)
            ),
        )
        .values(promised_until=clock.now())
    )
    for table in (manifest, blob_link)
]
_DIGESTS = Prepared(
    select(blob_link.c.digest)
    .where(blob_link.c.repository_id == _here, blob_link.c.digest > bindparam("after"))
    .order_by(blob_link.c.digest)
    .limit(_MOST_ROWS)
)
# Their own bytes may lie in the store, too, for Distribution.
_MANIFESTS = Prepared(
    select(manifest.c.digest)
    .where(manifest.c.repository_id == _here, manifest.c.digest > bindparam("after"))
    .order_by(manifest.c.digest)
    .limit(_MOST_ROWS)
)


def manifest_of_tag(c: Connection, name: str, tag: str) -> str:
    """The digest that the tag points to. Raises NameUnknown, ManifestUnknown."""
    repository_id = _repository(c, name)
    digest: str | None = _TAG.scalar(c, repository_id=repository_id, tag=tag)
    if digest is not None:
        return digest
    was = _WAS.scalar(c, repository_id=repository_id, tag=tag)
    if was is None:
        raise ManifestUnknown(f"there is no tag {name}:{tag}")
    raise ManifestUnknown(f"tag {name}:{tag} is deleted already; what it pointed to is still here: {name}@{was}")


def purge_manifest(c: Connection, name: str, digest: str) -> Purged:
    """Remove a manifest, its tags and their history, its untagged children, and what only those name.

    Raises:
        NameUnknown, ManifestUnknown: There is no such thing.
        StillNeeded: An index names it: that one has to go.
    """
    repository_id = _repository(c, name)
    purged = Purged()
    _purge(c, repository_id, digest, purged)
    return purged


def purge_blob(c: Connection, digest: str) -> Purged:
    """Take a blob out of every repository.

    Raises:
        BlobUnknown: No repository links it.
        StillNeeded: Manifests name it: those have to go.
    """
    namers = _NAMERS_ANYWHERE.all(c, digest=digest)
    if namers:
        images = ", ".join(f"{name}@{one}" for name, one in namers)
        raise StillNeeded(f"{digest} is part of {images}: purge what names it")
    linked_by = _DROP_LINKS.all(c, digest=digest)
    if not linked_by:
        raise BlobUnknown(f"no repository has the blob {digest}")
    for repository_id, counted in sorted(linked_by):
        follow.add(c, repository_id, "link", digest)
        if counted:
            quotas.discharge(c, quotas.account(c, repository_id), [digest])
    due.add_blob(c, digest, wait=AT_ONCE)
    return Purged(blobs=[digest])


def end_promises(c: Connection, repository_id: int) -> bool:
    """Nothing of this repository is promised any more; False when there is no more to do."""
    return sum(statement.run(c, repository_id_=repository_id) for statement in _END_PROMISES) > 0


def digests(c: Connection, repository_id: int, *, after: str) -> list[str]:
    """Blobs that the repository links, in byte order, a page of them."""
    return _DIGESTS.column(c, repository_id=repository_id, after=after)


def manifests(c: Connection, repository_id: int, *, after: str) -> list[str]:
    """Manifests of the repository, in byte order of their digests, a page of them."""
    return _MANIFESTS.column(c, repository_id=repository_id, after=after)


def deleted_repositories(c: Connection, name: str) -> list[int]:
    """All that were deleted under this name and are not gone yet."""
    return _DELETED.column(c, name=name)


def _repository(c: Connection, name: str) -> int:
    repository_id: int | None = _REPOSITORY.scalar(c, name=name)
    if repository_id is None:
        raise NameUnknown(f"there is no repository {name}")
    return repository_id


def _purge(c: Connection, repository_id: int, digest: str, purged: Purged) -> None:
    manifest_id = _LOCK_MANIFEST.scalar(c, repository_id=repository_id, digest=digest)
    if manifest_id is None:
        raise ManifestUnknown(f"there is no manifest {digest}")
    if namers := _NAMERS.all(c, repository_id=repository_id, digest=digest):
        raise StillNeeded(f"{digest} is part of {', '.join(row[1] for row in namers)}: purge that one")
    named = _NAMED.all(c, manifest_id=manifest_id)
    tags = _TAGS.column(c, manifest_id=manifest_id)
    purged.tags += tags
    follow.add_all(c, repository_id, "tag", tags)
    purged.manifests.append(digest)
    _DROP_TAGS.run(c, manifest_id=manifest_id)
    _DROP_HISTORY.run(c, repository_id=repository_id, digest=digest)
    erase_manifest(c, repository_id, manifest_id, digest)
    for one, kind in named:
        is_needed = bool(_NAMERS.all(c, repository_id=repository_id, digest=one))
        child_id = _LOCK_MANIFEST.scalar(c, repository_id=repository_id, digest=one) if kind == "child" else None
        if child_id is not None:
            if not is_needed and not _TAGS.all(c, manifest_id=child_id):
                _purge(c, repository_id, one, purged)
        elif is_needed:
            purged.shared.append(one)
        elif (dropped := _DROP_LINK.one(c, repository_id=repository_id, digest=one)) is not None:
            purged.blobs.append(one)
            follow.add(c, repository_id, "link", one)
            if dropped[0]:
                quotas.discharge(c, quotas.account(c, repository_id), [one])
            due.add_blob(c, one, wait=AT_ONCE)
