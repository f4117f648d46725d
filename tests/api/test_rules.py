"""`/api/v1/rules`."""

import json
from typing import Any

import pytest
from tests.http.client import Client, Got
from tests.http.content import image, push_image, put_manifest

from stackyard.http.app import App

URL = "/api/v1/rules"
KEEP_TEN = {"kind": "retention", "repositories": "team/**", "tags": ["dev-*"], "keep": {"last": 10, "pulled": "30d"}}
FROZEN = {"kind": "immutable", "repositories": "**", "tags": ["v*"]}


async def send(admin: Client, method: str, document: Any, url: str = URL) -> Got:
    return await admin(method, url, json.dumps(document).encode(), content_type="application/json")


async def test_a_rule_is_added_listed_changed_and_removed(admin: Client) -> None:
    added = (await send(admin, "POST", KEEP_TEN)).json()
    second = (await send(admin, "POST", FROZEN)).json()

    assert added["rule"] == {name: value for name, value in KEEP_TEN.items() if name != "kind"}
    assert (added["kind"], added["source"]) == ("retention", "api")
    assert added["updated_by"].startswith("local:")
    page = (await admin("GET", f"{URL}?limit=1")).json()
    rest = (await admin("GET", page["next"])).json()
    assert [one["id"] for one in page["items"] + rest["items"]] == [added["id"], second["id"]]
    assert rest["next"] is None
    one = f"{URL}/{added['id']}"
    changed = await send(admin, "PUT", KEEP_TEN | {"keep": {"newer": "14d"}}, one)
    assert changed.json()["rule"]["keep"] == {"newer": "14d"}
    assert (await admin("GET", one)).json() == changed.json()
    assert (await admin("DELETE", one)).status == 204
    assert (await admin("DELETE", one)).json()["code"] == "RULE_UNKNOWN"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (KEEP_TEN | {"keep": {}}, "the new rule: keeps nothing, so it would delete every tag it is about"),
        (KEEP_TEN | {"repositories": "Team"}, "'Team' is not a repository name with * or ** in it"),
        (KEEP_TEN | {"tags": ["re:("]}, "is not a regular expression"),
        (KEEP_TEN | {"excluding": ["*"]}, "all that dev-* stands for is excluded by *"),
        (KEEP_TEN | {"excluding": ["re:dev-.*"]}, "all that dev-* stands for is excluded by re:dev-.*"),
        (KEEP_TEN | {"tags": ["re:^$"]}, "re:^$ can match no tag: no tag has such a form"),
        (KEEP_TEN | {"keep": {"matching": ["re:("]}}, "is not a regular expression"),
        (KEEP_TEN | {"keep": {"pulled": "soon"}}, "'soon' is not a length of time such as 14d, 36h or 1w"),
        (KEEP_TEN | {"pattern": "v*"}, "pattern is unknown here"),
        (FROZEN | {"repositories": "a\0"}, "NUL"),
        (FROZEN | {"kind": "other"}, "retention"),
        ({"kind": "form", "repositories": "a"}, "pattern is missing"),
        ([], "valid dictionary"),
    ],
)
async def test_a_bad_rule_is_refused_with_the_reason(admin: Client, document: Any, says: str) -> None:
    got = await send(admin, "POST", document)

    assert got.status in (400, 422)
    assert says in got.json()["detail"]
    assert (await admin("GET", URL)).json()["items"] == []


async def test_a_rule_without_effect_is_refused_and_one_of_another_kind_too(admin: Client) -> None:
    first = (await send(admin, "POST", FROZEN)).json()["id"]

    got = await send(admin, "POST", FROZEN | {"repositories": "team/*"})
    other = await send(admin, "PUT", KEEP_TEN, f"{URL}/{first}")

    assert got.json()["detail"] == f"the new rule: has no effect, because rule {first} makes the same tags immutable"
    assert other.json()["detail"] == f"rule {first} is not about retention: remove it and add another one"


async def test_a_rule_of_the_file_is_changed_there(app: App, admin: Client) -> None:
    await app.registry.rules.adopt([("immutable", {"repositories": "**"})])
    [rule] = (await admin("GET", URL)).json()["items"]

    got = await admin("DELETE", f"{URL}/{rule['id']}")

    assert rule["source"] == "config"
    assert (got.status, got.json()["code"]) == (409, "CONFLICT")
    assert "stands in the configuration file; change it there" in got.json()["detail"]


async def test_a_rule_holds_at_once(client: Client, admin: Client) -> None:
    await push_image(client, "a", "v1")

    await send(admin, "POST", FROZEN)

    assert (await put_manifest(client, "a", "v1", image(annotations={"other": "yes"}))).status == 409
