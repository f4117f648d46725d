"""`/api/v1/repositories`."""

from datetime import datetime

from fastapi import APIRouter, Request
from pydantic import Field

from stackyard.api import asking
from stackyard.api.asking import After, Limit, Model, Page, Registry

router = APIRouter(tags=["repositories"])


class Repository(Model):
    """A repository."""

    name: str
    created_at: datetime = Field(description="When something was first pushed to it.")


@router.get("/repositories")
async def list_repositories(
    request: Request, registry: Registry, after: After = "", limit: Limit = 100
) -> Page[Repository]:
    """Repositories that ever held a manifest, in the order of their names."""
    found = await registry.listings.repositories(after=after, limit=limit + 1)
    items = [Repository.model_validate(one) for one in found[:limit]]
    return Page(items=items, next=asking.next_page(request, items[-1].name if len(found) > limit else None))


@router.get("/repositories/{repository:path}")
async def show_repository(registry: Registry, repository: asking.Repository) -> Repository:
    """One repository."""
    return Repository.model_validate(await registry.listings.repository(repository))
