"""`validation`: what a manifest may contain."""

import re
import warnings
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from stackyard.config.section import LOWER, MANY, Section, option, section


def _pattern(pattern: str) -> str:
    """Go's classes such as [[:alpha:]] are something else to Python, which only warns; better refuse than misread."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError, Warning):
        raise ValueError(f"{pattern[:60]!r} is not a regular expression that can be read here") from None
    return pattern


Patterns = Annotated[tuple[Annotated[str, AfterValidator(_pattern)], ...], MANY]


class Urls(Section):
    """`validation.manifests.urls`. With neither list every foreign URL is taken, as the specification asks."""

    allow: Patterns = option((), "Regular expressions of which a layer's foreign URL must match one.")
    deny: Patterns = option((), "Regular expressions of which it must match none.")


class Platform(Section):
    """One of `validation.manifests.indexes.platformlist`."""

    os: str = option(meaning="The operating system, as in the index.")
    architecture: str = option(meaning="The architecture, as in the index.")


class Indexes(Section):
    """`validation.manifests.indexes`."""

    platforms: Annotated[Literal["all", "none", "list"], LOWER] = option(
        "all", "Which children of an index must be here when it is pushed: all, none, or those of platformlist."
    )
    platformlist: tuple[Platform, ...] = option((), "The platforms that must be here when platforms is list.")

    @model_validator(mode="after")
    def _listed(self) -> "Indexes":
        if self.platforms == "list" and not self.platformlist:
            raise ValueError(".platformlist: is empty while platforms is list; name the platforms")
        return self


class Manifests(Section):
    """`validation.manifests`."""

    urls: Urls = section(Urls)
    indexes: Indexes = section(Indexes)


class Validation(Section):
    """`validation`."""

    enabled: bool = option(False, "The old way to turn validation on; wins over disabled.")
    disabled: bool = option(
        False, "Whether the rules under manifests are left out: any foreign URL, and indexes without their children."
    )
    manifests: Manifests = section(Manifests)

    @property
    def active(self) -> bool:
        """Whether the rules under `manifests` apply, as Distribution reads the two switches."""
        return self.enabled or not self.disabled
