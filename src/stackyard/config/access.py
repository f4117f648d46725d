"""`stackyard.access`: who may do what with which repositories."""

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, model_validator

from stackyard.config.section import LOWER, WORDS, Section, option

Action: TypeAlias = Literal["pull", "push", "delete"]
_GLOB = re.compile(r"[a-z0-9._*-]+(?:/[a-z0-9._*-]+)*", re.ASCII)


def _glob(glob: str) -> str:
    if not _GLOB.fullmatch(glob) or "***" in glob:
        raise ValueError(f"{glob[:60]!r} is not a repository name with * or ** in it")
    return glob


def _name(name: str) -> str:
    if ":" in name or not name.isprintable():
        raise ValueError(f"{name[:60]!r} is not a name a user can have")
    return name


def _not_twice(actions: tuple[Action, ...]) -> tuple[Action, ...]:
    return tuple(dict.fromkeys(actions))


Name: TypeAlias = Annotated[str, AfterValidator(_name)]


class AccessRule(Section):
    """One of `stackyard.access.rules`. Of all that match, the most specific repositories decide."""

    user: Name = option("", "The user this is about.")
    group: Name = option("", "The group of stackyard.access.groups this is about.")
    authenticated: bool = option(False, "About everybody who logged in.")
    anonymous: bool = option(False, "About everybody, logged in or not.")
    repositories: Annotated[str, AfterValidator(_glob)] = option(
        meaning="Repository name; * stands for anything within one path component, ** also across them."
    )
    actions: Annotated[
        tuple[Annotated[Action, LOWER], ...],
        WORDS,
        AfterValidator(_not_twice),
    ] = option(
        meaning="What they may do there: pull, push, delete. An empty list takes away what a broader rule gives."
    )

    @model_validator(mode="after")
    def _one_subject(self) -> "AccessRule":
        named = [self.user, self.group, self.authenticated, self.anonymous]
        if sum(map(bool, named)) != 1:
            raise ValueError("names not exactly one of user, group, authenticated: true and anonymous: true")
        return self


class Access(Section):
    """`stackyard.access`. Without rules, who gets in may do everything; with rules, only what they allow."""

    groups: dict[Name, Annotated[tuple[Name, ...], WORDS]] = option({}, "Group names, each with its users.")
    rules: tuple[AccessRule, ...] = option((), "The rules. A rule for anonymous lets people pull without logging in.")

    @model_validator(mode="after")
    def _known_groups(self) -> "Access":
        for position, rule in enumerate(self.rules):
            if rule.group and rule.group not in self.groups:
                raise ValueError(f".rules[{position}].group: {rule.group!r} is not in stackyard.access.groups")
        return self
