"""Scopes as clients write them, and the access claim."""

import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard.auth import scopes
from stackyard.auth.principals import EVERYTHING, Action, Grant
from stackyard.auth.scopes import MAX_LENGTH, MAX_REPOSITORIES, Scopes
from stackyard.oci.errors import BadRequest


def shown(access: Scopes) -> str:
    return str(access)


@pytest.mark.parametrize(
    ("asked", "access"),
    [
        ([], ""),
        ([""], ""),
        (["repository:a/b:pull"], "repository:a/b:pull"),
        (["repository:a:push,pull"], "repository:a:pull,push"),
        (["repository:a:pull,pull,push,pull"], "repository:a:pull,push"),
        # podman and skopeo: several parameters; containerd: one with spaces, and narrower repetitions.
        (["repository:a:pull,push", "repository:b:pull"], "repository:a:pull,push repository:b:pull"),
        (
            ["repository:b:pull repository:b:pull,push repository:a:pull"],
            "repository:b:pull,push repository:a:pull",
        ),
        (["  repository:a:pull   repository:b:pull "], "repository:a:pull repository:b:pull"),
        # skopeo delete.
        (["repository:a:*"], "repository:a:delete,pull,push"),
        (["repository:a:pull,*"], "repository:a:delete,pull,push"),
        # host:port in a name.
        (["repository:localhost:5000/a:pull"], "repository:localhost:5000/a:pull"),
        (["repository(plugin):a:pull"], "repository:a:pull"),
        (["registry:catalog:*"], "registry:catalog:*"),
        (["registry:catalog:*", "repository:a:pull"], "repository:a:pull registry:catalog:*"),
        # Unknown things are dropped; so is the right to administrate, which no token carries.
        (["repository:a:fly"], ""),
        (["repository:a:pull,fly,"], "repository:a:pull"),
        (["repository:a:admin,pull"], "repository:a:pull"),
        (["repository:a:"], ""),
        (["repository::pull"], ""),
        (["registry:catalog:pull", "registry:other:*"], ""),
        (["registry:administration:*", "registry:administration:pull"], "registry:administration:*"),
        (["other:a:pull", "repository", "repository:a", ":", "::", "a:b"], ""),
        (["Repository:a:pull"], ""),
        (["repository(plugin:a:pull"], ""),
    ],
)
def test_scope_is_read_whatever_its_order_and_repetitions(asked: list[str], access: str) -> None:
    assert shown(scopes.parse(asked)) == access


def test_more_repositories_than_a_token_can_carry_are_refused() -> None:
    asked = [f"repository:a{number}:pull" for number in range(MAX_REPOSITORIES)]

    assert len(scopes.parse(asked).grants) == MAX_REPOSITORIES
    with pytest.raises(BadRequest):
        scopes.parse([*asked, "repository:one-more:pull"])


def test_scopes_that_are_too_long_are_refused() -> None:
    with pytest.raises(BadRequest):
        scopes.parse(["x" * (MAX_LENGTH + 1)])


@given(st.lists(st.text(st.characters(codec="utf-8")) | st.text(":,* repositorygca()*pullsh/0", max_size=80)))
def test_any_scope_text_is_access_or_a_bad_request(asked: list[str]) -> None:
    with suppress(BadRequest):
        for grant in scopes.parse(asked).grants:
            assert grant.repository
            assert grant.actions
            assert grant.actions <= EVERYTHING


NAMES = st.from_regex(re.compile(r"(localhost:5000/)?[a-z]{1,5}(/[a-z]{1,5}){0,2}", re.ASCII), fullmatch=True)
GRANTS = st.dictionaries(NAMES, st.frozensets(st.sampled_from(sorted(EVERYTHING)), min_size=1), max_size=5)


@given(granted=GRANTS, catalog=st.booleans(), administration=st.booleans())
def test_access_survives_both_of_its_forms(
    granted: dict[str, frozenset[Action]], catalog: bool, administration: bool
) -> None:
    access = Scopes(tuple(Grant(name, actions) for name, actions in granted.items()), catalog, administration)

    assert scopes.parse([str(access)]) == access
    assert scopes.from_claim(access.claim()) == access


@pytest.mark.parametrize(
    ("claim", "access"),
    [
        (None, ""),
        ([], ""),
        ([{"type": "repository", "name": "a", "actions": ["pull"]}], "repository:a:pull"),
        ([{"type": "repository", "name": "a", "actions": ["*"]}], "repository:a:delete,pull,push"),
        ([{"type": "repository", "class": "image", "name": "a", "actions": ["pull"]}], "repository:a:pull"),
        ([{"type": "repository(plugin)", "name": "a", "actions": ["pull"]}], "repository:a:pull"),
        ([{"type": "repository", "name": "a", "actions": None}], ""),
        ([{"type": "repository", "name": "a"}], ""),
        ([{"type": "repository", "name": "a", "actions": [1, "pull", None]}], "repository:a:pull"),
        ([{"type": "registry", "name": "catalog", "actions": ["*"]}], "registry:catalog:*"),
        (
            [
                {"type": "repository", "name": "a", "actions": ["pull"]},
                {"type": "repository", "name": "a", "actions": ["push"]},
            ],
            "repository:a:pull,push",
        ),
    ],
)
def test_claim_is_read_as_token_servers_write_it(claim: Any, access: str) -> None:
    assert shown(scopes.from_claim(claim)) == access


@pytest.mark.parametrize(
    "claim",
    ["pull", {}, 1, ["repository:a:pull"], [{"type": 1, "name": "a"}], [{"type": "repository", "name": []}], [None],
     [{"type": "repository", "name": "a", "actions": "pull"}]],
)  # fmt: skip
def test_claim_of_another_form_is_refused(claim: Any) -> None:
    with pytest.raises(ValueError, match="access"):
        scopes.from_claim(claim)
