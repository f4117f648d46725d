"""Which rule counts."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.auth.making import rule

from stackyard.auth.principals import ANONYMOUS, Action, Kind, Principal
from stackyard.auth.rules import Rule, Rules, Subject
from stackyard.oci.patterns import compile_repository_glob as compile_glob

ALICE = Principal(Kind.USER, "alice", frozenset({"devs", "ops"}))
BOB = Principal(Kind.USER, "bob")


@pytest.mark.parametrize(
    ("glob", "matching", "others"),
    [
        ("app", ["app"], ["apps", "my/app", "app/x"]),
        ("*", ["app", "a-b"], ["a/b"]),
        ("**", ["app", "a/b/c"], []),
        ("team/*", ["team/app"], ["team", "team/a/b", "steam/app"]),
        ("team/**", ["team/app", "team/a/b"], ["team", "teams/app"]),
        ("*/app", ["a/app"], ["app", "a/b/app"]),
        ("**/app", ["app", "a/app", "a/b/app"], ["a/myapp", "app/x"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a/xb", "a", "ab"]),
        ("a**/b", ["a/b", "ax/b", "a/x/b"], ["ab", "b", "axb"]),
        ("a*/b-*", ["a/b-1", "abc/b-x"], ["a/b/b-1", "a/b"]),
        ("a.b", ["a.b"], ["axb"]),
    ],
)
def test_glob_matches_whole_names_only(glob: str, matching: list[str], others: list[str]) -> None:
    pattern = compile_glob(glob)

    assert [name for name in matching + others if pattern.fullmatch(name)] == matching


@pytest.mark.parametrize("glob", ["", "/", "a/", "/a", "a//b", "A", "a b", "a***", "a?", "[a]", "a\n", "ä"])
def test_glob_that_can_match_nothing_is_refused(glob: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(glob))):
        Rule(Subject("anonymous"), glob, frozenset())


@pytest.mark.parametrize("subject", [("user", ""), ("group", ""), ("anonymous", "x"), ("authenticated", "x")])
def test_subject_has_a_name_exactly_where_one_belongs(subject: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=subject[0]):
        Subject(*subject)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ([], ""),
        ([rule("user:alice", "team/app", "pull")], "pull"),
        ([rule("user:bob", "team/app", "pull")], ""),
        ([rule("group:devs", "team/app", "pull")], "pull"),
        ([rule("group:others", "team/app", "pull")], ""),
        ([rule("authenticated", "team/app", "pull")], "pull"),
        ([rule("anonymous", "team/app", "pull")], "pull"),
        # An exact name wins over any wildcard, and takes away too.
        ([rule("user:alice", "**", "pull", "push"), rule("user:alice", "team/app", "pull")], "pull"),
        ([rule("user:alice", "**", "pull", "push"), rule("user:alice", "team/app")], ""),
        # Then the most literal characters before the first wildcard, in whatever order the rules stand.
        ([rule("user:alice", "team/*", "pull"), rule("user:alice", "team/a*", "push")], "push"),
        ([rule("user:alice", "team/a*", "push"), rule("user:alice", "team/*", "pull")], "push"),
        ([rule("user:alice", "**/app", "pull", "push", "delete"), rule("user:alice", "t**", "pull")], "pull"),
        # The most specific wins whoever of the caller's subjects it is about.
        ([rule("user:alice", "team/**", "push"), rule("group:devs", "team/app", "pull")], "pull"),
        ([rule("user:alice", "team/**", "push"), rule("authenticated", "team/app", "pull")], "pull"),
        # Equally specific ones unite.
        ([rule("user:alice", "team/app", "push"), rule("group:devs", "team/app", "pull")], "pull push"),
        ([rule("group:devs", "team/*", "push"), rule("group:ops", "team/**", "delete")], "delete push"),
        ([rule("user:alice", "team/app"), rule("group:devs", "team/app", "pull")], "pull"),
        # Logging in takes nothing away from what everybody may.
        ([rule("anonymous", "team/app", "pull"), rule("authenticated", "**", "push")], "pull push"),
        ([rule("anonymous", "**", "pull"), rule("user:alice", "team/app", "push")], "pull push"),
    ],
)
def test_most_specific_rules_of_user_and_groups_decide(rules: list[Rule], allowed: str) -> None:
    assert " ".join(sorted(Rules(rules).actions(ALICE, "team/app"))) == allowed


def test_anonymous_caller_gets_only_what_everybody_gets() -> None:
    rules = Rules([rule("anonymous", "public/**", "pull"), rule("authenticated", "**", "pull", "push")])

    assert rules.actions(ANONYMOUS, "public/app") == {Action.PULL}
    assert rules.actions(ANONYMOUS, "private") == set()


def test_anonymous_rule_may_take_a_repository_out_again() -> None:
    rules = Rules([rule("anonymous", "**", "pull"), rule("anonymous", "secret/**")])

    assert rules.actions(ANONYMOUS, "app") == {Action.PULL}
    assert rules.actions(ANONYMOUS, "secret/app") == set()


def test_rule_for_a_user_is_not_for_a_robot_or_a_token_of_that_name() -> None:
    rules = Rules([rule("user:alice", "**", "pull")])

    assert not rules.actions(Principal(Kind.ROBOT, "alice"), "app")
    assert not rules.actions(Principal(Kind.TOKEN, "alice"), "app")


def test_rule_for_a_robot_is_not_for_a_user_of_that_name() -> None:
    rules = Rules([rule("robot:ci", "**", "push")])

    assert rules.actions(Principal(Kind.ROBOT, "ci"), "app") == {Action.PUSH}
    assert not rules.actions(Principal(Kind.USER, "ci"), "app")


def test_decision_of_one_principal_is_not_given_to_another() -> None:
    rules = Rules([rule("user:alice", "**", "pull")])

    assert rules.actions(ALICE, "app") == {Action.PULL}
    assert rules.actions(BOB, "app") == set()
    assert rules.actions(Principal(Kind.USER, "alice"), "app") == {Action.PULL}


def test_user_named_like_a_prefixed_subject_is_only_itself() -> None:
    rules = Rules([rule("group:devs", "**", "pull"), rule("user:alice", "**", "push")])

    assert rules.actions(Principal(Kind.USER, "group:devs"), "app") == set()
    assert rules.actions(Principal(Kind.USER, "user:alice"), "app") == set()


@pytest.mark.parametrize(
    ("rules", "known"), [([rule("authenticated", "**", "pull")], False), ([rule("anonymous", "a")], True)]
)
def test_rules_tell_whether_they_know_anonymous_callers(rules: list[Rule], known: bool) -> None:
    assert Rules(rules).know_anonymous is known


COMPONENT = st.text("ab", min_size=1, max_size=3)
NAME = st.lists(COMPONENT, min_size=1, max_size=4).map("/".join)
GLOB = st.lists(st.one_of(COMPONENT, st.sampled_from(["*", "**", "a*", "*b"])), min_size=1, max_size=4).map("/".join)


def matches(glob: list[str], name: list[str]) -> bool:
    """The globs' meaning by components, without regular expressions: `**` is any number of whole components."""
    if not glob:
        return not name
    if glob[0] == "**" and len(glob) > 1:
        return any(matches(glob[1:], name[at:]) for at in range(len(name) + 1))
    if glob[0] == "**":
        return bool(name)
    if not name:
        return False
    head, star, tail = glob[0].partition("*")
    same = (
        name[0] == head
        if not star
        else (len(name[0]) >= len(head + tail) and name[0].startswith(head) and name[0].endswith(tail))
    )
    return same and matches(glob[1:], name[1:])


@given(glob=GLOB, name=NAME)
def test_compiled_glob_means_what_its_components_mean(glob: str, name: str) -> None:
    assert bool(compile_glob(glob).fullmatch(name)) == matches(glob.split("/"), name.split("/"))
