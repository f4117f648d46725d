"""Retention as a pure function: what is kept and why, and which rules are refused."""

from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from stackyard.oci.errors import RuleRefused
from stackyard.registry.retention import Keep, Rule, Tag, Verdict, check, evaluate, is_too_much
from stackyard.registry.selections import Selection

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SINCE = NOW - 365 * DAY


def rule(tags: str = "*", *, repositories: str = "**", excluding: tuple[str, ...] = (), **keep: Any) -> Rule:
    return Rule(Selection(repositories, (tags,), excluding), Keep(**keep), f"{tags} of {repositories}")


def tag(name: str, pushed: float, pulled: float | None = None) -> Tag:
    """Times in days ago."""
    return Tag(name, f"sha256:{name}", NOW - pushed * DAY, None if pulled is None else NOW - pulled * DAY)


def judge(tags: list[Tag], *rules: Rule, since: datetime = SINCE) -> list[Verdict]:
    return evaluate(tags, rules, now=NOW, pulls_since=since)


def gone(verdicts: list[Verdict]) -> list[str]:
    return [verdict.tag.name for verdict in verdicts if verdict.goes]


def test_the_last_pushed_are_kept_and_those_of_the_same_moment() -> None:
    tags = [tag("a", 1), tag("b", 2), tag("c", 3), tag("d", 3), tag("e", 4)]

    verdicts = judge(tags, rule(last=3))

    assert gone(verdicts) == ["e"]
    assert verdicts[0].reason == "one of the last 3 pushed"
    assert verdicts[4].reason == "not one of the last 3 pushed"


def test_each_clause_keeps() -> None:
    one = rule(last=1, pulled=7 * DAY, newer=3 * DAY, matching=("v*", "re:stable|release"))
    tags = [tag("newest", 1), tag("new", 2), tag("used", 50, 6), tag("v1", 99), tag("stable", 99), tag("old", 50, 40)]

    verdicts = judge(tags, one)

    assert gone(verdicts) == ["old"]
    assert [verdict.reason for verdict in verdicts] == [
        "one of the last 1 pushed",
        "pushed 2 days ago, newer than 3d",
        "pulled 6 days ago, within 7d",
        "matches v*",
        "matches re:stable|release",
        "not one of the last 1 pushed, pushed 50 days ago, last pulled 40 days ago, does not match v*, "
        "re:stable|release",
    ]


def test_pulls_from_before_they_were_recorded_are_unknown_and_keep() -> None:
    tags = [tag("a", 99), tag("b", 5)]

    [old, new] = judge(tags, rule(pulled=7 * DAY), since=NOW - 6 * DAY)
    assert old.reason == "pulls are known only since 6 days ago, and it has 7d to be pulled"
    assert new.reason == "pushed 5 days ago, and it has 7d to be pulled"

    [old, new] = judge(tags, rule(pulled=4 * DAY), since=NOW - 6 * DAY)
    assert (old.goes, old.reason) == (True, "not pulled since pulls are recorded, 6 days ago")
    assert (new.goes, new.reason) == (True, "not pulled since it was pushed 5 days ago")


def test_what_any_rule_keeps_is_kept_and_what_none_is_about_is_too() -> None:
    tags = [tag("dev-1", 50), tag("dev-2", 50), tag("v1", 50)]

    verdicts = judge(tags, rule("dev-*", newer=DAY), rule("dev-2", newer=99 * DAY))

    assert gone(verdicts) == ["dev-1"]
    assert verdicts[1].rules == ("dev-2 of **",)
    assert verdicts[2].reason == "no rule is about it"


def test_an_immutable_tag_is_kept() -> None:
    rules = [rule(newer=DAY)]

    [verdict] = evaluate([tag("v1", 9)], rules, now=NOW, pulls_since=SINCE, immutable=lambda name: "rule 7")

    assert (verdict.goes, verdict.reason, verdict.rules) == (False, "it is immutable", ("rule 7",))


