import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard.oci import names
from stackyard.oci.errors import NameInvalid, TagInvalid


@pytest.mark.parametrize(
    "name", ["a", "library/alpine", "a.b", "a_b", "a__b", "a---b", "localhost/x/y/z", "0/1", "a" * 255]
)
def test_repository_grammar_accepts(name: str) -> None:
    assert names.check_repository(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "a/",
        "/a",
        "a//b",
        "a..b",
        "a.-b",
        "-a",
        "a-",
        "_a",
        "a___b",
        "a\0",
        "a\n",
        "../etc",
        "a/../b",
        "ä",
        "\u0661",
        "a" * 256,
    ],
)
def test_repository_grammar_refuses(name: str) -> None:
    with pytest.raises(NameInvalid):
        names.check_repository(name)


@pytest.mark.parametrize("tag", ["latest", "_x", "1.0.0-20230801-a1b2c3d", "A", "a" * 128])
def test_tag_grammar_accepts(tag: str) -> None:
    assert names.check_tag(tag) == tag


@pytest.mark.parametrize("tag", ["", ".a", "-a", "a+b", "a:b", "a" * 129, "a\n", "ü"])
def test_tag_grammar_refuses(tag: str) -> None:
    with pytest.raises(TagInvalid):
        names.check_tag(tag)


@given(st.text(alphabet="a_-./", max_size=255))
def test_no_name_makes_the_grammar_slow(name: str) -> None:
    before = time.process_time()

    names.is_repository(name)

    # Catastrophic backtracking takes hours at this length, so this bound is no measurement.
    assert time.process_time() - before < 5
