"""Every method of every endpoint, asked by every kind of caller, where rules decide."""

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import bcrypt
import pytest
from tests.http.client import Client, Got
from tests.http.content import LAYER, image, push_image, start

from stackyard.auth import opening
from stackyard.auth.principals import Action
from stackyard.auth.rules import Rule, Subject
from stackyard.auth.settings import HtpasswdSettings
from stackyard.auth.settings import Settings as AuthSettings
from stackyard.http import permissions
from stackyard.http.app import HANDLERS, App
from stackyard.oci.digests import Digest
from stackyard.oci.manifests import OCI_MANIFEST

PULL, PUSH, DELETE = frozenset({Action.PULL}), frozenset({Action.PULL, Action.PUSH}), frozenset({Action.DELETE})
USERS = {"reader": PULL, "writer": PUSH, "remover": DELETE, "stranger": frozenset[Action](), "admin": frozenset()}
REALM = 'Bearer realm="http://registry.test/auth/token",service="stackyard"'

BLOB, MANIFEST = f"/v2/team/app/blobs/{Digest.of(LAYER)}", "/v2/team/app/manifests/latest"
UPLOADS, SESSION = "/v2/team/app/blobs/uploads/", "/v2/team/app/blobs/uploads/{session}"
# What each request needs, as its challenge names it.
REQUESTS = {
    f"GET {MANIFEST}": "pull",
    f"HEAD {MANIFEST}": "pull",
    f"PUT {MANIFEST}": "pull,push",
    f"DELETE {MANIFEST}": "delete",
    f"GET {BLOB}": "pull",
    f"HEAD {BLOB}": "pull",
    f"DELETE {BLOB}": "delete",
    f"POST {UPLOADS}": "pull,push",
    f"POST {UPLOADS}?digest={Digest.of(LAYER)}": "pull,push",
    f"GET {SESSION}": "pull,push",
    f"HEAD {SESSION}": "pull,push",
    f"PATCH {SESSION}": "pull,push",
    f"PUT {SESSION}?digest={Digest.of(LAYER)}": "pull,push",
    f"DELETE {SESSION}": "pull,push",
    "GET /v2/team/app/tags/list": "pull",
    "HEAD /v2/team/app/tags/list": "pull",
    f"GET /v2/team/app/referrers/{Digest.of(LAYER)}": "pull",
    f"HEAD /v2/team/app/referrers/{Digest.of(LAYER)}": "pull",
}
# What each caller may, and the status when it may not: 401 where another login or token could help.
CALLERS = {
    "nobody": ("", 401),
    "anonymous token": ("", 401),
    "wrong password": ("", 401),
    "unknown user": ("", 401),
    "forged token": ("", 401),
    "password of stranger": ("", 403),
    "password of reader": ("pull", 403),
    "password of writer": ("pull push", 403),
    "password of remover": ("delete", 403),
    "password of admin": ("pull push delete", 403),
    "token of reader for everything": ("pull", 401),
    "token of writer for everything": ("pull push", 401),
    "token of writer for pull": ("pull", 401),
    "token of writer elsewhere": ("", 401),
    "token of remover for everything": ("delete", 401),
    "token of admin for everything": ("pull push delete", 401),
    "token of admin for pull": ("pull", 401),
}


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("users") / "htpasswd"
    stored = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    file.write_text("".join(f"{user}:{stored}\n" for user in USERS))
    return file


@pytest.fixture
async def guarded(app: App, passwords: Path) -> AsyncIterator[Client]:
    await push_image(Client(app), "team/app", "latest")
    rules = [Rule(Subject("user", user), "team/**", actions) for user, actions in USERS.items()]
    rules.append(Rule(Subject("anonymous"), "public/**", PULL))
    settings = AuthSettings(HtpasswdSettings(passwords), tuple(rules), admins=frozenset({"admin"}))
    access = opening.open_access(settings)
    yield Client(replace(app, access=access))
    await access.close()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def authorization(client: Client, caller: str) -> dict[str, str]:
    """The header that makes one this caller."""
    match caller.split():
        case ["nobody"]:
            return {}
        case ["anonymous", _]:
            return {"authorization": "Bearer " + await token(client, "repository:team/app:*")}
        case ["wrong", _]:
            return {"authorization": basic("writer", "wrong")}
        case ["unknown", _]:
            return {"authorization": basic("nobody at all", "right")}
        case ["forged", _]:
            return {"authorization": "Bearer e30.e30."}
        case ["password", "of", user]:
            return {"authorization": basic(user, "right")}
        case [_, "of", user, "elsewhere"]:
            scope = "repository:team/other:*"
        case [_, "of", user, "for", actions]:
            scope = f"repository:team/app:{'*' if actions == 'everything' else actions}"
    return {"authorization": "Bearer " + await token(client, scope, authorization=basic(user, "right"))}


async def token(client: Client, scope: str, **headers: str) -> str:
    got = await client("GET", f"/auth/token?service=stackyard&scope={quote(scope)}", **headers)
    assert got.status == 200
    return str(got.json()["token"])


async def ask(client: Client, app: App, request: str, headers: dict[str, str]) -> Got:
    method, path = request.split(" ")
    if "{session}" in path:
        path = path.format(session=(await start(Client(app), "team/app")).rpartition("/")[2])
    content = image() if "manifests" in path else LAYER
    body = content if method in ("PUT", "PATCH") or "digest=" in path else b""
    return await client(method, path, body, content_type=OCI_MANIFEST, **headers)


