"""The door: who may enter, and that everything refused is a problem."""

import base64
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.http.client import Client, Got
from tests.http.content import push_image
from tests.support import htpasswd

from stackyard.api.mount import Mount
from stackyard.auth import opening
from stackyard.auth.rules import Rule, Subject
from stackyard.auth.settings import HtpasswdSettings, SillySettings
from stackyard.auth.settings import Settings as AuthSettings
from stackyard.http.app import App
from stackyard.http.origin import Origins
from stackyard.metadata.errors import DatabaseUnavailable

REPOSITORIES = "/api/v1/repositories"


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """One engine is enough for what hardly comes to it."""
    return sqlite_url


def problem(got: Got, status: int) -> dict[str, Any]:
    assert (got.status, got.headers["content-type"]) == (status, "application/problem+json"), got
    document = got.json()
    assert document["status"] == status
    assert document["type"] == "about:blank"
    assert document.keys() >= {"title", "detail", "code"}
    found: dict[str, Any] = document
    return found


def login(user: str, password: str = "secret") -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
async def guarded(app: App, tmp_path: Path) -> AsyncIterator[App]:
    """With passwords; `root` is the one admin."""
    file = htpasswd.write(tmp_path / "htpasswd", {"root": "secret", "alice": "secret"}, cost=4)
    settings = AuthSettings(provider=HtpasswdSettings(file), admins=frozenset({"root"}))
    access = opening.open_access(settings)
    yield replace(app, access=access, api=Mount(app.registry, access))
    await access.close()


async def test_without_admins_the_network_is_told_what_to_set(client: Client) -> None:
    got = await client("GET", REPOSITORIES)

    assert "set stackyard.admins" in problem(got, 403)["detail"]


async def test_silly_logins_are_no_admins(app: App) -> None:
    access = opening.open_access(AuthSettings(provider=SillySettings("x", "y"), admins=frozenset({"silly"})))
    client = Client(replace(app, access=access, api=Mount(app.registry, access)))

    problem(await client("GET", REPOSITORIES, **login("silly")), 403)


async def test_over_the_network_only_admins_enter(guarded: App) -> None:
    client = Client(guarded)

    stranger = await client("GET", REPOSITORIES)
    wrong = await client("GET", REPOSITORIES, **login("root", "wrong"))
    user = await client("GET", REPOSITORIES, **login("alice"))
    admin = await client("GET", REPOSITORIES, **login("root"))

    problem(stranger, 401)
    assert stranger.headers["www-authenticate"].startswith("Basic ")
    problem(wrong, 401)
    assert "stackyard.admins" in problem(user, 403)["detail"]
    assert (admin.status, admin.json()) == (200, {"items": [], "next": None})


async def test_basic_logins_count_where_the_registry_asks_for_tokens(app: App, tmp_path: Path) -> None:
    file = htpasswd.write(tmp_path / "htpasswd", {"root": "secret"}, cost=4)
    settings = AuthSettings(
        provider=HtpasswdSettings(file),
        admins=frozenset({"root"}),
        rules=(Rule(Subject("authenticated"), "**", frozenset()),),
    )
    access = opening.open_access(settings)
    client = Client(replace(app, access=access, api=Mount(app.registry, access)))

    assert (await client("GET", REPOSITORIES, **login("root"))).status == 200
    assert (await client("GET", REPOSITORIES)).headers["www-authenticate"].startswith("Basic ")
    for scope, status in (("registry:administration:*", 200), ("registry:catalog:*", 401)):
        token = (await client("GET", f"/auth/token?service=stackyard&scope={scope}", **login("root"))).json()["token"]
        assert (await client("GET", REPOSITORIES, authorization=f"Bearer {token}")).status == status
    await access.close()


async def test_on_the_local_socket_root_and_the_servers_user_enter(app: App) -> None:
    for uid, status in ((0, 200), (os.geteuid(), 200), (os.geteuid() + 1, 403)):
        got = await Client(partial(app.local, uid))("GET", REPOSITORIES)

        assert got.status == status


