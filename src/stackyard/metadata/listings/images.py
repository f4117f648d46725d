"""What tags and manifests show of an image."""

import json
from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    Text,
    and_,
    cast,
    func,
    select,
)

from stackyard.metadata.prepared import Row
from stackyard.metadata.schema import (
    manifest,
    manifest_reference,
)
from stackyard.metadata.tags import json_list

_NOWHERE = frozenset({"", "unknown/unknown"})
"""Platforms of what runs on none, such as attestations."""


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest or an index, and what is known of all that it names."""

    digest: str
    media_type: str
    artifact_type: str | None
    size: int
    """Bytes of the document and of all that it names; of an index with all that its children name."""
    platforms: tuple[str, ...]
    """`os/architecture[/variant]`: its own, or its children's."""


# The columns of one, with `children_of`, in the order that `image_of` takes them.
IMAGE = (
    manifest.c.digest,
    manifest.c.media_type,
    manifest.c.artifact_type,
    manifest.c.total_size,
    manifest.c.platform,
)


def children_of(manifest_id: ColumnElement[int]) -> ColumnElement[str]:
    """The children of a manifest that are here, as JSON: texts of their bytes and platform, a space between."""
    child = manifest.alias("child")
    size = cast(child.c.total_size - child.c.size, Text)
    return (
        select(json_list(size + " " + func.coalesce(child.c.platform, "")))
        .select_from(manifest_reference)
        .join(
            child,
            and_(
                child.c.repository_id == manifest_reference.c.repository_id,
                child.c.digest == manifest_reference.c.digest,
            ),
        )
        .where(manifest_reference.c.manifest_id == manifest_id, manifest_reference.c.kind == "child")
        .correlate(manifest)
        .scalar_subquery()
        .label("children")
    )


def image_of(values: Row) -> Image:
    """From the values of `IMAGE` and `children_of`."""
    digest, media_type, artifact_type, size, platform, children = values
    platforms = {platform or ""}
    for child in json.loads(children or "[]"):
        child_size, _, child_platform = child.partition(" ")
        size += int(child_size)
        platforms.add(child_platform)
    return Image(digest, media_type, artifact_type, size, tuple(sorted(platforms - _NOWHERE)))
