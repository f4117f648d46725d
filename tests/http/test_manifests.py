"""distribution-spec 1.1.1, end-3, end-7 and end-9."""

import json

import pytest
from tests.http.client import Client
from tests.http.conftest import with_settings
from tests.http.content import CONFIG, LAYER, MISSING, descriptor, image, index, push_blob, push_image, put_manifest

from stackyard.http.app import App
from stackyard.oci.digests import Digest
from stackyard.oci.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST


async def test_get_and_head_give_back_what_was_pushed_byte_for_byte(client: Client) -> None:
    manifest = await push_image(client, "a", "latest", image(unknown={"kept": [1, 2.50, "\u00e9"]}))
    digest = Digest.of(manifest)

    for reference in ("latest", digest):
        got = await client("GET", f"/v2/a/manifests/{reference}")
        head = await client("HEAD", f"/v2/a/manifests/{reference}")

        assert (got.status, got.body, head.status, head.body) == (200, manifest, 200, b"")
        for answer in (got, head):
            assert answer.headers["content-type"] == OCI_MANIFEST
            assert answer.headers["content-length"] == str(len(manifest))
            assert answer.headers["docker-content-digest"] == digest
            assert answer.headers["etag"] == f'"{digest}"'


@pytest.mark.parametrize(
    "accept", [None, "*/*", "text/html", DOCKER_MANIFEST, f"{OCI_INDEX};q=0.5, {DOCKER_LIST}", "application/json"]
)
async def test_what_was_stored_is_served_whatever_is_accepted(client: Client, accept: str | None) -> None:
    manifest = await push_image(client, "a", "latest")

    got = await client("GET", "/v2/a/manifests/latest", **({"accept": accept} if accept else {}))

    assert (got.status, got.body, got.headers["content-type"]) == (200, manifest, OCI_MANIFEST)


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
async def test_docker_and_oci_images_keep_their_type(client: Client, media_type: str) -> None:
    await push_image(client, "a", "latest", image(mediaType=media_type))

    assert (await client("HEAD", "/v2/a/manifests/latest")).headers["content-type"] == media_type


async def test_a_docker_list_asked_for_by_tag_is_not_replaced_by_a_child(client: Client) -> None:
    child = await push_image(client, "a", "child")
    parent = await push_image(client, "a", "list", index(child, mediaType=DOCKER_LIST))

    got = await client("GET", "/v2/a/manifests/list", accept=DOCKER_MANIFEST)

    assert (got.body, got.headers["content-type"]) == (parent, DOCKER_LIST)


@pytest.mark.parametrize("reference", ["latest", str(MISSING), ".INVALID_MANIFEST_NAME", "a" * 129])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_what_is_not_there_is_unknown(client: Client, method: str, reference: str) -> None:
    await push_image(client, "a", "other")

    for repository in ("a", "nobody/pushed/here"):
        got = await client(method, f"/v2/{repository}/manifests/{reference}")

        assert got.status == 404
        assert method == "HEAD" or got.codes == ["MANIFEST_UNKNOWN"]


async def test_a_manifest_of_another_repository_is_unknown_here(client: Client) -> None:
    manifest = await push_image(client, "a", "latest")
    await push_image(client, "b", "latest", image(annotations={"other": "one"}))
    assert (await client("GET", f"/v2/a/manifests/{Digest.of(manifest)}")).status == 200

    assert (await client("GET", f"/v2/b/manifests/{Digest.of(manifest)}")).status == 404


async def test_a_manifest_is_not_a_blob_nor_a_blob_a_manifest(client: Client) -> None:
    manifest = await push_image(client, "a", "latest")

    assert (await client("GET", f"/v2/a/blobs/{Digest.of(manifest)}")).status == 404
    assert (await client("GET", f"/v2/a/manifests/{Digest.of(LAYER)}")).status == 404


async def test_what_the_client_holds_already_is_not_sent_again(client: Client) -> None:
    manifest = await push_image(client, "a", "latest")

    got = await client("GET", "/v2/a/manifests/latest", if_none_match=f'"{Digest.of(manifest)}"')

    assert (got.status, got.body) == (304, b"")


