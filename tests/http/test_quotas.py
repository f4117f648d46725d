"""Quotas as a client meets them: where each refusal comes, what it says, and that nothing of the push stays."""

from collections.abc import AsyncIterator

import pytest
from tests.http.client import Client, Got
from tests.http.content import CONFIG, LAYER, image

from stackyard.metadata import counting, quotas
from stackyard.metadata.database import Database
from stackyard.oci.digests import Digest
from stackyard.storage.memory import MemoryStore

KB = 1000


async def limit(database: Database, prefix: str, size: int | None, repositories: int | None = None) -> None:
    await database.write(
        quotas.put, prefix=prefix, max_bytes=size, max_repositories=repositories, source="api", actor="user:root"
    )
    while await database.write(counting.count, limit=100):
        pass


async def used(database: Database, prefix: str) -> int:
    found = await database.read(quotas.find, prefix)
    assert found is not None
    return found.used_bytes


async def push(client: Client, repository: str, content: bytes) -> Got:
    return await client("POST", f"/v2/{repository}/blobs/uploads/?digest={Digest.of(content)}", content)


async def begin(client: Client, repository: str) -> str:
    got = await client("POST", f"/v2/{repository}/blobs/uploads/")
    assert got.status == 202
    return got.headers["location"]


async def put(client: Client, repository: str, tag: str, content: bytes) -> Got:
    return await client(
        "PUT", f"/v2/{repository}/manifests/{tag}", content, content_type="application/vnd.oci.image.manifest.v1+json"
    )


def check_refused(got: Got, says: str = "the quota of team/ is exceeded") -> None:
    assert got.status == 403
    [error] = got.json()["errors"]
    assert error["code"] == "DENIED"
    assert says in error["message"]


async def stored(store: MemoryStore) -> list[str]:
    return [each.location async for each in store.walk("stackyard")]


@pytest.fixture(autouse=True)
async def quota(database: Database) -> None:
    """10 kB for team/, of which 4 kB are used."""
    await limit(database, "team/", 10 * KB)


@pytest.fixture
async def full(client: Client) -> Client:
    assert (await push(client, "team/base", bytes(4 * KB))).status == 201
    return client


async def test_a_post_with_too_many_bytes_is_refused_with_used_and_limit(full: Client, store: MemoryStore) -> None:
    got = await push(full, "team/a", b"x" * 7 * KB)

    check_refused(got, "the quota of team/ is exceeded: 4 kB of 10 kB used, 7 kB more needed; delete")
    assert got.json()["errors"][0]["detail"] == {"prefix": "team/", "used": 4 * KB, "limit": 10 * KB}
    assert await stored(store) == []


async def test_other_prefixes_are_not_limited(full: Client) -> None:
    assert (await push(full, "teams", b"x" * 70 * KB)).status == 201
    assert (await push(full, "team", b"x" * 71 * KB)).status == 201


async def test_a_session_is_not_opened_when_nothing_more_fits(full: Client) -> None:
    assert (await push(full, "team/a", b"x" * 6 * KB)).status == 201

    check_refused(await full("POST", "/v2/team/a/blobs/uploads/"), "10 kB of 10 kB used; delete")


async def test_a_chunk_is_refused_by_its_length_before_it_is_read(full: Client, store: MemoryStore) -> None:
    location = await begin(full, "team/a")

    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    got = await full("PATCH", location, never(), content_length=str(2 * 10**9))

    check_refused(got, "2 GB more needed")
    assert await stored(store) == []
    assert (await full("GET", location)).status == 404


async def test_a_stream_is_refused_where_it_passes_the_limit(full: Client, store: MemoryStore) -> None:
    """The rest is taken, so that clients read the answer, and kept nowhere."""
    location = await begin(full, "team/a")
    sent, kept = 0, 0

    async def stream() -> AsyncIterator[bytes]:
        nonlocal sent, kept
        for _ in range(100):
            sent += 1
            kept = max(kept, sum([each.size async for each in store.walk("stackyard")]))
            yield bytes([sent]) * 10**6

    got = await full("PATCH", location, stream())

    check_refused(got, "4 kB of 10 kB used, more needed than the 6 kB left; delete")
    assert sent == 100
    assert kept == 0
    assert await stored(store) == []


async def test_chunks_add_up(full: Client) -> None:
    location = await begin(full, "team/a")
    assert (await full("PATCH", location, b"x" * 5 * KB)).status == 202

    check_refused(await full("PATCH", location, b"x" * 5 * KB))


