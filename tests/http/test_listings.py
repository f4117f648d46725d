"""Tags (end-8), the catalogue, and referrers (end-12)."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import pytest
from tests.http.client import Client, Got
from tests.http.conftest import with_settings
from tests.http.content import MISSING, descriptor, image, index, push_image, put_manifest

from stackyard.http.app import App
from stackyard.oci.digests import Digest
from stackyard.oci.manifests import OCI_INDEX, OCI_MANIFEST
from stackyard.registry import referrers

TAGS = ["1.0", "A", "Z", "_x", "a", "b", "latest"]  # in byte order


async def _push_tags(client: Client, tags: Sequence[str] = TAGS) -> None:
    manifest = await push_image(client, "a", tags[0])
    for tag in tags[1:]:
        assert (await put_manifest(client, "a", tag, manifest)).status == 201


async def _walk(client: Client, url: str, member: str) -> list[list[Any]]:
    """Every page, by the Link header as docker's own client reads it: up to the first `;`."""
    pages = []
    while url:
        got = await client("GET", url)
        assert got.status == 200
        pages.append(got.json()[member])
        link = got.headers.get("link", "")
        assert not link or link.endswith('; rel="next"')
        url = link.partition(";")[0].strip("<>")
    return pages


async def test_tags_are_listed_in_byte_order(client: Client) -> None:
    await _push_tags(client, list(reversed(TAGS)))

    got = await client("GET", "/v2/a/tags/list")

    assert (got.status, got.json()) == (200, {"name": "a", "tags": TAGS})
    assert "link" not in got.headers


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 1000])
async def test_pages_of_tags_join_to_the_whole_list(client: Client, n: int) -> None:
    await _push_tags(client)

    pages = await _walk(client, f"/v2/a/tags/list?n={n}", "tags")

    assert list(chain(*pages)) == TAGS
    assert all(len(page) == n for page in pages[:-1])
    assert len(pages) == max(-(-len(TAGS) // n), 1)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("n=0", []),
        ("last=A", TAGS[2:]),
        ("last=nobody", []),
        ("last=Zz", TAGS[3:]),
        ("last=latest", []),
        ("n=2&last=a", ["b", "latest"]),
        ("n=" + "9" * 30, TAGS),
        ("n=", TAGS),
    ],
)
async def test_tags_from_anywhere(client: Client, query: str, expected: list[str]) -> None:
    await _push_tags(client)

    got = await client("GET", f"/v2/a/tags/list?{query}")

    assert (got.status, got.json()["tags"]) == (200, expected)
    assert "link" not in got.headers


@pytest.mark.parametrize("path", ["/v2/a/tags/list", "/v2/_catalog"])
@pytest.mark.parametrize("n", ["-1", "abc", "1.5", "0x1", "%20"])
async def test_a_page_size_that_is_no_number_is_refused(client: Client, path: str, n: str) -> None:
    await _push_tags(client)

    got = await client("GET", f"{path}?n={n}")

    assert (got.status, got.codes) == (400, ["PAGINATION_NUMBER_INVALID"])


async def test_more_tags_than_a_page_may_hold_come_in_pages_of_that_size(app: App) -> None:
    client = Client(with_settings(app, max_tags=3))
    await _push_tags(client)

    assert [len(page) for page in await _walk(client, "/v2/a/tags/list?n=100", "tags")] == [3, 3, 1]
    assert (await client("GET", "/v2/a/tags/list")).json()["tags"] == TAGS


async def test_more_tags_than_one_read_takes_are_all_listed(client: Client) -> None:
    names = sorted(f"v{number}" for number in range(10_001))
    manifest = await push_image(client, "a", "latest")
    url = f"/v2/a/manifests/{Digest.of(manifest)}"
    for first in range(0, len(names), 100):
        query = "&".join(f"tag={name}" for name in names[first : first + 100])
        assert (await client("PUT", f"{url}?{query}", manifest, content_type=OCI_MANIFEST)).status == 201

    for query, expected in [("", ["latest", *names]), ("?last=latest", names), ("?last=v0", names[1:])]:
        assert (await client("GET", f"/v2/a/tags/list{query}")).json() == {"name": "a", "tags": expected}


async def test_a_repository_nobody_pushed_to_is_unknown(client: Client) -> None:
    await client("POST", "/v2/a/blobs/uploads/")

    got = await client("GET", "/v2/a/tags/list")

    assert (got.status, got.codes) == (404, ["NAME_UNKNOWN"])


async def test_a_repository_without_tags_has_an_empty_list(client: Client) -> None:
    await _push_tags(client, ["one"])
    await client("DELETE", "/v2/a/manifests/one")

    assert (await client("GET", "/v2/a/tags/list")).body == b'{"name":"a","tags":[]}'


@pytest.mark.parametrize("n", [1, 2, 5, 6])
async def test_pages_of_the_catalogue_join_to_the_whole_list(client: Client, n: int) -> None:
    names = ["a", "a/b", "a0", "b", "c"]  # byte order: "/" comes before "0"
    for name in names:
        await push_image(client, name, "latest")

    pages = await _walk(client, f"/v2/_catalog?n={n}", "repositories")

    assert list(chain(*pages)) == names
    assert all(len(page) == n for page in pages[:-1])