async def test_a_put_tells_where_and_under_which_digest(client: Client) -> None:
    manifest = await push_image(client, "a", "latest")

    for reference in ("again", Digest.of(manifest)):
        got = await put_manifest(client, "a", reference, manifest)

        assert (got.status, got.headers["docker-content-digest"]) == (201, Digest.of(manifest))
        assert got.headers["location"] == f"http://registry.test/v2/a/manifests/{reference}"
        assert (await client("GET", got.headers["location"])).body == manifest


async def test_a_manifest_is_put_and_found_by_sha512(client: Client) -> None:
    await push_image(client, "a", "latest")
    digest = Digest.of(image(), "sha512")

    got = await put_manifest(client, "a", digest, image())

    assert (got.status, got.headers["docker-content-digest"]) == (201, digest)
    assert (await client("GET", f"/v2/a/manifests/{digest}")).headers["docker-content-digest"] == digest


async def test_a_digest_of_other_bytes_is_refused(client: Client) -> None:
    await push_image(client, "a", "latest")

    got = await put_manifest(client, "a", MISSING, image())

    assert (got.status, got.codes) == (400, ["DIGEST_INVALID"])
    assert (await client("GET", f"/v2/a/manifests/{MISSING}")).status == 404


@pytest.mark.parametrize("digest", ["sha256:zz", "md5:" + "0" * 32, "sha256:" + "A" * 64, "sha512:" + "a" * 64])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_what_is_no_digest_is_refused(client: Client, method: str, digest: str) -> None:
    await push_image(client, "a", "latest")

    got = await client(
        method, f"/v2/a/manifests/{digest}", image() if method == "PUT" else b"", content_type=OCI_MANIFEST
    )

    assert (got.status, got.codes) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize("tag", ["a" * 128, "_", "A.b-C_d", "0"])
async def test_any_tag_of_the_grammar_is_kept_as_it_is_spelt(client: Client, tag: str) -> None:
    manifest = await push_image(client, "a", tag)

    assert (await client("GET", f"/v2/a/manifests/{tag}")).body == manifest
    assert (await client("GET", "/v2/a/tags/list")).json()["tags"] == [tag]


@pytest.mark.parametrize(
    "manifest",
    [
        image(layers=[]),
        image(artifactType="application/vnd.example.thing", anything={"at": ["all"]}),
        image(layers=[descriptor(LAYER, "application/vnd.nobody.knows+this") | {"data": "dGhlIGJ5dGVz"}]),
        image(config=descriptor(b"{}", "application/vnd.oci.empty.v1+json")),
        index(manifests=[]),
        index(index(), artifactType="application/vnd.example.thing"),
    ],
)
async def test_what_the_specification_lets_a_manifest_be_is_accepted(client: Client, manifest: bytes) -> None:
    await push_image(client, "a", "first")
    await push_image(client, "a", "empty", index())

    await push_image(client, "a", "latest", manifest)

    assert (await client("GET", "/v2/a/manifests/latest")).body == manifest


async def test_a_tag_moves_and_the_former_manifest_stays(client: Client) -> None:
    former = await push_image(client, "a", "latest")
    latter = await push_image(client, "a", "latest", image(annotations={"newer": "yes"}))

    assert (await client("GET", "/v2/a/manifests/latest")).body == latter
    assert (await client("GET", f"/v2/a/manifests/{Digest.of(former)}")).body == former


async def test_parameters_of_the_content_type_are_ignored(client: Client) -> None:
    await push_image(client, "a", "latest")

    got = await client("PUT", "/v2/a/manifests/x", image(), content_type=f"{OCI_MANIFEST}; charset=utf-8")

    assert got.status == 201
    assert (await client("HEAD", "/v2/a/manifests/x")).headers["content-type"] == OCI_MANIFEST


async def test_everything_missing_is_named_at_once(client: Client) -> None:
    await push_blob(client, "a", CONFIG)
    others = [descriptor(content) for content in (b"one", b"two")]

    got = await put_manifest(client, "a", "latest", image(layers=others))

    assert (got.status, got.codes) == (400, ["MANIFEST_BLOB_UNKNOWN"] * 2)
    assert {one["detail"]["digest"] for one in got.json()["errors"]} == {one["digest"] for one in others}
    assert (await client("GET", "/v2/a/manifests/latest")).status == 404
    assert (await client("GET", "/v2/a/tags/list")).status == 404


