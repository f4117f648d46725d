"""`/api/v1/usage`: how many bytes are where."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import AfterValidator, Field

from stackyard.api import asking
from stackyard.api.asking import After, Limit, Model, Registry

router = APIRouter(tags=["usage"])


class Usage(Model):
    """The bytes of some repositories, those included that are deleted and can be restored."""

    repositories: int = Field(description="How many there are.")
    logical: int = Field(description="If each repository had its blobs to itself.")
    stored: int = Field(description="Each blob once.")
    unique: int = Field(description="Of blobs that no other repository has: what would go with these.")
    reclaimable: int = Field(
        description="Of blobs that only deleted things need, or nothing: what goes by itself after the undo span."
    )


class RepositoryUsage(Usage):
    """The bytes of one repository."""

    name: str


class UsagePage(Model):
    """Repositories and what they hold together."""

    total: Usage | None = Field(description="Of all repositories asked for; only with the first page.")
    items: Sequence[RepositoryUsage]
    next: str | None = Field(description="Where the list goes on, as path and query; null at its end.")


@router.get("/usage")
async def show_usage(
    request: Request,
    registry: Registry,
    prefix: Annotated[
        str,
        Query(description="What their names begin with; empty: all repositories.", max_length=300),
        AfterValidator(asking.is_text),
    ] = "",
    after: After = "",
    limit: Limit = 100,
) -> UsagePage:
    """How many bytes repositories hold, each and together. Reads every link of theirs, so it may take seconds."""
    total = None if after else Usage.model_validate(await registry.listings.usage(prefix))
    found = await registry.listings.usages(prefix, after=after, limit=limit + 1)
    items = [
        RepositoryUsage.model_validate({"name": name, **Usage.model_validate(one).model_dump()})
        for name, one in found[:limit]
    ]
    token = items[-1].name if len(found) > limit else None
    return UsagePage(total=total, items=items, next=asking.next_page(request, token))
