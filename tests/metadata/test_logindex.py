"""What the header of SQLite's log index says of commits."""

import asyncio
import os
import sqlite3
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from tests.support.processes import run

from stackyard.metadata import repositories, sqlite
from stackyard.metadata.database import Database, open_database
from stackyard.metadata.driver import module as dbapi
from stackyard.metadata.logindex import LogIndex

_CHECKPOINT = f"""
import sys
import {dbapi.__name__} as sqlite3
print(sqlite3.connect(sys.argv[1], timeout=0).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
"""


@pytest.fixture
async def database(sqlite_url: str) -> AsyncIterator[Database]:
    opened = await open_database(sqlite_url)
    yield opened
    await opened.close()


@pytest.fixture
async def other(sqlite_url: str) -> AsyncIterator[Database]:
    opened = await open_database(sqlite_url)
    yield opened
    await opened.close()


async def test_every_commit_of_anybody_makes_another_version(
    database: Database, other: Database, sqlite_url: str
) -> None:
    versions = [database.version()]
    for number, writer in enumerate((database, other, other, database)):
        await writer.write(repositories.ensure_listed, f"r{number}")
        assert database.version() == other.version()
        versions.append(database.version())
    path = sqlite.path_of(sqlite_url)
    script = (
        f"import {dbapi.__name__} as s; c = s.connect({str(path)!r}); c.execute('CREATE TABLE strange (x)'); c.commit()"
    )
    run(sys.executable, "-c", script)
    versions.append(database.version())

    assert None not in versions
    assert len(set(versions)) == len(versions)


async def test_nothing_else_makes_another_version(database: Database, other: Database) -> None:
    await database.write(repositories.ensure_listed, "a")
    before = database.version()

    await other.read(repositories.page, after="", limit=10)
    await other.survey(repositories.page, after="", limit=10)
    with pytest.raises(LookupError):
        await other.write(_fail)

    assert database.version() == before


def _fail(c: Connection) -> None:
    repositories.ensure_listed(c, "half-done")
    raise LookupError


async def test_the_version_survives_the_log_being_begun_anew(database: Database, sqlite_url: str) -> None:
    seen = set()
    for number in range(3):
        await database.write(repositories.ensure_listed, f"r{number}")
        assert run(sys.executable, "-c", _CHECKPOINT, str(sqlite.path_of(sqlite_url))).out.strip() == "0"
        seen.add(database.version())

    assert len(seen) == 3


async def test_letting_go_takes_no_lock_from_another_connection(
    database: Database, other: Database, sqlite_url: str
) -> None:
    """POSIX takes a process's locks on a file when any descriptor of it is closed, and the log would be emptied."""
    await database.write(repositories.ensure_listed, "a")
    path = sqlite.path_of(sqlite_url)
    reader = sqlite.connect(path, write=False)
    reader.execute(text("BEGIN"))
    reader.execute(text("SELECT * FROM repository"))

    closing = LogIndex.open(path)
    assert closing
    closing.close()
    await other.survey(repositories.page, after="", limit=10)
    await other.write(repositories.ensure_listed, "b")
    busy = run(sys.executable, "-c", _CHECKPOINT, str(path)).out.strip()
    sqlite.disconnect(reader)

    assert busy == "1"


async def test_nothing_stays_open(sqlite_url: str) -> None:
    path = sqlite.path_of(sqlite_url)
    for _ in range(3):
        database = await open_database(sqlite_url)
        await asyncio.gather(*(database.survey(repositories.page, after="", limit=10) for _ in range(5)))
        await database.close()

    names = {os.path.basename(os.readlink(f"/proc/self/fd/{file}")) for file in _descriptors()}
    assert not {name for name in names if name.startswith(path.name)}


def _descriptors() -> list[str]:
    return [file for file in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{file}")]


def test_where_sqlite_keeps_it_elsewhere_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    sqlite3.connect(path).execute("CREATE TABLE t (x)")
    assert LogIndex.open(path) is None

    Path(f"{path}-shm").write_bytes(b"")
    assert LogIndex.open(path) is None


def test_another_format_has_no_version(tmp_path: Path) -> None:
    index = tmp_path / "some.db-shm"
    for version, written in ((3_007_001, 1), (3_007_000, 0)):
        index.write_bytes(struct.pack("=I8xB", version, written).ljust(32_768, b"\0"))
        opened = LogIndex.open(tmp_path / "some.db")
        assert opened
        assert opened.version() is None
        opened.close()