async def test_content_of_another_repository_is_missing_here(client: Client) -> None:
    await push_image(client, "a", "latest")

    assert (await put_manifest(client, "b", "latest", image())).codes == ["MANIFEST_BLOB_UNKNOWN"] * 2


async def test_foreign_layers_need_not_be_here(client: Client) -> None:
    media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    foreign = descriptor(b"elsewhere", media_type) | {"urls": ["https://example.com/layer"]}

    await push_image(client, "a", "latest", image(layers=[descriptor(LAYER), foreign]))


async def test_an_index_names_manifests_that_are_here(client: Client) -> None:
    child = await push_image(client, "a", Digest.of(image()))
    parent = index(child, index())

    missing = await put_manifest(client, "a", "list", parent)
    await push_image(client, "a", Digest.of(index()), index())
    complete = await put_manifest(client, "a", "list", parent)

    assert (missing.codes, complete.status) == (["MANIFEST_BLOB_UNKNOWN"], 201)


async def test_a_sparse_index_is_accepted_where_it_is_configured(app: App) -> None:
    client = Client(with_settings(app, sparse_indexes=True, sparse_platforms=frozenset({"linux/amd64"})))
    needed, other = (descriptor(name, OCI_MANIFEST) for name in (b"needed", b"other"))
    arm = other | {"platform": {"os": "linux", "architecture": "arm64"}}
    amd = needed | {"platform": {"os": "linux", "architecture": "amd64", "variant": "v3"}}

    assert (await put_manifest(client, "a", "x", index(manifests=[arm]))).status == 201
    assert (await put_manifest(client, "a", "y", index(manifests=[arm, amd]))).codes == ["MANIFEST_BLOB_UNKNOWN"]


async def test_build_caches_list_blobs_in_an_index(client: Client) -> None:
    await push_blob(client, "a", LAYER)
    await push_blob(client, "a", CONFIG)
    cache = descriptor(CONFIG, "application/vnd.buildkit.cacheconfig.v0")

    got = await put_manifest(client, "a", "cache", index(manifests=[descriptor(LAYER), cache]))

    assert got.status == 201


@pytest.mark.parametrize("reference", ["latest", None])
@pytest.mark.parametrize("kind", ["image", "index"])
async def test_a_subject_is_acknowledged_also_when_it_is_not_there(
    client: Client, kind: str, reference: str | None
) -> None:
    subject = descriptor(b"comes later", OCI_MANIFEST)
    manifest = image(subject=subject) if kind == "image" else index(subject=subject)
    await push_image(client, "a", "other")

    for _ in range(2):
        got = await put_manifest(client, "a", reference or Digest.of(manifest), manifest)

        assert (got.status, got.headers["oci-subject"]) == (201, subject["digest"])


async def test_tags_beside_a_digest_are_made_and_told(client: Client) -> None:
    manifest = await push_image(client, "a", "latest")
    tags = [f"v{n}" for n in range(12)]
    query = "&".join(f"tag={tag}" for tag in tags)

    url = f"/v2/a/manifests/{Digest.of(manifest)}?{query}"
    got = await client("PUT", url, manifest, content_type=OCI_MANIFEST)

    assert got.status == 201
    assert got.headers["oci-tag"] == tags[-1]  # one line per tag; the client of these tests keeps the last
    assert (await client("GET", "/v2/a/tags/list")).json()["tags"] == sorted([*tags, "latest"])


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/v2/a/manifests/latest?tag=other", 400),
        (f"/v2/a/manifests/{Digest.of(image())}?tag=-not-a-tag", 400),
        (f"/v2/a/manifests/{Digest.of(image())}?" + "&".join(f"tag={n}" for n in range(101)), 414),
        ("/v2/a/manifests/-not-a-tag", 400),
        ("/v2/a/manifests/a+b", 400),
        ("/v2/a/manifests/" + "a" * 129, 400),
    ],
)
async def test_tags_outside_the_grammar_or_the_count_are_refused(client: Client, url: str, status: int) -> None:
    await push_image(client, "a", "one")

    got = await client("PUT", url, image(), content_type=OCI_MANIFEST)

    assert (got.status, got.codes) == (status, ["TAG_INVALID"])
    assert (await client("GET", "/v2/a/tags/list")).json()["tags"] == ["one"]


