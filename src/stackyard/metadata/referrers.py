"""Manifests that have another one as their subject."""

import json
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from stackyard.metadata.manifests import OF_REPOSITORY
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import manifest, repository
from stackyard.oci.digests import Digest


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest whose subject was asked for, as a descriptor needs it."""

    digest: Digest
    media_type: str
    size: int
    """Bytes."""
    artifact_type: str | None
    annotations: dict[str, str]


_shown_type = func.coalesce(manifest.c.artifact_type, manifest.c.config_media_type)
_REFERRERS = (
    select(manifest.c.digest, manifest.c.media_type, manifest.c.size, _shown_type, manifest.c.annotations)
    .select_from(repository)
    .join(manifest, manifest.c.repository_id == repository.c.id)
    .where(
        *OF_REPOSITORY,
        manifest.c.subject == bindparam("subject"),
        manifest.c.digest > bindparam("after"),
        manifest.c.deleted_at.is_(None),
    )
    .order_by(manifest.c.digest)
    .limit(bindparam("limit"))
)
_ALL_REFERRERS = Prepared(_REFERRERS)
_TYPED_REFERRERS = Prepared(_REFERRERS.where(_shown_type == bindparam("artifact_type")))


def page(
    c: Connection, repository: str, subject: Digest, *, artifact_type: str | None, after: str, limit: int
) -> list[Referrer]:
    """Manifests of this repository whose subject this is, in byte order of digests, strictly after `after`.

    A manifest without an artifact type shows the media type of its config.
    """
    values = {"repository": repository, "subject": subject, "after": after, "limit": limit}
    if artifact_type is None:
        rows = _ALL_REFERRERS.all(c, **values)
    else:
        rows = _TYPED_REFERRERS.all(c, **values, artifact_type=artifact_type)
    return [
        Referrer(Digest(digest), media_type, size, shown_type, json.loads(annotations) if annotations else {})
        for digest, media_type, size, shown_type, annotations in rows
    ]
