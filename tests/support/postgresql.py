"""A real PostgreSQL of this test process's own, on a socket in a folder of its own."""

import asyncio
import itertools
import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest
from tests.support import tools
from tests.support.processes import Child, run

from stackyard.metadata import migrate, schema

_USER = "postgres"
_SHARED = "shared"


class Server:
    """Gives out databases that are migrated and hold nothing."""

    def __init__(self, folder: Path, argv: Sequence[str | Path]) -> None:
        self._folder = folder
        self._argv = argv
        self._numbers = itertools.count()
        self._child = self._start()

    def end(self) -> None:
        """At once: nothing of it is needed again."""
        self._child.kill(signal.SIGQUIT)
        self._child.wait()
        self._child.stop()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """No server within the context; connections end as when an operator stops it. What was committed stays."""
        self._child.kill(signal.SIGINT)
        self._child.wait()
        self._child.stop()
        try:
            yield
        finally:
            self._child = self._start()

    def _start(self) -> Child:
        child = Child(self._argv, log=self._folder / "log", cwd=self._folder)
        child.wait_line("ready to accept connections")
        return child

    def url(self, database: str) -> str:
        return f"postgresql://{_USER}@/{database}?host={self._folder}"

    async def create_shared(self) -> None:
        await self._run("postgres", f"CREATE DATABASE {_SHARED}")

    async def emptied(self) -> str:
        """The URL of the one database that all tests use, one after the other."""
        tables = [table.name for table in schema.metadata.sorted_tables if table is not schema.installation]
        statements = [f"DELETE FROM {table}" for table in tables]
        statements.append(
            f"UPDATE installation SET version = {schema.VERSION}, floor = {schema.FLOOR}, import_state = NULL, "
            "view_complete = false, pulls_since = EXTRACT(EPOCH FROM statement_timestamp()) * 1000000"
        )
        await self._run(_SHARED, "; ".join(statements))
        return self.url(_SHARED)

    async def create(self) -> str:
        """The URL of a new database, without any table."""
        name = f"test{next(self._numbers)}"
        await self._run("postgres", f"CREATE DATABASE {name}")
        return self.url(name)

    async def _run(self, database: str, sql: str) -> None:
        connection = await asyncpg.connect(self.url(database))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


@contextmanager
def serve() -> Iterator[Server]:
    """A server that ends with the context. Skips, saying why, where PostgreSQL is not installed."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="ypg-", dir="/tmp"))  # a socket's path has room for 107 bytes
    user = _as_another(folder)
    data = folder / "data"
    run(*user, binaries / "initdb", "-D", data, "-U", _USER, "-A", "trust", "--no-sync", cwd=folder)
    settings = ("listen_addresses=", "fsync=off", "full_page_writes=off", "max_connections=50", "deadlock_timeout=50ms")
    options = [f"--{setting}" for setting in settings]
    server = Server(folder, [*user, binaries / "postgres", "-D", data, "-k", folder, *options])
    try:
        asyncio.run(server.create_shared())
        migrate.migrate(server.url(_SHARED))
        yield server
    finally:
        server.end()
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    return Path(tools.path("initdb")).parent


def _as_another(folder: Path) -> list[str]:
    """A prefix that runs a command as a user whom initdb accepts: it refuses root."""
    if os.geteuid() != 0:
        return []
    try:
        user = pwd.getpwnam(_USER)
    except KeyError:
        pytest.skip(f"root cannot run PostgreSQL, and there is no user {_USER}")
    os.chown(folder, user.pw_uid, user.pw_gid)
    # The death signal again: the kernel forgets it when a process changes its user.
    return [
        tools.path("setpriv"),
        f"--reuid={user.pw_uid}",
        f"--regid={user.pw_gid}",
        "--clear-groups",
        "--pdeathsig=KILL",
        "--",
    ]
