"""distribution-spec 1.1.1, end-4 to end-6, end-13 and end-14."""

from collections.abc import AsyncIterator

import pytest
from tests.http.client import Client, Cut
from tests.http.conftest import with_settings
from tests.http.content import LAYER, push_blob, start

from stackyard.http.app import App
from stackyard.oci.digests import Digest
from stackyard.storage.memory import MemoryStore

DIGEST = Digest.of(LAYER)


async def test_a_session_has_an_address_and_an_id_of_its_own(client: Client) -> None:
    one, other = [await client("POST", "/v2/a/blobs/uploads/") for _ in range(2)]

    assert one.headers["location"] != other.headers["location"]
    assert one.headers["location"].endswith(one.headers["docker-upload-uuid"])
    assert (one.headers["range"], one.headers["content-length"]) == ("0-0", "0")


async def test_the_address_without_its_last_slash_starts_a_session_too(client: Client) -> None:
    assert (await client("POST", "/v2/a/blobs/uploads")).status == 202


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_one_put_with_the_whole_body(client: Client, algorithm: str) -> None:
    digest = Digest.of(LAYER, algorithm)

    got = await client("PUT", f"{await start(client)}?digest={digest}", LAYER)

    assert (got.status, got.headers["docker-content-digest"]) == (201, digest)
    assert (await client("GET", got.headers["location"])).body == LAYER


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_one_post_with_the_whole_body(client: Client, algorithm: str) -> None:
    digest = Digest.of(LAYER, algorithm)

    got = await client("POST", f"/v2/a/blobs/uploads/?digest={digest}", LAYER)

    assert (got.status, got.headers["docker-content-digest"]) == (201, digest)
    assert (await client("GET", got.headers["location"])).body == LAYER


async def test_a_session_is_finished_in_the_algorithm_it_announced(client: Client) -> None:
    digest = Digest.of(LAYER, "sha512")
    location = await start(client, query="?digest-algorithm=sha512")
    await client("PATCH", location, LAYER[:7])

    got = await client("PUT", f"{location}?digest={digest}", LAYER[7:])

    assert (got.status, got.headers["docker-content-digest"]) == (201, digest)
    assert (await client("GET", f"/v2/a/blobs/{DIGEST}")).status == 404


@pytest.mark.parametrize(
    "query", ["digest-algorithm=md5", "digest=sha256:zz", "digest=md5:00", "mount=sha256:zz&from=b"]
)
async def test_a_session_is_not_started_for_what_cannot_be_verified(client: Client, query: str) -> None:
    got = await client("POST", f"/v2/a/blobs/uploads/?{query}", LAYER)

    assert (got.status, got.codes) == (400, ["DIGEST_INVALID"])


async def test_the_coding_a_client_claims_for_its_bytes_changes_none_of_them(client: Client) -> None:
    location = await start(client)

    got = await client("PUT", f"{location}?digest={DIGEST}", LAYER, content_encoding="gzip", content_type="text/plain")

    assert got.status == 201
    assert (await client("GET", f"/v2/a/blobs/{DIGEST}")).body == LAYER


@pytest.mark.parametrize("last", [b"", LAYER[13:]])
async def test_chunks_in_order_then_the_digest(client: Client, last: bytes) -> None:
    location = await start(client)
    chunks = [LAYER[:6], LAYER[6:13]] if last else [LAYER[:6], LAYER[6:]]
    offset = 0
    for chunk in chunks:
        got = await client("PATCH", location, chunk, content_range=f"{offset}-{offset + len(chunk) - 1}")
        offset += len(chunk)
        assert (got.status, got.headers["range"]) == (202, f"0-{offset - 1}")
        assert "oci-chunk-min-length" not in got.headers  # any size will do
        location = got.headers["location"]

    ranged = {"content_range": f"{offset}-{len(LAYER) - 1}"} if last else {}
    done = await client("PUT", f"{location}?digest={DIGEST}", last, **ranged)

    assert done.status == 201
    assert (await client("GET", done.headers["location"])).body == LAYER


async def _stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_a_streamed_patch_without_length_is_appended(client: Client) -> None:
    location = await start(client)

    got = await client("PATCH", location, _stream(LAYER[:3], LAYER[3:4], LAYER[4:]), transfer_encoding="chunked")

    assert (got.status, got.headers["range"]) == (202, f"0-{len(LAYER) - 1}")
    assert (await client("PUT", f"{location}?digest={DIGEST}")).status == 201


