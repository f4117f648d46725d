"""The registry over a bucket of Ceph's gateway: uploads that move between nodes, and what becomes of their bytes."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.metadata.making import ACTOR, HOUR
from tests.registry.making import SHORT
from tests.support.ceph import Ceph, Gateway
from tests.support.s3 import S3
from tests.support.s3proxy import S3Proxy

from stackyard.metadata import manifests
from stackyard.metadata.blobs import Blob
from stackyard.metadata.database import Database
from stackyard.oci import layout
from stackyard.oci.digests import Digest
from stackyard.oci.errors import BlobUnknown, DigestInvalid, UploadBusy
from stackyard.registry import orphans
from stackyard.registry.chunks import Chunk
from stackyard.registry.joining import LEASE
from stackyard.registry.leases import Lease
from stackyard.registry.registry import Registry
from stackyard.storage.driver import StorageError
from stackyard.storage.objects import ObjectStore
from stackyard.storage.objects.settings import S3 as Where
from stackyard.storage.objects.settings import Settings

FIRST, SECOND, THIRD = b"first" * 100_000, b"second" * 50_000, b"third"
WHOLE = FIRST + SECOND + THIRD
DIGEST = Digest.of(WHOLE)
QUICK = replace(SHORT, claim=timedelta(seconds=1))

_roots = itertools.count()


@pytest.fixture(scope="session")
def bucket(ceph: Ceph) -> str:
    return ceph.server.bucket()


@pytest.fixture
def store(ceph: Ceph, bucket: str) -> ObjectStore:
    return over(ceph.server, bucket)


def over(server: S3, bucket: str, root: str | None = None, segment: int = 4 << 30) -> ObjectStore:
    address = f"{server.endpoint}/{bucket}"
    place = Where(bucket, server.endpoint, address, address, access_key=server.access_key, secret_key=server.secret_key)
    return ObjectStore(Settings(place, root or f"root-{next(_roots)}", part=5 << 20, segment=segment))


@pytest.fixture
def nodes(store: ObjectStore, database: Database) -> tuple[Registry, Registry]:
    """Two that have nothing in common but the database and the bucket."""
    return Registry.over(store, database, QUICK), Registry.over(store, database, QUICK)


async def patch(registry: Registry, upload_id: str, content: bytes) -> int:
    upload = await registry.uploads.append("a", upload_id, Chunk(pieces(content)))
    return upload.offset


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 65536):
        yield content[start : start + 65536]


async def read(registry: Registry, digest: Digest) -> bytes:
    blob = await registry.blobs.find("a", digest)
    reader = await registry.blobs.open(blob)
    return b"".join([piece async for piece in reader.chunks(0, blob.size)])


async def keys(store: ObjectStore) -> list[str]:
    return sorted(
        [found.location async for found in store.walk("stackyard")]
        + [found.location async for found in store.walk("docker")]
    )


async def test_each_request_of_an_upload_may_reach_another_node(
    nodes: tuple[Registry, Registry], store: ObjectStore
) -> None:
    one, other = nodes
    upload = await one.uploads.start("a", algorithm="sha256", actor=ACTOR)

    assert await patch(one, upload.id, FIRST) == len(FIRST)
    assert (await other.uploads.find("a", upload.id)).offset == len(FIRST)
    assert await patch(other, upload.id, SECOND) == len(FIRST + SECOND)
    assert (await one.uploads.find("a", upload.id)).offset == len(FIRST + SECOND)
    await one.uploads.finish("a", upload.id, DIGEST, Chunk(pieces(THIRD), length=len(THIRD)), actor=ACTOR)

    assert await read(other, DIGEST) == WHOLE
    assert len(await keys(store)) == 3

    await other.blobs.delete("a", DIGEST, actor=ACTOR)
    await one.collection.run(readers=timedelta())

    assert await keys(store) == []


async def test_what_one_request_brought_is_redirected_to_and_more_is_not(nodes: tuple[Registry, Registry]) -> None:
    one, other = nodes
    for first, second in ((FIRST, b""), (FIRST, SECOND)):
        upload = await one.uploads.start("a", algorithm="sha256", actor=ACTOR)
        await patch(one, upload.id, first)
        if second:
            await patch(other, upload.id, second)
        digest = Digest.of(first + second)
        blob = await other.uploads.finish("a", upload.id, digest, Chunk(None), actor=ACTOR)

        assert bool(await one.blobs.redirect(blob)) is (not second)
        assert await read(one, digest) == first + second


async def test_wrong_bytes_leave_the_upload_as_it_was(nodes: tuple[Registry, Registry], store: ObjectStore) -> None:
    one, other = nodes
    upload = await one.uploads.start("a", algorithm="sha256", actor=ACTOR)
    await patch(one, upload.id, FIRST)

    with pytest.raises(DigestInvalid):
        await other.uploads.finish("a", upload.id, DIGEST, Chunk(pieces(THIRD), length=len(THIRD)), actor=ACTOR)
    await patch(one, upload.id, SECOND)
    await other.uploads.finish("a", upload.id, DIGEST, Chunk(pieces(THIRD), length=len(THIRD)), actor=ACTOR)

    assert await read(one, DIGEST) == WHOLE
    assert len(await keys(store)) == 3


async def test_two_writers_do_not_mix_and_one_that_slept_adds_nothing(
    nodes: tuple[Registry, Registry], store: ObjectStore, database: Database
) -> None:
    slow, quick = nodes
    upload = await slow.uploads.start("a", algorithm="sha256", actor=ACTOR)
    await patch(slow, upload.id, FIRST)
    awake, begun = asyncio.Event(), asyncio.Event()

    async def sleepy() -> AsyncIterator[bytes]:
        yield b"never" * 400_000
        begun.set()
        await awake.wait()
        yield b"ever"

    sleeper = asyncio.create_task(slow.uploads.append("a", upload.id, Chunk(sleepy())))
    await begun.wait()
    with pytest.raises(UploadBusy) as busy:
        await patch(quick, upload.id, SECOND)
    assert busy.value.headers["Range"] == f"0-{len(FIRST) - 1}"

    async def taken_over() -> bool:
        try:
            return await patch(quick, upload.id, SECOND) == len(FIRST + SECOND)
        except UploadBusy:
            return False

    async with asyncio.timeout(30):
        while not await taken_over():
            await asyncio.sleep(0.05)
    awake.set()
    with pytest.raises(UploadBusy):
        await sleeper
    await quick.uploads.finish("a", upload.id, DIGEST, Chunk(pieces(THIRD), length=len(THIRD)), actor=ACTOR)

    assert await read(slow, DIGEST) == WHOLE
    await quick.blobs.delete("a", DIGEST, actor=ACTOR)
    await quick.collection.run(readers=timedelta())
    await orphans.reap(store, database, dry_run=False, age=timedelta())
    assert await keys(store) == []


async def test_only_what_nobody_owns_is_reaped(
    nodes: tuple[Registry, Registry], store: ObjectStore, database: Database
) -> None:
    one, other = nodes
    small = await one.uploads.push("a", Digest.of(THIRD), Chunk(pieces(THIRD), length=len(THIRD)), actor=ACTOR)
    whole = await one.uploads.start("a", algorithm="sha256", actor=ACTOR)
    await patch(one, whole.id, FIRST + SECOND)
    await patch(other, whole.id, THIRD)
    await one.uploads.finish("a", whole.id, DIGEST, Chunk(None), actor=ACTOR)
    begun = await one.uploads.start("a", algorithm="sha256", actor=ACTOR)
    await patch(one, begun.id, FIRST)
    await patch(other, begun.id, SECOND)
    owned = await keys(store)
    await store.put(layout.upload("0123", 0), b"of nobody")
    await store.put(f"{layout.upload('0123', 1)}.segments/{5:020}", b"of nobody")

    assert await orphans.reap(store, database, dry_run=False) == 0
    assert await orphans.reap(store, database, dry_run=True, age=timedelta()) == 2
    assert await orphans.reap(store, database, dry_run=False, age=timedelta()) == 2

    assert await keys(store) == owned
    assert await read(one, small.digest) == THIRD
    assert await read(one, DIGEST) == WHOLE


async def test_of_two_that_push_the_same_bytes_one_copy_stays(
    nodes: tuple[Registry, Registry], store: ObjectStore
) -> None:
    async def push(registry: Registry) -> None:
        upload = await registry.uploads.start("a", algorithm="sha256", actor=ACTOR)
        await patch(registry, upload.id, WHOLE)
        await registry.uploads.finish("a", upload.id, DIGEST, Chunk(None), actor=ACTOR)

    await asyncio.gather(*(push(node) for node in nodes * 3))

    assert await read(nodes[0], DIGEST) == WHOLE
    assert len(await keys(store)) == 1


async def test_a_push_goes_on_elsewhere_after_the_store_was_down(gateway: Gateway, database: Database) -> None:
    store = over(gateway.server, gateway.server.bucket(), "r")
    registry = Registry.over(store, database, SHORT)
    upload = await registry.uploads.start("a", algorithm="sha256", actor=ACTOR)
    await patch(registry, upload.id, FIRST)
    gateway.kill()

    with pytest.raises(StorageError):
        await patch(registry, upload.id, SECOND)
    gateway.start()

    assert (await registry.uploads.find("a", upload.id)).offset == len(FIRST)
    await patch(registry, upload.id, SECOND)
    assert (await registry.uploads.find("a", upload.id)).location == f"{layout.upload(upload.id, 1)}.segments"
    await registry.uploads.finish("a", upload.id, DIGEST, Chunk(pieces(THIRD), length=len(THIRD)), actor=ACTOR)

    assert await read(registry, DIGEST) == WHOLE


async def test_a_cancelled_upload_leaves_nothing(nodes: tuple[Registry, Registry], store: ObjectStore) -> None:
    one, other = nodes
    upload = await one.uploads.start("a", algorithm="sha256", actor=ACTOR)
    await patch(one, upload.id, FIRST)
    await patch(other, upload.id, SECOND)

    await other.uploads.cancel("a", upload.id)

    assert await keys(store) == []


async def test_calls_to_the_store(proxy: S3Proxy, database: Database) -> None:
    """One for a small blob, two more than its parts for a large one, none to read a manifest or to be sent on."""
    bucket = proxy.server.bucket()
    registry = Registry.over(over(proxy.server, bucket, "r"), database, SHORT)
    proxy.calls()

    small = await registry.uploads.push("a", Digest.of(THIRD), Chunk(pieces(THIRD), length=len(THIRD)), actor=ACTOR)
    assert [one.method for one in proxy.calls()] == ["PUT"]

    upload = await registry.uploads.start("a", algorithm="sha256", actor=ACTOR)
    large = FIRST * 24
    await patch(registry, upload.id, large)
    blob = await registry.uploads.finish("a", upload.id, Digest.of(large), Chunk(None), actor=ACTOR)
    assert sorted(one.method for one in proxy.calls()) == ["POST", "POST", "PUT", "PUT", "PUT"]

    assert await registry.blobs.redirect(blob)
    assert await registry.blobs.redirect(small)
    assert await database.read(manifests.find, "a", DIGEST) is None
    assert proxy.calls() == []


async def test_bytes_that_went_are_no_blob(nodes: tuple[Registry, Registry], store: ObjectStore) -> None:
    one, _ = nodes
    blob = await one.uploads.push("a", Digest.of(THIRD), Chunk(pieces(THIRD), length=len(THIRD)), actor=ACTOR)
    await store.delete(blob.location)

    with pytest.raises(BlobUnknown):
        await one.blobs.open(blob)


# Joining


async def push_in_three(one: Registry, other: Registry) -> Blob:
    upload = await one.uploads.start("a", algorithm="sha256", actor=ACTOR)
    await patch(one, upload.id, FIRST)
    await patch(other, upload.id, SECOND)
    return await one.uploads.finish("a", upload.id, DIGEST, Chunk(pieces(THIRD), length=len(THIRD)), actor=ACTOR)


async def join(registry: Registry) -> int:
    done: list[int] = []

    async def work(lease: Lease) -> None:
        done.append(await registry.joining.join_all(lease))

    await registry.jobs.leases.run(LEASE, work)
    return done[0]


async def test_a_blob_of_several_objects_becomes_one_and_can_be_redirected_to(
    store: ObjectStore, database: Database
) -> None:
    one, other = (Registry.over(store, database, replace(QUICK, promise=HOUR)) for _ in range(2))
    before = await push_in_three(one, other)
    reader = await other.blobs.open(before)
    small = await one.uploads.push("a", Digest.of(THIRD), Chunk(pieces(THIRD), length=len(THIRD)), actor=ACTOR)

    assert await join(one) == 1

    blob = await other.blobs.find("a", DIGEST)
    assert await other.blobs.redirect(blob)
    assert await read(other, DIGEST) == WHOLE
    assert b"".join([piece async for piece in reader.chunks(0, before.size)]) == WHOLE
    assert await join(other) == 0

    await one.collection.run(readers=timedelta(), grace=timedelta())
    assert sorted(await keys(store)) == sorted([blob.location, small.location])
    assert await read(other, DIGEST) == WHOLE


async def test_what_is_pushed_deleted_or_damaged_meanwhile_is_left_alone(
    nodes: tuple[Registry, Registry], store: ObjectStore
) -> None:
    one, other = nodes
    blob = await push_in_three(one, other)
    await store.put(f"{blob.location}/{len(FIRST):020}", b"X" * len(SECOND))

    assert await join(one) == 0
    assert (await other.blobs.find("a", DIGEST)).location == blob.location

    await store.put(f"{blob.location}/{len(FIRST):020}", SECOND)
    assert await join(one) == 1
    await one.blobs.delete("a", DIGEST, actor=ACTOR)
    await one.collection.run(readers=timedelta())
    assert await keys(store) == []


async def test_a_blob_larger_than_one_object_stays_as_it_is(database: Database, ceph: Ceph, bucket: str) -> None:
    tiny = over(ceph.server, bucket, segment=5 << 20)
    registry = Registry.over(tiny, database, SHORT)
    upload = await registry.uploads.start("a", algorithm="sha256", actor=ACTOR)
    large = FIRST * 13
    await patch(registry, upload.id, large)
    blob = await registry.uploads.finish("a", upload.id, Digest.of(large), Chunk(None), actor=ACTOR)

    assert blob.location.endswith(".segments")
    assert await join(registry) == 0
    assert await read(registry, Digest.of(large)) == large


# Scrubbing


async def test_a_bucket_that_does_not_answer_is_not_damage(gateway: Gateway, database: Database) -> None:
    store = over(gateway.server, gateway.server.bucket(), "r")
    registry = Registry.over(store, database, SHORT)
    blob = await registry.uploads.push("a", Digest.of(THIRD), Chunk(pieces(THIRD), length=len(THIRD)), actor=ACTOR)
    gateway.kill()

    with pytest.raises(StorageError):
        await registry.scrub.run()
    gateway.start()

    assert (await registry.blobs.find("a", blob.digest)).location == blob.location
    assert (await registry.scrub.run()).damaged == []
    await store.put(blob.location, b"other")
    assert (await registry.scrub.run()).damaged == [blob.digest]
