"""The store in files: what the contract cannot say for every driver."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.storage.contract import (
    BLOB,
    CONTENT,
    MIB,
    OTHER_UPLOAD,
    UPLOAD,
    RenamingStoreContract,
    get,
    made_up,
    publish,
    put,
)

from stackyard.storage.driver import BlobStore, LocationGone, LocationTaken, StorageError
from stackyard.storage.filesystem import FilesystemStore


class TestFilesystemStore(RenamingStoreContract):
    """The contract, kept in files."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Does not exist before it is used."""
    return tmp_path / "data" / "root"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[BlobStore]:
    store = FilesystemStore(root, threads=25)
    yield store
    await store.close()


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def everything(root: Path) -> list[str]:
    """Every file and folder below the root."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


# Names in the file system


async def test_bytes_lie_in_a_file_at_their_location(store: BlobStore, root: Path) -> None:
    await put(store, UPLOAD)
    await publish(store, UPLOAD, BLOB)

    assert (root / BLOB).read_bytes() == CONTENT


@pytest.mark.usefixtures("umask")
async def test_files_and_folders_have_the_modes_that_the_umask_leaves(store: BlobStore, root: Path) -> None:
    await put(store, UPLOAD)
    await publish(store, UPLOAD, BLOB)

    assert stat.S_IMODE((root / BLOB).stat().st_mode) == 0o640
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (root / BLOB).parents if root in folder.parents} == {
        0o750
    }


async def test_publish_leaves_one_name_and_no_folder_of_the_upload(store: BlobStore, root: Path) -> None:
    await put(store, UPLOAD)
    await publish(store, UPLOAD, BLOB)

    assert (root / BLOB).stat().st_nlink == 1
    assert not (root / UPLOAD).parent.exists()


async def test_delete_removes_the_folder_of_the_location_and_no_other(store: BlobStore, root: Path) -> None:
    await put(store, BLOB)

    await store.delete(BLOB)

    assert not (root / BLOB).parent.exists()
    assert (root / BLOB).parent.parent.is_dir()


async def test_delete_of_the_last_location_leaves_the_root(store: BlobStore, root: Path) -> None:
    await put(store, "alone")

    await store.delete("alone")

    assert everything(root) == []
    assert root.is_dir()


async def test_delete_of_nothing_removes_a_folder_left_empty(store: BlobStore, root: Path) -> None:
    """By a deletion that was killed after the file and before the folder."""
    (root / BLOB).parent.mkdir(parents=True)

    await store.delete(BLOB)

    assert not (root / BLOB).parent.exists()


@pytest.mark.parametrize("target", ["outside", "missing"])
async def test_a_symlink_is_not_followed(store: BlobStore, root: Path, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"not ours")
    (root / UPLOAD).parent.mkdir(parents=True)
    (root / UPLOAD).symlink_to(tmp_path / target)

    with pytest.raises(StorageError):
        await store.open(UPLOAD)
    with pytest.raises(StorageError):
        await put(store, UPLOAD)
    with pytest.raises(LocationGone):
        await publish(store, UPLOAD, BLOB)
    with pytest.raises(StorageError):
        await store.copy(UPLOAD, OTHER_UPLOAD, 1)

    assert await store.size(UPLOAD) is None
    assert [found async for found in store.walk("stackyard")] == []
    await store.delete(UPLOAD)
    assert outside.read_bytes() == b"not ours"
    assert not (tmp_path / "missing").exists()


async def test_a_symlink_at_the_target_is_taken(store: BlobStore, root: Path, tmp_path: Path) -> None:
    (root / BLOB).parent.mkdir(parents=True)
    (root / BLOB).symlink_to(tmp_path / "elsewhere")
    await put(store, UPLOAD)

    with pytest.raises(LocationTaken):
        await publish(store, UPLOAD, BLOB)

    assert await get(store, UPLOAD) == CONTENT


async def test_walk_passes_over_names_that_are_no_location(store: BlobStore, root: Path) -> None:
    await put(store, BLOB)
    (root / BLOB).with_name("with space").write_bytes(b"")
    (root / BLOB).with_name("naïve").mkdir()
    (root / BLOB).with_name(".nfs0000000000000001").write_bytes(b"deleted, and still open somewhere")
    os.mkfifo((root / BLOB).with_name("pipe"))

    assert [found.location async for found in store.walk("docker")] == [BLOB]


# What others do to the files


async def test_a_file_cut_short_under_a_reader_raises(store: BlobStore, root: Path) -> None:
    content = made_up(3 * MIB)
    await put(store, UPLOAD, content)
    reader = await store.open(UPLOAD)
    chunks = aiter(reader.chunks(0, reader.size))
    got = await anext(chunks)

    os.truncate(root / UPLOAD, len(got) + 10)

    got += await anext(chunks)
    with pytest.raises(StorageError, match="bytes early"):
        await anext(chunks)
    reader.close()
    assert got == content[: len(got)]
    assert len(got) < len(content)


async def test_a_closed_reader_reads_nothing(store: BlobStore) -> None:
    await put(store, UPLOAD)
    reader = await store.open(UPLOAD)
    reader.close()

    with pytest.raises(StorageError, match="closed"):
        await anext(aiter(reader.chunks(0, 1)))
    with pytest.raises(StorageError, match="closed"):
        reader.fileno()


async def test_bytes_that_left_the_page_cache_are_read_from_the_disk(store: BlobStore, root: Path) -> None:
    content = made_up(3 * MIB)
    await put(store, UPLOAD, content)
    with (root / UPLOAD).open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    assert await get(store, UPLOAD, 5) == content[5:]


async def test_the_descriptor_of_a_reader_is_the_file(store: BlobStore) -> None:
    await put(store, UPLOAD)
    for _ in range(2):  # the first one is opened in a thread, the second where the kernel knows the path
        reader = await store.open(UPLOAD)
        descriptor = reader.fileno()

        assert descriptor is not None
        assert os.pread(descriptor, 100, 0) == CONTENT
        reader.close()


async def test_readers_and_writers_let_go_of_every_descriptor(store: BlobStore) -> None:
    await put(store, UPLOAD)
    before = os.listdir("/proc/self/fd")

    for number in range(20):
        await put(store, f"uploads/{number}/0")
        await get(store, f"uploads/{number}/0")
        await store.copy(UPLOAD, f"copies/{number}/0", 3)
        await publish(store, f"uploads/{number}/0", f"blobs/{number}/data")
        for refused in (put(store, "blobs"), get(store, "none/0"), get(store, "blobs")):
            with pytest.raises(StorageError):
                await refused
    await store.check()
    [found async for found in store.walk("blobs")]

    assert len(os.listdir("/proc/self/fd")) == len(before)


# After a crash


async def test_publish_goes_on_after_a_crash_between_its_two_names(store: BlobStore, root: Path) -> None:
    await put(store, UPLOAD)
    (root / BLOB).parent.mkdir(parents=True)
    os.link(root / UPLOAD, root / BLOB)

    await publish(store, UPLOAD, BLOB)

    assert await get(store, BLOB) == CONTENT
    assert await store.size(UPLOAD) is None
    assert (root / BLOB).stat().st_nlink == 1


@pytest.mark.parametrize("offset", [0, 3, len(CONTENT)])
async def test_no_writer_touches_bytes_that_have_a_second_name(store: BlobStore, root: Path, offset: int) -> None:
    """After a crash between link and unlink the upload's name still leads to the blob."""
    await put(store, UPLOAD)
    (root / BLOB).parent.mkdir(parents=True)
    os.link(root / UPLOAD, root / BLOB)

    async def push() -> None:
        async with store.writer(UPLOAD, offset) as writer:
            await writer.write(b"more")

    with pytest.raises(LocationTaken):
        await push()

    assert (root / BLOB).read_bytes() == CONTENT


