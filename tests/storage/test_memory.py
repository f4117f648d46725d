"""The store in memory."""

import pytest
from tests.storage.contract import OTHER_UPLOAD, UPLOAD, RenamingStoreContract, get, publish, put

from stackyard.oci.digests import Digest, Hasher
from stackyard.storage.driver import BlobStore, LocationTaken, OutOfSpace
from stackyard.storage.memory import MemoryStore


class TestMemoryStore(RenamingStoreContract):
    """The contract, kept in memory."""

    @pytest.fixture
    def store(self) -> BlobStore:
        return MemoryStore()


async def test_a_full_store_keeps_what_fits_and_says_so() -> None:
    store, hasher = MemoryStore(capacity=10), Hasher()

    async with store.writer(UPLOAD, 0, hasher) as writer:
        await writer.write(b"123456")
        with pytest.raises(OutOfSpace):
            await writer.write(b"789abcdef")
        with pytest.raises(OutOfSpace):
            await writer.write(b"x")

        assert writer.size == 10

    assert await get(store, UPLOAD) == b"123456789a"
    assert hasher.digest() == Digest.of(b"123456789a")


async def test_a_full_store_takes_bytes_again_when_some_went() -> None:
    store = MemoryStore(capacity=10)
    await put(store, UPLOAD, b"0123456789")
    with pytest.raises(OutOfSpace):
        await store.check()
    with pytest.raises(OutOfSpace):
        await store.copy(UPLOAD, OTHER_UPLOAD, 1)

    await store.delete(UPLOAD)

    await store.check()
    await put(store, OTHER_UPLOAD, b"again")
    assert await get(store, OTHER_UPLOAD) == b"again"


@pytest.mark.parametrize("offset", [0, 3])
async def test_what_is_published_takes_no_more_bytes(offset: int) -> None:
    store = MemoryStore()
    await put(store, UPLOAD, b"whole")
    await publish(store, UPLOAD, OTHER_UPLOAD)

    async with store.writer(OTHER_UPLOAD, offset) as writer:
        with pytest.raises(LocationTaken):
            await writer.write(b"more")

    assert await get(store, OTHER_UPLOAD) == b"whole"
