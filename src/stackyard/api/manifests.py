"""`/api/v1/manifests/REPOSITORY`, `…@DIGEST` and `…:TAG`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field

from stackyard.api import asking
from stackyard.api.asking import Actor, After, Limit, Model, Page, Registry
from stackyard.oci.digests import Digest
from stackyard.registry.listings import Details
from stackyard.registry.listings import Manifest as Row

router = APIRouter(tags=["manifests"])


class Manifest(Model):
    """A manifest or an index."""

    digest: str
    media_type: str
    artifact_type: str | None
    size: int = Field(
        description="Bytes of all that a pull of every platform fetches; what they share counts for each."
    )
    platforms: Sequence[str] = Field(description="os/architecture[/variant].")
    tags: int = Field(description="How many tags point to it.")
    subject: str | None = Field(description="The digest of what it is about, such as the image that it signs.")
    pushed_at: datetime
    pushed_by: str
    pulled_at: datetime | None = Field(description="By digest. Null: not since pulls are recorded.")
    pulled_by: str | None
    deleted_at: datetime | None = Field(description="Null: it is there.")
    deleted_by: str | None
    restorable_until: datetime | None


class Reference(Model):
    """What a manifest names."""

    kind: Literal["config", "layer", "child"]
    digest: str
    size: int | None = Field(description="Bytes; of a child with all that it names. Null: it is not here.")
    platform: str | None = Field(description="Of a child.")
    missing: bool = Field(description="It was not there when the manifest was imported.")


class ManifestDetails(Manifest):
    """A manifest with all that surrounds it."""

    tag_names: Sequence[str] = Field(description="The tags that point to it, a thousand at most.")
    references: Sequence[Reference]


def _fields(row: Row) -> dict[str, object]:
    fields = ("tags", "subject", "pushed_at", "pushed_by", "pulled_at", "pulled_by")
    gone = ("deleted_at", "deleted_by", "restorable_until")
    image = ("digest", "media_type", "artifact_type", "size", "platforms")
    shown = {name: getattr(row, name) for name in (*fields, *gone)}
    return shown | {name: getattr(row.image, name) for name in image}


def _details(found: Details) -> ManifestDetails:
    references = [Reference.model_validate(one) for one in found.references]
    return ManifestDetails.model_validate(
        {**_fields(found.manifest), "tag_names": found.tags, "references": references}
    )


@router.get("/manifests/{repository:path}@{digest}")
async def show_manifest(
    registry: Registry, repository: asking.Repository, digest: asking.ManifestDigest
) -> ManifestDetails:
    """The manifest of a digest."""
    return _details(await registry.listings.manifest(repository, Digest(digest)))


@router.get("/manifests/{repository:path}:{tag}")
async def show_tagged_manifest(registry: Registry, repository: asking.Repository, tag: asking.Tag) -> ManifestDetails:
    """The manifest that a tag points to."""
    return _details(await registry.listings.manifest(repository, tag))


@router.delete("/manifests/{repository:path}@{digest}", status_code=204)
async def delete_manifest(
    registry: Registry, actor: Actor, repository: asking.Repository, digest: asking.ManifestDigest
) -> None:
    """Delete a manifest and every tag that points to it. They can be restored until the undo span ends."""
    await registry.manifests.remove(repository, Digest(digest), actor=actor)


@router.get("/manifests/{repository:path}")
async def list_manifests(
    request: Request,
    registry: Registry,
    repository: asking.Repository,
    which: Annotated[
        Literal["all", "untagged", "deleted"],
        Query(description="untagged: no tag, no index and no subject holds it; deleted: it can be restored."),
    ] = "all",
    after: After = "",
    limit: Limit = 100,
) -> Page[Manifest]:
    """The manifests of a repository, in the order of their digests."""
    found = await registry.listings.manifests(repository, which=which, after=after, limit=limit + 1)
    items = [Manifest.model_validate(_fields(one)) for one in found[:limit]]
    return Page(items=items, next=asking.next_page(request, items[-1].digest if len(found) > limit else None))
