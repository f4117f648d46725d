"""Patterns of rules: what they match, that none takes long, and what sets of them have in common."""

import re
import time
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from stackyard.oci import names
from stackyard.oci.automata import TooEntangled
from stackyard.oci.languages import AnyOf, Language, RepositoryNames, TagNames, exists
from stackyard.oci.patterns import (
    check_repository_glob,
    check_tag_pattern,
    compile_repository_glob,
    compile_tag_pattern,
)

globs = st.lists(st.sampled_from(["a", "b", "-", "/", "*", "**", "**/"]), min_size=1, max_size=8).map("".join)
globs = globs.map(lambda glob: re.sub(r"\*{3,}", "**", glob))
tag_globs = st.lists(st.sampled_from(["a", "b", ".", "-", "*"]), min_size=1, max_size=8).map("".join)
paths = st.text("ab-/", max_size=10)
tags = st.text("ab.-", max_size=10)


def walk(pattern: str, name: str, *, tags: bool = False) -> bool:
    """Whether the automaton accepts."""
    automaton = AnyOf([pattern], tags=tags)
    state = automaton.start()
    for character in name:
        state = automaton.step(state, character)
    return automaton.accepts(state)


@given(globs, paths)
@example("**a**/b", "xaa/b")
def test_expression_and_automaton_of_a_glob_agree(glob: str, name: str) -> None:
    assert bool(compile_repository_glob(glob).fullmatch(name)) == walk(glob, name)


@given(tag_globs, tags)
def test_expression_and_automaton_of_a_tag_glob_agree(glob: str, name: str) -> None:
    assert bool(compile_tag_pattern(glob).fullmatch(name)) == walk(glob, name, tags=True)


@given(st.text("ab09._-/", max_size=12))
def test_the_grammars_are_those_of_names(name: str) -> None:
    grammars: list[tuple[Language, Callable[[str], bool]]] = [
        (RepositoryNames(), names.is_repository),
        (TagNames(), names.is_tag),
    ]
    for grammar, is_name in grammars:
        state = grammar.start()
        for character in name:
            state = grammar.step(state, character)
        if "/" not in name or is_name is names.is_repository:
            assert grammar.accepts(state) == is_name(name)


@pytest.mark.parametrize("wildcard", ["*", "**", "**/"])
def test_no_glob_takes_long(wildcard: str) -> None:
    glob = f"a{wildcard}" * 40 + "x"
    started = time.process_time()

    for name in ("a" * 255, "a/" * 127, "a" * 127 + "/" + "a" * 127):
        assert not compile_repository_glob(glob).fullmatch(name)
    assert not compile_tag_pattern("a*" * 40 + "x").fullmatch("a" * 128)

    assert time.process_time() - started < 1


def test_no_regular_expression_takes_long() -> None:
    pattern = compile_tag_pattern("re:(a|a)*(a*)*(a|b|ab)*x")
    started = time.process_time()

    assert not pattern.fullmatch("a" * 128)

    assert time.process_time() - started < 1


def test_a_regular_expression_has_to_match_the_whole_tag() -> None:
    pattern = compile_tag_pattern(r"re:v[0-9]+\.[0-9]+")

    assert pattern.fullmatch("v1.22")
    assert not pattern.fullmatch("v1.22-rc1")
    assert not pattern.fullmatch("xv1.22")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "neither a tag"),
        ("a/b", "neither a tag"),
        ("a**", "neither a tag"),
        ("re:(", "not a regular expression: missing"),
        ("re:(?=a)b", "not a regular expression: invalid perl operator"),
        ("re:" + "a" * 600, "longer than 512"),
    ],
)
def test_a_bad_tag_pattern_is_refused_with_the_reason(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_tag_pattern(pattern)


@pytest.mark.parametrize("glob", ["", "A", "a b", "/a", "a/", "a//b", "***"])
def test_a_bad_repository_glob_is_refused(glob: str) -> None:
    with pytest.raises(ValueError, match="not a repository name"):
        check_repository_glob(glob)


@pytest.mark.parametrize(
    ("one", "other", "overlap", "covers"),
    [
        ("**", "a/b", True, True),
        ("*", "a/b", False, False),
        ("a/**", "a/*", True, True),
        ("a/*", "a/**", True, False),
        ("a*/x", "*b/x", True, False),
        ("**/x", "x", True, True),
        ("**/x", "a/b/x", True, True),
        ("a**b", "a*/*b", True, True),
        ("team-*", "team-a*", True, True),
        ("a", "b", False, False),
    ],
)
def test_what_two_globs_have_in_common(one: str, other: str, overlap: bool, covers: bool) -> None:
    assert exists([[one], [other]]) == overlap
    assert exists([[other]], [[one]]) != covers


@given(globs, globs, paths)
def test_no_name_contradicts_what_was_found_out(one: str, other: str, name: str) -> None:
    if names.is_repository(name) and walk(one, name) and walk(other, name):
        assert exists([[one], [other]])
    if names.is_repository(name) and walk(other, name) and not walk(one, name):
        assert exists([[other]], [[one]])


@pytest.mark.parametrize("glob", ["-a", "a/-*", "a..b", "a/_", "a-/b", "*/-/**"])
def test_some_globs_match_no_repository(glob: str) -> None:
    assert not exists([[glob]])


def test_some_globs_match_no_tag() -> None:
    assert not exists([[".*"]], tags=True)
    assert not exists([["-v1"]], tags=True)
    assert exists([["*"]], tags=True)


def test_a_question_that_would_take_too_long_is_given_up() -> None:
    globs = [f"**{one}*{other}**{one}{one}*" for one in "abcd" for other in "efgh"]
    started = time.process_time()

    with pytest.raises(TooEntangled):
        exists([[one] for one in globs])

    assert time.process_time() - started < 20