async def test_a_session_may_be_finished_in_another_algorithm_than_it_was_started_in(client: Client) -> None:
    location = await start(client, query="?digest-algorithm=sha512")
    await client("PATCH", location, LAYER)

    assert (await client("PUT", f"{location}?digest={DIGEST}")).status == 201


@pytest.mark.parametrize("range_", ["3-9", "0-5", "7-9"])
async def test_a_chunk_out_of_order_is_refused_and_says_where_the_session_stands(client: Client, range_: str) -> None:
    location = await start(client)
    await client("PATCH", location, LAYER[:6], content_range="0-5")
    first, last = map(int, range_.split("-"))

    for method, url in [("PATCH", location), ("PUT", f"{location}?digest={DIGEST}")]:
        got = await client(method, url, LAYER[first : last + 1], content_range=range_)

        assert (got.status, got.codes) == (416, ["BLOB_UPLOAD_INVALID"])
        assert (got.headers["range"], got.headers["location"]) == ("0-5", location)
    assert (await client("PUT", f"{location}?digest={DIGEST}", LAYER[6:])).status == 201


@pytest.mark.parametrize(
    ("range_", "status"), [("0-4", 400), ("0-6", 400), ("5-0", 400), ("a-b", 400), ("bytes 0-5/6", 400), ("", 400)]
)
async def test_a_range_that_contradicts_the_body_changes_nothing(client: Client, range_: str, status: int) -> None:
    location = await start(client)

    got = await client("PATCH", location, LAYER[:6], content_range=range_)

    assert got.status == status
    assert (await client("GET", location)).headers["range"] == "0-0"


@pytest.mark.parametrize("range_", ["0-3", "0-40"])
async def test_a_streamed_chunk_of_another_length_than_its_range_changes_nothing(client: Client, range_: str) -> None:
    location = await start(client)

    got = await client("PATCH", location, _stream(LAYER), content_range=range_)

    assert (got.status, got.codes) == (400, ["SIZE_INVALID"])
    assert (await client("PUT", f"{location}?digest={DIGEST}", LAYER)).status == 201


async def test_the_status_of_a_session_is_told_at_any_time(client: Client) -> None:
    location = await start(client)
    assert (await client("GET", location)).headers["range"] == "0-0"
    await client("PATCH", location, LAYER[:5])

    got = await client("GET", location)

    assert (got.status, got.headers["range"], got.headers["location"]) == (204, "0-4", location)
    assert got.headers["docker-upload-uuid"] in location


async def test_a_stream_that_is_cut_off_keeps_what_arrived(client: Client) -> None:
    location = await start(client)

    await client("PATCH", location, Cut([LAYER[:4], LAYER[4:9]]))

    assert (await client("GET", location)).headers["range"] == "0-8"
    assert (await client("PATCH", location, LAYER[9:], content_range="9-19")).status == 202
    assert (await client("PUT", f"{location}?digest={DIGEST}")).status == 201


async def test_a_chunk_with_a_range_that_is_cut_off_leaves_nothing(client: Client) -> None:
    location = await start(client)
    await client("PATCH", location, LAYER[:4], content_range="0-3")

    await client("PATCH", location, Cut([LAYER[4:9]]), content_range="4-19")

    assert (await client("GET", location)).headers["range"] == "0-3"
    assert (await client("PUT", f"{location}?digest={DIGEST}", LAYER[4:])).status == 201


async def test_a_put_that_is_cut_off_leaves_the_session_as_it_was(client: Client) -> None:
    location = await start(client)
    await client("PATCH", location, LAYER[:4])

    await client("PUT", f"{location}?digest={DIGEST}", Cut([LAYER[4:9]]))

    assert (await client("GET", location)).headers["range"] == "0-3"
    assert (await client("PUT", f"{location}?digest={DIGEST}", LAYER[4:])).status == 201


async def test_a_wrong_digest_makes_nothing_and_the_session_stays(client: Client) -> None:
    location = await start(client)
    await client("PATCH", location, LAYER)
    wrong = Digest.of(b"other")

    got = await client("PUT", f"{location}?digest={wrong}")

    assert (got.status, got.codes) == (400, ["DIGEST_INVALID"])
    assert got.json()["errors"][0]["detail"] == {"expected": wrong, "received": DIGEST}
    for digest in (wrong, DIGEST):
        assert (await client("HEAD", f"/v2/a/blobs/{digest}")).status == 404
    assert (await client("PUT", f"{location}?digest={DIGEST}")).status == 201


