"""`/api/v1/repositories`."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from stackyard.api import asking
from stackyard.api.asking import After, Limit, Model, Page, Registry

router = APIRouter(tags=["repositories"])


class Repository(Model):
    """A repository."""

    name: str
    created_at: datetime = Field(description="When something was first pushed to it.")
    tags: int
    manifests: int
    size: int = Field(description="Bytes of its blobs, each once.")
    last_pushed_at: datetime | None
    last_pulled_at: datetime | None = Field(description="Null: not since pulls are recorded.")
    deleted_at: datetime | None = Field(description="Null: it is there.")
    deleted_by: str | None
    restorable_until: datetime | None


@router.get("/repositories")
async def list_repositories(
    request: Request,
    registry: Registry,
    deleted: Annotated[bool, Query(description="Those that are deleted and can be restored.")] = False,
    after: After = "",
    limit: Limit = 100,
) -> Page[Repository]:
    """Repositories that ever held a manifest, in the order of their names."""
    await registry.imports.listed()
    if deleted:
        name, _, number = after.partition(":")  # a name may have been deleted several times
        after_id = int(number) if number.isdecimal() and len(number) < 19 else 0
        found = await registry.listings.deleted_repositories(after=name, after_id=after_id, limit=limit + 1)
    else:
        found = await registry.listings.repositories(after=after, limit=limit + 1)
    last = found[limit - 1] if len(found) > limit else None
    items = [Repository.model_validate(one) for one in found[:limit]]
    token = None if last is None else f"{last.name}:{last.id}" if deleted else last.name
    return Page(items=items, next=asking.next_page(request, token))


@router.get("/repositories/{repository:path}")
async def show_repository(registry: Registry, repository: asking.Repository) -> Repository:
    """One repository."""
    return Repository.model_validate(await registry.listings.repository(repository))
