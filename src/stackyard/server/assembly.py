"""The composition root: from a configuration to a running registry. The only place that sees every room."""

import asyncio
import contextlib
import errno
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from stackyard.api.mount import Application, Mount
from stackyard.auth import opening
from stackyard.auth.access import Access
from stackyard.auth.errors import AccessUnusable
from stackyard.auth.keys import SigningKey, make_signing_key
from stackyard.auth.slots import Slots
from stackyard.config.model import Config
from stackyard.http.app import App
from stackyard.http.debug import DebugApp
from stackyard.jobs.following import Follow
from stackyard.jobs.health import Health
from stackyard.jobs.imports import Import
from stackyard.jobs.runner import Runner
from stackyard.jobs.trimming import Trimming
from stackyard.jobs.uploads import Purge
from stackyard.metadata import database as databases
from stackyard.metadata import imports, keys, migrate
from stackyard.metadata.ballast import Ballast
from stackyard.metadata.database import Database
from stackyard.metadata.errors import CannotStart, MetadataError
from stackyard.oci.errors import BadRequest, RuleRefused
from stackyard.registry import rules
from stackyard.registry.presence import Presence
from stackyard.registry.registry import Registry
from stackyard.server import buckets, cpus, mapping, mounts, probes, supervisor, volume
from stackyard.server.errors import StartError
from stackyard.server.kinds import kinds
from stackyard.server.opened import Opened, open_registry, open_small_files
from stackyard.server.privileges import read_secret, step_down
from stackyard.server.tls import Certificate
from stackyard.server.volume import VolumeRefused
from stackyard.server.worker import WorkerContext
from stackyard.storage.driver import StorageError
from stackyard.telemetry.access import AccessLog

log = structlog.get_logger("stackyard.server")


@dataclass(slots=True)
class Running:
    """One worker's registry, open."""

    app: App
    debug_app: DebugApp
    access: Access
    opened: Opened
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
        await self.opened.close()


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
        opened = await open_registry(config, self.database_url, self.workers)
        registry = opened.registry
        access = opening.open_access(
            mapping.authorization(config, cpus.usable()),
            signing_key=await _signing_key(config, opened.database),
            slots=self.slots,
            read=read_secret,
        )
        access.start()

        async def storage() -> None:
            await opened.store.check()
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
            opened,
        )
        running.tasks += map(asyncio.create_task, self._jobs(registry, health, context))
        return running

    def _jobs(self, registry: Registry, health: Health, context: WorkerContext) -> list[Coroutine[Any, Any, None]]:
        jobs: list[Coroutine[Any, Any, None]] = [] if context.background else [health.run(), registry.pulls.run()]
        does_the_rest = context.background if self.background else context.index == 0
        if not does_the_rest:
            return jobs
        jobs.append(Runner(registry.jobs, kinds(registry)).run())
        importing = Import(registry.imports, registry.jobs.leases)
        if registry.settings.read_only:
            return [*jobs, importing.run()]
        audit = self.config.stackyard.audit
        jobs.append(Trimming(registry, audit.keep, audit.entries).run())
        jobs += [registry.collection.keep(), registry.scrub.keep(), registry.quotas.keep()]
        jobs += [registry.space.keep(), registry.presence.keep(registry.jobs.leases), registry.joining.keep()]
        jobs.append(Follow(registry, importing, follow=self.config.stackyard.distribution.follow).run())
        jobs.append(registry.cleanup.keep(self.config.stackyard.retention.schedule))
        if registry.settings.untagged:
            jobs.append(registry.untagged.keep())
        purging = self.config.storage.maintenance.uploadpurging
        if purging.enabled:
            jobs.append(Purge(registry.uploads, purging.age, purging.interval, purging.dryrun).run())
        return jobs


async def _signing_key(config: Config, database: Database) -> SigningKey | None:
    """The key that every worker and node signs its tokens with; the first that needs one makes it."""
    if not config.stackyard.access.rules:
        return None
    return await database.write(keys.ensure, make_signing_key)


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


def prepare(config: Config, database_url: str, *, logins: bool = True, recovering: bool = False) -> None:
    """What is done once, before the first worker: give up rights, look at the volume, migrate the database.

    Without `logins`, what says who may log in is not looked at. `recovering`: the database is made anew.

    Raises:
        StartError, CannotStepDown: With what to do.
    """
    root = _root(config)
    with told_in_one_sentence(root):
        if root:
            step_down(root, mapping.secrets(config))
        buckets.check(config)
        # Wrong files are told once, not by each worker.
        _inspect(config, root, "" if recovering else database_url, logins=logins)
        mounts.check(config)
        _with_room(
            mapping.ballast(config, database_url),
            lambda: migrate.migrate(database_url, partial(volume.settle, root=root, recovering=recovering)),
        )
        if root:
            if not recovering:
                asyncio.run(_take_notice(config, database_url))
            volume.mark(root)
            if not config.storage.maintenance.readonly.enabled:
                _make_writable(root)


async def _take_notice(config: Config, database_url: str) -> None:
    """Have what docker-registry pushed to the volume meanwhile imported, as at the first start."""
    files, database = open_small_files(config), await databases.open_database(database_url)
    try:
        is_imported = (await database.read(imports.progress)).state == "done"
        if is_imported and (blobs := await Presence(database, files).strangers()):
            log.info("another registry pushed to the volume meanwhile; it is read again", blobs=blobs)
            await database.write(imports.begin, "listing")
    except (MetadataError, StorageError) as error:
        raise StartError(str(error)) from error
    finally:
        await database.close()
        if files:
            await files.close()


def check(config: Config) -> None:
    """Look at the files that a start would read, and change nothing. Raises StartError with what to do."""
    root = _root(config)
    with told_in_one_sentence(root):
        if certificate := mapping.server(config).main.tls:
            Certificate(certificate)
        _inspect(config, root, mapping.database_url(config))


def _root(config: Config) -> Path | None:
    return Path(config.storage.filesystem.rootdirectory) if config.storage.filesystem else None


def _inspect(config: Config, root: Path | None, database_url: str, *, logins: bool = True) -> None:
    if root:
        volume.check(root, database_url)
    rules.check_all(mapping.policy(config))
    mapping.quotas(config)
    if logins:
        opening.open_access(mapping.authorization(config, cpus.usable()), read=read_secret)


def _with_room(ballast: Ballast | None, open_it: Callable[[], object]) -> None:
    """Opening the database, too, takes space. Raises CannotStart."""
    try:
        open_it()
    except CannotStart as error:
        if ballast is None or not ballast.is_needed(error):
            raise
        ballast.release()
        open_it()


def _make_writable(root: Path) -> None:
    """Before a worker meets it: the database may lie elsewhere. Raises OSError."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=root):
        pass


@contextlib.contextmanager
def told_in_one_sentence(root: Path | None) -> Iterator[None]:
    """Raises StartError for whatever the person who starts the server can put right."""
    try:
        yield
    except (VolumeRefused, AccessUnusable, CannotStart, RuleRefused) as error:
        raise StartError(str(error)) from error
    except BadRequest as error:
        raise StartError(f"stackyard.quotas: {error.text}") from error
    except OSError as error:
        if error.errno == errno.EROFS:
            raise StartError(
                f"the data folder {root} is mounted read-only: mount it writable; or, only to serve what is there, set "
                "storage.maintenance.readonly.enabled, and stackyard.database.url to a database elsewhere"
            ) from error
        where = f" ({error.filename})" if error.filename and str(error.filename) != str(root) else ""
        raise StartError(f"the data folder {root} cannot be used: {error.strerror or error}{where}") from error
