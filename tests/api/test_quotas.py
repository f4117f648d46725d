"""`/api/v1/quotas`."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select
from tests.http.client import Client, Got
from tests.http.content import push_image

from stackyard.http.app import App
from stackyard.metadata import counting, quotas
from stackyard.metadata.schema import audit, quota_digest
from stackyard.registry.quotas import Limits

URL = "/api/v1/quotas"


async def put(admin: Client, prefix: str, max_bytes: Any = None, max_repositories: Any = None) -> Got:
    document = {"prefix": prefix, "max_bytes": max_bytes, "max_repositories": max_repositories}
    return await admin("PUT", URL, json.dumps(document).encode(), content_type="application/json")


async def test_a_quota_counts_what_is_there_and_is_listed(client: Client, admin: Client) -> None:
    await push_image(client, "team/a", "v1")
    await push_image(client, "team/b", "v1")

    got = await put(admin, "team/", 50_000, 7)

    assert got.status == 200
    shown = got.json()
    assert shown["used_bytes"] > 0
    assert shown["used_repositories"] == 2
    assert (shown["counting"], shown["source"], shown["warning"]) == (False, "api", None)
    assert shown["updated_by"].startswith("local:")
    await put(admin, "/", 10**9)
    page = (await admin("GET", URL + "?limit=1")).json()
    rest = (await admin("GET", page["next"])).json()
    assert [one["prefix"] for one in page["items"] + rest["items"]] == ["", "team/"]
    assert rest["next"] is None
    assert (await admin("GET", f"{URL}/usage?prefix=team/")).json() == shown


async def test_a_limit_below_the_usage_is_taken_with_a_warning(client: Client, admin: Client) -> None:
    await push_image(client, "team/a", "v1")
    await push_image(client, "team/b", "v1")

    assert (
        "used already, more than 1 B: pushes of new content are refused" in (await put(admin, "/", 1)).json()["warning"]
    )
    assert (await put(admin, "team/", None, 1)).json()["warning"].startswith("there are 2 repositories already")


@pytest.mark.parametrize(
    ("prefix", "size", "number", "says"),
    [
        ("team", 5, None, "write team/, or / for all"),
        ("Team/", 5, None, "is not the beginning of repository names"),
        ("team//", 5, None, "is not the beginning of repository names"),
        ("team/*/", 5, None, "is not the beginning of repository names"),
        ("team/", 0, None, "the limit on bytes is not a number from 1 on"),
        ("team/", -1, None, "the limit on bytes is not a number from 1 on"),
        ("team/", 2**63, None, "the limit on bytes is not a number from 1 on"),
        ("team/", None, 0, "the limit on repositories is not a number from 1 on"),
        ("team/", None, None, "limits nothing"),
    ],
)
async def test_what_cannot_be_a_quota_is_refused(
    admin: Client, prefix: str, size: int | None, number: int | None, says: str
) -> None:
    got = await put(admin, prefix, size, number)

    assert got.status == 400
    assert says in got.json()["detail"]
    assert (await admin("GET", URL)).json()["items"] == []


async def test_a_removed_quota_is_gone_and_an_unknown_one_is_not_found(admin: Client) -> None:
    await put(admin, "team/", 5)

    assert (await admin("DELETE", f"{URL}?prefix=team/", x_requested_with="x")).status == 204

    for method, url in (("DELETE", f"{URL}?prefix=team/"), ("GET", f"{URL}/usage?prefix={quote('%')}")):
        got = await admin(method, url, x_requested_with="x")
        assert (got.status, got.json()["code"]) == (404, "QUOTA_UNKNOWN")


async def test_changes_are_recorded(app: App, admin: Client) -> None:
    await put(admin, "team/", 5)
    await admin("DELETE", f"{URL}?prefix=team/", x_requested_with="x")

    rows = await app.registry.quotas.database.read(lambda c: c.execute(select(audit).order_by(audit.c.id)).all())

    assert [row.action for row in rows] == ["quota.set", "quota.remove"]
    assert rows[0].detail == '{"prefix":"team/","bytes":5,"repositories":null}'


async def test_verifying_tells_what_differs(app: App, client: Client, admin: Client) -> None:
    await push_image(client, "team/a", "v1")
    await put(admin, "team/", 10**6)
    exact = (await admin("POST", f"{URL}/verify", x_requested_with="x")).json()
    assert [(one["prefix"], one["differences"], one["more"]) for one in exact] == [("team/", [], 0)]
    assert exact[0]["digests"] == 3

    database = app.registry.quotas.database
    await database.write(lambda c: c.execute(quota_digest.update().values(links=quota_digest.c.links + 1)) and None)
    [wrong] = (await admin("POST", f"{URL}/verify?prefix=team/", x_requested_with="x")).json()

    assert [(one["counted"], one["found"]) for one in wrong["differences"]] == [(2, 1)] * 3
    assert all(one["what"].startswith("sha256:") for one in wrong["differences"])


async def test_quotas_of_the_configuration_file_are_changed_only_there(app: App, admin: Client) -> None:
    quotas_ = app.registry.quotas
    await put(admin, "mine/", 5)
    await put(admin, "team/", 5)

    await quotas_.declare([Limits("team/", 7, None), Limits("", None, 9)])
    await quotas_.declare([Limits("team/", 7, None), Limits("", None, 9)])

    found = (await admin("GET", URL)).json()["items"]
    assert [(one["prefix"], one["max_bytes"], one["max_repositories"], one["source"]) for one in found] == [
        ("", None, 9, "config"),
        ("mine/", 5, None, "api"),
        ("team/", 7, None, "config"),
    ]
    for got in (await put(admin, "team/", 8), await admin("DELETE", f"{URL}?prefix=team/", x_requested_with="x")):
        assert got.status == 409
        assert "change stackyard.quotas there" in got.json()["detail"]

    await quotas_.declare([])
    assert [one["prefix"] for one in (await admin("GET", URL)).json()["items"]] == ["mine/"]
    rows = await quotas_.database.read(lambda c: c.execute(select(audit.c.actor, audit.c.action)).all())
    assert rows.count(("config", "quota.set")) == 2
    assert rows.count(("config", "quota.remove")) == 2


async def test_what_is_too_long_for_one_answer_is_counted_in_the_background(
    app: App, client: Client, admin: Client
) -> None:
    await push_image(client, "team/a", "v1")
    database = app.registry.quotas.database
    await database.write(
        quotas.put, prefix="team/", max_bytes=9, max_repositories=None, source="api", actor="user:root"
    )
    shown = (await admin("GET", f"{URL}/usage?prefix=team/")).json()
    assert shown["counting"]
    assert "still being counted" in shown["warning"]
    assert (await admin("POST", f"{URL}/verify", x_requested_with="x")).json()[0]["counting"]

    await app.registry.quotas.work()

    assert not await database.read(counting.has_work)
    assert not (await admin("GET", f"{URL}/usage?prefix=team/")).json()["counting"]
