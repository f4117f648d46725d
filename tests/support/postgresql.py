"""A real PostgreSQL of this test process's own, on a socket in a folder of its own."""

import asyncio
import itertools
import os
import pwd
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlencode

import asyncpg  # type: ignore[import-untyped]
import pytest
from tests.support import ports, tools, workers
from tests.support.certificates import Issued
from tests.support.processes import Child, run

from stackyard.metadata import migrate, schema

_USER = "postgres"
_SHARED = "shared"


class Server:
    """Gives out databases that are migrated and hold nothing."""

    def __init__(self, folder: Path, port: int, argv: Sequence[str | Path]) -> None:
        self.port = port
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

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Every process of it stands still within the context."""
        pids = [self._child.pid, *workers.children(self._child.pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _start(self) -> Child:
        child = Child(self._argv, log=self._folder / "log", cwd=self._folder)
        child.wait_line("ready to accept connections")
        return child

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._folder / f".s.PGSQL.{self.port}"

    def url(self, database: str) -> str:
        return f"postgresql://{_USER}@/{database}?host={self._folder}&port={self.port}"

    def tls_url(self, database: str, **settings: object) -> str:
        """Through TCP, with these settings of the connection."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}?{urlencode(settings)}"

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
def serve(tls: Issued | None = None) -> Iterator[Server]:
    """A server that ends with the context. Skips, saying why, where PostgreSQL is not installed.

    With `tls` it also listens on `Server.port` of 127.0.0.1, where it takes no connection without TLS.
    """
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="ypg-", dir="/tmp"))  # a socket's path has room for 107 bytes
    user = _as_another(folder)
    data = folder / "data"
    run(*user, binaries / "initdb", "-D", data, "-U", _USER, "-A", "trust", "--no-sync", cwd=folder)
    port = ports.free()
    settings = [
        "listen_addresses=" + ("127.0.0.1" if tls else ""),
        f"port={port}",
        "fsync=off",
        "full_page_writes=off",
        "max_connections=100",
        "deadlock_timeout=50ms",
    ]
    if tls:
        certificate, key = (Path(shutil.copy(file, data)) for file in (tls.certificate, tls.key))
        for file in (certificate, key) if user else ():
            shutil.chown(file, _USER, _USER)
        settings += ["ssl=on", f"ssl_cert_file={certificate}", f"ssl_key_file={key}"]
        (data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 trust\n")
    options = [f"--{setting}" for setting in settings]
    server = Server(folder, port, [*user, binaries / "postgres", "-D", data, "-k", folder, *options])
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
