"""The reserve and the ballast on a real, small disk."""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support import processes, tools
from tests.support.processes import Failed

from stackyard.metadata import migrate, repositories
from stackyard.metadata.ballast import Ballast, Ballasted
from stackyard.metadata.database import Database, open_database
from stackyard.metadata.errors import DatabaseFull, DatabaseUnavailable
from stackyard.oci.errors import LowSpace
from stackyard.registry import space
from stackyard.registry.space import Space
from stackyard.storage.filesystem.store import FilesystemStore
from stackyard.storage.memory import MemoryStore

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 20 MiB."""
    tools.need_root("mounting a small disk needs it")
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        processes.run("mount", "-t", "tmpfs", "-o", "size=20m", "none", folder)
    except Failed as error:
        pytest.skip(f"no tmpfs can be mounted here: {error}")
    yield folder
    processes.run("umount", "--lazy", folder)


def fill(file: Path, *, leave: int = 0) -> None:
    """Take all but `leave` bytes of the disk."""
    with file.open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    if leave:
        os.truncate(file, file.stat().st_size - leave)


@pytest.fixture
async def database(disk: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{disk}/stackyard.db"
    migrate.migrate(url)
    opened = await open_database(url)
    yield opened
    await opened.close()


@pytest.fixture
def ballast(disk: Path) -> Ballast:
    return Ballast(disk / "stackyard.db", 2 * MIB)


@pytest.fixture
async def store(disk: Path) -> AsyncIterator[FilesystemStore]:
    store = FilesystemStore(disk)
    yield store
    await store.close()


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look is a new one."""
    monkeypatch.setattr(space, "_EVERY", 0.0)


async def test_pushes_are_refused_below_the_reserve_and_taken_again_above(
    disk: Path, store: FilesystemStore, database: Database
) -> None:
    checked = Space(store, database, reserve=5 * MIB)
    await checked.check()
    await checked.check(10 * MIB)
    with pytest.raises(LowSpace, match="less than 5 MiB of the registry's disk would stay free"):
        await checked.check(16 * MIB)

    fill(disk / "filler", leave=4 * MIB)
    with pytest.raises(LowSpace, match="no deleted content waits to be freed") as refused:
        await checked.check()
    assert refused.value.headers["Retry-After"]
    (disk / "filler").unlink()

    await checked.check()


async def test_the_usual_reserve_is_a_twentieth_of_a_small_disk(
    disk: Path, store: FilesystemStore, database: Database
) -> None:
    checked = Space(store, database)
    fill(disk / "filler", leave=2 * MIB)
    await checked.check()

    fill(disk / "filler", leave=MIB // 2)

    with pytest.raises(LowSpace, match="less than 1 MiB of the registry's disk would stay free"):
        await checked.check()
    assert checked.kept(100 << 30) == 1 << 30


async def test_without_a_reserve_nothing_is_refused(disk: Path, store: FilesystemStore, database: Database) -> None:
    fill(disk / "filler")

    await Space(store, database, reserve=0).check(1 << 40)
    await Space(MemoryStore(), database, reserve=5).check(1 << 40)


async def test_the_ballast_is_given_back_for_the_first_write_that_does_not_fit(
    disk: Path, database: Database, ballast: Ballast
) -> None:
    ballast.make()
    assert (disk / "stackyard.db-ballast").stat().st_blocks * 512 >= 2 * MIB
    fill(disk / "filler")
    with pytest.raises((DatabaseFull, DatabaseUnavailable)):
        await _write_much(database)

    await _write_much(Ballasted(database, ballast))

    assert not ballast.is_there()
    assert len(await database.read(repositories.page, after="", limit=1000)) == 100


async def _write_much(database: Database) -> None:
    for number in range(100):
        await database.write(repositories.ensure_listed, f"repository-{number}")


async def test_the_ballast_is_made_again_when_there_is_room_besides_the_reserve(
    disk: Path, store: FilesystemStore, database: Database, ballast: Ballast
) -> None:
    keeper = Space(store, database, reserve=5 * MIB, ballast=ballast)
    fill(disk / "filler", leave=6 * MIB)

    keeper.make_ballast()
    assert not ballast.is_there()
    with pytest.raises(LowSpace):  # what the ballast will take is not for pushes either
        await keeper.check(MIB)

    os.truncate(disk / "filler", (disk / "filler").stat().st_size - 2 * MIB)
    keeper.make_ballast()
    assert ballast.is_there()
    await keeper.check(MIB // 2)


async def test_no_ballast_is_made_where_none_is_wanted(disk: Path, store: FilesystemStore, database: Database) -> None:
    Ballast(disk / "stackyard.db", MIB).make()
    none = Ballast(disk / "stackyard.db", 0)
    assert none.is_there()

    Space(store, database, ballast=none).make_ballast()
    none.make()

    assert not (disk / "stackyard.db-ballast").exists()
    assert Ballast(disk / "stackyard.db").size() == 20 * MIB // 100
