"""`/api/v1/tags`."""

from dataclasses import replace

import pytest
from tests.http.client import Client
from tests.http.content import CONFIG, LAYER, index, push_image, put_manifest

from stackyard.http.app import App
from stackyard.oci.digests import Digest


async def test_tags_are_listed_with_what_they_point_to(client: Client, admin: Client) -> None:
    manifest = await push_image(client, "team/app", "1.0")
    await put_manifest(client, "team/app", "all", index(manifest))

    first = (await admin("GET", "/api/v1/tags/team/app?limit=1")).json()
    second = (await admin("GET", first["next"])).json()
    shown = (await admin("GET", "/api/v1/tags/team/app:1.0")).json()

    (one,) = first["items"]
    (all_of_them,) = second["items"]
    assert (one, second["next"]) == (shown, None)
    assert (one["name"], one["digest"]) == ("1.0", Digest.of(manifest))
    assert one["size"] == len(manifest) + len(CONFIG) + len(LAYER)
    assert (one["pushed_by"], one["pulled_at"], one["deleted_at"]) == ("anonymous", None, None)
    assert all_of_them["size"] == len(index(manifest)) + one["size"]


async def test_a_deleted_tag_is_gone_recorded_and_listed(client: Client, admin: Client) -> None:
    """Though storage.delete.enabled is off here, as it is by default."""
    manifest = await push_image(client, "team/app", "1.0")

    by_client = await client("DELETE", "/v2/team/app/manifests/1.0")
    by_admin = await admin("DELETE", "/api/v1/tags/team/app:1.0")
    again = await admin("DELETE", "/api/v1/tags/team/app:1.0")

    assert [got.status for got in (by_client, by_admin, again)] == [405, 204, 404]
    assert (await client("GET", "/v2/team/app/manifests/1.0")).status == 404
    assert (await client("GET", f"/v2/team/app/manifests/{Digest.of(manifest)}")).status == 200
    (gone,) = (await admin("GET", "/api/v1/tags/team/app?deleted=true")).json()["items"]
    assert gone["name"] == "1.0"
    assert gone["restorable_until"] > gone["deleted_at"]
    (entry, *_) = (await admin("GET", "/api/v1/audit")).json()["items"]
    assert (entry["action"], entry["repository"], entry["detail"]) == ("tag.delete", "team/app", {"tag": "1.0"})
    assert entry["actor"].startswith("local:")


async def test_nothing_is_deleted_while_the_registry_is_read_only(app: App, client: Client, admin: Client) -> None:
    await push_image(client, "team/app", "1.0")
    registry = app.registry
    read_only = replace(registry.manifests, settings=replace(registry.settings, read_only=True))
    frozen = replace(app, registry=replace(registry, manifests=read_only))
    frozen.api = replace(frozen.api, registry=frozen.registry)  # type: ignore[type-var]
    del admin

    from functools import partial

    got = await Client(partial(frozen.local, 0))("DELETE", "/api/v1/tags/team/app:1.0")

    assert got.status == 405


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/api/v1/tags/none", 404),
        ("/api/v1/tags/none:1.0", 404),
        ("/api/v1/tags/none?deleted=true", 404),
        ("/api/v1/tags/UPPER", 400),
        ("/api/v1/tags/a:b:c", 400),
        ("/api/v1/tags/a:-", 400),
        ("/api/v1/tags/:a", 400),
        ("/api/v1/tags/", 400),
        ("/api/v1/tags/a?deleted=perhaps", 422),
    ],
)
async def test_what_is_no_tag_is_a_problem(admin: Client, url: str, status: int) -> None:
    got = await admin("GET", url)

    assert (got.status, got.headers["content-type"]) == (status, "application/problem+json")
