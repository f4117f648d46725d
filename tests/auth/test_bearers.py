"""What is remembered of a token, and until when."""

from dataclasses import replace

import pytest
from tests.auth.making import Clock
from tests.auth.signing import NOW

from stackyard.auth import keys
from stackyard.auth.bearers import Bearers
from stackyard.auth.challenges import InvalidToken
from stackyard.auth.issuer import ALGORITHM, ISSUER, Issuer, TokenRequest
from stackyard.auth.principals import Action, Grant
from stackyard.auth.scopes import Scopes
from stackyard.auth.settings import IssuerSettings
from stackyard.auth.tokens import LEEWAY, Verifier

PULL = Scopes((Grant("app", frozenset({Action.PULL})),))


def made(clock: Clock) -> tuple[Issuer, Bearers]:
    settings = IssuerSettings()
    issuer = Issuer(keys.make_signing_key(), service=settings.service, lifetime=settings.lifetime, clock=clock)
    verifier = Verifier(issuer.ring, ISSUER, issuer.service, frozenset({ALGORITHM}), clock)
    return issuer, Bearers(verifier, owned=True, clock=clock)


def issued(issuer: Issuer, subject: str = "") -> str:
    request = TokenRequest.get(b"", authorization=None, address="")
    return issuer.issue(request, subject=subject, login=None, access=PULL).token


def test_token_is_recalled_until_it_ends() -> None:
    clock = Clock(NOW)
    issuer, bearers = made(clock)
    token = issued(issuer)
    assert bearers.recall(token) is None
    principal = bearers.verify(token)

    clock.now = NOW + issuer.lifetime.total_seconds() + LEEWAY - 1
    assert bearers.recall(token) is principal

    clock.now += 1
    assert bearers.recall(token) is None
    with pytest.raises(InvalidToken, match="expired"):
        bearers.verify(token)


def test_other_token_is_not_recalled() -> None:
    issuer, bearers = made(Clock(NOW))
    bearers.verify(issued(issuer))

    assert bearers.recall(issued(issuer)) is None


def test_token_of_our_own_for_a_user_needs_the_file_of_users() -> None:
    issuer, bearers = made(Clock(NOW))

    with pytest.raises(InvalidToken):
        bearers.verify(issued(issuer, subject="alice"))


def test_verifier_that_is_replaced_takes_its_memory_along() -> None:
    issuer, bearers = made(Clock(NOW))
    token = issued(issuer)
    bearers.verify(token)

    bearers.replace(replace(bearers._verifier, audience="other"))

    assert bearers.recall(token) is None
    with pytest.raises(InvalidToken):
        bearers.verify(token)