# Broken stores


async def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = FilesystemStore(tmp_path / "file")

    with pytest.raises(StorageError, match="Not a directory"):
        await store.check()

    await store.close()


@pytest.mark.parametrize("folder", ["stackyard", "stackyard/uploads/0190", "docker", str(Path(BLOB).parent)])
async def test_a_dangling_symlink_among_the_folders_is_an_error_and_no_endless_loop(
    store: BlobStore, root: Path, tmp_path: Path, folder: str
) -> None:
    (root / folder).parent.mkdir(parents=True)
    (root / folder).symlink_to(tmp_path / "missing")

    async def push() -> None:
        await put(store, UPLOAD)
        await publish(store, UPLOAD, BLOB)

    with pytest.raises(StorageError):
        await push()


async def test_a_refusal_met_on_leaving_never_covers_an_error_under_way(store: BlobStore) -> None:
    async def push() -> None:
        async with store.writer(UPLOAD, 5) as writer:
            await writer.write(b"!")
            raise EOFError("the client went away")

    with pytest.raises(EOFError):
        await push()


async def test_a_publish_that_is_cancelled_has_happened_or_not_when_the_caller_goes_on(store: BlobStore) -> None:
    for number in range(30):
        upload, blob = f"uploads/{number}/0", f"blobs/{number}/data"
        await put(store, upload)
        publishing = asyncio.create_task(publish(store, upload, blob))
        for _ in range(number % 4):
            await asyncio.sleep(0)
        publishing.cancel()
        outcome = (await asyncio.gather(publishing, return_exceptions=True))[0]

        assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        await store.delete(blob)
        await store.delete(upload)

    assert [found async for found in store.walk("blobs")] == []
    assert [found async for found in store.walk("uploads")] == []
