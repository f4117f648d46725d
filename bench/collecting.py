"""Stores with garbage in them, and what collecting it costs."""

import asyncio
import http.client
import json
import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from bench import pushing, scripted, servers
from bench.content import Blob
from bench.scripted import Image, Store
from bench.servers import Kind, Programs, Server, Setting
from bench.wire import Connection, Unexpected

_CLIENTS = 8
_POLL = 0.25  # seconds: what is asked costs CPU, too
_TRANSACTION = 1.0  # seconds, more than one lasts
_LONGEST = 1800.0  # seconds that a job or a command may take
_FAR = 2**60  # microseconds
_CONFIG: dict[str, Any] = {"storage": {"delete": {"enabled": True}}}


@dataclass(frozen=True)
class Cost:
    """What something took."""

    seconds: float
    cpu: float
    """Seconds of user and system time."""


@dataclass
class Yard:
    """A scripted store whose garbage is deleted, and not collected: nobody collects while `held`."""

    store: Store
    folder: Path
    programs: Programs
    more: Mapping[str, Any] = field(default_factory=dict)
    """Of our config."""

    @cached_property
    def garbage(self) -> list[Blob]:
        """Bytes that nobody needs."""
        return list(self.store.garbage_bytes())

    @cached_property
    def kept(self) -> list[str]:
        """Digests whose bytes are needed."""
        named = (blob.digest for image in self.store.kept() for blob in (image.manifest, *image.named))
        return list(dict.fromkeys(named))

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def config(self) -> Path:
        return self.folder / "config.yml"

    @property
    def database(self) -> Path:
        return self.data / "stackyard/stackyard.db"

    @property
    def reference(self) -> Path:
        """Config of a docker-registry on the same tree."""
        return self.folder / "reference.yml"

    @contextmanager
    def served(self) -> Iterator[Server]:
        """Our server on it, for a while."""
        config = {**_CONFIG, **self.more}
        server = servers.start(self.programs, Kind.STACKYARD, Setting.PLAIN, self.folder, config)
        with server.process:
            yield server

    def hold(self, *, on: bool) -> None:
        """Whether collection has to leave everything as it is."""
        with scripted.connect(self.database) as database:
            if on:
                database.execute(
                    "INSERT OR REPLACE INTO hold (kind, id, expires_at) VALUES ('bench', 'bench', ?)", [_FAR]
                )
            else:
                database.execute("DELETE FROM hold WHERE kind = 'bench'")

    def count(self, table: str, where: str = "1") -> int:
        """Rows."""
        with scripted.connect(self.database) as database:
            return int(database.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0])

    def progress(self) -> tuple[int, ...]:
        """Changes whenever something is collected."""
        return tuple(self.count(table) for table in ("manifest", "blob_link", "due", "tombstone"))

    def keep_rows(self) -> None:
        """Remember the database of a server that has ended, for `restore`."""
        shutil.copyfile(self.database, self.folder / "kept.db")

    def restore(self) -> None:
        """All garbage is there again: bytes and rows. No server may run."""
        for blob in self.garbage:
            scripted.write_blob(self.data, blob)
        for ending in ("-wal", "-shm"):
            self.database.with_name(self.database.name + ending).unlink(missing_ok=True)
        shutil.copyfile(self.folder / "kept.db", self.database)
        scripted.know(self.data)

    def missing(self, blobs: Sequence[str]) -> int:
        """How many of these digests have no bytes."""
        return sum(not os.path.exists(self.data / scripted.location(digest)) for digest in blobs)


async def make(
    store: Store, folder: Path, programs: Programs, *, links: int, kept: bool = True, more: Mapping[str, Any]
) -> Yard:
    """Write it, then delete its garbage as a client does. Held, and nothing of it runs.

    Args:
        links: Of so many images per repository Distribution's view is written, too.
        kept: Whether also what stays has its bytes on the disk.
        more: Added to our config.
    """
    yard = Yard(store, folder, programs, more)
    with yard.served():
        pass  # it has made the database
    scripted.write_files(store, yard.data, links=links, kept=kept)
    scripted.write_rows(store, yard.data)
    scripted.know(yard.data)
    yard.hold(on=True)
    yard.reference.write_text(yard.config.read_text())
    with yard.served() as server:
        await pushing.by_many(server, _CLIENTS, store.garbage(), _delete)
        await _until(lambda: not yard.count("follow"))
    return yard


async def _delete(connection: Connection, image: Image) -> None:
    await connection.request("DELETE", image.path, expect=202)


async def switch(yard: Yard, *, on: bool) -> None:
    """Let the background of a server collect, or not; it does, or does not, from now on."""
    yard.hold(on=not on)
    before = yard.progress()
    if on:
        await _until(lambda: yard.progress() != before)
    else:
        await asyncio.sleep(_TRANSACTION)  # one may be under way
        await _until(lambda: not yard.count("follow"))


async def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + _LONGEST
    while not true():
        if time.monotonic() > end:
            raise Unexpected("it takes too long")
        await asyncio.sleep(0.2)


def command(*argv: str | Path) -> tuple[Cost, str]:
    """Run a program to its end; what it cost and what it printed. Raises CalledProcessError."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=True, timeout=_LONGEST)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime), done.stdout + done.stderr


def collect(server: Server, **request: Any) -> tuple[Cost, dict[str, Any]]:
    """Have a running server of ours collect; what the job itself cost, and its result."""
    wanted = {"grace_seconds": 0, "dry_run": False, "delete_untagged": False} | request
    before = server.process.cpu()
    job = _ask(server, "POST", "/gc", wanted)
    end = time.monotonic() + _LONGEST
    while job["finished_at"] is None:
        if time.monotonic() > end:
            raise Unexpected(f"the job does not end: {job}")
        time.sleep(_POLL)
        job = _ask(server, "GET", f"/jobs/{job['id']}")
    if job["state"] != "done":
        raise Unexpected(f"the job failed: {job['result']}")
    began, ended = (datetime.fromisoformat(job[each]) for each in ("started_at", "finished_at"))
    return Cost((ended - began).total_seconds(), server.process.cpu() - before), job["result"]


def _ask(server: Server, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(server.data / "stackyard/admin.sock"))
        text = None if body is None else json.dumps(body)
        connection.request(method, f"/api/v1{path}", text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status >= 300:
            raise Unexpected(f"{method} {path}: {answer.status} {said[:500]!r}")
        found: dict[str, Any] = json.loads(said)
        return found
    finally:
        connection.close()
