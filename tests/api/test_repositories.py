"""`/api/v1/repositories`."""

from tests.http.client import Client
from tests.http.content import push_image

from stackyard.http.app import App


async def test_repositories_are_listed_in_order_page_by_page(client: Client, admin: Client) -> None:
    for name in ("b", "a/c", "a"):
        await push_image(client, name, "latest")

    names, url = [], "/api/v1/repositories?limit=2"
    while url:
        page = (await admin("GET", url)).json()
        names.append([one["name"] for one in page["items"]])
        url = page["next"]

    assert names == [["a", "a/c"], ["b"]]


async def test_a_repository_is_shown(client: Client, admin: Client) -> None:
    await push_image(client, "team/app", "latest")

    got = await admin("GET", "/api/v1/repositories/team/app")

    assert got.json()["name"] == "team/app"
    assert got.json()["created_at"].endswith("Z")


async def test_deleted_repositories_are_listed_apart(app: App, client: Client, admin: Client) -> None:
    for _ in range(2):
        await push_image(client, "team/app", "latest")
        await app.registry.repositories.delete("team/app", actor="user:alice")

    first = (await admin("GET", "/api/v1/repositories?deleted=true&limit=1")).json()
    second = (await admin("GET", first["next"])).json()

    items = first["items"] + second["items"]
    assert [(one["name"], one["deleted_by"]) for one in items] == [("team/app", "user:alice")] * 2
    assert (await admin("GET", "/api/v1/repositories")).json()["items"] == []
    assert second["next"] is None
