"""`/api/v1/quotas`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import AfterValidator, Field

from stackyard.api import asking
from stackyard.api.asking import Actor, Asked, Limit, Model, Page, Registry
from stackyard.registry import quotas

router = APIRouter(tags=["quotas"])

_PREFIX = "What repositories' names begin with, such as `team-a/`; empty for the whole registry."
Prefix = Annotated[str, Query(description=_PREFIX, max_length=300), AfterValidator(asking.is_text)]


class Quota(Model):
    """A limit on what the repositories below a prefix hold together, and how much that is."""

    prefix: str = Field(description=_PREFIX)
    max_bytes: int | None = Field(description="The most bytes; null: any number.")
    max_repositories: int | None = Field(description="The most repositories; null: any number.")
    used_bytes: int = Field(description="Bytes, each distinct blob and manifest counted once.")
    used_repositories: int
    counting: bool = Field(description="What was there before the quota is still being counted.")
    source: Literal["config", "api"] = Field(description="config: it can be changed in the configuration file only.")
    updated_at: datetime
    updated_by: str
    warning: str | None = Field(None, description="What whoever set the quota should know.")


class Limits(Asked):
    """A quota to be set."""

    prefix: Annotated[str, AfterValidator(asking.is_text)] = Field(description=_PREFIX, max_length=300)
    max_bytes: int | None = Field(None, description="The most bytes; null: any number.")
    max_repositories: int | None = Field(None, description="The most repositories; null: any number.")


class Difference(Model):
    """Something that the counts say otherwise than the content."""

    what: str = Field(description="A digest, or `bytes` or `repositories`.")
    counted: int
    found: int


class Recount(Model):
    """A quota, counted again."""

    prefix: str
    counting: bool = Field(description="It is being counted for the first time, so nothing was compared.")
    digests: int
    used_bytes: int
    used_repositories: int
    differences: Sequence[Difference]
    more: int = Field(description="Digests with a difference that are not in the list.")


@router.get("/quotas")
async def list_quotas(
    request: Request, registry: Registry, after: Prefix | None = None, limit: Limit = 100
) -> Page[Quota]:
    """Quotas in the order of their prefixes."""
    found = await registry.quotas.page(after=after, limit=limit + 1)
    items = [_shown(one) for one in found[:limit]]
    return Page(items=items, next=asking.next_page(request, items[-1].prefix if len(found) > limit else None))


@router.put("/quotas")
async def set_quota(registry: Registry, actor: Actor, limits: Limits) -> Quota:
    """Set or change the quota on a prefix. What is there already counts; large stores are counted in the background."""
    checked = quotas.check(limits.prefix, limits.max_bytes, limits.max_repositories)
    return _shown(await registry.quotas.set(checked, actor=actor))


@router.delete("/quotas", status_code=204)
async def remove_quota(registry: Registry, actor: Actor, prefix: Prefix) -> None:
    """Remove the quota on a prefix."""
    await registry.quotas.remove(prefix, actor=actor)


@router.get("/quotas/usage")
async def show_quota(registry: Registry, prefix: Prefix) -> Quota:
    """The quota on exactly this prefix."""
    return _shown(await registry.quotas.find(prefix))


@router.post("/quotas/verify")
async def verify_quotas(registry: Registry, prefix: Prefix | None = None) -> Sequence[Recount]:
    """Count everything again, for one prefix or for all, and compare. Changes nothing."""
    return [Recount.model_validate(one) for one in await registry.quotas.verify(prefix)]


def _shown(quota: quotas.Shown) -> Quota:
    return Quota.model_validate(quota).model_copy(update={"warning": quotas.warning(quota)})
