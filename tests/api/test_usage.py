"""`/api/v1/usage`."""

from tests.http.client import Client
from tests.http.content import CONFIG, LAYER, push_image

BYTES = len(CONFIG) + len(LAYER)


async def test_usage_counts_what_is_shared_once(client: Client, admin: Client) -> None:
    for name in ("team/a", "team/b", "c"):
        await push_image(client, name, "latest")

    everything = (await admin("GET", "/api/v1/usage")).json()
    team = (await admin("GET", "/api/v1/usage?prefix=team/&limit=1")).json()
    rest = (await admin("GET", team["next"])).json()

    assert everything["total"] == {
        "repositories": 3,
        "logical": 3 * BYTES,
        "stored": BYTES,
        "unique": BYTES,
        "reclaimable": 0,
    }
    assert [one["name"] for one in everything["items"]] == ["c", "team/a", "team/b"]
    assert (team["total"]["repositories"], team["total"]["unique"]) == (2, 0)
    assert [one["name"] for one in team["items"] + rest["items"]] == ["team/a", "team/b"]
    assert (rest["total"], rest["next"]) == (None, None)
