"""`/api/v1/manifests`."""

import pytest
from tests.http.client import Client
from tests.http.content import CONFIG, LAYER, index, push_image, put_manifest

from stackyard.oci.digests import Digest

NOWHERE = Digest.of(b"nowhere")


async def test_manifests_are_listed_and_shown(client: Client, admin: Client) -> None:
    image = await push_image(client, "team/app", "1.0")
    both = index(image)
    await put_manifest(client, "team/app", Digest.of(both), both)

    listed = (await admin("GET", "/api/v1/manifests/team/app")).json()["items"]
    untagged = (await admin("GET", "/api/v1/manifests/team/app?which=untagged")).json()["items"]
    shown = (await admin("GET", "/api/v1/manifests/team/app:1.0")).json()
    parent = (await admin("GET", f"/api/v1/manifests/team/app@{Digest.of(both)}")).json()

    assert {one["digest"]: one["tags"] for one in listed} == {Digest.of(image): 1, Digest.of(both): 0}
    assert [one["digest"] for one in untagged] == [Digest.of(both)]
    assert (shown["digest"], shown["tag_names"]) == (Digest.of(image), ["1.0"])
    assert [(one["kind"], one["digest"], one["size"]) for one in shown["references"]] == [
        ("config", Digest.of(CONFIG), len(CONFIG)),
        ("layer", Digest.of(LAYER), len(LAYER)),
    ]
    assert [(one["kind"], one["size"]) for one in parent["references"]] == [("child", shown["size"])]


async def test_a_deleted_manifest_takes_its_tags_along(client: Client, admin: Client) -> None:
    image = await push_image(client, "team/app", "1.0")
    url = f"/api/v1/manifests/team/app@{Digest.of(image)}"

    deleted = await admin("DELETE", url)
    again = await admin("DELETE", url)

    assert (deleted.status, deleted.body, again.status) == (204, b"", 404)
    assert (await admin("GET", "/api/v1/tags/team/app:1.0")).status == 404
    (gone,) = (await admin("GET", "/api/v1/manifests/team/app?which=deleted")).json()["items"]
    assert gone["restorable_until"] > gone["deleted_at"]
    (entry, *_) = (await admin("GET", "/api/v1/audit")).json()["items"]
    assert (entry["action"], entry["detail"]) == ("manifest.delete", {"digest": Digest.of(image)})


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/api/v1/manifests/none", 404),
        (f"/api/v1/manifests/none@{NOWHERE}", 404),
        ("/api/v1/manifests/none:1.0", 404),
        ("/api/v1/manifests/none@sha256:short", 400),
        ("/api/v1/manifests/none@md5:aaaa", 400),
        ("/api/v1/manifests/a?which=some", 422),
    ],
)
async def test_what_is_no_manifest_is_a_problem(admin: Client, url: str, status: int) -> None:
    got = await admin("GET", url)

    assert (got.status, got.headers["content-type"]) == (status, "application/problem+json")
