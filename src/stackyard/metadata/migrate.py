"""Bringing the database to this code's schema, and refusing one it cannot work with.

Run once, before any worker starts, under a lock that every stackyard on the database respects. Alembic is imported
only when there is something to do: it costs more than the rest of the start. How a migration is written so that nodes
of two versions can work side by side stands in CONTRIBUTING.md.
"""

import asyncio
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection, inspect, select

from stackyard.metadata import schema
from stackyard.metadata.errors import (
    BadDatabaseURL,
    CannotStart,
    DatabaseFull,
    SchemaMissing,
    SchemaOutdated,
    SchemaTooNew,
)

if TYPE_CHECKING:
    from alembic.config import Config

REVISION = "0002"
"""The revision that makes `schema.VERSION`. Each is called by the version that it makes."""
FLOORS = {1: 1, 2: 2}
"""For each version of the schema the oldest code that still works on it; the last one is `schema.FLOOR`.

A migration that only adds repeats the floor before it. `tests/metadata/test_migrate.py` runs the statements of every
version that a floor lets in.
"""
MIGRATIONS = Path(__file__).parent / "migrations"
KEPT = 2
"""Copies of an embedded database that are kept, each of another version.

One is the way back from the last upgrade. The other one is for two upgrades in a row, of which the first turns out to
have been the bad one. More would be backups, and for those a copy on the same disk is no good.
"""
_MIGRATION_SHARE = 4  # what a migration itself writes: at most one part in so many of the database, as a rule
_COPY = re.compile(r"\.schema-(?P<version>\d+)\.(?P<time>\d{8}T\d{6}Z)(?P<partial>\.partial)?")
_SILENCE = 10.0  # seconds after which whoever waits is told what for

Tell = Callable[[str], None]
"""Takes a sentence for whoever waits."""
_log = structlog.get_logger("stackyard.migrate")


@dataclass(frozen=True, slots=True)
class Found:
    """What a database is at."""

    version: int
    """0: it holds no tables."""
    floor: int

    @property
    def is_too_new(self) -> bool:
        """Whether this code can no longer work with it."""
        return self.floor > schema.VERSION

    @property
    def is_due(self) -> bool:
        """Whether there is something to migrate."""
        return self.version < schema.VERSION

    @property
    def shuts_out(self) -> bool:
        """Whether nodes of the database's version cannot go on once it is migrated."""
        return 0 < self.version < schema.FLOOR


@dataclass(frozen=True, slots=True)
class Step:
    """One revision that was run."""

    revision: str
    what: str
    seconds: float


@dataclass(slots=True)
class Migrated:
    """What was done."""

    before: int
    """The version; 0: there were no tables."""
    after: int
    steps: list[Step] = field(default_factory=list)
    copy: Path | None = None
    """Of an embedded database, as it was before."""


def migrate(
    url: str,
    then: Callable[[Connection], None] = lambda c: None,
    *,
    tell: Tell = lambda sentence: _log.info(sentence),
    copy: bool = True,
) -> Migrated:
    """Make or upgrade the tables, and do what else has to be done once. Blocks; not to be called on an event loop.

    A database newer than this code is left alone, if its floor allows this code to work with it. A copy is made of an
    embedded one before it is upgraded.

    Args:
        url: As `open_database` takes it.
        then: Runs in the same transaction, when the tables are as this code needs them.
        tell: Told what happens, and now and then what takes long; also from another thread.
        copy: Whether to make that copy.

    Raises:
        CannotStart: With the reason; nothing was changed. And what `then` raises.
    """
    if url.startswith("sqlite:"):
        return _migrate_file(url, then, tell, copy=copy)
    if url.startswith(("postgresql:", "postgres:")):
        from stackyard.metadata import postgresql

        def both(connection: Connection) -> Migrated:
            done = upgrade(connection, tell)
            then(connection)
            return done

        return asyncio.run(postgresql.run_exclusive(url, both, tell))
    raise _bad_url()


def look(url: str) -> Found:
    """What the database is at. Changes nothing; not to be called on an event loop. Raises CannotStart."""
    if url.startswith("sqlite:"):
        from stackyard.metadata import sqlite

        return sqlite.look(url, find) or Found(0, 0)
    if url.startswith(("postgresql:", "postgres:")):
        from stackyard.metadata import postgresql

        return asyncio.run(postgresql.look(url, find))
    raise _bad_url()


def find(connection: Connection) -> Found:
    """What the database is at."""
    if not inspect(connection).has_table(schema.installation.name):
        return Found(0, 0)
    return Found(*connection.execute(select(schema.installation.c.version, schema.installation.c.floor)).one())


def check(connection: Connection) -> None:
    """Raises SchemaMissing, SchemaOutdated or SchemaTooNew."""
    found = find(connection)
    if not found.version:
        raise SchemaMissing("the database holds no tables of stackyard")
    if found.is_too_new:
        raise SchemaTooNew(
            f"the database was upgraded by a newer stackyard (schema {found.version}, which needs {found.floor} at "
            f"least; this is {schema.VERSION}): start that version, or put back the copy made before the upgrade"
        )
    if found.is_due:
        raise SchemaOutdated(
            f"the database has schema {found.version}, this stackyard needs {schema.VERSION}: migrate first"
        )


