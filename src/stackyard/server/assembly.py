"""The composition root: from a configuration to a running registry. The only place that sees every room."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from stackyard.api.mount import Application, Mount, Receive, Scope, Send
from stackyard.auth import opening
from stackyard.auth import settings as access_settings
from stackyard.auth.access import Access
from stackyard.auth.errors import AccessUnusable
from stackyard.auth.keys import SigningKey, make_signing_key
from stackyard.auth.slots import Slots
from stackyard.config.model import Config
from stackyard.http.app import App
from stackyard.http.debug import DebugApp
from stackyard.jobs.health import Health
from stackyard.jobs.imports import Import
from stackyard.jobs.uploads import Purge
from stackyard.metadata import database as databases
from stackyard.metadata import keys, migrate
from stackyard.metadata.database import Database
from stackyard.metadata.errors import CannotStart
from stackyard.registry import rules
from stackyard.registry.leases import Leases
from stackyard.registry.registry import Registry
from stackyard.registry.retention import RuleRefused
from stackyard.server import cpus, mapping, probes, supervisor, volume
from stackyard.server.errors import StartError
from stackyard.server.privileges import read_secret, step_down
from stackyard.server.tls import Certificate
from stackyard.server.volume import VolumeRefused
from stackyard.server.worker import WorkerContext
from stackyard.storage.driver import BlobStore
from stackyard.storage.filesystem.smallfiles import FilesystemSmallFiles
from stackyard.storage.filesystem.store import FilesystemStore
from stackyard.storage.memory import MemoryStore
from stackyard.storage.smallfiles import SmallFiles
from stackyard.telemetry.access import AccessLog


@dataclass(slots=True)
class Running:
    """One worker's registry, open."""

    app: App
    debug_app: DebugApp
    access: Access
    database: Database
    store: BlobStore
    files: SmallFiles | None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def local_app(self, uid: int) -> Application:
        """What answers a process of this user on the local socket."""
        return partial(self.app.local, uid)

    async def reload(self) -> None:
        """Read the password file and the token keys again."""
        await asyncio.to_thread(self.access.reload)

    async def close(self) -> None:
        """Stop the background work, then let go of the files."""
        for task in self.tasks:
            task.cancel()
        for task in self.tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.access.close()
        await self.app.registry.pulls.close()
        await self.database.close()
        await self.store.close()
        if self.files:
            await self.files.close()


@dataclass(frozen=True, slots=True)
class Assembly:
    """How every worker builds its registry. Made in the supervisor, before the first fork."""

    config: Config
    database_url: str
    workers: int
    background: bool
    """Whether there is a process for the background work."""
    slots: Slots
    access_log: AccessLog

    async def build(self, context: WorkerContext) -> Running:
        """Open everything in this worker's process."""
        config = self.config
        store, files = open_store(config), open_small_files(config)
        database = await databases.open_database(self.database_url)
        registry = Registry.over(store, database, mapping.registry(config, self.workers), files)
        await registry.rules.adopt([(kind, detail) for kind, detail, _ in mapping.policy(config)])
        await registry.imports.look()
        access = opening.open_access(
            mapping.authorization(config, cpus.usable()),
            signing_key=await _signing_key(config, database),
            slots=self.slots,
            read=read_secret,
        )
        access.start()

        async def storage() -> None:
            await store.check()
            await registry.check()

        health = Health(probes.checks(config.health, storage))
        app = App(
            registry,
            access,
            mapping.origins(config),
            self.access_log,
            health.failing,
            mapping.headers(config),
            Mount(registry, access),
        )
        running = Running(
            app,
            DebugApp(health.failing),
            access,
            database,
            store,
            files,
        )
        running.tasks += map(asyncio.create_task, self._jobs(registry, health, context))
        return running

    def _jobs(self, registry: Registry, health: Health, context: WorkerContext) -> list[Coroutine[Any, Any, None]]:
        jobs: list[Coroutine[Any, Any, None]] = [] if context.background else [health.run(), registry.pulls.run()]
        does_the_rest = context.background if self.background else context.index == 0
        if does_the_rest and registry.imports.pending:
            jobs.append(Import(registry.imports, Leases(registry.imports.database)).run())
        if registry.settings.read_only or not does_the_rest:
            return jobs
        jobs.append(registry.collection.keep())
        purging = self.config.storage.maintenance.uploadpurging
        if purging.enabled:
            jobs.append(Purge(registry.uploads, purging.age, purging.interval, purging.dryrun).run())
        return jobs


async def _signing_key(config: Config, database: Database) -> SigningKey | None:
    """The key that every worker and node signs its tokens with; the first that needs one makes it."""
    if not config.stackyard.access.rules:
        return None
    return await database.write(keys.ensure, make_signing_key)


def open_store(config: Config) -> BlobStore:
    """The store that the configuration names."""
    filesystem = config.storage.filesystem
    if filesystem is None:
        return MemoryStore()
    return FilesystemStore(Path(filesystem.rootdirectory), filesystem.maxthreads)


