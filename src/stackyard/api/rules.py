"""`/api/v1/rules`: what is kept of which tags, which tags never change, what they look like."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field

from stackyard.api import asking
from stackyard.api.asking import Actor, Asked, Limit, Model, Page, Registry, Word

router = APIRouter(tags=["rules"])

_MOST = 2**62
_SPAN = "A length of time such as 14d, 36h or 2w."
Number = Annotated[int, Path(description="The rule's number.", ge=1, le=_MOST)]
Words = Annotated[Sequence[Word], Field(max_length=100)]


class Keep(Asked):
    """What a retention rule keeps. What any of these, or any other rule, keeps is kept."""

    last: int | None = Field(None, description="So many tags that were pushed last.", ge=1, le=_MOST)
    pulled: Word | None = Field(None, description=f"Tags that were pulled within this span. {_SPAN}")
    newer: Word | None = Field(None, description=f"Tags that were pushed within this span. {_SPAN}")
    matching: Words | None = Field(None, description="Tags like these, written as in `tags`.")


class Written(Asked):
    """A rule as it is sent."""

    kind: Literal["retention", "immutable", "form"] = Field(
        description="retention: what is kept of the tags. immutable: they never change. form: what they look like."
    )
    repositories: Word = Field(
        description="Repository name; `*` stands for anything within one path component, `**` also across them."
    )
    tags: Words | None = Field(
        None,
        description="Tags it is about, none of a form; all, when missing. `*` stands for anything; `re:` and a regular "
        "expression has to match the whole tag.",
    )
    excluding: Words | None = Field(None, description="Of those, tags it is not about.")
    keep: Keep | None = Field(None, description="Of a retention rule.")
    pattern: Word | None = Field(None, description="Of a form: version-date-commit, or a pattern as in `tags`.")

    def detail(self) -> dict[str, Any]:
        """As the registry keeps it."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"kind"})


class Rule(Model):
    """A rule."""

    id: int
    kind: str
    rule: dict[str, Any] = Field(description="What it says, as it was sent, without `kind`.")
    source: Literal["config", "api"] = Field(description="config: it can be changed in the configuration file only.")
    updated_at: datetime
    updated_by: str


@router.get("/rules")
async def list_rules(
    request: Request,
    registry: Registry,
    after: Annotated[int, Query(description="Show what follows this rule.", ge=0, le=_MOST)] = 0,
    limit: Limit = 100,
) -> Page[Rule]:
    """Rules, the oldest first."""
    found = [one for one in await registry.rules.list() if one.id > after]
    items = [_shown(one) for one in found[:limit]]
    return Page(items=items, next=asking.next_page(request, str(items[-1].id) if len(found) > limit else None))


@router.post("/rules", status_code=201)
async def add_rule(registry: Registry, actor: Actor, rule: Written) -> Rule:
    """Add a rule. One that cannot match, has no effect or would keep nothing is refused with the reason."""
    return _shown(await registry.rules.add(rule.kind, rule.detail(), actor=actor))


@router.get("/rules/{number}")
async def show_rule(registry: Registry, number: Number) -> Rule:
    """One rule."""
    return _shown(await registry.rules.find(number))


@router.put("/rules/{number}")
async def change_rule(registry: Registry, actor: Actor, number: Number, rule: Written) -> Rule:
    """Let a rule say something else."""
    return _shown(await registry.rules.change(number, rule.kind, rule.detail(), actor=actor))


@router.delete("/rules/{number}", status_code=204)
async def remove_rule(registry: Registry, actor: Actor, number: Number) -> None:
    """Remove a rule."""
    await registry.rules.remove(number, actor=actor)


def _shown(row: Any) -> Rule:
    fields = ("id", "kind", "source", "updated_at", "updated_by")
    return Rule(rule=row.detail, **{name: getattr(row, name) for name in fields})
