"""Rules: who may do what on which repositories, and how the one that counts is found.

- `*` in a repository glob stays within one path component, `**` crosses them, `**/` before one also stands for none.
- The most specific glob decides: an exact name before any wildcard, then the one with the most characters before its
  first wildcard. Rules of equal rank, of the user and of its groups, unite.
- Nothing matches: nothing is allowed. A rule without actions takes away what a broader one gives.
- What anonymous callers may do, everybody may do: logging in never takes a right away.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

from stackyard.auth.principals import NOTHING, Action, Principal
from stackyard.oci.patterns import check_repository_glob, compile_repository_glob

SubjectKind: TypeAlias = Literal["user", "robot", "group", "anonymous", "authenticated"]
# Decisions kept per process: about 200 bytes each.
_REMEMBERED = 16_384


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a rule is about. `anonymous` (everybody) and `authenticated` (everybody who logged in) have no name."""

    kind: SubjectKind
    name: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a nameless user or group, or a name where none belongs."""
        if (self.kind in ("anonymous", "authenticated")) == bool(self.name):
            raise ValueError(f"a rule for {self.kind} {'takes no' if self.name else 'needs a'} name")


@dataclass(frozen=True, slots=True)
class Rule:
    """`subject` may do `actions` on the repositories that `glob` matches."""

    subject: Subject
    glob: str
    actions: frozenset[Action]

    def __post_init__(self) -> None:
        """Raises ValueError when the glob can match no repository."""
        check_repository_glob(self.glob)

    @property
    def rank(self) -> tuple[bool, int]:
        """How specific the glob is; the highest rank that matches decides."""
        first = self.glob.find("*")
        return (first < 0, len(self.glob) if first < 0 else first)


@dataclass(frozen=True, slots=True)
class _Compiled:
    rank: tuple[bool, int]
    pattern: re.Pattern[str]
    actions: frozenset[Action]


class Rules:
    """An unchanging set of rules. New rules are a new object, so no decision outlives what it was made from."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        """Compile `rules`; their order means nothing."""
        self._by_subject: dict[Subject, list[_Compiled]] = {}
        for rule in rules:
            compiled = _Compiled(rule.rank, compile_repository_glob(rule.glob), rule.actions)
            self._by_subject.setdefault(rule.subject, []).append(compiled)
        self._decide = lru_cache(maxsize=_REMEMBERED)(self._evaluate)

    @property
    def know_anonymous(self) -> bool:
        """Whether any rule is about callers who did not log in."""
        return Subject("anonymous") in self._by_subject

    def actions(self, principal: Principal, repository: str) -> frozenset[Action]:
        """What `principal` may do on `repository`, whatever its token says."""
        return self._decide(principal.actor if principal.identified else "", principal.groups, repository)

    def _evaluate(self, actor: str, groups: frozenset[str], repository: str) -> frozenset[Action]:
        allowed = self._most_specific([Subject("anonymous")], repository)
        if actor:
            kind, _, name = actor.partition(":")
            subjects = [Subject("authenticated"), *(Subject("group", group) for group in groups)]
            if name and kind in ("user", "robot"):
                subjects.append(Subject("user" if kind == "user" else "robot", name))
            allowed |= self._most_specific(subjects, repository)
        return allowed

    def _most_specific(self, subjects: Iterable[Subject], repository: str) -> frozenset[Action]:
        matching = [
            rule
            for subject in subjects
            for rule in self._by_subject.get(subject, ())
            if rule.pattern.fullmatch(repository)
        ]
        highest = max((rule.rank for rule in matching), default=None)
        return NOTHING.union(*(rule.actions for rule in matching if rule.rank == highest))