@pytest.mark.parametrize("present", [False, True])
async def test_a_post_with_a_body_of_another_digest_is_refused(client: Client, present: bool) -> None:
    if present:
        await push_blob(client, "a", LAYER)

    got = await client("POST", f"/v2/a/blobs/uploads/?digest={DIGEST}", b"other bytes")

    assert (got.status, got.codes) == (400, ["DIGEST_INVALID"])
    assert (await client("HEAD", f"/v2/a/blobs/{DIGEST}")).status == (200 if present else 404)


@pytest.mark.parametrize("query", ["", "digest=", "digest=sha256:zz", "digest=md5:" + "0" * 32])
async def test_a_put_without_a_usable_digest_is_refused(client: Client, query: str) -> None:
    location = await start(client)

    got = await client("PUT", f"{location}?{query}", LAYER)

    assert (got.status, got.codes) == (400, ["DIGEST_INVALID"])
    assert (await client("PUT", f"{location}?digest={DIGEST}", LAYER)).status == 201


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("which", ["unknown", "finished", "cancelled", "of another repository", "no session at all"])
async def test_a_session_that_is_not_there_is_unknown(client: Client, method: str, which: str) -> None:
    location = await start(client)
    match which:
        case "finished":
            await client("PUT", f"{location}?digest={DIGEST}", LAYER)
        case "cancelled":
            assert (await client("DELETE", location)).status == 204
        case "of another repository":
            location = location.replace("/a/", "/b/")
        case "unknown":
            location = location[:-32] + "0" * 32
        case _:
            location = location[:-32] + "x"

    got = await client(method, f"{location}?digest={DIGEST}", LAYER if method in ("PATCH", "PUT") else b"")

    assert (got.status, got.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_session_cancelled_while_it_is_written_to_is_unknown_to_its_writer(client: Client, method: str) -> None:
    location = await start(client)

    async def body() -> AsyncIterator[bytes]:
        yield LAYER[:5]
        assert (await client("DELETE", location)).status == 204
        yield LAYER[5:]

    got = await client(method, f"{location}?digest={DIGEST}", body(), transfer_encoding="chunked")

    assert (got.status, got.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])
    assert (await client("HEAD", f"/v2/a/blobs/{DIGEST}")).status == 404


async def test_a_cancelled_session_leaves_no_bytes(client: Client, store: MemoryStore) -> None:
    location = await start(client)
    await client("PATCH", location, LAYER)

    assert (await client("DELETE", location)).status == 204

    assert [found async for found in store.walk("stackyard/uploads")] == []


async def test_a_finished_session_leaves_only_the_blob(client: Client, store: MemoryStore) -> None:
    for repository in ("a", "b"):
        location = await start(client, repository)
        await client("PATCH", location, LAYER)
        assert (await client("PUT", f"{location}?digest={DIGEST}")).status == 201

    assert [found async for found in store.walk("stackyard/uploads")] == []
    assert len([found async for found in store.walk("docker")]) == 1


@pytest.mark.parametrize(("method", "body"), [("PATCH", LAYER[9:]), ("PUT", LAYER[9:]), ("PUT", b"")])
async def test_a_session_whose_bytes_were_lost_has_to_begin_again(
    client: Client, store: MemoryStore, method: str, body: bytes
) -> None:
    location = await start(client)
    await client("PATCH", location, LAYER[:9])
    for lost in [found.location async for found in store.walk("stackyard/uploads")]:
        await store.delete(lost)

    got = await client(method, f"{location}?digest={Digest.of(LAYER[:9] + body)}", body)

    assert (got.status, got.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])


async def test_too_many_uploads_at_once_are_told_to_wait(app: App) -> None:
    client = Client(with_settings(app, max_writers=0))

    got = await client("POST", f"/v2/a/blobs/uploads/?digest={DIGEST}", LAYER)

    assert (got.status, got.codes, got.headers["retry-after"]) == (429, ["TOOMANYREQUESTS"], "5")


async def test_a_read_only_registry_refuses_every_write(app: App) -> None:
    location = await start(Client(app))
    await push_blob(Client(app), "a", LAYER)
    client = Client(with_settings(app, read_only=True))

    for method, url in [
        ("POST", "/v2/a/blobs/uploads/"),
        ("PATCH", location),
        ("PUT", f"{location}?digest={DIGEST}"),
        ("DELETE", location),
        ("PUT", "/v2/a/manifests/latest"),
        ("DELETE", f"/v2/a/blobs/{DIGEST}"),
    ]:
        got = await client(method, url, LAYER if method != "DELETE" else b"")
        assert (got.status, got.codes) == (405, ["UNSUPPORTED"])
    assert (await client("GET", f"/v2/a/blobs/{DIGEST}")).status == 200
