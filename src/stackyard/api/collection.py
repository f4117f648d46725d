"""Collecting, purging, scrubbing and checking: work that takes long, so it is answered with a job."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, Field, model_validator

from stackyard.api import asking
from stackyard.api.asking import Actor, After, Asked, Limit, Model, Page, Registry
from stackyard.api.jobs import Job, accepted
from stackyard.oci import names
from stackyard.oci.digests import Digest

router = APIRouter(tags=["collection"])

_CENTURY = 100 * 365 * 86400


class Collect(Asked):
    """What to collect."""

    grace_seconds: int | None = Field(
        None,
        description="Cuts the undo span of what was deleted before; what clients were promised stays in any case.",
        ge=0,
        le=_CENTURY,
    )
    dry_run: bool = Field(False, description="Only say what would go.")
    delete_untagged: bool = Field(False, description="Delete every manifest that no tag reaches; it can be restored.")


class Purge(Asked):
    """What to take away for good: a tag or manifest of a repository, a whole repository, or a blob everywhere."""

    repository: Annotated[str, AfterValidator(names.check_repository)] | None = None
    tag: Annotated[str, AfterValidator(names.check_tag)] | None = None
    digest: Annotated[str, AfterValidator(Digest.parse)] | None = None

    @model_validator(mode="after")
    def _check(self) -> "Purge":
        if self.tag and (self.digest or not self.repository):
            raise ValueError("a tag needs its repository, and no digest beside it")
        if not self.repository and not self.digest:
            raise ValueError("name a repository, or a digest")
        return self


class Scrub(Asked):
    """How to read everything back."""

    rate: int = Field(0, description="Bytes per second; 0: as fast as possible.", ge=0, le=2**50)


class Check(Asked):
    """What to do about what is found."""

    repair: bool = Field(
        False, description="Quarantine blobs whose file is missing or of another size; remove files that no row owns."
    )


class Damaged(Model):
    """A blob that is kept from clients as its bytes are not what they should be."""

    digest: str
    location: str
    size: int = Field(description="Bytes that it should have.")
    damage: str
    tags: list[str] = Field(description="Who misses it, as repository:tag; a hundred at most.")


@router.post("/gc", status_code=202)
async def collect(registry: Registry, actor: Actor, response: Response, wanted: Collect) -> Job:
    """Collect what nothing needs, now and fast. It happens by itself as well, slowly."""
    return await accepted(registry, response, "gc", wanted.model_dump(), actor=actor)


@router.post("/gc/resume", status_code=204)
async def resume(registry: Registry, actor: Actor) -> None:
    """Collection paused as the clock leapt; the clock is right."""
    await registry.collection.resume(actor=actor)


@router.post("/purge", status_code=202)
async def purge(registry: Registry, actor: Actor, response: Response, wanted: Purge) -> Job:
    """Take a named thing away at once and for good, whatever was promised."""
    return await accepted(registry, response, "purge", wanted.model_dump(), actor=actor)


@router.post("/scrub", status_code=202)
async def scrub(registry: Registry, actor: Actor, response: Response, wanted: Scrub) -> Job:
    """Read every stored blob back, and quarantine what is damaged."""
    return await accepted(registry, response, "scrub", wanted.model_dump(), actor=actor)


@router.post("/check", status_code=202)
async def check(registry: Registry, actor: Actor, response: Response, wanted: Check) -> Job:
    """Compare what the database and the store tell of each other."""
    return await accepted(registry, response, "check", wanted.model_dump(), actor=actor)


@router.get("/damaged")
async def list_damaged(request: Request, registry: Registry, after: After = "", limit: Limit = 100) -> Page[Damaged]:
    """Blobs in quarantine: push their images again, which heals them everywhere."""
    found = await registry.scrub.damaged(after=after, limit=limit + 1)
    items = [Damaged.model_validate(one) for one in found[:limit]]
    return Page(items=items, next=asking.next_page(request, items[-1].digest if len(found) > limit else None))
