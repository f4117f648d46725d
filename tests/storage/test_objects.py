"""The store in buckets of real servers: what the contract cannot say for every driver."""

import asyncio
import itertools
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.storage.contract import (
    BLOB,
    CONTENT,
    MIB,
    OTHER_UPLOAD,
    UPLOAD,
    BlobStoreContract,
    add_pieces,
    get,
    made_up,
    publish,
    put,
)
from tests.support.azurite import Azurite
from tests.support.ceph import Ceph, Gateway
from tests.support.s3 import S3
from tests.support.s3proxy import S3Proxy

from stackyard.storage.driver import BlobStore, LocationGone, StorageError
from stackyard.storage.objects import ObjectStore, segments, settings
from stackyard.storage.objects.settings import Settings

PART = 5 * MIB

_roots = itertools.count()


def where(server: S3, bucket: str) -> settings.S3:
    address = f"{server.endpoint}/{bucket}"
    return settings.S3(
        bucket, server.endpoint, address, address, access_key=server.access_key, secret_key=server.secret_key
    )


def over(server: S3, bucket: str, segment: int = 4 << 30) -> ObjectStore:
    """A store in a folder of its own in the bucket."""
    return ObjectStore(Settings(where(server, bucket), f"root-{next(_roots)}", part=PART, segment=segment))


@pytest.fixture(scope="session")
def ceph_bucket(ceph: Ceph) -> str:
    return ceph.server.bucket()


@pytest.fixture(scope="session")
def swift_bucket(swift: S3) -> str:
    return swift.bucket()


@pytest.fixture(scope="session")
def container(azurite: Azurite) -> str:
    return azurite.container()


@pytest.fixture
def store(ceph: Ceph, ceph_bucket: str) -> BlobStore:
    return over(ceph.server, ceph_bucket)


class TestCeph(BlobStoreContract):
    """The contract, kept by Ceph's gateway."""


class TestSwift(BlobStoreContract):
    """The contract, kept by OpenStack Swift, which speaks S3 as well."""

    @pytest.fixture
    def store(self, swift: S3, swift_bucket: str) -> BlobStore:
        return over(swift, swift_bucket)


class TestAzure(BlobStoreContract):
    """The contract, kept by Azurite."""

    @pytest.fixture
    def store(self, azurite: Azurite, container: str) -> BlobStore:
        place = settings.Azure(container, azurite.account, azurite.endpoint, azurite.key)
        return ObjectStore(Settings(place, f"root-{next(_roots)}", part=PART))


# Several objects


