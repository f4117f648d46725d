"""What endpoints ask for in their signatures: the registry, who calls, names, and the place in a list."""

from collections.abc import Sequence
from typing import Annotated, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from stackyard.oci import names
from stackyard.oci.digests import Digest
from stackyard.registry import registry

T = TypeVar("T")


class Model(BaseModel):
    """A document that we answer: made from a value with the same names."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Asked(BaseModel):
    """A document that a client sends. What it does not know it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Page(Model, Generic[T]):
    """Part of a list, in its order."""

    items: Sequence[T]
    next: str | None = Field(description="Where the list goes on, as path and query; null at its end.")


async def _registry(request: Request) -> registry.Registry:
    """With the repository that the request is about imported, if it still waits for that."""
    found: registry.Registry = request.app.state.registry
    name = request.path_params.get("repository", "")
    if found.imports.pending and names.is_repository(name):
        await found.imports.ensure(name)
    return found


async def _actor(request: Request) -> str:
    actor: str = request.state.principal.actor
    return actor


Registry = Annotated[registry.Registry, Depends(_registry)]
"""The registry that is administered."""
Actor = Annotated[str, Depends(_actor)]
"""Who calls, as `kind:name`."""


def is_text(value: str) -> str:
    """Text that both databases can hold. Raises ValueError."""
    if "\0" in value:
        raise ValueError("holds a NUL")
    return value


Word = Annotated[str, Field(max_length=1024), AfterValidator(is_text)]
"""A text to compare with."""
Repository = Annotated[
    str,
    Path(
        description="A repository's name; it may hold slashes.",
        json_schema_extra={"pattern": f"^{names.REPOSITORY}$", "maxLength": 255, "examples": ["team/app"]},
    ),
    AfterValidator(names.check_repository),
]
Tag = Annotated[
    str,
    Path(
        description="A tag of the repository.",
        json_schema_extra={"pattern": f"^{names.TAG}$", "examples": ["1.0"]},
    ),
    AfterValidator(names.check_tag),
]
ManifestDigest = Annotated[
    str,
    Path(description="The digest of a manifest.", json_schema_extra={"pattern": "^sha256:[a-f0-9]{64}$"}),
    AfterValidator(Digest.parse),
]
After = Annotated[
    str,
    Query(description="Show what follows this one; empty: from the start.", max_length=1024),
    AfterValidator(is_text),
]
Limit = Annotated[int, Query(description="The most items shown.", ge=1, le=1000)]


def next_page(request: Request, after: str | None) -> str | None:
    """The link to what follows `after` in the list that this request asks for; None at its end."""
    if after is None:
        return None
    query = {**request.query_params, "after": after}
    return f"{request.url.path}?{urlencode(query)}"
