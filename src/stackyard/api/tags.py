"""`/api/v1/tags/REPOSITORY` and `/api/v1/tags/REPOSITORY:TAG`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from stackyard.api import asking
from stackyard.api.asking import Actor, After, Limit, Model, Page, Registry
from stackyard.registry.listings import Tag as Row

router = APIRouter(tags=["tags"])


class Tag(Model):
    """A tag, with what it points to, or pointed to when it was deleted."""

    name: str
    digest: str
    media_type: str
    artifact_type: str | None
    size: int = Field(
        description="Bytes of all that a pull of every platform fetches; what they share counts for each."
    )
    platforms: Sequence[str] = Field(description="os/architecture[/variant].")
    pushed_at: datetime
    pushed_by: str
    pulled_at: datetime | None = Field(description="By this tag, or its digest. Null: not since pulls are recorded.")
    pulled_by: str | None
    expires_at: datetime | None
    deleted_at: datetime | None = Field(description="Null: it is there.")
    deleted_by: str | None
    restorable_until: datetime | None


def _shown(row: Row) -> Tag:
    fields = ("name", "pushed_at", "pushed_by", "pulled_at", "pulled_by", "expires_at")
    gone = ("deleted_at", "deleted_by", "restorable_until")
    image = ("digest", "media_type", "artifact_type", "size", "platforms")
    return Tag(
        **{name: getattr(row, name) for name in (*fields, *gone)}, **{name: getattr(row.image, name) for name in image}
    )


@router.get("/tags/{repository:path}:{tag}")
async def show_tag(registry: Registry, repository: asking.Repository, tag: asking.Tag) -> Tag:
    """One tag."""
    return _shown(await registry.listings.tag(repository, tag))


@router.delete("/tags/{repository:path}:{tag}", status_code=204)
async def delete_tag(registry: Registry, actor: Actor, repository: asking.Repository, tag: asking.Tag) -> None:
    """Delete a tag, not what it points to. It can be restored until the undo span ends."""
    await registry.manifests.remove(repository, tag, actor=actor)


@router.get("/tags/{repository:path}")
async def list_tags(
    request: Request,
    registry: Registry,
    repository: asking.Repository,
    deleted: Annotated[bool, Query(description="Those that are deleted and can be restored.")] = False,
    after: After = "",
    limit: Limit = 100,
) -> Page[Tag]:
    """The tags of a repository, in their order."""
    found = await registry.listings.tags(repository, deleted=deleted, after=after, limit=limit + 1)
    items = [_shown(one) for one in found[:limit]]
    return Page(items=items, next=asking.next_page(request, items[-1].name if len(found) > limit else None))