def test_the_last_are_counted_among_the_rules_own_tags() -> None:
    tags = [tag("v1", 9), tag("v2", 8), tag("latest", 1), tag("dev", 2)]

    assert gone(judge(tags, rule("v*", last=1))) == ["v1"]
    assert gone(judge(tags, rule(excluding=("v*",), last=1))) == ["dev"]


@pytest.mark.parametrize(("going", "all_tags", "too_much"), [(1, 2, False), (2, 3, True), (0, 0, False), (1, 1, True)])
def test_more_than_half_is_too_much(going: int, all_tags: int, too_much: bool) -> None:
    verdicts = [Verdict(tag(str(number), 1), number < going, "") for number in range(all_tags)]

    assert is_too_much(verdicts) is too_much


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        ({}, "keeps nothing, so it would delete every tag"),
        ({"last": -1}, "negative"),
        ({"pulled": timedelta()}, "keep.pulled is no length of time"),
        ({"newer": -DAY}, "keep.newer is no length of time"),
    ],
)
def test_a_rule_that_keeps_nothing_is_refused(keep: dict[str, Any], reason: str) -> None:
    with pytest.raises(RuleRefused, match=reason):
        Keep(**keep)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Selection("team/-*"), "can match no repository"),
        (lambda: Selection("Team/*"), "not a repository name"),
        (lambda: Selection("**", (".*",)), "can match no tag"),
        (lambda: Selection("**", ("v*",), ("*",)), r"all that v\* stands for is excluded by \*"),
        (lambda: Selection("**", ("v1*",), ("v*",)), "can match no tag"),
        (lambda: Selection("**", ("re:a+",), ("re:a+",)), "can match no tag"),
        (lambda: Selection("**", ("re:",)), "re: can match no tag: no tag has such a form"),
        (lambda: Selection("**", ("re:^$", "re:a b", "re:-x")), "can match no tag"),
        (lambda: Selection("**", ("re:a{129}",)), "can match no tag"),
        (lambda: Selection("**", ("dev-*",), ("re:dev-.*",)), r"all that dev-\* stands for is excluded by re:dev-"),
        (lambda: Selection("**", (r"re:v\d+",), ("v*",)), r"is excluded by v\*"),
        (lambda: Selection("**", ("*",), ("re:.*",)), r"all that \* stands for is excluded by re:"),
        (lambda: Selection("**", (r"re:\bv\d+",), ("*",)), r"is excluded by \*"),
        (lambda: Selection("**", ()), "names no tags"),
    ],
)
def test_a_rule_that_cannot_match_is_refused(make: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ([rule(last=3), rule(last=3)], None),
        ([rule(newer=30 * DAY), rule(repositories="team/*", newer=7 * DAY)], r"\* of team/\*: has no effect"),
        ([rule("v*", newer=7 * DAY), rule(newer=30 * DAY)], r"v\* of \*\*: has no effect"),
        ([rule(pulled=30 * DAY), rule("v*", newer=30 * DAY)], r"v\* of \*\*: has no effect"),
        ([rule(matching=("v*",)), rule(repositories="a", matching=("v1*",))], r"\* of a: has no effect"),
        ([rule(excluding=("v*",), last=1, matching=("v1",))], "matches none of the rule's own tags"),
        ([rule(matching=("re:^$",))], "matches none of the rule's own tags"),
        ([rule("dev-*", last=1, matching=(r"re:v\d+",))], "matches none of the rule's own tags"),
        ([rule("re:v.*", newer=7 * DAY), rule("v1*", newer=7 * DAY)], r"v1\* of \*\*: has no effect"),
        ([rule("v*", newer=7 * DAY), rule(r"re:v\d+", newer=7 * DAY)], r"re:v.* of \*\*: has no effect"),
    ],
)
def test_a_rule_without_effect_is_refused(rules: list[Rule], reason: str | None) -> None:
    with pytest.raises(RuleRefused, match=reason or "has no effect"):
        check(rules)