@pytest.mark.parametrize("caller", CALLERS)
async def test_caller_gets_what_the_rules_allow_and_nothing_else(guarded: Client, app: App, caller: str) -> None:
    allowed, refusal = CALLERS[caller]
    headers = await authorization(guarded, caller)

    for number, (request, needed) in enumerate(REQUESTS.items(), start=2):
        guarded.address = f"192.0.2.{number}"  # or guesses would be throttled
        got = await ask(guarded, app, request, headers)

        if set(needed.split(",")) <= set(allowed.split()):
            assert got.status in (200, 201, 202, 204), request
            if request.startswith("DELETE"):
                await push_image(Client(app), "team/app", "latest")
        else:
            assert got.status == refusal, request
            assert request.startswith("HEAD") or got.codes == ["UNAUTHORIZED" if refusal == 401 else "DENIED"]
            challenge = got.headers.get("www-authenticate", "")
            assert challenge.startswith(f'{REALM},scope="repository:team/app:{needed}"' if refusal == 401 else "")
            assert (await Client(app)("GET", MANIFEST)).body == image(), request


@pytest.mark.parametrize("caller", CALLERS)
async def test_base_endpoint_admits_everybody_with_a_login_or_a_token(guarded: Client, caller: str) -> None:
    got = await guarded("GET", "/v2/", **await authorization(guarded, caller))

    turned_away = caller in ("nobody", "wrong password", "unknown user", "forged token")
    assert got.status == (401 if turned_away else 200)
    error = ',error="invalid_token"' if caller == "forged token" else ""
    assert got.headers.get("www-authenticate") == (REALM + error if turned_away else None)


async def test_catalogue_asks_for_a_token_of_its_own_and_then_lists_what_may_be_pulled(
    guarded: Client, app: App
) -> None:
    await push_image(Client(app), "public/x", "latest")
    challenges = [await guarded("GET", "/v2/_catalog")]
    wrong = await token(guarded, "repository:public/x:pull")
    challenges.append(await guarded("GET", "/v2/_catalog", authorization=f"Bearer {wrong}"))

    assert [(got.status, got.codes) for got in challenges] == [(401, ["UNAUTHORIZED"])] * 2
    assert challenges[0].headers["www-authenticate"] == f'{REALM},scope="registry:catalog:*"'
    assert challenges[1].headers["www-authenticate"].endswith('scope="registry:catalog:*",error="insufficient_scope"')
    for user, listed in [("", ["public/x"]), ("reader", ["public/x", "team/app"]), ("remover", ["public/x"])]:
        login = {"authorization": basic(user, "right")} if user else {}
        right = await token(guarded, "registry:catalog:*", **login)
        got = await guarded("GET", "/v2/_catalog", authorization=f"Bearer {right}")
        assert got.json() == {"repositories": listed}


@pytest.mark.parametrize("n", [1, 2])
async def test_pages_of_the_catalogue_skip_what_may_not_be_pulled(guarded: Client, app: App, n: int) -> None:
    for name in ("a", "public/x", "public/y", "public/z", "secret", "team/b", "z"):
        await push_image(Client(app), name, "latest")
    reader = {"authorization": basic("reader", "right")}

    names, url = [], f"/v2/_catalog?n={n}"
    while url:
        got = await guarded("GET", url, **reader)
        names += got.json()["repositories"]
        url = got.headers.get("link", "").partition(";")[0].strip("<>")

    assert names == ["public/x", "public/y", "public/z", "team/app", "team/b"]


async def test_mount_names_both_repositories_in_its_challenge(guarded: Client) -> None:
    got = await guarded("POST", f"/v2/team/app/blobs/uploads/?mount={Digest.of(LAYER)}&from=public/x")

    scope = "repository:team/app:pull,push repository:public/x:pull"
    assert (got.status, got.headers["www-authenticate"]) == (401, f'{REALM},scope="{scope}"')


async def test_what_is_public_needs_no_token_but_before_a_head(guarded: Client, app: App) -> None:
    """containerd hangs when the first 401 it meets answers a body; so its HEAD is what asks for a token."""
    await push_image(Client(app), "public/x", "latest")

    assert (await guarded("GET", "/v2/public/x/manifests/latest")).status == 200
    assert (await guarded("HEAD", "/v2/public/x/manifests/latest")).status == 401
    public = await token(guarded, "repository:public/x:pull")
    assert (await guarded("HEAD", "/v2/public/x/manifests/latest", authorization=f"Bearer {public}")).status == 200


async def test_repeated_wrong_passwords_are_told_to_wait(guarded: Client) -> None:
    answers = [await guarded("GET", "/v2/", authorization=basic("reader", f"guess {n}")) for n in range(12)]

    assert [got.status for got in answers] == [401] * 10 + [429] * 2
    assert answers[-1].codes == ["TOOMANYREQUESTS"]
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert (await guarded("GET", "/v2/", authorization=basic("writer", "right"))).status == 200


def test_every_endpoint_but_the_base_and_the_catalogue_needs_a_right() -> None:
    assert {kind.__name__ for kind in HANDLERS.keys() - permissions.ACTIONS.keys()} == {"Catalog"}
