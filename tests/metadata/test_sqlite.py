"""The embedded engine: group commits, several processes, power cuts, refusals."""

import asyncio
import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, text
from tests.metadata.making import pushed, put
from tests.support import tools
from tests.support.processes import Child, run, wait_until

from stackyard.metadata import repositories, sqlite
from stackyard.metadata.database import Database, open_database
from stackyard.metadata.errors import (
    BadDatabaseURL,
    DatabaseFull,
    DatabaseUnavailable,
    SchemaMissing,
    SQLiteTooOld,
)
from stackyard.metadata.writelock import WriteLock

_LOG_SYNC = r"f(?:data)?sync\(\d+<[^>]*-wal"
PROGRAM = Path(__file__).with_name("writing.py")


@pytest.fixture
async def database(sqlite_url: str) -> AsyncIterator[Database]:
    opened = await open_database(sqlite_url)
    yield opened
    await opened.close()


def make(c: Connection, name: str) -> int:
    return repositories.ensure_listed(c, name)


def fail(c: Connection) -> None:
    make(c, "half-done")
    raise LookupError


class TestGroups:
    async def test_functions_that_wait_share_a_transaction(self, database: Database) -> None:
        statements: list[str] = []
        await database.write(_trace, statements)

        await asyncio.gather(*(database.write(make, f"r{number}") for number in range(200)))

        assert 1 <= statements.count("COMMIT") < 20
        assert len(await database.read(repositories.page, after="", limit=1000)) == 200

    async def test_a_function_that_is_alone_and_fails_leaves_nothing(self, database: Database) -> None:
        with pytest.raises(LookupError):
            await database.write(fail)

        await database.write(make, "a")

        assert await database.read(repositories.page, after="", limit=10) == ["a"]

    async def test_a_function_that_is_alone_and_loses_the_transaction_leaves_nothing(self, database: Database) -> None:
        def lose(c: Connection) -> None:
            make(c, "lost")
            c.execute(text("ROLLBACK"))
            raise LookupError

        with pytest.raises(LookupError):
            await database.write(lose)

        await database.write(make, "a")

        assert await database.read(repositories.page, after="", limit=10) == ["a"]

    async def test_a_function_that_fails_does_not_touch_its_neighbours(self, database: Database) -> None:
        outcomes = await asyncio.gather(
            *(database.write(make, f"r{number}") for number in range(5)),
            database.write(fail),
            *(database.write(make, f"s{number}") for number in range(5)),
            return_exceptions=True,
        )

        assert [type(outcome) for outcome in outcomes] == [int] * 5 + [LookupError] + [int] * 5
        names = await database.read(repositories.page, after="", limit=100)
        assert names == sorted([f"r{number}" for number in range(5)] + [f"s{number}" for number in range(5)])

    async def test_a_function_that_fails_as_a_statement_does_not_touch_its_neighbours(self, database: Database) -> None:
        def twice(c: Connection) -> None:
            for _ in range(2):
                c.execute(text("INSERT INTO tombstone VALUES ('sha256:0', 1)"))

        outcomes = await asyncio.gather(
            database.write(make, "a"), database.write(twice), database.write(make, "b"), return_exceptions=True
        )

        assert isinstance(outcomes[1], Exception)
        assert await database.read(repositories.page, after="", limit=10) == ["a", "b"]
        assert await database.read(lambda c: c.execute(text("SELECT * FROM tombstone")).all()) == []

    async def test_a_function_that_loses_the_transaction_fails_alone(self, database: Database) -> None:
        def lose(c: Connection) -> None:
            make(c, "lost")
            c.execute(text("ROLLBACK"))
            raise LookupError

        outcomes = await asyncio.gather(
            database.write(make, "a"),
            database.write(make, "b"),
            database.write(lose),
            database.write(make, "c"),
            return_exceptions=True,
        )

        assert [type(outcome) for outcome in outcomes] == [int, int, LookupError, int]
        assert await database.read(repositories.page, after="", limit=10) == ["a", "b", "c"]

    async def test_no_group_holds_the_others_up_for_long(self, database: Database) -> None:
        """Twenty functions of 20 ms are several groups, so that other processes come in between."""
        statements: list[str] = []
        await database.write(_trace, statements)

        await asyncio.gather(*(database.write(_slowly) for _ in range(20)))

        assert statements.count("COMMIT") >= 5

    async def test_a_cancelled_caller_does_not_stop_the_writer(self, database: Database) -> None:
        writing = asyncio.ensure_future(database.write(make, "a"))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

        await database.write(make, "b")

        assert "b" in await database.read(repositories.page, after="", limit=10)

    async def test_close_commits_what_waits(self, sqlite_url: str) -> None:
        database = await open_database(sqlite_url)
        writing = [asyncio.ensure_future(database.write(make, f"r{number}")) for number in range(20)]
        await asyncio.sleep(0)

        await database.close()

        assert len(await asyncio.gather(*writing)) == 20
        again = await open_database(sqlite_url)
        assert len(await again.read(repositories.page, after="", limit=100)) == 20
        await again.close()

    async def test_a_reader_cannot_write(self, database: Database) -> None:
        with pytest.raises(DatabaseUnavailable, match="readonly"):
            await database.read(make, "a")