@pytest.mark.parametrize(
    "rules",
    [
        [rule(last=10), rule("v*", last=5)],  # the last five v* need not be among the last ten of all
        [rule(newer=7 * DAY), rule(repositories="team/*", newer=30 * DAY)],
        [rule("v*", newer=7 * DAY), rule("dev*", newer=7 * DAY)],
        [rule(pulled=30 * DAY), rule(newer=60 * DAY)],
        [rule(r"re:v\d+", newer=7 * DAY), rule("v*", newer=7 * DAY, excluding=("v1",))],
        [rule(r"re:v\b.*", newer=7 * DAY), rule("v*", newer=7 * DAY)],  # not found out, so let through
        [rule(newer=7 * DAY), rule(repositories="prod/**", matching=("*",))],
        [rule(last=10, pulled=30 * DAY, newer=14 * DAY, matching=("v*",))],
    ],
)
def test_rules_that_differ_are_let_through(rules: list[Rule]) -> None:
    check(rules)
    check(rules[::-1])


def test_a_rule_whose_tags_are_all_immutable_is_refused() -> None:
    with pytest.raises(RuleRefused, match=r"can remove nothing, because stackyard\.tags\.immutable"):
        check([rule("v1*", newer=DAY)], [("stackyard.tags.immutable[0]", Selection("**", ("v*",)))])


names = st.sampled_from(["v1", "v2", "v10", "dev-1", "dev-2", "latest"])
days = st.floats(0, 100)
tag_lists = st.lists(st.builds(tag, names, days, st.none() | days), max_size=6, unique_by=lambda tag: tag.name)
patterns = st.sampled_from(["*", "v*", "v1*", "dev-*", "latest", "re:v[0-9]"])
spans = st.none() | st.floats(0.1, 100).map(lambda count: count * DAY)
keeps: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict, last=st.integers(0, 4), pulled=spans, newer=spans, matching=st.lists(patterns, max_size=2)
).filter(lambda keep: any(keep.values()))
rules = st.builds(lambda tags, keep: rule(tags, **(keep | {"matching": tuple(keep["matching"])})), patterns, keeps)
rule_lists = st.lists(rules, max_size=4)


@given(tag_lists, rule_lists, days)
def test_what_goes_is_kept_by_no_rule_and_some_rule_is_about_it(
    tags: list[Tag], rules: list[Rule], since: float
) -> None:
    verdicts = judge(tags, *rules, since=NOW - since * DAY)

    assert [verdict.tag for verdict in verdicts] == tags
    for verdict in verdicts:
        mine = [one for one in rules if one.selection.has_tag(verdict.tag.name)]
        alone = [
            found.goes
            for one in mine
            for found in judge(tags, one, since=NOW - since * DAY)
            if found.tag == verdict.tag
        ]
        assert verdict.goes == (bool(mine) and all(alone))
        assert verdict.reason


@given(tag_lists, rule_lists, rules)
def test_one_more_rule_never_lets_go_what_another_keeps(tags: list[Tag], rules: list[Rule], more: Rule) -> None:
    before = {verdict.tag.name for verdict in judge(tags, *rules) if not verdict.goes and verdict.rules}

    assert before.isdisjoint(gone(judge(tags, *rules, more)))


@given(tag_lists, rule_lists)
def test_a_rule_that_is_refused_as_without_effect_has_none(tags: list[Tag], rules: list[Rule]) -> None:
    for number, one in enumerate(rules):
        others = [*rules[:number], *rules[number + 1 :]]
        for other in others:
            try:
                check([other, one])
            except RuleRefused as error:
                if str(error).startswith(f"{one.name}: has no effect") and one.name != other.name:
                    assert gone(judge(tags, other, one)) == gone(judge(tags, other))


@given(tag_lists, rule_lists)
def test_a_later_pull_or_push_never_lets_a_tag_go(tags: list[Tag], rules: list[Rule]) -> None:
    """But for «the last N», which another's push can take away."""
    spans = [one for one in rules if not one.keep.last]
    kept = {verdict.tag.name for verdict in judge(tags, *spans) if not verdict.goes}
    later = [Tag(one.name, one.digest, one.pushed, NOW) for one in tags]

    assert kept.isdisjoint(gone(judge(later, *spans)))