async def test_an_empty_catalogue_and_none_of_it(client: Client) -> None:
    assert (await client("GET", "/v2/_catalog")).body == b'{"repositories":[]}'
    await push_image(client, "a", "latest")
    assert (await client("GET", "/v2/_catalog?n=0")).json() == {"repositories": []}


async def test_more_of_the_catalogue_than_a_page_may_hold_is_refused(app: App) -> None:
    client = Client(with_settings(app, max_catalog=5))

    assert (await client("GET", "/v2/_catalog?n=5")).status == 200
    assert (await client("GET", "/v2/_catalog?n=6")).codes == ["PAGINATION_NUMBER_INVALID"]


async def _referrers(client: Client, subject: str, query: str = "") -> Got:
    got = await client("GET", f"/v2/a/referrers/{subject}{query}")
    assert (got.status, got.headers["content-type"]) == (200, OCI_INDEX)
    assert (got.json()["schemaVersion"], got.json()["mediaType"]) == (2, OCI_INDEX)
    return got


@pytest.mark.parametrize("repository", ["a", "nobody/pushed/here"])
async def test_nothing_refers_to_what_is_not_there(client: Client, repository: str) -> None:
    got = await client("GET", f"/v2/{repository}/referrers/{MISSING}")

    assert (got.status, got.json()["manifests"]) == (200, [])


@pytest.mark.parametrize("digest", ["latest", "sha256:zz", "md5:" + "0" * 32])
async def test_referrers_of_no_digest_are_refused(client: Client, digest: str) -> None:
    got = await client("GET", f"/v2/a/referrers/{digest}")

    assert (got.status, got.codes) == (400, ["DIGEST_INVALID"])


async def test_referrers_are_described_by_type_and_annotations(client: Client) -> None:
    subject = descriptor(image(), OCI_MANIFEST)
    typed = image(subject=subject, artifactType="application/vnd.example.sbom", annotations={"a": "\u00fc"})
    untyped = image(subject=subject, annotations={"b": "c"})
    bare = index(subject=subject)
    for manifest in (typed, untyped, bare):
        await push_image(client, "a", Digest.of(manifest), manifest)
    await push_image(client, "a", "subject", image())

    listed = (await _referrers(client, subject["digest"])).json()["manifests"]

    expected = [
        descriptor(typed, OCI_MANIFEST)
        | {"artifactType": "application/vnd.example.sbom", "annotations": {"a": "\u00fc"}},
        descriptor(untyped, OCI_MANIFEST)
        | {"artifactType": "application/vnd.oci.image.config.v1+json", "annotations": {"b": "c"}},
        descriptor(bare, OCI_INDEX),
    ]
    assert listed == sorted(expected, key=lambda one: str(one["digest"]))


async def test_a_filter_is_applied_and_says_so(client: Client) -> None:
    subject = descriptor(image(), OCI_MANIFEST)
    kinds = {kind: image(subject=subject, artifactType=kind) for kind in ("application/a", "application/b")}
    for manifest in kinds.values():
        await push_image(client, "a", Digest.of(manifest), manifest)

    for kind, expected in [("application/a", [Digest.of(kinds["application/a"])]), ("application/none", [])]:
        got = await _referrers(client, subject["digest"], f"?artifactType={kind}")

        assert [one["digest"] for one in got.json()["manifests"]] == expected
        assert got.headers["oci-filters-applied"] == "artifactType"
    assert "oci-filters-applied" not in (await _referrers(client, subject["digest"])).headers


async def test_referrers_come_and_go_with_their_manifests(client: Client) -> None:
    subject = descriptor(image(), OCI_MANIFEST)
    referrer = image(subject=subject)
    url = f"/v2/a/manifests/{Digest.of(referrer)}"
    for repository in ("a", "b"):
        await push_image(client, repository, Digest.of(referrer), referrer)
    await put_manifest(client, "a", "again", referrer)

    assert len((await _referrers(client, subject["digest"])).json()["manifests"]) == 1
    await client("DELETE", url)
    assert (await _referrers(client, subject["digest"])).json()["manifests"] == []


@pytest.mark.parametrize("query", ["", "artifactType=application/a"])
async def test_many_referrers_come_in_pages(client: Client, query: str) -> None:
    subject = descriptor(image(), OCI_MANIFEST)
    manifests = [
        image(subject=subject, artifactType="application/a", annotations={"n": str(n)})
        for n in range(referrers.PAGE + 2)
    ]
    await push_image(client, "a", "first", manifests[0])
    for manifest in manifests[1:]:
        assert (await put_manifest(client, "a", Digest.of(manifest), manifest)).status == 201

    pages = await _walk(client, f"/v2/a/referrers/{subject['digest']}?{query}", "manifests")

    assert [len(page) for page in pages] == [referrers.PAGE, 2]
    assert [one["digest"] for page in pages for one in page] == sorted(map(Digest.of, manifests))
