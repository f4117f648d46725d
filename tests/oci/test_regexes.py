"""Regular expressions as automata: they say what RE2 says, or that nobody can tell."""

import string
import time

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from stackyard.oci.automata import TooEntangled, Undecided
from stackyard.oci.languages import AnyOf, exists
from stackyard.oci.patterns import check_tag_pattern, compile_tag_pattern

LETTERS = "abkszAKSZ019._-"
POSIX = ["alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space"]
POSIX += ["upper", "word", "xdigit"]

tags = st.text(LETTERS, min_size=1, max_size=6)
literals = st.sampled_from(
    [*LETTERS.replace(".", ""), r"\.", r"\-", r"\_", r"\n", " ", "{", "}", "]", "ä", "/", "{01}"]
)
shorts = st.sampled_from([r"\d", r"\D", r"\w", r"\W", r"\s", r"\S"])
named = st.builds("[:{}{}:]".format, st.sampled_from(["", "^"]), st.sampled_from(POSIX))
ends = st.sampled_from([*"abkszAKSZ019._", r"\.", r"\-", "-"])
ranges = st.tuples(ends, ends).map(lambda two: "-".join(sorted(two, key=lambda one: one[-1])))
items = st.one_of(ends, shorts, named, ranges, st.just("["), st.just("^"))
classes = st.builds(
    "[{}{}{}]".format,
    st.sampled_from(["", "^", "]", "^]"]),
    st.lists(items, min_size=1, max_size=4).map("".join),
    st.sampled_from(["", "-"]),
)
anchors = st.sampled_from(["^", "$", r"\A", r"\z"])
atoms = st.one_of(literals, literals, classes, shorts, st.just("."), anchors, st.sampled_from(["()", "(?i)", "(?s-i)"]))
opens = st.sampled_from(["(", "(?:", "(?P<n>", "(?<n>", "(?i:", "(?-i:", "(?sU-m:"])
repeats = st.builds(
    "{}{}".format,
    st.sampled_from(["*", "+", "?", "{0}", "{2}", "{1,}", "{0,}", "{0,2}", "{1,3}", "{2,2}"]),
    st.sampled_from(["", "?"]),
)


def larger(smaller: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    group = st.builds("{}{})".format, opens, smaller)
    return st.one_of(
        st.lists(smaller, min_size=2, max_size=4).map("".join),
        st.lists(st.one_of(smaller, st.just("")), min_size=2, max_size=3).map("|".join),
        group,
        st.builds("{}{}".format, st.one_of(group, literals, classes, shorts, anchors), repeats),
    )


expressions = st.recursive(atoms, larger, max_leaves=10)


def is_regex(text: str) -> bool:
    try:
        compile_tag_pattern(f"re:{text}")
    except ValueError:
        return False
    return True


def says(text: str, tag: str) -> bool:
    """Whether the automaton accepts."""
    automaton = AnyOf([f"re:{text}"], tags=True)
    state = automaton.start()
    for character in tag:
        state = automaton.step(state, character)
    return automaton.accepts(state)


@given(expressions.filter(is_regex), st.lists(tags, min_size=1, max_size=5))
@example("a$|ab|^b", ["a", "ab", "b"])
@example(r"\s|a\s*b", ["ab", "a"])
@example("(?i)[^k]", ["k", "K", "a"])
@example("(a(?i)b|c)d", ["aBd", "Cd", "CD"])
@example("[[:^upper:]-a]{2}", ["-a", "AA"])
@example("(?i)[[:upper:]]", ["a", "A"])
@example("a{,2}", ["a", "aa"])
@example("a{01}", ["a", "aa"])
@example("a{2,3}", ["a", "aa", "aaa", "aaaa", "aaaaa"])
def test_the_automaton_of_an_expression_says_what_re2_says(text: str, names: list[str]) -> None:
    try:
        said = [says(text, name) for name in names]
    except Undecided:
        assert "(?" in text  # flags before a repetition or beside foreign letters; of the rest all is understood
        return

    assert said == [bool(compile_tag_pattern(f"re:{text}").fullmatch(name)) for name in names]


@given(expressions.filter(is_regex), st.sampled_from([*string.ascii_letters, *string.digits, *"._-"]))
def test_any_character_of_a_tag_is_told_from_the_others(text: str, character: str) -> None:
    expected = bool(compile_tag_pattern(f"re:{text}").fullmatch(character))
    try:
        if expected and character not in ".-":
            assert exists([[f"re:{text}"], [character]], tags=True)
        elif not expected:
            assert not exists([[f"re:{text}"], [character]], tags=True)
    except Undecided:
        assert "(?" in text


@pytest.mark.parametrize(
    "text", [r"\bv", r"\pL", r"\p{Greek}", r"\x41", r"\101", r"\Qa.b\E", r"\C", "(?i)\u017f", "(?i)[\u017f]", "a(?i)*"]
)
def test_what_is_not_understood_is_said_to_be(text: str) -> None:
    assert is_regex(text)

    with pytest.raises(Undecided):
        exists([[f"re:{text}"]], tags=True)


@pytest.mark.parametrize("text", ["", "^$", "a b", "-x", r"\.x", "a^b", "a$b", "ä", "a{129}", "[^[:ascii:]]", "a\n"])
def test_some_expressions_match_no_tag(text: str) -> None:
    assert not exists([[f"re:{text}"]], tags=True)


@pytest.mark.parametrize("text", ["a{128}", "^v[0-9]+$", "(?i)V", "|a", "-?x", ".", r"(?:\d+\.){2}\d+"])
def test_others_match_some(text: str) -> None:
    assert exists([[f"re:{text}"]], tags=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("dev-*", "re:dev-.*"),
        ("*", "re:[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"),
        ("re:(?i)a", "re:[aA]"),
        ("re:a+?", "re:aa*"),
        (r"re:v\d", "re:v[[:digit:]]"),
    ],
)
def test_the_same_tags_can_be_written_differently(one: str, other: str) -> None:
    assert not exists([[one]], [[other]], tags=True)
    assert not exists([[other]], [[one]], tags=True)


@pytest.mark.parametrize(
    "text",
    [
        "|".join(f".*{letter}.{{{20 + place}}}" for place, letter in enumerate("abcdefghijklmnopqrst")),
        "(.?.?.?.?){100}[ac]*.*a.{300}",
        "(" * 100 + "a" + ")" * 100,
        "(" + "a?" * 100 + "){100}x.*",
    ],
)
def test_no_expression_takes_long(text: str) -> None:
    check_tag_pattern(f"re:{text}")
    started = time.process_time()

    with pytest.raises(Undecided):
        exists([[f"re:{text}"]], [["*"]], tags=True)

    assert time.process_time() - started < 20


def test_a_name_matches_one_of_each_and_none_of_any() -> None:
    assert exists([["v*", "x"], ["*1"]], [["re:v\\d"], ["x*"]], tags=True)  # v-1
    assert not exists([["v1", "x1"], ["*1"]], [["re:v\\d"], ["x*"]], tags=True)
    assert not exists([["v*"], ["x*"]], tags=True)


def test_a_list_of_many_names_is_walked_through() -> None:
    names = [f"release-{number}" for number in range(300)]

    assert not exists([names], [["release-*"]], tags=True)
    assert exists([["release-*"]], [names], tags=True)
    with pytest.raises(TooEntangled):
        AnyOf(["a" * 500] * 50, tags=True)