@pytest.mark.parametrize("size", [10 * MIB - 1, 10 * MIB, 10 * MIB + 1, 27 * MIB])
async def test_a_large_location_is_several_objects_and_read_as_one(ceph: Ceph, ceph_bucket: str, size: int) -> None:
    store, content = over(ceph.server, ceph_bucket, segment=10 * MIB), made_up(size)

    pieces = [content[start : start + 700_000] for start in range(0, size, 700_000)]
    _, upload = await add_pieces(store, UPLOAD, pieces, offset=0)

    assert len([one async for one in store.walk("stackyard")]) == max(1, -(-size // (10 * MIB)))
    assert await publish(store, upload, BLOB) == upload
    assert await store.size(upload) == size
    assert await get(store, upload) == content
    assert await get(store, upload, 10 * MIB - 5, size) == content[10 * MIB - 5 :]
    assert await get(store, upload, 3, 10 * MIB - 2) == content[3 : 10 * MIB - 2]

    await store.delete(upload)

    assert [one async for one in store.walk("stackyard")] == []


async def test_publishing_removes_what_nobody_went_on_from(store: BlobStore) -> None:
    await put(store, UPLOAD, b"first ")
    _, upload = await add_pieces(store, UPLOAD, [b"what was refused"], offset=6)
    _, upload = await add_pieces(store, UPLOAD, [b"second"], offset=6)
    _, beyond = await add_pieces(store, upload, [b"never acknowledged"], offset=12)

    assert await store.publish(upload, BLOB, 12) == beyond == segments.of(UPLOAD)

    assert await get(store, upload) == b"first second"
    assert len([one async for one in store.walk("stackyard")]) == 2


@pytest.mark.parametrize("size", [0, 5, 7, 12, 13])
async def test_what_does_not_end_where_a_writer_ended_is_not_published(store: BlobStore, size: int) -> None:
    await put(store, UPLOAD, b"first ")
    _, upload = await add_pieces(store, UPLOAD, [b"second"], offset=6)
    await store.delete(UPLOAD if size == 12 else BLOB)

    with pytest.raises(LocationGone):
        await store.publish(upload, BLOB, size)


async def test_nothing_is_cut_off(store: BlobStore) -> None:
    await put(store, UPLOAD, CONTENT)

    with pytest.raises(LocationGone):
        await add_pieces(store, UPLOAD, [b"!"], offset=7)
    with pytest.raises(LocationGone):
        await add_pieces(store, UPLOAD, [], offset=7)

    assert await get(store, UPLOAD) == CONTENT


async def test_a_redirect_names_one_object(store: BlobStore) -> None:
    await put(store, UPLOAD, b"first ")
    _, upload = await add_pieces(store, UPLOAD, [b"second"], offset=6)

    assert await store.redirect(UPLOAD)
    assert await store.redirect(upload) is None


async def test_parts_that_never_became_an_object_are_swept_when_they_are_old(ceph: Ceph) -> None:
    bucket = ceph.server.bucket()
    store = over(ceph.server, bucket)
    begun = store.writer(UPLOAD, 0)
    writer = await begun.__aenter__()  # and never left, as by a process that was killed
    for piece in range(12):
        await writer.write(made_up(MIB, piece))
    await put(store, OTHER_UPLOAD, made_up(12 * MIB))

    assert await store.sweep(timedelta(hours=1)) == 0
    assert len(ceph.server.unfinished(bucket)) == 1
    assert await store.sweep(timedelta()) == 1
    assert ceph.server.unfinished(bucket) == []
    assert await store.size(OTHER_UPLOAD) == 12 * MIB


# Credentials


async def test_credentials_are_found_as_amazon_s_programs_find_them(
    ceph: Ceph, ceph_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ceph.server
    file = tmp_path / "credentials"
    file.write_text(
        f"[default]\naws_access_key_id = nobody\naws_secret_access_key = nothing\n"
        f"[images]\naws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    )
    place = replace(where(server, ceph_bucket), access_key=None, secret_key=None)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)

    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="there are no credentials"):
        ObjectStore(Settings(place))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    with pytest.raises(StorageError, match="the access key is not known"):
        await ObjectStore(Settings(place)).check()
    monkeypatch.setenv("AWS_PROFILE", "images")
    await ObjectStore(Settings(place)).check()
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    await ObjectStore(Settings(place)).check()


# What it costs


async def calls(proxy: S3Proxy, bucket: str) -> Counter[str]:
    return Counter(one.method for one in proxy.calls() if one.path.startswith(f"/{bucket}"))


async def test_a_small_blob_is_one_call_and_a_large_one_two_more_than_its_parts(proxy: S3Proxy) -> None:
    bucket = proxy.server.bucket()
    store = over(proxy.server, bucket)
    proxy.calls()

    await store.put(BLOB, CONTENT)
    assert await calls(proxy, bucket) == {"PUT": 1}

    async with store.writer(UPLOAD, 0) as writer:
        for _ in range(22):
            await writer.write(made_up(MIB))
        await writer.finish(durable=True)
    await store.publish(UPLOAD, BLOB, 22 * MIB)
    assert await calls(proxy, bucket) == {"POST": 2, "PUT": 5}

    assert await store.redirect(UPLOAD)
    assert await calls(proxy, bucket) == {}


# What goes wrong


async def test_wrong_buckets_and_keys_are_named(ceph: Ceph, ceph_bucket: str) -> None:
    server = ceph.server

    async def reason(server: S3, bucket: str) -> str:
        with pytest.raises(StorageError) as failure:
            await over(server, bucket).check()
        assert server.secret_key not in str(failure.value)
        return str(failure.value)

    assert "there is no such bucket" in await reason(server, "test-nowhere")
    assert "the access key is not known" in await reason(replace(server, access_key="nobody"), ceph_bucket)
    assert "the secret key is not that of the access key" in await reason(
        replace(server, secret_key="wrong" * 8), ceph_bucket
    )
    assert "http://127.0.0.1:9/" in await reason(replace(server, endpoint="http://127.0.0.1:9"), ceph_bucket)


async def test_a_bucket_that_went_is_no_missing_blob(ceph: Ceph) -> None:
    store = over(ceph.server, "test-nowhere")

    with pytest.raises(StorageError) as failure:
        await get(store, BLOB)

    assert not isinstance(failure.value, LocationGone)


async def test_a_store_that_is_down_fails_soon_and_works_again_by_itself(gateway: Gateway) -> None:
    store = over(gateway.server, gateway.server.bucket())
    await put(store, UPLOAD)
    gateway.kill()

    async with asyncio.timeout(20):
        with pytest.raises(StorageError):
            await get(store, UPLOAD)
        with pytest.raises(StorageError):
            await store.put(BLOB, CONTENT)
    gateway.start()

    assert await get(store, UPLOAD) == CONTENT
    await store.put(BLOB, CONTENT)


async def test_a_store_that_does_not_answer_is_not_waited_for_by_everybody(gateway: Gateway) -> None:
    store = over(gateway.server, gateway.server.bucket())
    await put(store, UPLOAD)
    gateway.kill()
    reasons = []

    for _ in range(8):
        with pytest.raises(StorageError) as failure:
            await store.put(BLOB, CONTENT)
        reasons.append("is asked again in a moment" in str(failure.value))
    gateway.start()

    assert reasons == [False] * 5 + [True] * 3
    async with asyncio.timeout(20):
        while True:
            try:
                assert await get(store, UPLOAD) == CONTENT
            except StorageError:
                await asyncio.sleep(0.1)
            else:
                break
    await store.put(BLOB, CONTENT)


async def test_answers_that_say_no_are_answers(store: BlobStore) -> None:
    for _ in range(8):
        with pytest.raises(LocationGone):
            await store.open(UPLOAD)

    await store.put(BLOB, CONTENT)


async def test_a_writer_whose_store_goes_down_keeps_nothing(gateway: Gateway) -> None:
    store = over(gateway.server, gateway.server.bucket())
    async with store.writer(UPLOAD, 0) as writer:
        await writer.write(made_up(12 * MIB))
        gateway.kill()

        with pytest.raises(StorageError):
            await writer.finish(durable=True)

        assert writer.size == 0
    gateway.start()

    assert await store.size(UPLOAD) is None
