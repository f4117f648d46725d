"""`/api/v1/audit`: what administrators changed."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, Field

from stackyard.api import asking
from stackyard.api.asking import Limit, Model, Page, Registry, Word

router = APIRouter(tags=["audit"])

_MOST = 2**62


class Entry(Model):
    """Something that was changed."""

    id: int
    happened_at: datetime
    actor: str = Field(description="Who: a kind and a name, such as user:alice or local:root.")
    action: str = Field(description="What, as a noun and a verb, such as tag.delete.")
    repository: str | None
    detail: dict[str, Any] = Field(description="What exactly; its members depend on the action.")


@router.get("/audit")
async def list_audit(  # noqa: PLR0913 - each is a parameter of the request
    request: Request,
    registry: Registry,
    actor: Annotated[Word | None, Query(description="Only what this one did.")] = None,
    action: Annotated[Word | None, Query(description="Only this action.")] = None,
    repository: Annotated[Word | None, Query(description="Only in this repository.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Only what happened then or later.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Only what happened before.")] = None,
    after: Annotated[int | None, Query(description="Show what is older than this entry.", ge=1, le=_MOST)] = None,
    limit: Limit = 100,
) -> Page[Entry]:
    """What was changed, the youngest first."""
    found = await registry.audit.page(
        actor=actor, action=action, repository=repository, since=since, until=until, before=after, limit=limit + 1
    )
    items = [Entry.model_validate(one) for one in found[:limit]]
    return Page(items=items, next=asking.next_page(request, str(items[-1].id) if len(found) > limit else None))
