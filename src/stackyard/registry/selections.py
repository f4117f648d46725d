"""Which tags of which repositories a rule is about, and how two such choices lie to each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from stackyard.oci.languages import TooEntangled, exists
from stackyard.oci.patterns import (
    REGEX,
    check_repository_glob,
    check_tag_pattern,
    compile_repository_glob,
    compile_tag_pattern,
)

ALL = ("*",)


@dataclass(frozen=True, slots=True)
class Selection:
    """Tags that match one of `tags` and none of `excluding`, in repositories that match the glob.

    Making one raises ValueError, with the reason, where a pattern is none or nothing can match.
    """

    repositories: str
    tags: tuple[str, ...] = ALL
    excluding: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """See the class."""
        check_repository_glob(self.repositories)
        for pattern in (*self.tags, *self.excluding):
            check_tag_pattern(pattern)
        if not self.tags:
            raise ValueError("names no tags")
        if not _decided(lambda: exists([self.repositories], all), unknown=True):
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
        """Whether all that `other` is about is among this. False where regular expressions hide it."""
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
        return _decided(lambda: exists([self.repositories, other.repositories], all), unknown=True)

    def __str__(self) -> str:
        """As people read it."""
        tags = f"{_listed(self.tags)} of {self.repositories}"
        return f"{tags}, excluding {_listed(self.excluding)}" if self.excluding else tags


@lru_cache(maxsize=4096)
def _covers(glob: str, other: str) -> bool:
    # All that begins otherwise is out at once, which is nearly everything among many rules.
    if not _beginning(other).startswith(_beginning(glob)):
        return False
    return not _decided(lambda: exists([glob, other], lambda matched: matched[1] and not matched[0]), unknown=True)


def _beginning(glob: str) -> str:
    return glob.partition("*")[0]


def matches(patterns: Sequence[str], tag: str) -> bool:
    """Whether any of the patterns stands for this tag."""
    return any(compile_tag_pattern(one).fullmatch(tag) for one in patterns)


def is_possible(tags: Sequence[str], excluding: Sequence[str] = (), also: Sequence[str] = ALL) -> bool:
    """Whether a tag can match one of `tags` and of `also`, and none of `excluding`. True where nobody can tell."""
    if not any(one in ALL for one in tags) and all(one in excluding for one in tags):
        return False
    patterns = [*tags, *excluding, *also]
    if any(one.startswith(REGEX) for one in patterns):
        return "*" not in excluding
    ends = len(tags), len(tags) + len(excluding)

    def wanted(matched: Sequence[bool]) -> bool:
        return any(matched[: ends[0]]) and not any(matched[ends[0] : ends[1]]) and any(matched[ends[1] :])

    return _decided(lambda: exists(patterns, wanted, tags=True), unknown=True)


def covers_tags(
    these: tuple[Sequence[str], Sequence[str]], others: tuple[Sequence[str], Sequence[str]] = ((), ())
) -> bool:
    """Whether each tag that `others`, as (tags, excluding), stands for is one of `these`."""
    (tags, excluding), (other_tags, other_excluding) = these, others
    if ("*" in tags or set(other_tags) <= set(tags)) and set(excluding) <= set(other_excluding):
        return True
    patterns = [*tags, *excluding, *other_tags, *other_excluding]
    if any(one.startswith(REGEX) for one in patterns):
        return False
    a, b, c = len(tags), len(tags) + len(excluding), len(tags) + len(excluding) + len(other_tags)

    def witness(matched: Sequence[bool]) -> bool:
        theirs = any(matched[b:c]) and not any(matched[c:])
        return theirs and not (any(matched[:a]) and not any(matched[a:b]))

    return not _decided(lambda: exists(patterns, witness, tags=True), unknown=True)


def _decided(question: Callable[[], bool], *, unknown: bool) -> bool:
    try:
        return question()
    except TooEntangled:
        return unknown


def _listed(patterns: Sequence[str]) -> str:
    return ", ".join(patterns)
