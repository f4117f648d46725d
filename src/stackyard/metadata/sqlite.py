"""The embedded engine: one SQLite file in WAL mode, read in place, written by one thread per process.

Reads cost microseconds and run on the event loop, on a connection of its own. Writes queue for the writer thread,
which commits everything that waits as one group. Writers of several processes queue on a file lock, because SQLite's
own waiting polls and is unfair. Who needs a commit to survive a power cut waits after it for the log, with all others
who do: nobody holds the lock meanwhile.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy import Connection, StaticPool, create_engine
from sqlalchemy.exc import DBAPIError

from stackyard.metadata import migrate
from stackyard.metadata.database import Function, P, T
from stackyard.metadata.driver import DatabaseError
from stackyard.metadata.driver import module as dbapi
from stackyard.metadata.errors import BadDatabaseURL, CannotStart, DatabaseFull, SchemaMissing, SQLiteTooOld
from stackyard.metadata.filesystems import check_folder
from stackyard.metadata.logindex import LogIndex
from stackyard.metadata.logsync import LogSync
from stackyard.metadata.prepared import DRIVER, Prepared, Row
from stackyard.metadata.writelock import WriteLock
from stackyard.metadata.writer import Writer, explained

OLDEST = (3, 51, 3)
"""Before it, a connection that resets the log while another one writes can corrupt the database."""

# Readers meet a lock only while another process recovers the log; writers only when a foreign tool writes.
_READER_PATIENCE_MS = 5_000
_WRITER_PATIENCE_MS = 30_000
_LOG_BYTES = 64 << 20  # what is left of the log file after a checkpoint
_CACHE_KIB = 16 << 10
_PAGES_AT_ONCE = 4_096  # of 4 KiB: between two of these steps a copy can be stopped
_NOTHING_LEFT = 256 << 10  # bytes: below it a disk is full
_MAGIC, _HEADER_BYTES = b"SQLite format 3\0", 100  # https://www.sqlite.org/fileformat2.html, 1.3
_DAMAGED = (11, 26)  # SQLITE_CORRUPT, SQLITE_NOTADB
_RECOVER = (
    "restore it from its backup; or move it away, with the -wal and -shm files beside it, and rebuild it from the "
    "volume: stackyard recover CONFIG"
)


def path_of(url: str) -> Path:
    """The database file that a `sqlite:///` URL names. Raises BadDatabaseURL."""
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite" or not path or path == ":memory:" or "?" in path:
        raise BadDatabaseURL("a SQLite URL is sqlite:///relative/file or sqlite:////absolute/file, with no options")
    return Path(unquote(path))


def check_version(module: Any = dbapi) -> None:
    """Raises SQLiteTooOld."""
    if module.sqlite_version_info < OLDEST:
        raise SQLiteTooOld(
            f"SQLite {module.sqlite_version} can corrupt a database that several processes write; "
            f"{'.'.join(map(str, OLDEST))} or newer is needed (pip install pysqlite3)"
        )


def connect(path: Path, *, write: bool) -> Connection:
    """A connection that begins no transaction by itself. Not shared between threads at the same time."""
    engine = create_engine(
        "sqlite://", module=dbapi, creator=partial(_driver_connection, path, write=write), poolclass=StaticPool
    )
    connection = engine.connect()
    return connection.execution_options(**{DRIVER: connection.connection.driver_connection})


def disconnect(connection: Connection) -> None:
    """Close for good; the last one to go also empties the log into the database."""
    connection.close()
    connection.engine.dispose()


def _driver_connection(path: Path, *, write: bool) -> Any:
    driver = dbapi.connect(str(path), isolation_level=None, check_same_thread=False, cached_statements=512)
    driver.execute(f"PRAGMA busy_timeout = {_WRITER_PATIENCE_MS if write else _READER_PATIENCE_MS}")
    driver.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    if write:
        driver.execute("PRAGMA journal_mode = WAL")
        driver.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        driver.execute("PRAGMA synchronous = NORMAL")  # `LogSync` does the rest
        driver.execute("PRAGMA wal_autocheckpoint = 0")  # `Writer` does it, mostly outside the lock
    else:
        driver.execute("PRAGMA query_only = ON")
    return driver


def check_whole(path: Path) -> None:
    """Look at the file's first bytes and at its length, and leave it alone when they cannot be right.

    SQLite itself sees what is wrong when it comes to it, which may be weeks later. A file that does not exist, or is
    empty, is a new database. Raises CannotStart.
    """
    if not path.exists() or (size := path.stat().st_size) == 0:
        return
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    page = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    log = path.with_name(path.name + "-wal")
    is_short = size < pages * (65_536 if page == 1 else page)
    # With a log, a power cut may have come between the header and the pages that it counts: the log has them.
    if not header.startswith(_MAGIC) or (is_short and not (log.exists() and log.stat().st_size)):
        raise CannotStart(f"the database {path} is damaged: {_RECOVER}")


@contextmanager
def exclusive(url: str) -> Iterator[Connection]:
    """A transaction that no other writer of any process can meet, durable at its end. Makes the file if need be.

    Raises CannotStart.
    """
    check_version()
    path = path_of(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    check_folder(path.parent)
    check_whole(path)
    # The file holds keys: nobody else reads it, nor the log, which takes over its mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    lock = WriteLock(path)
    with closing(lock), lock, _explaining(path):
        connection = connect(path, write=True)
        driver: Any = connection.connection.driver_connection
        try:
            driver.execute("PRAGMA synchronous = FULL")
            driver.execute("BEGIN IMMEDIATE")
            yield connection
            driver.execute("COMMIT")
        finally:
            disconnect(connection)
    _make_durable(path.absolute().parent)


def look(url: str, function: Callable[[Connection], T]) -> T | None:
    """What `function` finds, None where there is no database. Makes no file and waits for no writer.

    Raises CannotStart.
    """
    check_version()
    path = path_of(url)
    if not path.exists() or path.stat().st_size == 0:
        return None
    check_whole(path)
    with _explaining(path):
        connection = connect(path, write=False)
        try:
            return function(connection)
        finally:
            disconnect(connection)


def copy(path: Path, to: Path, tell: Callable[[int, int], None]) -> None:
    """What was committed is in a database at `to`, which survives a power cut. Nothing is there before that.

    On a connection of its own: one that writes cannot be copied from. Pages as they are, so free ones, too; VACUUM INTO
    would leave those out, but builds every tree anew.

    Args:
        tell: Called now and then with the pages that are still to come, and all of them.

    Raises:
        DatabaseFull: As any other error it leaves nothing.
    """
    unfinished = to.with_name(to.name + ".partial")
    os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
    try:
        with (
            closing(_driver_connection(path, write=False)) as source,
            closing(dbapi.connect(str(unfinished), isolation_level=None)) as target,
        ):
            target.execute("PRAGMA journal_mode = OFF")
            target.execute("PRAGMA synchronous = OFF")  # once is enough, below
            source.backup(target, pages=_PAGES_AT_ONCE, progress=lambda status, rest, pages: tell(rest, pages))
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.rename(to)
    except (DatabaseError, OSError) as error:
        # The driver does not say what stopped a copy.
        is_full = os.statvfs(to.parent).f_bavail * os.statvfs(to.parent).f_frsize < _NOTHING_LEFT
        if is_full or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
            raise DatabaseFull(str(error)) from error
        raise explained(error) from error
    finally:
        unfinished.unlink(missing_ok=True)
    _sync_folder(to.absolute().parent)


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Tell in one sentence why the file cannot be opened, where that is not a mistake of ours. Raises CannotStart."""
    try:
        yield
    except (DatabaseError, DBAPIError) as error:
        found = explained(error)
        if getattr(getattr(error, "orig", error), "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            raise CannotStart(f"the database {path} is damaged: {_RECOVER}") from error
        if found is error:
            raise
        is_full = isinstance(found, DatabaseFull) or os.statvfs(path.parent).f_bavail == 0
        reason = "its disk is full" if is_full else str(found)
        raise CannotStart(f"the database {path} cannot be opened: {reason}") from error


def _make_durable(folder: Path) -> None:
    """The names in `folder`, and its own up to the mount point, survive a power cut.

    All of them: a folder that was there already may be of our making, by a start that was killed before its sync.
    """
    for each in (folder, *folder.parents):
        try:
            _sync_folder(each)
        except PermissionError:
            return  # another user's, so it was made before us
        if os.path.ismount(each):
            return


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class SQLiteDatabase:
    """`Database` on one file."""

    reads_in_place = True

    def __init__(self, path: Path, reader: Connection) -> None:
        """Take the reader over and start the threads. Needs a running event loop."""
        self._path = path
        self._lock = WriteLock(path)
        self._reader = reader
        self._driver: Any = self._reader.connection.driver_connection
        self._connection = connect(path, write=True)
        self._log = LogSync(path)
        self._index = LogIndex.open(path)
        # The log's name, too, has to survive a power cut; SQLite would see to that in a sync of its own.
        _sync_folder(path.absolute().parent)
        self._writer = Writer(self._connection, self._lock, self._log)

    async def read(self, function: Function[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Database`."""
        try:
            return function(self._reader, *args, **kwargs)
        except (DatabaseError, DBAPIError) as error:
            raise explained(error) from error

    async def survey(self, function: Function[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Database`. On a connection and a thread of its own."""
        return await asyncio.to_thread(_survey, self._path, _call(function, *args, **kwargs))

    async def write(self, function: Function[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Database`."""
        return await self._writer.submit(_call(function, *args, **kwargs), durable=True)

    async def write_relaxed(self, function: Function[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Database`."""
        return await self._writer.submit(_call(function, *args, **kwargs), durable=False)

    async def fetch(self, prepared: Prepared, *values: Any) -> Row | None:
        """See `Database`."""
        try:
            return prepared.sqlite.fetch(self._driver, values)
        except DatabaseError as error:
            raise explained(error) from error

    def version(self) -> object:
        """See `Database`."""
        return self._index.version() if self._index else None

    async def close(self) -> None:
        """See `Database`."""
        await self._writer.close()
        await self._log.close()
        # One process after the other: of two that close together each sees the other still there, and the log stays.
        with closing(self._lock), self._lock:
            disconnect(self._reader)
            disconnect(self._connection)
            if self._index:
                self._index.close()


def _survey(path: Path, function: Callable[[Connection], T]) -> T:
    index = LogIndex.open(path)  # it may last longer than the database is used
    connection = connect(path, write=False)
    try:
        driver: Any = connection.connection.driver_connection
        driver.execute("BEGIN")
        found = function(connection)
        driver.execute("COMMIT")
        return found
    except (DatabaseError, DBAPIError) as error:
        raise explained(error) from error
    finally:
        disconnect(connection)
        if index:
            index.close()


def _call(function: Function[P, T], *args: P.args, **kwargs: P.kwargs) -> Callable[[Connection], T]:
    return lambda connection: function(connection, *args, **kwargs)


def open_file(url: str) -> SQLiteDatabase:
    """Open a migrated database file. Raises CannotStart."""
    check_version()
    path = path_of(url)
    if not path.exists():
        raise SchemaMissing(f"there is no database at {path}: migrate first")
    check_folder(path.parent)
    check_whole(path)
    with _explaining(path):
        reader = connect(path, write=False)
        try:
            migrate.check(reader)
            return SQLiteDatabase(path, reader)
        except BaseException:
            disconnect(reader)
            raise
