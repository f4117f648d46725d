"""The one challenge an answer carries."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard.auth import challenges
from stackyard.auth.principals import Action

PULL, PUSH = Action.PULL, Action.PUSH


@pytest.mark.parametrize(
    ("needed", "error", "rest"),
    [
        ((), None, ""),
        ([("a/b", [PULL])], None, ',scope="repository:a/b:pull"'),
        ([("a", [PULL, PUSH])], "insufficient_scope", ',scope="repository:a:pull,push",error="insufficient_scope"'),
        ([("b", [PULL, PUSH]), ("a", [PULL])], None, ',scope="repository:b:pull,push repository:a:pull"'),
        ("catalog", None, ',scope="registry:catalog:*"'),
        ((), "invalid_token", ',error="invalid_token"'),
    ],
)
def test_bearer_challenge_names_what_is_needed(needed: challenges.Needed, error: str | None, rest: str) -> None:
    value = challenges.bearer(realm="https://r.example/auth/token", service="yard", needed=needed, error=error)

    assert value == f'Bearer realm="https://r.example/auth/token",service="yard"{rest}'


def test_basic_challenge_has_the_realm_of_the_settings() -> None:
    assert challenges.basic("Registry Realm") == 'Basic realm="Registry Realm"'


@given(st.text(), st.text())
def test_any_text_stays_within_its_quotes(realm: str, service: str) -> None:
    value = challenges.bearer(realm=realm, service=service)

    assert re.fullmatch(
        r'Bearer realm="[\x21\x23-\x5b\x5d-\x7e]*",service="(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"', value
    )


@given(st.text())
def test_any_basic_realm_stays_within_its_quotes(realm: str) -> None:
    assert re.fullmatch(r'Basic realm="(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"', challenges.basic(realm))
