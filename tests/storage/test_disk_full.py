"""A disk that is full, and has space again."""

import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.storage.contract import BLOB, KIB, MIB, OTHER_UPLOAD, UPLOAD, get, made_up, publish, put
from tests.support import tools

from stackyard.oci.digests import Digest, Hasher
from stackyard.storage.driver import BlobStore, BlobWriter, OutOfSpace
from stackyard.storage.filesystem import FilesystemStore


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB and 64 inodes."""
    tools.need_root("mounting a tmpfs needs it")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = [tools.path("mount"), "-t", "tmpfs", "-o", "size=4m,nr_inodes=64", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run([tools.path("umount"), "--lazy", folder], check=True)


@pytest.fixture
async def store(disk: Path) -> AsyncIterator[BlobStore]:
    store = FilesystemStore(disk / "root")
    yield store
    await store.close()


async def fill(writer: BlobWriter, content: bytes) -> None:
    """Write in pieces of 64 KiB, to the end or to the first error."""
    for start in range(0, len(content), 64 * KIB):
        await writer.write(content[start : start + 64 * KIB])
    await writer.finish(durable=True)


@contextlib.contextmanager
def no_inode_left(disk: Path) -> Iterator[None]:
    """No file or folder can be made in the block."""
    ballast = disk / "ballast"
    ballast.mkdir()
    with contextlib.suppress(OSError):
        for number in range(1000):
            (ballast / str(number)).mkdir()
    yield
    for folder in ballast.iterdir():
        folder.rmdir()
    ballast.rmdir()


async def test_what_fits_is_kept_and_the_push_goes_on_when_space_returns(store: BlobStore, disk: Path) -> None:
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(2 * MIB))
    content, hasher = made_up(3 * MIB), Hasher()

    async with store.writer(UPLOAD, 0, hasher) as writer:
        with pytest.raises(OutOfSpace, match="No space left on device"):
            await fill(writer, content)
        with pytest.raises(OutOfSpace):
            await writer.write(b"more")
        with pytest.raises(OutOfSpace):
            await writer.finish(durable=True)
        kept = writer.size
    on_disk = await get(store, UPLOAD)
    ballast.unlink()
    async with store.writer(UPLOAD, kept, hasher) as writer:
        await fill(writer, content[kept:])
    await publish(store, UPLOAD, BLOB)

    assert MIB < kept < len(content)
    assert on_disk == content[:kept]
    assert await get(store, BLOB) == content
    assert hasher.digest() == Digest.of(content)


async def test_a_small_upload_to_a_full_disk_is_refused_in_finish(store: BlobStore, disk: Path) -> None:
    ballast = disk / "ballast"
    with contextlib.suppress(OSError):
        ballast.write_bytes(bytes(5 * MIB))
    content, hasher = made_up(10 * KIB), Hasher()

    async with store.writer(UPLOAD, 0, hasher) as writer:
        await writer.write(content)
        accepted = writer.size
        with pytest.raises(OutOfSpace):
            await writer.finish(durable=True)
        kept = writer.size
    ballast.unlink()
    async with store.writer(UPLOAD, kept, hasher) as writer:
        await fill(writer, content[kept:])

    assert accepted == len(content)
    assert kept < len(content)
    assert hasher.digest() == Digest.of(content)
    assert await get(store, UPLOAD) == content


async def test_leaving_a_writer_on_a_full_disk_raises_too(store: BlobStore) -> None:
    async def push() -> None:
        async with store.writer(UPLOAD, 0) as writer:
            await writer.write(made_up(5 * MIB))

    with pytest.raises(OutOfSpace):
        await push()


async def test_an_upload_that_cannot_be_made_leaves_nothing(store: BlobStore, disk: Path) -> None:
    await put(store, OTHER_UPLOAD)
    with no_inode_left(disk):
        with pytest.raises(OutOfSpace):
            await put(store, UPLOAD)
        with pytest.raises(OutOfSpace):
            await store.copy(OTHER_UPLOAD, UPLOAD, 3)

    assert await store.size(UPLOAD) is None
    await put(store, UPLOAD)


async def test_a_blob_that_cannot_be_published_stays_an_upload(store: BlobStore, disk: Path) -> None:
    content = made_up(100 * KIB)
    await put(store, UPLOAD, content)
    with no_inode_left(disk), pytest.raises(OutOfSpace):
        await publish(store, UPLOAD, BLOB)

    assert await get(store, UPLOAD) == content
    assert await store.size(BLOB) is None
    await publish(store, UPLOAD, BLOB)
    assert await get(store, BLOB) == content


async def test_a_copy_that_does_not_fit_leaves_nothing(store: BlobStore) -> None:
    await put(store, UPLOAD, made_up(3 * MIB))

    with pytest.raises(OutOfSpace):
        await store.copy(UPLOAD, OTHER_UPLOAD, 3 * MIB)

    assert await store.size(OTHER_UPLOAD) is None
    await store.copy(UPLOAD, OTHER_UPLOAD, 512 * KIB)
    assert await get(store, OTHER_UPLOAD) == made_up(3 * MIB)[: 512 * KIB]


async def test_check_tells_a_full_disk_from_a_broken_one(store: BlobStore, disk: Path) -> None:
    await store.check()
    with no_inode_left(disk), pytest.raises(OutOfSpace):
        await store.check()
    await store.check()


async def test_the_room_is_that_of_the_disk(store: BlobStore, disk: Path) -> None:
    empty = await store.room()
    await put(store, BLOB, made_up(MIB))
    after = await store.room()

    assert empty is not None
    assert after is not None
    assert (empty.free, empty.total) == (4 * MIB, 4 * MIB)
    assert 0 < after.free <= 3 * MIB


async def test_a_full_disk_can_still_be_read_and_deleted_from(store: BlobStore, disk: Path) -> None:
    content = made_up(MIB)
    await put(store, BLOB, content)
    with contextlib.suppress(OSError):
        (disk / "ballast").write_bytes(bytes(5 * MIB))

    assert await get(store, BLOB) == content
    await store.delete(BLOB)
    await put(store, UPLOAD, content)
    assert await get(store, UPLOAD) == content


async def test_a_file_system_that_cannot_tell_what_is_cached_is_read_in_threads(store: BlobStore) -> None:
    content = made_up(3 * MIB)
    await put(store, UPLOAD, content)

    assert await get(store, UPLOAD, 7, 3 * MIB - 7) == content[7:-7]
