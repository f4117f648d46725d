"""What tags pointed to, and bringing back what was deleted: below `/api/v1/repositories`."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from stackyard.api import asking
from stackyard.api.asking import Actor, Asked, Limit, Model, Page, Registry
from stackyard.oci import names
from stackyard.oci.digests import Digest

router = APIRouter(tags=["history"])

_MOST = 2**62
Tag = Annotated[str, Path(description="A tag."), AfterValidator(names.check_tag)]
Manifest = Annotated[str, Path(description="The digest of a manifest."), AfterValidator(Digest.parse)]


class Past(Model):
    """A time during which a tag pointed to one manifest."""

    digest: str
    set_at: datetime
    set_by: str
    ended_at: datetime | None = Field(description="Null: it still does.")
    ended_by: str | None
    reason: str | None = Field(description="moved, deleted, or manifest: the tag went with its manifest.")
    restorable_until: datetime | None = Field(description="Null: it still does, or nothing is left of the manifest.")


class RestoreTag(Asked):
    """To which of its manifests a tag goes back; without either to the last one before."""

    digest: Annotated[str, AfterValidator(Digest.parse)] | None = None
    at: AwareDatetime | None = Field(None, description="To what it pointed to then.")

    @model_validator(mode="after")
    def _check(self) -> "RestoreTag":
        if self.digest and self.at:
            raise ValueError("give a digest or a time, not both")
        return self


class Restored(Model):
    """What was brought back."""

    digest: str
    tags: list[str] = Field(description="Tags that point to it again.")
    lacking: list[str] = Field(
        description="Blobs of it whose bytes are gone, as docker-registry's own collection leaves them, or damaged; "
        "pushing the image again brings them back."
    )


@router.get("/repositories/{repository:path}/tags/{tag}/history")
async def show_history(
    request: Request,
    registry: Registry,
    repository: asking.Repository,
    tag: Tag,
    after: Annotated[int | None, Query(description="Show what is older than this entry.", ge=1, le=_MOST)] = None,
    limit: Limit = 100,
) -> Page[Past]:
    """What a tag points to and pointed to, the last first."""
    found = await registry.tags.history(repository, tag, before=after, limit=limit + 1)
    items = [Past.model_validate(past) for _, past in found[:limit]]
    following = asking.next_page(request, str(found[limit - 1][0]) if len(found) > limit else None)
    now = None if after else await registry.tags.current(repository, tag)
    return Page(items=[Past.model_validate(now), *items] if now else items, next=following)


@router.post("/repositories/{repository:path}/tags/{tag}/restore")
async def restore_tag(
    registry: Registry, actor: Actor, repository: asking.Repository, tag: Tag, wanted: RestoreTag
) -> Restored:
    """Make a tag point to what it pointed to before, also when it or its manifest was deleted."""
    digest = Digest(wanted.digest) if wanted.digest else None
    found = await registry.tags.restore(repository, tag, digest=digest, at=wanted.at, actor=actor)
    return Restored(digest=found, tags=[tag], lacking=await registry.manifests.lacking(repository, found))


@router.post("/repositories/{repository:path}/manifests/{digest}/restore")
async def restore_manifest(
    registry: Registry, actor: Actor, repository: asking.Repository, digest: Manifest
) -> Restored:
    """Show a deleted manifest again, with the tags that went with it."""
    found = Digest(digest)
    tags = await registry.manifests.restore(repository, found, actor=actor)
    return Restored(digest=found, tags=tags, lacking=await registry.manifests.lacking(repository, found))


@router.post("/repositories/{repository:path}/restore", status_code=204)
async def restore_repository(registry: Registry, actor: Actor, repository: asking.Repository) -> None:
    """Show the repository that was deleted last under this name, as it was."""
    await registry.repositories.restore(repository, actor=actor)


@router.delete("/repositories/{repository:path}", status_code=204)
async def delete_repository(registry: Registry, actor: Actor, repository: asking.Repository) -> None:
    """Hide a repository with all it holds; it can be restored until the undo span ends."""
    await registry.repositories.delete(repository, actor=actor)
