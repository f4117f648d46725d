"""Scopes as clients ask for them, and access as tokens carry it (distribution token specification).

A scope is `type:name:action,action`. A name may hold colons (`host:port/name`), so the type ends at the first colon and
the actions start after the last. Actions and types we do not know are dropped, never an error: the answer is what was
asked and is allowed, and that may be nothing.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stackyard.auth.principals import EVERYTHING, NOTHING, Action, Grant
from stackyard.oci.errors import BadRequest

# A token goes into a header of every request, and servers limit headers to some 8 to 64 KiB.
MAX_LENGTH = 16_384
MAX_REPOSITORIES = 64

# Docker marks plugins `repository(plugin)`; that is a class of content, not another kind of repository.
_REPOSITORY_TYPE = re.compile(r"repository(?:\([a-z0-9]+\))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Scopes:
    """What is asked for, or carried: repositories in order of first mention, the catalogue, administration."""

    grants: tuple[Grant, ...] = ()
    catalog: bool = False
    administration: bool = False

    def __bool__(self) -> bool:
        """Whether it is any access at all."""
        return bool(self.grants) or self.catalog or self.administration

    def claim(self) -> list[dict[str, object]]:
        """The `access` claim of a token."""
        entries: list[dict[str, object]] = [
            {"type": "repository", "name": grant.repository, "actions": sorted(grant.actions)} for grant in self.grants
        ]
        entries += [{"type": "registry", "name": name, "actions": ["*"]} for name in self._whole]
        return entries

    @property
    def _whole(self) -> list[str]:
        """What is about the whole registry."""
        named = {"catalog": self.catalog, "administration": self.administration}
        return [name for name, carried in named.items() if carried]

    def __str__(self) -> str:
        """The same as scopes, separated by spaces."""
        scopes = [f"repository:{grant.repository}:{','.join(sorted(grant.actions))}" for grant in self.grants]
        return " ".join([*scopes, *(f"registry:{name}:*" for name in self._whole)])


def parse(scopes: Iterable[str]) -> Scopes:
    """Read scopes: each text may hold several, separated by spaces; repeated names unite.

    Raises:
        BadRequest: More than a token can carry.
    """
    texts = list(scopes)
    if sum(map(len, texts)) > MAX_LENGTH:
        raise BadRequest("the scopes asked for are too long")
    entries = []
    for scope in " ".join(texts).split():
        head, colon, actions = scope.rpartition(":")
        kind, other, name = head.partition(":")
        if colon and other:
            entries.append((kind, name, actions.split(",")))
    asked = _collect(entries)
    if len(asked.grants) > MAX_REPOSITORIES:
        raise BadRequest(f"one token can be for {MAX_REPOSITORIES} repositories at most")
    return asked


def from_claim(claim: object) -> Scopes:
    """Read the `access` claim of a token; None stands for no access.

    Raises:
        ValueError: It has another form than the specification's.
    """
    if claim is None:
        return Scopes()
    if not isinstance(claim, list):
        raise ValueError("access is not a list")
    return _collect([_entry(entry) for entry in claim])


def _entry(entry: object) -> tuple[str, str, list[str]]:
    if not isinstance(entry, Mapping):
        raise ValueError("an entry of access is not an object")
    kind, name, actions = entry.get("type"), entry.get("name"), entry.get("actions") or []
    if not isinstance(kind, str) or not isinstance(name, str) or not isinstance(actions, list):
        raise ValueError("an entry of access has the wrong types")
    return kind, name, [action for action in actions if isinstance(action, str)]


def _collect(entries: Iterable[tuple[str, str, list[str]]]) -> Scopes:
    asked: dict[str, frozenset[Action]] = {}
    whole: set[str] = set()
    for kind, name, actions in entries:
        if _REPOSITORY_TYPE.fullmatch(kind) and name:
            asked[name] = asked.get(name, NOTHING) | _actions(actions)
        elif kind == "registry" and "*" in actions:
            whole.add(name)
    grants = tuple(Grant(name, allowed) for name, allowed in asked.items() if allowed)
    return Scopes(grants, "catalog" in whole, "administration" in whole)


def _actions(names: Iterable[str]) -> frozenset[Action]:
    named = set(names)
    return EVERYTHING if "*" in named else frozenset(action for action in EVERYTHING if action in named)
