"""Which tags of which repositories a rule is about, and how two such choices lie to each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from stackyard.oci.automata import Undecided
from stackyard.oci.languages import exists
from stackyard.oci.patterns import (
    check_repository_glob,
    check_tag_pattern,
    compile_repository_glob,
    compile_tag_pattern,
)

Patterns = tuple[str, ...]

ALL = ("*",)


@dataclass(frozen=True, slots=True)
class Selection:
    """Tags that match one of `tags` and none of `excluding`, in repositories that match the glob.

    Making one raises ValueError, with the reason, where a pattern is none or nothing can match.
    """

    repositories: str
    tags: Patterns = ALL
    excluding: Patterns = ()

    def __post_init__(self) -> None:
        """See the class."""
        check_repository_glob(self.repositories)
        for pattern in (*self.tags, *self.excluding):
            check_tag_pattern(pattern)
        if not self.tags:
            raise ValueError("names no tags")
        if _is_there(((self.repositories,),)) is False:
            raise ValueError(f"{self.repositories!r} can match no repository: no name has such a form")
        if not is_possible(self.tags, self.excluding):
            if self.excluding and is_possible(self.tags):
                excluded = _listed(self.excluding)
                raise ValueError(
                    f"can match no tag: all that {_listed(self.tags)} stands for is excluded by {excluded}"
                )
            raise ValueError(f"{_listed(self.tags)} can match no tag: no tag has such a form")

    def has_repository(self, name: str) -> bool:
        """Whether the rule is about this repository."""
        return compile_repository_glob(self.repositories).fullmatch(name) is not None

    def has_tag(self, tag: str) -> bool:
        """Whether, in such a repository, it is about this tag."""
        return matches(self.tags, tag) and not matches(self.excluding, tag)

    def covers(self, other: "Selection") -> bool:
        """Whether all that `other` is about is among this. False where nobody can tell."""
        return self.covers_repositories(other) and covers_tags(
            (self.tags, self.excluding), (other.tags, other.excluding)
        )

    def covers_repositories(self, other: "Selection") -> bool:
        """Whether every repository of `other` is one of these."""
        return _covers(self.repositories, other.repositories)

    def shares_repositories(self, other: "Selection") -> bool:
        """Whether there can be a repository that both are about."""
        one, two = _beginning(self.repositories), _beginning(other.repositories)
        if not (one.startswith(two) or two.startswith(one)):
            return False
        return _is_there(((self.repositories,), (other.repositories,))) is not False

    def __str__(self) -> str:
        """As people read it."""
        tags = f"{_listed(self.tags)} of {self.repositories}"
        return f"{tags}, excluding {_listed(self.excluding)}" if self.excluding else tags


def _covers(glob: str, other: str) -> bool:
    # All that begins otherwise is out at once, which is nearly everything among many rules.
    if not _beginning(other).startswith(_beginning(glob)):
        return False
    return _is_there(((other,),), ((glob,),)) is False


def _beginning(glob: str) -> str:
    return glob.partition("*")[0]


def matches(patterns: Sequence[str], tag: str) -> bool:
    """Whether any of the patterns stands for this tag."""
    return any(compile_tag_pattern(one).fullmatch(tag) for one in patterns)


def is_possible(tags: Sequence[str], excluding: Sequence[str] = (), also: Sequence[str] = ALL) -> bool:
    """Whether a tag can match one of `tags` and of `also`, and none of `excluding`. True where nobody can tell."""
    if not any(one in ALL for one in tags) and all(one in excluding for one in tags):
        return False
    found = _is_there((tuple(tags), tuple(also)), (tuple(excluding),), tags=True)
    return "*" not in excluding if found is None else found


def covers_tags(
    these: tuple[Sequence[str], Sequence[str]], others: tuple[Sequence[str], Sequence[str]] = ((), ())
) -> bool:
    """Whether each tag that `others`, as (tags, excluding), stands for is one of `these`."""
    (tags, excluding), (other_tags, other_excluding) = these, others
    if ("*" in tags or set(other_tags) <= set(tags)) and set(excluding) <= set(other_excluding):
        return True
    ours, not_ours = tuple(tags), tuple(excluding)
    theirs, not_theirs = tuple(other_tags), tuple(other_excluding)
    return (
        _is_there((theirs,), (ours, not_theirs), tags=True) is False
        and _is_there((theirs, not_ours), (not_theirs,), tags=True) is False
    )


@lru_cache(maxsize=16_384)
def _is_there(each: tuple[Patterns, ...], none: tuple[Patterns, ...] = (), *, tags: bool = False) -> bool | None:
    """As `exists`; None where nobody can tell."""
    try:
        return exists(each, none, tags=tags)
    except Undecided:
        return None


def _listed(patterns: Sequence[str]) -> str:
    return ", ".join(patterns)
