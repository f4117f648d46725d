"""`/api/v1/repositories`."""

from tests.http.client import Client
from tests.http.content import push_image


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