@pytest.mark.parametrize("size", [7 * KB, 200 * KB])
async def test_a_last_chunk_that_does_not_fit_is_refused(full: Client, size: int, store: MemoryStore) -> None:
    location = await begin(full, "team/a")
    content = b"x" * size

    check_refused(await full("PUT", f"{location}?digest={Digest.of(content)}", content))

    assert await stored(store) == []
    assert (await full("HEAD", f"/v2/team/a/blobs/{Digest.of(content)}")).status == 404


async def test_the_commit_decides_when_two_uploads_fit_alone(full: Client, database: Database) -> None:
    contents = [letter * 5 * KB for letter in (b"x", b"y")]
    locations = [await begin(full, "team/a") for _ in contents]
    for location, content in zip(locations, contents, strict=True):
        assert (await full("PATCH", location, content)).status == 202

    first, second = [
        await full("PUT", f"{location}?digest={Digest.of(content)}")
        for location, content in zip(locations, contents, strict=True)
    ]

    assert first.status == 201
    check_refused(second, "9 kB of 10 kB used, 5 kB more needed")
    assert await used(database, "team/") == 9 * KB
    assert (await full("GET", locations[1])).status == 404


async def test_what_is_counted_already_can_be_pushed_to_a_full_quota(full: Client, database: Database) -> None:
    assert (await push(full, "team/a", b"x" * 6 * KB)).status == 201

    assert (await push(full, "team/b", b"x" * 6 * KB)).status == 201
    assert await used(database, "team/") == 10 * KB

    assert (await full("DELETE", f"/v2/team/base/blobs/{Digest.of(bytes(4 * KB))}")).status == 202
    location = await begin(full, "team/c")

    async def stream() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield b"x" * KB

    assert (await full("PUT", f"{location}?digest={Digest.of(b'x' * 6 * KB)}", stream())).status == 201
    assert await used(database, "team/") == 6 * KB


async def test_a_mount_that_does_not_fit_is_refused(full: Client, database: Database) -> None:
    content = b"x" * 7 * KB
    assert (await push(full, "base", content)).status == 201
    mount = f"blobs/uploads/?mount={Digest.of(content)}&from=base"

    check_refused(await full("POST", f"/v2/team/a/{mount}"))

    assert (await full("POST", f"/v2/other/{mount}")).status == 201
    assert await used(database, "team/") == 4 * KB


async def test_a_manifest_that_does_not_fit_is_refused(client: Client, database: Database) -> None:
    for content in (CONFIG, LAYER):
        assert (await push(client, "team/a", content)).status == 201
    held = len(CONFIG) + len(LAYER)
    await limit(database, "team/", held + len(image()))
    assert (await put(client, "team/a", "v1", image())).status == 201
    assert (await put(client, "team/a", "v2", image())).status == 201

    check_refused(await put(client, "team/a", "v3", image(annotations={"a": "b"})))

    assert (await client("HEAD", "/v2/team/a/manifests/v3")).status == 404
    assert await used(database, "team/") == held + len(image())


async def test_a_deleted_image_makes_room_at_once(client: Client, database: Database) -> None:
    for content in (CONFIG, LAYER):
        assert (await push(client, "team/a", content)).status == 201
    assert (await put(client, "team/a", "v1", image())).status == 201

    assert (await client("DELETE", f"/v2/team/a/manifests/{Digest.of(image())}")).status == 202

    assert await used(database, "team/") == 0
    assert (await push(client, "team/a", b"x" * 10 * KB)).status == 201
    check_refused(await put(client, "team/a", "v1", image()))


async def test_a_repository_too_many_is_refused_at_its_first_upload(client: Client, database: Database) -> None:
    await limit(database, "team/", None, 1)
    await push(client, "team/a", CONFIG)
    await push(client, "team/a", LAYER)
    assert (await put(client, "team/a", "v1", image())).status == 201

    got = await client("POST", "/v2/team/b/blobs/uploads/")

    check_refused(got, "the quota of team/ is exceeded: 1 of 1 repositories used; delete one")
    assert (await client("POST", "/v2/team/a/blobs/uploads/")).status == 202


async def test_pulls_go_on_above_the_limit(full: Client, database: Database) -> None:
    await limit(database, "team/", 1)

    got = await full("GET", f"/v2/team/base/blobs/{Digest.of(bytes(4 * KB))}")

    assert got.status == 200
