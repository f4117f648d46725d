"""Content for the tests: what a push leaves behind, in one call each."""

import itertools
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from stackyard.metadata import blobs, collection, manifests, uploads
from stackyard.metadata.blobs import Blob, Commit
from stackyard.metadata.database import Database
from stackyard.metadata.manifests import Pushed, Reference
from stackyard.metadata.schema import blob
from stackyard.oci.digests import Digest

ACTOR = "user:alice"
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)
NOTHING = timedelta()
IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

_numbers = itertools.count()


def new_id() -> str:
    return f"upload-{next(_numbers)}"


def start(c: Connection, repository: str, upload_id: str) -> uploads.Upload:
    return uploads.start(c, repository=repository, upload_id=upload_id, algorithm="sha256", actor=ACTOR)


def claim(c: Connection, repository: str, upload_id: str, span: timedelta = HOUR, holder: str = "a") -> uploads.Upload:
    return uploads.claim(c, repository=repository, upload_id=upload_id, holder=holder, span=span)


def push(c: Connection, repository: str, content: bytes, *, promise: timedelta = HOUR) -> Commit:
    """A whole upload, as one transaction."""
    digest, upload_id = Digest.of(content), new_id()
    start(c, repository, upload_id)
    claimed = claim(c, repository, upload_id)
    live = blobs.find_live(c, digest)
    blob_id = None if live else blobs.allocate(c, digest, len(content))[0]
    return commit(c, claimed, blob_id, digest, promise=promise)


def commit(
    c: Connection, claimed: uploads.Upload, blob_id: int | None, digest: Digest, *, promise: timedelta = HOUR
) -> Commit:
    return blobs.commit(
        c,
        repository=claimed.repository,
        blob_id=blob_id,
        digest=digest,
        upload_id=claimed.id,
        fence=claimed.fence,
        actor=ACTOR,
        promise=promise,
    )


def layer(digest: Digest, *, required: bool = True) -> Reference:
    return Reference("layer", digest, 1, LAYER, required)


def child(digest: Digest, *, required: bool = True) -> Reference:
    return Reference("child", digest, 1, IMAGE, required)


def pushed(payload: bytes, references: Sequence[Reference] = (), **more: Any) -> Pushed:
    return Pushed(
        digest=Digest.of(payload),
        media_type=IMAGE,
        payload=payload,
        total_size=len(payload),
        references=references,
        **more,
    )


def put(
    c: Connection,
    repository: str,
    manifest: Pushed,
    *tags: str,
    promise: timedelta = HOUR,
    undo: timedelta = WEEK,
) -> Digest:
    manifests.put(c, repository=repository, manifest=manifest, tags=tags, actor=ACTOR, promise=promise, undo=undo)
    return manifest.digest


def drop_link(c: Connection, repository_id: int, digest: Digest) -> bool:
    return bool(collection.drop_link(c, repository_id, digest).gone)


def drop_manifest(c: Connection, repository_id: int, digest: Digest) -> bool:
    return bool(collection.drop_manifest(c, repository_id, digest).gone)


def mark(c: Connection, digest: Digest) -> list[int]:
    """Ids of the blobs whose bytes may go at once, marked now or before."""
    collection.mark_blobs(c, digest, readers=NOTHING)
    return [one.blob_id for one in collection.mark_blobs(c, digest, readers=NOTHING).doomed]


def forget(c: Connection, blob_id: int) -> bool:
    """Whether there was such a marked blob."""
    before = c.scalar(select(func.count()).select_from(blob))
    location = c.scalar(select(blob.c.location).where(blob.c.id == blob_id)) or ""
    collection.forget_blobs(c, [collection.Doomed(blob_id, location, 0)])
    return c.scalar(select(func.count()).select_from(blob)) != before


async def push_blob(database: Database, repository: str, content: bytes, *, promise: timedelta = HOUR) -> Blob:
    return (await database.write(push, repository, content, promise=promise)).blob


async def put_manifest(database: Database, repository: str, manifest: Pushed, *tags: str) -> Digest:
    return await database.write(put, repository, manifest, *tags)