async def test_four_mebibytes_are_accepted_and_no_more(client: Client) -> None:
    await push_image(client, "a", "small")
    room = 4 * 1024 * 1024 - len(image(annotations={"fill": ""}))

    fits = await put_manifest(client, "a", "fits", image(annotations={"fill": "x" * room}))
    over = await put_manifest(client, "a", "over", image(annotations={"fill": "x" * (room + 1)}))

    assert (fits.status, over.status, over.codes) == (201, 413, ["MANIFEST_INVALID"])


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"null", b"{", b"\xff", b'{"schemaVersion":1}'])
async def test_what_is_no_manifest_is_refused(client: Client, payload: bytes) -> None:
    got = await client("PUT", "/v2/a/manifests/latest", payload, content_type=OCI_MANIFEST)

    assert (got.status, got.codes) == (400, ["MANIFEST_INVALID"])


async def test_an_image_that_claims_to_be_an_index_is_refused(client: Client) -> None:
    await push_image(client, "a", "latest")
    both = json.loads(image()) | {"manifests": []}

    for manifest, media_type in [(image(), OCI_INDEX), (json.dumps(both).encode(), OCI_MANIFEST)]:
        got = await client("PUT", "/v2/a/manifests/x", manifest, content_type=media_type)

        assert (got.status, got.codes) == (400, ["MANIFEST_INVALID"])


async def test_schema_1_is_refused_with_a_clear_message(client: Client) -> None:
    media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws"

    got = await client("PUT", "/v2/a/manifests/x", b'{"schemaVersion": 1}', content_type=media_type)

    assert (got.status, got.codes) == (400, ["MANIFEST_INVALID"])
    assert "schema 1 is not supported" in got.json()["errors"][0]["message"]


async def test_a_deleted_tag_leaves_its_manifest_and_the_other_tags(client: Client) -> None:
    manifest = await push_image(client, "a", "one")
    await put_manifest(client, "a", "two", manifest)

    assert (await client("DELETE", "/v2/a/manifests/one")).status == 202

    assert (await client("GET", "/v2/a/manifests/one")).status == 404
    for reference in ("two", Digest.of(manifest)):
        assert (await client("GET", f"/v2/a/manifests/{reference}")).body == manifest


async def test_a_deleted_manifest_takes_every_tag_that_points_to_it(client: Client) -> None:
    manifest = await push_image(client, "a", "one")
    await put_manifest(client, "a", "two", manifest)
    await push_image(client, "a", "kept", image(annotations={"another": "one"}))

    assert (await client("DELETE", f"/v2/a/manifests/{Digest.of(manifest)}")).status == 202

    for reference in ("one", "two", Digest.of(manifest)):
        assert (await client("GET", f"/v2/a/manifests/{reference}")).status == 404
    assert (await client("GET", "/v2/a/tags/list")).json()["tags"] == ["kept"]


async def test_a_deleted_manifest_can_be_pushed_again(client: Client) -> None:
    manifest = await push_image(client, "a", "one")
    await client("DELETE", f"/v2/a/manifests/{Digest.of(manifest)}")

    await push_image(client, "a", "one")

    assert (await client("GET", "/v2/a/manifests/one")).body == manifest


async def test_deleting_is_refused_when_it_is_off(app: App) -> None:
    client = Client(with_settings(app, delete_enabled=False))
    manifest = await push_image(client, "a", "one")

    for reference in ("one", Digest.of(manifest)):
        got = await client("DELETE", f"/v2/a/manifests/{reference}")

        assert (got.status, got.codes) == (405, ["UNSUPPORTED"])
        assert (await client("HEAD", f"/v2/a/manifests/{reference}")).status == 200


async def test_what_a_manifest_needs_may_be_deleted_and_comes_back_with_a_push(client: Client) -> None:
    await push_image(client, "a", "one")

    assert (await client("DELETE", f"/v2/a/blobs/{Digest.of(LAYER)}")).status == 202

    await push_blob(client, "a", LAYER)
    assert (await client("GET", f"/v2/a/blobs/{Digest.of(LAYER)}")).body == LAYER