async def test_on_the_local_socket_is_nothing_but_administration(admin: Client) -> None:
    problem(await admin("GET", "/v2/"), 404)
    problem(await admin("GET", "/"), 404)


@pytest.mark.parametrize(
    ("method", "url", "status", "code"),
    [
        ("GET", "/api/v1/nothing", 404, "ROUTE_UNKNOWN"),
        ("GET", "/api/v2/repositories", 404, "UNSUPPORTED"),
        ("PUT", "/api/v1/repositories", 405, "UNSUPPORTED"),
        ("GET", "/api/v1/repositories?limit=0", 422, "INVALID"),
        ("GET", "/api/v1/repositories?limit=x", 422, "INVALID"),
        ("GET", "/api/v1/repositories?after=%00", 422, "INVALID"),
        ("GET", "/api/v1/repositories/UPPER", 400, "NAME_INVALID"),
        ("GET", "/api/v1/repositories/%00", 400, "NAME_INVALID"),
        ("GET", "/api/v1/repositories/none", 404, "NAME_UNKNOWN"),
    ],
)
async def test_wrong_input_gets_a_problem(admin: Client, method: str, url: str, status: int, code: str) -> None:
    got = await admin(method, url)

    assert problem(got, status)["code"] == code


async def test_a_form_of_another_site_is_refused(guarded: App) -> None:
    client = Client(guarded, headers=login("root"))
    form, json = "application/x-www-form-urlencoded", "application/json"

    for headers in ({"content_type": form}, {"content_type": json, "sec_fetch_site": "cross-site"}, {}):
        assert problem(await client("POST", REPOSITORIES, **headers), 400)["detail"].startswith("send `Content-Type")
    for headers in ({"content_type": json}, {"x_requested_with": "curl"}):
        problem(await client("POST", REPOSITORIES, **headers), 405)


async def test_no_page_of_another_site_reads_answers(guarded: App) -> None:
    shared = [(b"access-control-allow-origin", b"*"), (b"x-content-type-options", b"nosniff")]
    client = Client(replace(guarded, headers=shared), headers=login("root"))

    answered, asked = await client("GET", REPOSITORIES), await client("OPTIONS", REPOSITORIES, x_requested_with="x")

    assert "access-control-allow-origin" not in answered.headers.keys() | asked.headers.keys()
    assert answered.headers["x-content-type-options"] == "nosniff"
    problem(asked, 405)


async def test_an_endless_document_is_refused(admin: Client) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 2**20

    got = await admin("POST", REPOSITORIES, endless(), content_type="application/json")

    assert got.status in (405, 413)


async def test_links_hold_the_prefix(client: Client, guarded: App) -> None:
    for name in ("a", "b"):
        await push_image(client, name, "latest")
    prefixed = Client(replace(guarded, origins=Origins(prefix="/x")), headers=login("root"))

    got = await prefixed("GET", "/x/api/v1/repositories?limit=1")

    assert got.json()["next"] == "/x/api/v1/repositories?limit=1&after=a"


async def test_what_fails_is_told_without_a_trace(app: App, admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(type(app.registry.listings), "repositories", fail)
    for error, status in ((DatabaseUnavailable("locked"), 503), (RuntimeError("secret"), 500)):  # noqa: B007 - `fail` reads it
        got = await admin("GET", REPOSITORIES)

        assert "secret" not in str(problem(got, status))


async def test_what_is_not_used_is_not_loaded(client: Client) -> None:
    """FastAPI costs memory and time in each worker."""
    heavy = {"fastapi", "starlette", "httpx", "stackyard.metadata.listings"}
    probe = f"import sys, stackyard.server.assembly; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=30)
    refused = await client("GET", REPOSITORIES)

    assert done.stdout.strip() == "[]"
    problem(refused, 403)
    assert client.app.api._app is None
