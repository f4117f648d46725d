"""Retention: which tags go, which stay, and why. Pure: values in, verdicts out.

- A rule is about some tags of some repositories, and says what of them is kept.
- A tag that no rule is about is kept. So is a tag that any rule keeps, whatever others say.
- Times are the tag's own: when it was last made to point elsewhere, and when it, or by digest what it reaches, was
  last pulled. Pulls from before they were recorded are unknown: a tag counts as pulled when that began, and when it was
  pushed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations

from stackyard.oci.errors import RuleRefused
from stackyard.oci.patterns import check_tag_pattern
from stackyard.registry import spans
from stackyard.registry.selections import Selection, covers_tags, is_possible, matches


@dataclass(frozen=True, slots=True)
class Keep:
    """What a rule keeps of its tags, in each repository by itself.

    Making one raises RuleRefused when that is nothing, and ValueError where a pattern is none.
    """

    last: int = 0
    """So many that were pushed last; 0: not asked for."""
    pulled: timedelta | None = None
    """Those that were pulled within this span."""
    newer: timedelta | None = None
    """Those that were pushed within this span."""
    matching: tuple[str, ...] = ()
    """Those that match one of these patterns."""

    def __post_init__(self) -> None:
        """See the class."""
        if self.last < 0:
            raise RuleRefused("keep.last is negative")
        for name, span in (("pulled", self.pulled), ("newer", self.newer)):
            if span is not None and span <= timedelta():
                raise RuleRefused(f"keep.{name} is no length of time, so it would keep nothing")
        if not (self.last or self.pulled or self.newer or self.matching):
            raise RuleRefused(
                "keeps nothing, so it would delete every tag it is about; set keep.last, keep.pulled, keep.newer or "
                "keep.matching"
            )
        for pattern in self.matching:
            check_tag_pattern(pattern)


@dataclass(frozen=True, slots=True)
class Rule:
    """One decision about tags that come and go."""

    selection: Selection
    keep: Keep
    name: str
    """As an administrator knows it."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag, as far as retention is concerned."""

    name: str
    digest: str
    pushed: datetime
    """When it was made to point there."""
    pulled: datetime | None
    """When it, or by digest something that it reaches, was last pulled. None: not since that is recorded."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to a tag."""

    tag: Tag
    goes: bool
    reason: str
    """In words."""
    rules: tuple[str, ...] = ()
    """Names of the rule that keeps it, or of all that let it go."""


def check(rules: Sequence[Rule], immutable: Sequence[tuple[str, Selection]] = ()) -> None:
    """Raises RuleRefused, naming the rule, for one that can have no effect beside the others.

    Args:
        rules: All that are to hold together.
        immutable: Name and selection of the rules that make tags immutable.
    """
    for rule in rules:
        tags = rule.selection
        for pattern in rule.keep.matching:
            if not is_possible(tags.tags, tags.excluding, also=[pattern]):
                raise RuleRefused(f"{rule.name}: keep.matching {pattern!r} matches none of the rule's own tags")
        for name, frozen in immutable:
            if frozen.covers(tags):
                raise RuleRefused(f"{rule.name}: can remove nothing, because {name} makes all its tags immutable")
    for earlier, later in combinations(rules, 2):
        for rule, other in ((later, earlier), (earlier, later)):
            if _keeps_all_of(other, rule) and other.selection.covers(rule.selection):
                raise RuleRefused(
                    f"{rule.name}: has no effect, because {other.name} is about the same tags and keeps at least as "
                    "much; what any rule keeps is kept"
                )


def _keeps_all_of(wider: Rule, rule: Rule) -> bool:
    """Whether what `rule` keeps is kept by the other as well, which is about all its tags."""
    ours, theirs = rule.keep, wider.keep
    # «The last ten» of more tags are other tags.
    same = (rule.selection.tags, rule.selection.excluding) == (wider.selection.tags, wider.selection.excluding)
    return (
        (not ours.last or (same and theirs.last >= ours.last))
        and (not ours.pulled or (theirs.pulled is not None and theirs.pulled >= ours.pulled))
        and (not ours.newer or max(theirs.newer or timedelta(), theirs.pulled or timedelta()) >= ours.newer)
        and (not ours.matching or covers_tags((theirs.matching, ()), (ours.matching, ())))
    )