def pending(version: int) -> list[tuple[str, str]]:
    """Revisions that a database of this version lacks, the first one first, and what each is about."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(_config())
    found = script.iterate_revisions(REVISION, revision_of(version) if version else "base")
    return [(each.revision, each.doc) for each in reversed(list(found))]


def revision_of(version: int) -> str:
    """What the revision that makes this version is called."""
    return f"{version:04}"


def upgrade(connection: Connection, tell: Tell = lambda sentence: None) -> Migrated:
    """Run what is missing, in the caller's transaction and under the caller's lock. Raises SchemaTooNew."""
    found = find(connection)
    if not found.is_due:
        check(connection)
        return Migrated(found.version, found.version)
    done = Migrated(found.version, schema.VERSION)
    done.steps += [_take(connection, revision, what, tell) for revision, what in pending(found.version)]
    connection.execute(schema.installation.update().values(version=schema.VERSION, floor=schema.FLOOR))
    return done


def _take(connection: Connection, revision: str, what: str, tell: Tell) -> Step:
    tell(f"migrating the database: {revision}, {what.partition('. ')[0].removesuffix('.')}")
    began = time.monotonic()
    with _told_at_times(tell, lambda: f"still migrating, {revision}"):
        run(connection, revision)
    return Step(revision, what, round(time.monotonic() - began, 3))


def run(connection: Connection, revision: str) -> None:
    """Everything up to this revision."""
    from alembic import command

    if (
        not connection.in_transaction()
    ):  # as SQLAlchemy sees it: Alembic would begin one, and commit what is not its own
        connection.begin()
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def copies(database: Path) -> list[Path]:
    """What was copied before upgrades, the newest first."""
    found = [(name["time"], path) for path, name in _copies(database) if not name["partial"]]
    return [path for _, path in sorted(found, reverse=True)]


def _copies(database: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    for path in database.parent.iterdir():
        if path.name.startswith(database.name) and (name := _COPY.fullmatch(path.name[len(database.name) :])):
            yield path, name


def _migrate_file(url: str, then: Callable[[Connection], None], tell: Tell, *, copy: bool) -> Migrated:
    from stackyard.metadata import sqlite

    path = sqlite.path_of(url)
    made: Path | None = None
    with sqlite.exclusive(url) as connection:
        try:
            found = find(connection)
            if copy and found.version and found.is_due:
                made = _copy(connection, path, found.version, tell)
            done = upgrade(connection, tell)
            then(connection)
        except BaseException:
            if made:  # of what the database still is
                made.unlink(missing_ok=True)
            raise
    done.copy = made
    if made:
        for each in copies(path)[KEPT:]:
            each.unlink(missing_ok=True)
    return done


def _copy(connection: Connection, path: Path, version: int, tell: Tell) -> Path:
    """Copy what is to be migrated. Raises CannotStart when there is no room."""
    from stackyard.metadata import sqlite

    # Who was killed while it migrated leaves one of this version, and perhaps tries again and again; and so does who
    # went back to it. The database itself is at this version now, so only the newest copy is a way back to it.
    superseded = [each for each, name in _copies(path) if name["partial"] or int(name["version"]) == version]
    disk = os.statvfs(path.parent)
    free = disk.f_bavail * disk.f_frsize + sum(each.stat().st_size for each in superseded)
    pages, page = (connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "page_size"))
    needed = pages * page + pages * page // _MIGRATION_SHARE
    no_room = CannotStart(
        f"the database {path} has to be upgraded, and there is no room for a copy of it before that: {_mib(needed)} "
        f"are needed beside it, {_mib(free)} are free: make room; or, with a backup of your own: "
        "stackyard migrate --no-copy CONFIG"
    )
    if free < needed:
        raise no_room
    for each in superseded:
        each.unlink(missing_ok=True)
    target = path.with_name(f"{path.name}.schema-{version}.{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    percent = 0

    def watch(rest: int, total: int) -> None:
        nonlocal percent
        percent = 100 - 100 * rest // max(total, 1)

    tell(f"copying the database, {_mib(pages * page)}, before it is upgraded")
    with _told_at_times(tell, lambda: f"still copying, {percent} %"):
        try:
            sqlite.copy(path, target, watch)
        except DatabaseFull as error:
            raise no_room from error
    tell(f"the database as it was before the upgrade is kept as {target}")
    return target


def _mib(count: int) -> str:
    return f"{-(-count // (1 << 20)):,} MiB"


@contextmanager
def _told_at_times(tell: Tell, what: Callable[[], str]) -> Iterator[None]:
    """While this lasts, `tell` is told of it now and then, from a thread of its own."""
    is_over = threading.Event()
    began = time.monotonic()

    def watch() -> None:
        while not is_over.wait(_SILENCE):
            tell(f"{what()} after {time.monotonic() - began:.0f} s")

    thread = threading.Thread(target=watch, name="migration watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()  # workers are forked later


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _bad_url() -> BadDatabaseURL:
    return BadDatabaseURL("the database URL is neither sqlite:///path nor postgresql://…")