def open_small_files(config: Config) -> SmallFiles | None:
    """What Distribution keeps beside its blobs, where it can have written to the store."""
    filesystem = config.storage.filesystem
    return None if filesystem is None else FilesystemSmallFiles(Path(filesystem.rootdirectory))


def serve(config: Config, *, access_log: AccessLog, ready: Callable[[Sequence[str]], None]) -> int:
    """Serve until told to stop; returns the exit status.

    Raises:
        StartError, CannotStepDown: Nothing was served; the message says what to do.
    """
    settings = mapping.server(config)
    with contextlib.ExitStack() as until_the_end:
        url = mapping.database_url(config)
        if not url:  # storage.inmemory: the rows last no longer than the bytes
            folder = until_the_end.enter_context(tempfile.TemporaryDirectory(prefix="stackyard-"))
            url = f"sqlite:///{folder}/stackyard.db"
        slots = Slots.for_cores(cpus.usable())
        assembly = Assembly(config, url, cpus.workers(settings.workers), settings.background, slots, access_log)
        return supervisor.serve(settings, build=assembly.build, prepare=partial(prepare, config, url), ready=ready)


def prepare(config: Config, database_url: str) -> None:
    """What is done once, before the first worker: give up rights, look at the volume, migrate the database.

    Raises:
        StartError, CannotStepDown: With what to do.
    """
    root = _root(config)
    with _told_in_one_sentence(root):
        if root:
            step_down(root, mapping.secrets(config))
        _inspect(config, root, database_url)  # wrong files are told once, not by each worker
        migrate.migrate(database_url, partial(volume.settle, root=root))
        if root:
            volume.mark(root)
            if not config.storage.maintenance.readonly.enabled:
                _make_writable(root)


@dataclass(frozen=True, slots=True)
class Stopped:
    """The registry of a configuration while no server runs on it, to be administered from this very process."""

    config: Config
    database_url: str
    uid: int
    """Who started this process."""

    @classmethod
    def prepare(cls, config: Config, *, fresh: bool = False) -> "Stopped":
        """Do what a start does before its first worker. To be called while the process has one thread.

        Args:
            fresh: Whether the volume may be one on which no registry ever ran.

        Raises:
            StartError, CannotStepDown: With what to do.
        """
        url, root, uid = mapping.database_url(config), _root(config), os.getuid()
        if not url:
            raise StartError("storage.inmemory: there is nothing to administer while no server runs")
        if root and not fresh and not databases.exists(url):
            raise StartError(
                f"no registry has run on {root} yet, and none runs now; name another config file with --config, or a "
                "running server with --server"
            )
        with _told_in_one_sentence(root):
            if root:
                step_down(root)
                volume.check(root)
            migrate.migrate(url)
        return cls(config, url, uid)

    @contextlib.asynccontextmanager
    async def api(self) -> AsyncIterator[Application]:
        """The admin API, which takes everything for the work of who started this process."""
        store = open_store(self.config)
        database = await databases.open_database(self.database_url)
        registry = Registry.over(store, database, mapping.registry(self.config, 1))
        mount = Mount(registry, opening.open_access(access_settings.Settings()))

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"] = {"peer": self.uid}
            await mount(scope, receive, send)

        try:
            yield application
        finally:
            await database.close()
            await store.close()


def local_socket(config: Config) -> Path | None:
    """Where a server of this configuration is administered on its own machine, if it runs."""
    local = mapping.local_socket(config)
    return local.path if local else None


def check(config: Config) -> None:
    """Look at the files that a start would read, and change nothing. Raises StartError with what to do."""
    root = _root(config)
    with _told_in_one_sentence(root):
        if certificate := mapping.server(config).main.tls:
            Certificate(certificate)
        _inspect(config, root, mapping.database_url(config))


def _root(config: Config) -> Path | None:
    return Path(config.storage.filesystem.rootdirectory) if config.storage.filesystem else None


def _inspect(config: Config, root: Path | None, database_url: str) -> None:
    if root:
        volume.check(root, database_url)
    rules.check_all(mapping.policy(config))
    opening.open_access(mapping.authorization(config, cpus.usable()), read=read_secret)


def _make_writable(root: Path) -> None:
    """Before a worker meets it: the database may lie elsewhere. Raises OSError."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=root):
        pass


@contextlib.contextmanager
def _told_in_one_sentence(root: Path | None) -> Iterator[None]:
    """Raises StartError for whatever the person who starts the server can put right."""
    try:
        yield
    except (VolumeRefused, AccessUnusable, CannotStart, RuleRefused) as error:
        raise StartError(str(error)) from error
    except OSError as error:
        where = f" ({error.filename})" if error.filename and str(error.filename) != str(root) else ""
        raise StartError(f"the data folder {root} cannot be used: {error.strerror or error}{where}") from error
