"""The token endpoint as each client uses it."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.auth.making import login, rule, write

from stackyard.auth import keys, opening
from stackyard.auth.access import Access
from stackyard.auth.issuer import TokenAnswer, TokenRequest
from stackyard.auth.settings import HtpasswdSettings, IssuerSettings, Settings
from stackyard.auth.throttle import PAIR
from stackyard.oci.errors import BadRequest, RegistryError, RouteUnknown, TooManyRequests, Unauthorized

HERE = "192.0.2.1"
ALICE = login("alice", "secret")
KEY = keys.make_signing_key()


@pytest.fixture
async def access(tmp_path: Path) -> AsyncIterator[Access]:
    opened = opening.open_access(
        Settings(
            HtpasswdSettings(write(tmp_path / "htpasswd", {"alice": "secret"})),
            rules=(rule("anonymous", "public/*", "pull"), rule("user:alice", "**", "pull", "push")),
        ),
        signing_key=KEY,
    )
    yield opened
    await opened.close()


async def get(access: Access, query: str, authorization: str | None = None) -> TokenAnswer:
    return await access.token(TokenRequest.get(query.encode(), authorization=authorization, address=HERE))


async def post(access: Access, **form: str) -> TokenAnswer:
    return await access.token(TokenRequest.post(urlencode(form).encode(), authorization=None, address=HERE))


def claims(answer: TokenAnswer) -> dict[str, Any]:
    return part(answer.token, 1)


def part(token: str, index: int) -> dict[str, Any]:
    text = token.split(".")[index]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return decoded


@pytest.mark.parametrize(
    ("query", "authorization", "subject", "granted"),
    [
        # docker login; docker without a refresh token
        ("account=alice&client_id=docker&offline_token=true&service=stackyard", ALICE, "alice", ""),
        (
            "account=alice&scope=repository%3Aa%3Apush%2Cpull&service=stackyard",
            ALICE,
            "alice",
            "repository:a:pull,push",
        ),
        # skopeo and podman: one parameter per scope; delete asks for everything
        (
            "account=alice&scope=repository%3Ab%3Apull%2Cpush&scope=repository%3Aa%3Apull&service=stackyard",
            ALICE,
            "alice",
            "repository:b:pull,push repository:a:pull",
        ),
        ("scope=repository%3Aa%3A*&service=stackyard", ALICE, "alice", "repository:a:pull,push"),
        # crane
        ("scope=repository%3Aa%3Apush%2Cpull%2Cdelete", ALICE, "alice", "repository:a:pull,push"),
        ("scope=registry%3Acatalog%3A%2A&service=stackyard", ALICE, "alice", "registry:catalog:*"),
        # containerd falling back to GET: a list with spaces or plus signs
        ("scope=repository:a:pull+repository:a:pull,push", ALICE, "alice", "repository:a:pull,push"),
        ("scope=repository:a:pull%20repository:a:pull,push", ALICE, "alice", "repository:a:pull,push"),
        # nobody
        ("service=stackyard&scope=repository:public/x:pull", None, "", "repository:public/x:pull"),
        ("service=stackyard&scope=repository:public/x:pull,push", None, "", "repository:public/x:pull"),
        ("service=stackyard&scope=repository:private:pull", None, "", ""),
        ("scope=registry:catalog:*", None, "", "registry:catalog:*"),
        ("", None, "", ""),
        # the conformance suite sends Basic without name and password
        ("scope=repository:public/x:pull", login("", ""), "", "repository:public/x:pull"),
        # another service's name in the request changes nothing: the token is good here only
        ("service=other&scope=repository:public/x:pull", None, "", "repository:public/x:pull"),
        ("unknown=1&scope=nonsense&scope=repository:public/x:pull,fly", None, "", "repository:public/x:pull"),
    ],
)
async def test_get_gives_what_was_asked_and_is_allowed(
    access: Access, query: str, authorization: str | None, subject: str, granted: str
) -> None:
    answer = await get(access, query, authorization)

    assert str(answer.access) == granted
    assert claims(answer)["sub"] == subject
    principal = await access.identify(f"Bearer {answer.token}", HERE)
    assert principal.name == subject


async def test_post_with_a_password_gives_a_token_with_its_scope(access: Access) -> None:
    """containerd: one parameter, narrower scopes first."""
    answer = await post(
        access,
        grant_type="password",
        username="alice",
        password="secret",
        client_id="containerd-client",
        service="stackyard",
        scope="repository:x:pull repository:x:pull,push repository:y:pull,delete",
    )

    body = json.loads(answer.body())
    assert body["access_token"] == body["token"] == answer.token
    assert body["scope"] == "repository:x:pull,push repository:y:pull"
    assert claims(answer)["access"] == [
        {"type": "repository", "name": "x", "actions": ["pull", "push"]},
        {"type": "repository", "name": "y", "actions": ["pull"]},
    ]


async def test_answer_has_every_member_a_client_reads(access: Access) -> None:
    answer = await get(access, "scope=repository:public/x:pull")

    body = json.loads(answer.body())
    issued = datetime.strptime(body["issued_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert body["token"] == body["access_token"]
    assert body["expires_in"] == 3600
    assert abs(issued - datetime.now(UTC)) < timedelta(seconds=10)
    assert "refresh_token" not in body
    assert answer.token not in repr(answer)


async def test_token_is_a_jwt_of_the_specification(access: Access) -> None:
    answer = await get(access, "scope=repository:public/x:pull")

    said = claims(answer)
    assert part(answer.token, 0) == {"alg": "ES256", "kid": KEY.kid, "typ": "JWT"}
    assert (said["iss"], said["aud"], said["sub"]) == ("stackyard", "stackyard", "")
    assert said["exp"] - said["iat"] == 3600
    assert said["nbf"] == said["iat"]
    assert said["jti"] != claims(await get(access, ""))["jti"]


async def test_token_tells_nothing_of_the_stored_hash(access: Access) -> None:
    answer = await get(access, "", ALICE)

    assert access.logins is not None
    stored = access.logins.stored("alice")
    assert stored is not None
    assert stored[7:29].decode() not in json.dumps(claims(answer))
    assert len(claims(answer)["login"]) == 22


@pytest.mark.parametrize(
    "authorization", [login("alice", "wrong"), login("nobody", "x"), "Basic !!!", "Bearer x", "Digest x"]
)
async def test_wrong_credentials_are_401_and_never_an_anonymous_token(access: Access, authorization: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        await get(access, "scope=repository:public/x:pull", authorization)

    error = access.challenged(refused.value, realm_base="https://r.example")
    assert error.headers["WWW-Authenticate"] == 'Basic realm="stackyard"'


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"grant_type": "password", "username": "alice", "password": "wrong"}, 401),
        ({"grant_type": "password", "username": "alice"}, 401),
        ({"grant_type": "password", "username": "al\0ice", "password": "x"}, 401),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, 401),
        ({"grant_type": "authorization_code"}, 400),
        ({}, 400),
    ],
)
async def test_post_that_cannot_be_granted_is_refused(access: Access, form: dict[str, str], status: int) -> None:
    with pytest.raises(RegistryError) as refused:
        await post(access, **form)

    assert refused.value.status == status


async def test_refresh_token_of_a_former_registry_is_answered_with_what_to_do(access: Access) -> None:
    with pytest.raises(Unauthorized, match="log in again"):
        await post(access, grant_type="refresh_token", refresh_token="x", service="stackyard")


async def test_guessing_at_the_token_endpoint_is_throttled(access: Access) -> None:
    for number in range(PAIR.burst):
        with pytest.raises(Unauthorized):
            await post(access, grant_type="password", username="alice", password=str(number))

    with pytest.raises(TooManyRequests):
        await get(access, "", login("alice", "another"))
    with pytest.raises(TooManyRequests):
        await access.identify(login("alice", "another"), HERE)


@pytest.mark.parametrize("encoded", [b"\xff", b"scope=%ff", b"a=1&" * 300, b"a" * 70_000])
def test_request_that_cannot_be_read_is_a_bad_request(encoded: bytes) -> None:
    with pytest.raises(BadRequest):
        TokenRequest.get(encoded, authorization=None, address=HERE)
    with pytest.raises(BadRequest):
        TokenRequest.post(encoded, authorization=None, address=HERE)


@given(st.binary() | st.text(st.characters(codec="ascii")).map(lambda text: text.encode()))
def test_any_form_is_read_or_refused(form: bytes) -> None:
    with suppress(RegistryError):
        request = TokenRequest.post(b"grant_type=password&" + form, authorization=None, address=HERE)
        request.form_credentials()
        assert request.asked is not None


async def test_more_scopes_than_fit_in_a_token_are_a_bad_request(access: Access) -> None:
    with pytest.raises(BadRequest):
        await get(access, "&".join(f"scope=repository:public/{number}:pull" for number in range(65)))


async def test_nothing_is_issued_where_no_rules_are(tmp_path: Path) -> None:
    access = opening.open_access(Settings(HtpasswdSettings(write(tmp_path / "htpasswd", {"alice": "secret"}))))

    assert not access.issues_tokens
    with pytest.raises(RouteUnknown):
        await get(access, "", ALICE)
    await access.close()


def test_lifetime_is_what_the_settings_say_and_a_minute_at_least() -> None:
    with pytest.raises(ValueError, match="60 seconds"):
        IssuerSettings(lifetime=timedelta(seconds=59))


async def test_service_of_the_settings_is_the_audience() -> None:
    settings = Settings(rules=(rule("anonymous", "**", "pull"),), issuer=IssuerSettings("yard", timedelta(minutes=2)))
    access = opening.open_access(settings, signing_key=KEY)

    answer = await get(access, "scope=repository:a:pull")

    assert claims(answer)["aud"] == "yard"
    assert claims(answer)["exp"] - claims(answer)["iat"] == 120
    assert 'service="yard"' in access.challenge(realm_base="https://r.example")
    assert (await access.identify(f"Bearer {answer.token}", HERE)).grants
