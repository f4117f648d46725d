"""`/api/v1/jobs`: long work that was asked for. Whoever asks for some is answered 202 with the job."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from stackyard.api import asking
from stackyard.api.asking import Actor, Limit, Model, Page, Registry
from stackyard.api.mount import PREFIX

router = APIRouter(tags=["jobs"])

_MOST = 2**62
Number = Annotated[int, Path(description="The job's number.", ge=1, le=_MOST)]


class Progress(Model):
    """How far a job is."""

    step: str = Field(description="What is being done, in words for people.")
    done: int
    total: int | None = Field(description="Of which so much is done; null where nobody knows.")
    unit: str = Field(description="What is counted: bytes, blobs and so on.")


class Job(Model):
    """Long work."""

    id: int
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    cancelled: bool = Field(description="Somebody asked for it to end early.")
    request: dict[str, Any] = Field(description="What was asked for.")
    progress: Progress | None = Field(description="Null before it began.")
    result: dict[str, Any] | None = Field(
        description="What came of it; of a failed job `code` and `detail` as in a problem; null before its end."
    )
    attempts: int = Field(description="How often it was begun: more than once when processes ended on the way.")
    created_at: datetime
    created_by: str
    started_at: datetime | None
    finished_at: datetime | None


def shown(row: Any) -> Job:
    """A job as a document."""
    progress = Progress.model_validate(row.progress) if row.progress else None
    fields = ("id", "kind", "state", "cancelled", "request", "result", "attempts")
    times = ("created_at", "created_by", "started_at", "finished_at")
    return Job(progress=progress, **{name: getattr(row, name) for name in (*fields, *times)})


async def accepted(registry: Registry, response: Response, kind: str, request: Mapping[str, Any], *, actor: str) -> Job:
    """Ask for work of this kind, and say where to look for it. For endpoints with `status_code=202`."""
    job = await registry.jobs.ask(kind, request, actor=actor)
    response.headers["Location"] = f"{PREFIX}/jobs/{job.id}"
    return shown(job)


@router.get("/jobs")
async def list_jobs(
    request: Request,
    registry: Registry,
    after: Annotated[int | None, Query(description="Show what is older than this job.", ge=1, le=_MOST)] = None,
    limit: Limit = 100,
    only_open: Annotated[bool, Query(description="Leave out what is finished.")] = False,
) -> Page[Job]:
    """Jobs, the youngest first."""
    found = await registry.jobs.page(before=after, limit=limit + 1, only_open=only_open)
    items = [shown(one) for one in found[:limit]]
    return Page(items=items, next=asking.next_page(request, str(items[-1].id) if len(found) > limit else None))


@router.get("/jobs/{number}")
async def show_job(registry: Registry, number: Number) -> Job:
    """One job: how far it is, or what came of it."""
    return shown(await registry.jobs.find(number))


@router.post("/jobs/{number}/cancel", status_code=202)
@router.delete("/jobs/{number}", status_code=202)
async def cancel_job(registry: Registry, actor: Actor, number: Number) -> Job:
    """Ask for the end of a job. It ends at its next step; what it did until then stays done."""
    return shown(await registry.jobs.cancel(number, actor=actor))
