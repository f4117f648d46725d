"""Rules about tags themselves: which never change, and what form they must have. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations

from stackyard.oci.errors import RuleRefused
from stackyard.oci.patterns import REGEX, check_tag_pattern, compile_tag_pattern
from stackyard.registry.selections import ALL, Selection, covers_tags, is_possible

VERSION_DATE_COMMIT = "version-date-commit"
_EXAMPLE = "1.0.0-20230801-a1b2c3d"
_VERSION_DATE_COMMIT = re.compile(r"\d+\.\d+\.\d+-(\d{4})(\d\d)(\d\d)-[0-9a-f]{7,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Immutable:
    """Tags that never point elsewhere, and are not deleted."""

    selection: Selection
    name: str
    """As an administrator knows the rule."""


@dataclass(frozen=True, slots=True)
class Form:
    """What new and moved tags of some repositories have to look like. Raises ValueError when none could."""

    selection: Selection
    """`excluding` are tags that may look otherwise."""
    pattern: str
    """A tag pattern, or the name of the preset."""
    name: str

    def __post_init__(self) -> None:
        """See the class."""
        if self.pattern == VERSION_DATE_COMMIT:
            return
        check_tag_pattern(self.pattern)
        if not is_possible([self.pattern]):
            raise ValueError(f"{self.pattern!r} can match no tag, so nothing could be pushed")
        if covers_tags(([self.pattern], ()), (ALL, ())):
            raise ValueError(f"{self.pattern!r} lets every tag through, so the rule would have no effect")
        if "*" not in self.pattern and not self.pattern.startswith(REGEX):
            raise ValueError(
                f"{self.pattern!r} lets no other tag through than this one: write * for what may differ, or "
                f"{VERSION_DATE_COMMIT} for tags such as {_EXAMPLE}"
            )

    def allows(self, tag: str) -> bool:
        """Whether the tag may be set."""
        if not self.selection.has_tag(tag):
            return True
        if self.pattern == VERSION_DATE_COMMIT:
            return is_version_date_commit(tag)
        return compile_tag_pattern(self.pattern).fullmatch(tag) is not None

    @property
    def expected(self) -> str:
        """What a tag must be like, in words."""
        if self.pattern == VERSION_DATE_COMMIT:
            form = f"VERSION-DATE-COMMIT, such as {_EXAMPLE} (a real date, 7 to 40 hex digits)"
        else:
            form = f"like {self.pattern}"
        others = self.selection.excluding
        return f"{form}, or one of {', '.join(others)}" if others else form


def is_version_date_commit(tag: str) -> bool:
    """Whether the tag is like 1.0.0-20230801-a1b2c3d: a real date, 7 to 40 hexadecimal digits."""
    match = _VERSION_DATE_COMMIT.fullmatch(tag)
    if match is None:
        return False
    year, month, day = map(int, match.groups())
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def form_of(forms: Sequence[Form], repository: str) -> Form | None:
    """The one that decides about this repository: that with the most specific name."""
    about = [one for one in forms if one.selection.has_repository(repository)]
    return max(about, key=_rank, default=None)


def immutable_by(rules: Sequence[Immutable], tag: str) -> str | None:
    """The name of the rule that makes the tag of this repository immutable. `rules`: those about the repository."""
    return next((one.name for one in rules if one.selection.has_tag(tag)), None)


def check(immutable: Sequence[Immutable], forms: Sequence[Form]) -> None:
    """Raises RuleRefused, naming the rule, for one that can have no effect beside the others, or whose is unclear."""
    for earlier, later in combinations(immutable, 2):
        for one, other in ((later, earlier), (earlier, later)):
            if other.selection.covers(one.selection):
                raise RuleRefused(f"{one.name}: has no effect, because {other.name} makes the same tags immutable")
    for first, second in combinations(forms, 2):
        if _rank(first) == _rank(second) and first.selection.shares_repositories(second.selection):
            raise RuleRefused(
                f"{second.name}: there can be repositories that {first.name} is about as well, with a name just as "
                "specific, and a tag that one asks for the other may refuse; make one of the names more specific"
            )
    for form in forms:
        for one in immutable:
            tags = [tag for tag in one.selection.tags if tag != "*" and "*" not in tag and not tag.startswith("re:")]
            hopeless = [tag for tag in tags if not form.allows(tag)]
            if (
                hopeless
                and len(hopeless) == len(one.selection.tags)
                and form.selection.covers_repositories(one.selection)
            ):
                raise RuleRefused(f"{one.name}: can match no tag, because {form.name} refuses {', '.join(hopeless)}")


def _rank(form: Form) -> tuple[bool, int]:
    """As for access rules: an exact name before any wildcard, then the most characters before the first."""
    glob = form.selection.repositories
    first = glob.find("*")
    return (first < 0, len(glob) if first < 0 else first)


def forbidden(rules: Sequence[Immutable], tags: Sequence[str]) -> list[tuple[str, str]]:
    """(tag, name of the rule) for those that must stay. `rules`: those about the repository."""
    return [(tag, name) for tag in tags if (name := immutable_by(rules, tag))]
