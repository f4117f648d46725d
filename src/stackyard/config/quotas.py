"""`stackyard.quotas`: how much the repositories below a path may hold together."""

import re
from typing import Annotated

from pydantic import AfterValidator, model_validator

from stackyard.config.section import SIZE, Section, option

_PATH = re.compile(r"(?:[a-z0-9][a-z0-9._-]*/)+", re.ASCII)


def _prefix(prefix: str) -> str:
    prefix = "" if prefix == "/" else prefix
    if prefix and not _PATH.fullmatch(prefix):
        raise ValueError(f"{prefix[:60]!r} is not the beginning of repository names, such as team-a/, or / for all")
    return prefix


class Quota(Section):
    """One of `stackyard.quotas`: a limit on what the repositories below a path hold together."""

    prefix: Annotated[str, AfterValidator(_prefix)] = option(
        meaning="What their names begin with, such as team-a/; / for the whole registry."
    )
    bytes: Annotated[int | None, SIZE] = option(
        None, "The most bytes; a layer that several share counts once.", ge=1, lt=2**63
    )
    repositories: int | None = option(None, "The most repositories.", ge=1, lt=2**63)

    @model_validator(mode="after")
    def _limits(self) -> "Quota":
        if self.bytes is None and self.repositories is None:
            raise ValueError("limits nothing: give bytes, repositories or both")
        return self