class TestPowerCuts:
    def test_a_durable_write_syncs_the_log_before_it_returns(self, sqlite_url: str, tmp_path: Path) -> None:
        trace = tmp_path / "trace"
        tools.path("strace")
        calls = "trace=fsync,fdatasync,write"
        run("strace", "-f", "-yy", "-e", calls, "-o", trace, sys.executable, PROGRAM, "traced", sqlite_url)

        [durable] = re.findall(r"durable begins(.*)durable ends", trace.read_text(), re.DOTALL)
        [relaxed] = re.findall(r"relaxed begins(.*)relaxed ends", trace.read_text(), re.DOTALL)
        [many] = re.findall(r"many begin(.*)many end", trace.read_text(), re.DOTALL)
        assert re.search(_LOG_SYNC, durable)
        assert "sync(" not in relaxed
        assert 1 <= len(re.findall(_LOG_SYNC, many)) < 20  # of two hundred

    async def test_a_log_that_may_have_a_hole_takes_nothing_more(
        self, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The kernel tells of a lost page once; who was promised nothing else by then is told, and so is who comes."""
        database = await open_database(sqlite_url)
        await database.write(make, "before")
        monkeypatch.setattr(os, "fdatasync", _fail_to_sync)

        with pytest.raises(DatabaseUnavailable, match="restart"):
            await database.write(make, "a")
        monkeypatch.undo()
        for write in (database.write, database.write_relaxed):
            with pytest.raises(DatabaseUnavailable, match="restart"):
                await write(make, "b")

        assert "before" in await database.read(repositories.page, after="", limit=10)
        await database.close()

    async def test_the_log_does_not_grow_for_ever(self, database: Database, sqlite_url: str) -> None:
        log = Path(f"{sqlite.path_of(sqlite_url)}-wal")
        for batch in range(10):
            await asyncio.gather(*(database.write(put, f"r{batch}", pushed(os.urandom(50_000))) for _ in range(200)))

        assert log.stat().st_size < 80_000_000  # of the 100 that were written to it


class TestProcesses:
    def test_processes_write_at_once_without_an_error(self, sqlite_url: str) -> None:
        writers = [
            subprocess.Popen([sys.executable, PROGRAM, "many", sqlite_url, str(number)], stderr=subprocess.PIPE)
            for number in range(4)
        ]
        for writer in writers:
            _, complaint = writer.communicate(timeout=60)
            assert writer.returncode == 0, complaint.decode()

        assert _names(sqlite_url) == sorted(f"p{process}/r{number}" for process in range(4) for number in range(50))

    def test_one_closes_after_the_other_so_that_the_last_one_empties_the_log(self, sqlite_url: str) -> None:
        """Whoever copies the file of a stopped server has everything."""
        path = sqlite.path_of(sqlite_url)
        lock = WriteLock(path)
        command: list[str | Path] = [sys.executable, PROGRAM, "close", sqlite_url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            assert child.stdout.readline() == b"open\n"
            with lock:
                child.stdin.close()
                wait_until(lambda: _is_blocked(child.pid), "the child waits for the lock")
                assert Path(f"{path}-wal").exists()

        assert not Path(f"{path}-wal").exists()
        lock.close()

    async def test_a_writer_killed_inside_its_transaction_leaves_nothing_and_blocks_nobody(
        self, sqlite_url: str, tmp_path: Path
    ) -> None:
        child = Child([sys.executable, PROGRAM, "hang", sqlite_url], log=tmp_path / "log")
        child.wait_line("inside")
        database = await open_database(sqlite_url)
        waiting = asyncio.ensure_future(database.write(make, "after"))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done

        child.kill(signal.SIGKILL)
        child.wait()

        await asyncio.wait_for(waiting, 10)
        assert await database.read(repositories.page, after="", limit=10) == ["after"]
        await database.close()
        child.stop()

    def test_a_writer_that_wants_the_lock_again_lets_the_one_who_waits_go_first(
        self, sqlite_url: str, tmp_path: Path
    ) -> None:
        lock = WriteLock(sqlite.path_of(sqlite_url))
        order = tmp_path / "order"
        with lock:
            child = Child([sys.executable, PROGRAM, "queue", sqlite_url, str(order)], log=tmp_path / "log")
            child.wait_line("waits")
            wait_until(lambda: _is_blocked(child.pid), "the child waits for the lock")

        with lock:
            first = order.read_text()

        lock.close()
        assert first == "child"
        child.stop()


class TestRefusals:
    def test_an_sqlite_that_can_corrupt_the_log_is_refused(self) -> None:
        with pytest.raises(SQLiteTooOld, match=r"3\.51\.3"):
            sqlite.check_version(SimpleNamespace(sqlite_version="3.51.2", sqlite_version_info=(3, 51, 2)))

        sqlite.check_version()

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///x?mode=ro", "mysql:x"])
    async def test_a_url_that_names_no_file_is_refused(self, url: str) -> None:
        with pytest.raises(BadDatabaseURL):
            await open_database(url)

    async def test_a_file_that_is_not_there_or_empty_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SchemaMissing):
            await open_database(f"sqlite:///{tmp_path}/none.db")
        (tmp_path / "empty.db").touch()
        with pytest.raises(SchemaMissing):
            await open_database(f"sqlite:///{tmp_path}/empty.db")
        assert not (tmp_path / "none.db").exists()

    async def test_nobody_else_reads_the_file(self, database: Database, sqlite_url: str) -> None:
        await database.write(make, "a")
        path = sqlite.path_of(sqlite_url)
        for suffix in ("", "-wal", "-shm", ".lock"):
            assert os.stat(f"{path}{suffix}").st_mode & 0o077 == 0, suffix


class TestFull:
    async def test_a_full_disk_is_told_and_forgotten_when_there_is_space_again(
        self, sqlite_template: Path, tmp_path: Path
    ) -> None:
        tools.need_root("only root can mount a small file system")
        folder = tmp_path / "small"
        folder.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder)
        try:
            (folder / "stackyard.db").write_bytes(sqlite_template.read_bytes())
            database = await open_database(f"sqlite:///{folder}/stackyard.db")
            await database.write(put, "a", pushed(b"first"), "v1")
            filler = folder / "filler"
            _fill(filler)

            with pytest.raises(DatabaseFull):
                await database.write(put, "a", pushed(b"x" * 100_000), "v2")

            filler.unlink()
            await database.write(put, "a", pushed(b"x" * 100_000), "v2")
            await database.close()
        finally:
            run("umount", "--lazy", folder)

    async def test_a_function_that_finds_no_space_fails_alone(self, database: Database) -> None:
        def grow(c: Connection) -> None:
            pages = c.execute(text("PRAGMA page_count")).scalar_one()
            c.execute(text(f"PRAGMA max_page_count = {pages}"))
            try:
                put(c, "big", pushed(b"x" * 1_000_000))
            finally:
                c.execute(text("PRAGMA max_page_count = 1000000000"))

        outcomes = await asyncio.gather(
            database.write(make, "a"), database.write(grow), database.write(make, "b"), return_exceptions=True
        )

        assert [type(outcome) for outcome in outcomes] == [int, DatabaseFull, int]
        assert await database.read(repositories.page, after="", limit=10) == ["a", "b"]


def _trace(c: Connection, statements: list[str]) -> None:
    driver: Any = c.connection.driver_connection
    driver.set_trace_callback(statements.append)


def _slowly(c: Connection) -> None:
    c.execute(text("UPDATE installation SET policy_epoch = policy_epoch + 1"))
    end = time.monotonic() + 0.02
    while time.monotonic() < end:
        pass


def _fail_to_sync(descriptor: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _names(url: str) -> list[str]:
    connection = sqlite.connect(sqlite.path_of(url), write=False)
    try:
        return repositories.page(connection, after="", limit=10_000)
    finally:
        sqlite.disconnect(connection)


def _is_blocked(pid: int) -> bool:
    return any(f" {pid} " in line for line in Path("/proc/locks").read_text().splitlines() if "->" in line)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return