def evaluate(
    tags: Sequence[Tag],
    rules: Sequence[Rule],
    *,
    now: datetime,
    pulls_since: datetime,
    immutable: Callable[[str], str | None] = lambda tag: None,
) -> list[Verdict]:
    """Judge all tags of one repository, in their order.

    Args:
        tags: All of them: the last ten can only be found among all.
        rules: Those about this repository.
        now: Of the database's clock, as the tags' times.
        pulls_since: Since when pulls are recorded.
        immutable: The name of the rule that makes the tag immutable, if there is one.
    """
    verdicts: dict[str, Verdict] = {}
    lost: dict[str, list[tuple[str, str]]] = {}
    for rule in rules:
        mine = [tag for tag in tags if rule.selection.has_tag(tag.name)]
        last = _last(mine, rule.keep.last)
        for tag in mine:
            kept = next(_keeping(rule.keep, tag, now=now, pulls_since=pulls_since, last=last), None)
            if kept is not None:
                verdicts.setdefault(tag.name, Verdict(tag, False, kept, (rule.name,)))
            elif tag.name not in verdicts:
                why = ", ".join(_failing(rule.keep, tag, now=now, pulls_since=pulls_since))
                lost.setdefault(tag.name, []).append((rule.name, why))

    def judged(tag: Tag) -> Verdict:
        if tag.name in verdicts:
            return verdicts[tag.name]
        if tag.name not in lost:
            return Verdict(tag, False, "no rule is about it")
        if frozen := immutable(tag.name):
            return Verdict(tag, False, "it is immutable", (frozen,))
        names, reasons = zip(*lost[tag.name], strict=True)
        return Verdict(tag, True, "; ".join(dict.fromkeys(reasons)), tuple(names))

    return [judged(tag) for tag in tags]


def is_too_much(verdicts: Sequence[Verdict]) -> bool:
    """Whether more than half of a repository's tags would go: somebody should look at that first."""
    return 2 * sum(verdict.goes for verdict in verdicts) > len(verdicts)


def last_use(tag: Tag, pulls_since: datetime) -> datetime:
    """When it was last pulled, as far as retention is concerned."""
    return max(tag.pushed, pulls_since if tag.pulled is None else tag.pulled)


def _last(tags: Sequence[Tag], count: int) -> datetime | None:
    """When the last of the `count` that were pushed last was pushed. Those of the same moment are kept with it."""
    if not count or not tags:
        return None
    pushed = sorted((tag.pushed for tag in tags), reverse=True)
    return pushed[min(count, len(pushed)) - 1]


def _keeping(keep: Keep, tag: Tag, *, now: datetime, pulls_since: datetime, last: datetime | None) -> Iterator[str]:
    """Why it is kept, if it is, for each reason."""
    if last is not None and tag.pushed >= last:
        yield f"one of the last {keep.last} pushed"
    if keep.newer and tag.pushed > now - keep.newer:
        yield f"pushed {spans.ago(now - tag.pushed)}, newer than {spans.text_of(keep.newer)}"
    if keep.pulled and last_use(tag, pulls_since) > now - keep.pulled:
        if tag.pulled is not None and tag.pulled > now - keep.pulled:
            yield f"pulled {spans.ago(now - tag.pulled)}, within {spans.text_of(keep.pulled)}"
        elif tag.pushed > now - keep.pulled:
            yield f"pushed {spans.ago(now - tag.pushed)}, and it has {spans.text_of(keep.pulled)} to be pulled"
        else:
            began = spans.ago(now - pulls_since)
            yield f"pulls are known only since {began}, and it has {spans.text_of(keep.pulled)} to be pulled"
    if matches(keep.matching, tag.name):
        yield f"matches {next(one for one in keep.matching if matches((one,), tag.name))}"


def _failing(keep: Keep, tag: Tag, *, now: datetime, pulls_since: datetime) -> Iterator[str]:
    """What would have kept it and does not."""
    if keep.last:
        yield f"not one of the last {keep.last} pushed"
    if keep.newer or not (keep.pulled or keep.last):
        yield f"pushed {spans.ago(now - tag.pushed)}"
    if keep.pulled and tag.pulled is not None:
        yield f"last pulled {spans.ago(now - tag.pulled)}"
    elif keep.pulled and tag.pushed > pulls_since:
        yield f"not pulled since it was pushed {spans.ago(now - tag.pushed)}"
    elif keep.pulled:
        yield f"not pulled since pulls are recorded, {spans.ago(now - pulls_since)}"
    if keep.matching:
        yield f"does not match {', '.join(keep.matching)}"
