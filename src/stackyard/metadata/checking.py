"""Whether the rows fit one another and the store. Only reads; it takes long, so it belongs in a survey."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from stackyard.metadata import clock, due
from stackyard.metadata.collection import AT_ONCE
from stackyard.metadata.prepared import Prepared, TextList, each
from stackyard.metadata.schema import (
    DELETING,
    LIVE,
    QUARANTINED,
    blob,
    blob_link,
    manifest,
    manifest_reference,
    repository,
    tag,
    tombstone,
)
from stackyard.oci.digests import Digest

_KNOWN = Prepared(
    select(blob.c.location).where(blob.c.location.op("IN")(each(bindparam("locations", type_=TextList()))))
)
_KNOWN_DIGESTS = Prepared(
    select(blob.c.digest).where(blob.c.digest.op("IN")(each(bindparam("digests", type_=TextList()))))
)
_REMEMBERED = Prepared(
    select(tombstone.c.digest).where(tombstone.c.digest.op("IN")(each(bindparam("digests", type_=TextList()))))
)
_child = manifest.alias("child")
_BROKEN = Prepared(
    select(repository.c.name, manifest.c.digest, manifest_reference.c.digest)
    .select_from(manifest_reference)
    .join(manifest, manifest.c.id == manifest_reference.c.manifest_id)
    .join(repository, repository.c.id == manifest.c.repository_id)
    .where(
        manifest_reference.c.required,
        ~manifest_reference.c.missing,
        ~select(blob_link.c.digest)
        .select_from(blob_link)
        .join(blob, (blob.c.digest == blob_link.c.digest) & (blob.c.state.in_((LIVE, QUARANTINED))))
        .where(
            blob_link.c.repository_id == manifest_reference.c.repository_id,
            blob_link.c.digest == manifest_reference.c.digest,
        )
        .exists(),
        ~select(_child.c.id)
        .where(
            _child.c.repository_id == manifest_reference.c.repository_id,
            _child.c.digest == manifest_reference.c.digest,
        )
        .exists(),
    )
    .limit(bindparam("limit"))
)
_ADRIFT = Prepared(
    select(repository.c.name, tag.c.name)
    .select_from(tag)
    .join(repository, repository.c.id == tag.c.repository_id)
    .outerjoin(manifest, manifest.c.id == tag.c.manifest_id)
    .where(manifest.c.id.is_(None) | manifest.c.deleted_at.is_not(None))
    .limit(bindparam("limit"))
)
_OWN = Prepared(
    insert(blob)
    .values(
        digest=bindparam("digest"),
        copy=bindparam("copy"),
        location=bindparam("location"),
        size=bindparam("size"),
        state=DELETING,
        created_at=clock.now(),
        marked_at=clock.now(),
    )
    .on_conflict_do_nothing()
)


def unknown(c: Connection, locations: Sequence[str]) -> set[str]:
    """Those that no row owns."""
    return set(locations).difference(_KNOWN.column(c, locations=list(locations)))


def strange(c: Connection, digests: Sequence[Digest]) -> list[Digest]:
    """Those that no row tells of, nor told once, in order."""
    known = {*_KNOWN_DIGESTS.column(c, digests=list(digests)), *_REMEMBERED.column(c, digests=list(digests))}
    return [each for each in digests if each not in known]


def broken(c: Connection, *, limit: int) -> list[str]:
    """Manifests that name what is not there and was not known to be missing, in words."""
    return [
        f"{name}@{digest} names {missing}, which {name} does not have"
        for name, digest, missing in _BROKEN.all(c, limit=limit)
    ]


def adrift(c: Connection, *, limit: int) -> list[str]:
    """Tags that point to no manifest, in words."""
    return [f"{name}:{tag_name} points to nothing" for name, tag_name in _ADRIFT.all(c, limit=limit)]


def own(c: Connection, digest: Digest, copy: int, location: str, size: int) -> None:
    """Give a file that no row owns one, as a blob that is being deleted: collection removes it as any other."""
    _OWN.run(c, digest=digest, copy=copy, location=location, size=size)
    due.add_blob(c, digest, wait=AT_ONCE)
