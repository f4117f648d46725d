"""Small files in folders: what the import reads and the follower writes."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stackyard.storage.driver import LocationGone, StorageError
from stackyard.storage.filesystem.smallfiles import FilesystemSmallFiles
from stackyard.storage.smallfiles import SmallFiles

LINK = "docker/registry/v2/repositories/a/_layers/sha256/ab/link"
OTHER = "docker/registry/v2/repositories/a/_layers/sha256/cd/link"
FOLDER = LINK.removesuffix("/ab/link")


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[SmallFiles]:
    opened = FilesystemSmallFiles(tmp_path)
    yield opened
    await opened.close()


async def test_what_was_written_is_read(files: SmallFiles) -> None:
    await files.write({LINK: b"one", OTHER: b"two"})

    found = await files.read([OTHER, LINK], limit=10)

    assert [each and each.content for each in found] == [b"two", b"one"]


async def test_writing_again_replaces_the_whole_file(files: SmallFiles, tmp_path: Path) -> None:
    await files.write({LINK: b"a long content"})
    with (tmp_path / LINK).open("rb") as reader:
        await files.write({LINK: b"short"})

        assert reader.read() == b"a long content"
    assert (tmp_path / LINK).read_bytes() == b"short"
    assert os.listdir(tmp_path / FOLDER / "ab") == ["link"]


async def test_nothing_is_read_where_nothing_lies(files: SmallFiles) -> None:
    assert await files.read([LINK], limit=10) == [None]
    assert await files.sizes([LINK]) == [None]
    assert await files.folders(FOLDER) == []
    assert await files.entries([FOLDER]) == [[]]


async def test_a_file_beyond_the_limit_is_told_by_its_size_alone(files: SmallFiles) -> None:
    await files.write({LINK: b"12345"})

    (found,) = await files.read([LINK], limit=4)

    assert found is not None
    assert (found.content, found.size) == (None, 5)


async def test_folders_are_listed_in_order_and_files_are_not_among_them(files: SmallFiles, tmp_path: Path) -> None:
    await files.write({OTHER: b"", LINK: b"", f"{FOLDER}/file": b""})
    (tmp_path / FOLDER / "no location").mkdir()

    assert await files.folders(FOLDER) == ["ab", "cd"]


async def test_two_names_of_one_file_have_one_identity(files: SmallFiles) -> None:
    await files.write({f"{FOLDER}/data.1": b"content"})

    assert await files.alias(f"{FOLDER}/data.1", f"{FOLDER}/data")
    assert await files.alias(f"{FOLDER}/data.1", f"{FOLDER}/data")  # again

    (found,) = await files.entries([FOLDER])
    assert {(each.name, each.size) for each in found} == {("data", 7), ("data.1", 7)}
    assert len({each.identity for each in found}) == 1


async def test_an_alias_replaces_nothing_and_needs_something(files: SmallFiles) -> None:
    await files.write({f"{FOLDER}/data.1": b"new", f"{FOLDER}/data": b"old"})

    assert not await files.alias(f"{FOLDER}/data.1", f"{FOLDER}/data")
    with pytest.raises(LocationGone):
        await files.alias(f"{FOLDER}/data.2", f"{FOLDER}/other")


async def test_removing_takes_folders_whole_and_is_content_with_none(files: SmallFiles, tmp_path: Path) -> None:
    await files.write({LINK: b"", OTHER: b""})

    await files.remove([FOLDER + "/ab", FOLDER + "/gone", "never/was/there"])

    assert os.listdir(tmp_path / FOLDER) == ["cd"]


async def test_a_folder_that_cannot_be_read_is_no_empty_folder(files: SmallFiles, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(StorageError):
        await files.folders("loop")


async def test_a_folder_changes_with_what_is_in_it_and_not_below(files: SmallFiles) -> None:
    await files.write({f"{FOLDER}/ab/x/link": b""})
    before = await files.changed([FOLDER, f"{FOLDER}/none"])

    await files.write({f"{FOLDER}/ab/y/link": b""})
    below = await files.changed([FOLDER, f"{FOLDER}/none"])
    await files.remove([f"{FOLDER}/ab"])
    after = await files.changed([FOLDER, f"{FOLDER}/none"])

    assert before[1] is below[1] is after[1] is None
    assert before == below != after
