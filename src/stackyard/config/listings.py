"""`catalog` and `tags`: how long one page may be."""

from typing import Annotated

from pydantic import AfterValidator

from stackyard.config.section import Section, option


def _thousand(count: int) -> int:
    """Distribution reads nothing and less than nothing as its default."""
    return count if count > 0 else 1000


class Catalog(Section):
    """`catalog`."""

    maxentries: Annotated[int, AfterValidator(_thousand)] = option(1000, "The most repositories in one answer.")


class Tags(Section):
    """`tags`."""

    maxtags: Annotated[int, AfterValidator(_thousand)] = option(
        1000, "The most tags in one answer to a request with n."
    )
