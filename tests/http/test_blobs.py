"""distribution-spec 1.1.1, end-2, end-10 and end-11."""

from dataclasses import replace

import pytest
from tests.http.client import Client
from tests.http.conftest import with_settings
from tests.http.content import LAYER, MISSING, push_blob

from stackyard.auth import opening
from stackyard.auth.principals import Action
from stackyard.auth.rules import Rule, Subject
from stackyard.auth.settings import Settings as AuthSettings
from stackyard.http.app import App
from stackyard.oci.digests import Digest

BLOB = f"/v2/a/blobs/{Digest.of(LAYER)}"


@pytest.fixture(autouse=True)
async def _pushed(client: Client) -> None:
    await push_blob(client, "a", LAYER)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("content", [b"", b"{}", LAYER])
async def test_get_and_head_tell_digest_length_and_bytes(client: Client, content: bytes, algorithm: str) -> None:
    digest = await push_blob(client, "b", content, algorithm)

    got = await client("GET", f"/v2/b/blobs/{digest}")
    head = await client("HEAD", f"/v2/b/blobs/{digest}")

    assert (got.status, got.body, head.status, head.body) == (200, content, 200, b"")
    for answer in (got, head):
        assert answer.headers["docker-content-digest"] == digest
        assert answer.headers["content-length"] == str(len(content))
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("path", [f"/v2/a/blobs/{MISSING}", f"/v2/b/blobs/{Digest.of(LAYER)}"])
async def test_what_is_not_in_this_repository_is_unknown_here(client: Client, method: str, path: str) -> None:
    got = await client(method, path)

    assert got.status == 404
    assert method == "HEAD" or got.codes == ["BLOB_UNKNOWN"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-4", (0, 5)),
        ("bytes=4-", (4, 20)),
        ("bytes=-4", (16, 20)),
        ("bytes=15-99", (15, 20)),
        ("bytes=0-", (0, 20)),
    ],
)
async def test_a_range_is_answered_with_that_part(client: Client, asked: str, expected: tuple[int, int]) -> None:
    got = await client("GET", BLOB, range=asked)

    start, stop = expected
    assert (got.status, got.body) == (206, LAYER[start:stop])
    assert got.headers["content-range"] == f"bytes {start}-{stop - 1}/20"
    assert got.headers["content-length"] == str(stop - start)


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "lines=1-2", "nonsense"])
async def test_a_range_that_is_not_understood_is_answered_with_everything(client: Client, asked: str) -> None:
    got = await client("GET", BLOB, range=asked)

    assert (got.status, got.body) == (200, LAYER)


@pytest.mark.parametrize("asked", ["bytes=20-", "bytes=20-30", "bytes=-0", "bytes=9-1"])
async def test_a_range_past_the_end_is_refused_with_the_size(client: Client, asked: str) -> None:
    got = await client("GET", BLOB, range=asked)

    assert (got.status, got.codes, got.headers["content-range"]) == (416, ["RANGE_INVALID"], "bytes */20")


async def test_if_range_decides_between_part_and_whole(client: Client) -> None:
    etag = (await client("HEAD", BLOB)).headers["etag"]

    same = await client("GET", BLOB, range="bytes=0-1", if_range=etag)
    other = await client("GET", BLOB, range="bytes=0-1", if_range='"something else"')

    assert (same.status, other.status) == (206, 200)


@pytest.mark.parametrize("form", ['"{}"', "{}", 'W/"{}"', '"x", "{}"', "*"])
async def test_what_the_client_holds_already_is_not_sent_again(client: Client, form: str) -> None:
    got = await client("GET", BLOB, if_none_match=form.format(Digest.of(LAYER)))

    assert (got.status, got.body) == (304, b"")


async def test_a_digest_may_be_percent_encoded(client: Client) -> None:
    assert (await client("GET", BLOB.replace(":", "%3A"))).status == 200


@pytest.mark.parametrize("digest", ["sha256:zz", "md5:" + "0" * 32, "sha256:" + "A" * 64, "latest"])
async def test_a_malformed_digest_is_refused(client: Client, digest: str) -> None:
    got = await client("GET", f"/v2/a/blobs/{digest}")

    assert (got.status, got.codes) == (400, ["DIGEST_INVALID"])


async def test_a_deleted_blob_is_gone_from_its_repository_only(client: Client) -> None:
    await push_blob(client, "b", LAYER)

    deleted = await client("DELETE", BLOB)

    assert deleted.status == 202
    assert (await client("GET", BLOB)).status == 404
    assert (await client("GET", BLOB.replace("/a/", "/b/"))).body == LAYER


async def test_deleting_is_refused_when_it_is_off(app: App) -> None:
    client = Client(with_settings(app, delete_enabled=False))

    got = await client("DELETE", BLOB)

    assert (got.status, got.codes) == (405, ["UNSUPPORTED"])
    assert (await client("GET", BLOB)).status == 200


@pytest.mark.parametrize("query", ["&from=a", "&from=a&origin=registry.test", ""])
async def test_a_mount_links_the_blob(client: Client, query: str) -> None:
    digest = Digest.of(LAYER)

    got = await client("POST", f"/v2/b/blobs/uploads/?mount={digest}{query}")

    assert got.status == 201
    assert got.headers["docker-content-digest"] == digest
    assert (await client("GET", got.headers["location"])).body == LAYER


@pytest.mark.parametrize(
    "query",
    [f"mount={MISSING}&from=a", f"mount={MISSING}", f"mount={Digest.of(LAYER)}&from=c", "mount={}&from=NOT%20A%20NAME"],
)
async def test_what_cannot_be_mounted_becomes_an_upload(client: Client, query: str) -> None:
    got = await client("POST", f"/v2/b/blobs/uploads/?{query.format(MISSING)}")

    assert got.status == 202
    assert (await client("PUT", f"{got.headers['location']}?digest={Digest.of(b'x')}", b"x")).status == 201


@pytest.mark.parametrize("query", ["&from=a", ""])
async def test_a_mount_from_where_the_caller_may_not_pull_becomes_an_upload(app: App, query: str) -> None:
    everything = frozenset({Action.PULL, Action.PUSH})
    rules = (Rule(Subject("anonymous"), "b", everything),)
    client = Client(replace(app, access=opening.open_access(AuthSettings(rules=rules))))

    got = await client("POST", f"/v2/b/blobs/uploads/?mount={Digest.of(LAYER)}{query}")

    assert got.status == 202
