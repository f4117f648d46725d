"""`/api/v1/retention`: what the rules would let go, and letting it go."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, Field

from stackyard.api import asking
from stackyard.api.asking import Actor, After, Asked, Limit, Model, Page, Registry
from stackyard.api.jobs import Job, accepted
from stackyard.oci import names
from stackyard.registry.cleanup import Preview

router = APIRouter(tags=["retention"])

_Name = Annotated[str, AfterValidator(names.check_repository)]


class Summary(Model):
    """What a run would do with one repository."""

    repository: str
    tags: int
    goes: int = Field(description="How many of them a run removes.")
    held_back: bool = Field(description="More than half would go: a run leaves the repository alone unless forced.")


class Verdict(Model):
    """What happens to a tag, and why."""

    tag: str
    digest: str
    pushed_at: datetime
    pulled_at: datetime | None = Field(description="By the tag, or by a digest that it reaches; null: not known to be.")
    goes: bool
    reason: str
    rules: Sequence[str] = Field(description="The rule that keeps it, or all that let it go.")


class Run(Asked):
    """What to run."""

    repository: _Name | None = Field(None, description="Only this one; all, when missing.")
    force: bool = Field(False, description="Also where more than half of a repository's tags go.")


@router.get("/retention/repositories")
async def list_retention(
    request: Request,
    registry: Registry,
    after: After = "",
    limit: Annotated[int, Query(description="The most items shown.", ge=1, le=100)] = 20,
) -> Page[Summary]:
    """Repositories that a rule is about, in the order of their names, and how much of each would go."""
    found = await registry.cleanup.previews(after=after, limit=limit + 1)
    items = [_summary(one) for one in found[:limit]]
    return Page(items=items, next=asking.next_page(request, items[-1].repository if len(found) > limit else None))


@router.get("/retention/preview")
async def preview_retention(
    request: Request,
    registry: Registry,
    repository: Annotated[_Name, Query(description="The repository's name.")],
    after: After = "",
    limit: Limit = 100,
) -> Page[Verdict]:
    """Every tag of a repository in byte order, whether a run would remove it now, and why."""
    found = await registry.cleanup.verdicts(repository, after=after, limit=limit + 1)
    items = [
        Verdict(
            tag=one.tag.name,
            digest=one.tag.digest,
            pushed_at=one.tag.pushed,
            pulled_at=one.tag.pulled,
            goes=one.goes,
            reason=one.reason,
            rules=one.rules,
        )
        for one in found[:limit]
    ]
    return Page(items=items, next=asking.next_page(request, items[-1].tag if len(found) > limit else None))


@router.post("/retention/run", status_code=202)
async def run_retention(registry: Registry, actor: Actor, response: Response, what: Run) -> Job:
    """Remove now what the rules let go. It can be restored, as whatever is deleted."""
    return await accepted(registry, response, "retention", what.model_dump(), actor=actor)


def _summary(preview: Preview) -> Summary:
    return Summary(
        repository=preview.repository,
        tags=len(preview.verdicts),
        goes=len(preview.doomed),
        held_back=preview.is_too_much,
    )
