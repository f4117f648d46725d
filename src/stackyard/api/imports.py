"""`/api/v1/import` and `/api/v1/distribution`: what came from docker-registry, and giving it back."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from stackyard.api import asking
from stackyard.api.asking import Actor, Limit, Model, Page, Registry
from stackyard.api.jobs import Job, accepted

router = APIRouter(tags=["import"])

_MOST = 2**62


class Import(Model):
    """How far the import of the volume is."""

    state: Literal["listing", "reading", "done"] = Field(
        description="listing: repositories are looked for; done: also where there was nothing to import."
    )
    repositories: int = Field(description="Found so far.")
    waiting: int = Field(description="Repositories that are not imported yet; who asks for one has it imported first.")
    manifests: int
    tags: int
    problems: int = Field(description="What was not taken over as it was: see `import/problems`.")


class ImportProblem(Model):
    """Something that was not taken over as it was."""

    path: str = Field(description="Below the root of the volume.")
    reason: str


@router.get("/import")
async def show_import(registry: Registry) -> Import:
    """How far the import of the volume is."""
    return Import.model_validate(await registry.imports.progress())


@router.get("/import/problems")
async def list_import_problems(
    request: Request,
    registry: Registry,
    after: Annotated[int, Query(description="Show what was found after this one.", ge=0, le=_MOST)] = 0,
    limit: Limit = 100,
) -> Page[ImportProblem]:
    """What was not taken over as it was, in the order in which it was found."""
    found = await registry.imports.page(after=after, limit=limit + 1)
    items = [ImportProblem.model_validate(problem) for _, problem in found[:limit]]
    last = str(found[limit - 1][0]) if len(found) > limit else None
    return Page(items=items, next=asking.next_page(request, last))


@router.post("/distribution", status_code=202)
async def update_distribution(registry: Registry, actor: Actor, response: Response) -> Job:
    """Bring docker-registry's files on the volume up to date. The result names what it cannot serve whole."""
    return await accepted(registry, response, "distribution", {}, actor=actor)
