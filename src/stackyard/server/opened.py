"""A registry that is open in this process: what every worker has, and the command line while no server runs."""

from dataclasses import dataclass
from pathlib import Path

from stackyard.config.model import Config
from stackyard.metadata import database as databases
from stackyard.metadata.ballast import Ballasted
from stackyard.metadata.database import Database
from stackyard.registry.registry import Registry
from stackyard.server import buckets, mapping
from stackyard.server.errors import StartError
from stackyard.storage.driver import BlobStore
from stackyard.storage.filesystem.smallfiles import FilesystemSmallFiles
from stackyard.storage.filesystem.store import FilesystemStore
from stackyard.storage.memory import MemoryStore
from stackyard.storage.smallfiles import SmallFiles


@dataclass(frozen=True, slots=True)
class Opened:
    """The registry and what it is made over."""

    registry: Registry
    database: Database
    store: BlobStore
    files: SmallFiles | None

    async def close(self) -> None:
        """Let go of the files."""
        await self.registry.pulls.close()
        await self.database.close()
        await self.store.close()
        if self.files:
            await self.files.close()


async def open_registry(config: Config, database_url: str, workers: int) -> Opened:
    """Open everything, in the process that will use it. Raises CannotStart.

    Args:
        database_url: Of a migrated database.
        workers: The processes that share the limits on the whole server.
    """
    store, files = open_store(config), open_small_files(config)
    ballast = mapping.ballast(config, database_url)
    database = await databases.open_database(database_url)
    if ballast:
        database = Ballasted(database, ballast)
    registry = Registry.over(store, database, mapping.registry(config, workers), files, ballast)
    await registry.rules.adopt([(kind, detail) for kind, detail, _ in mapping.policy(config)])
    await registry.quotas.declare(mapping.quotas(config))
    await registry.imports.look()
    await registry.presence.look()
    return Opened(registry, database, store, files)


def open_store(config: Config) -> BlobStore:
    """The store that the configuration names. Raises StartError for what its library refuses."""
    if filesystem := config.storage.filesystem:
        return FilesystemStore(Path(filesystem.rootdirectory), filesystem.maxthreads)
    if (found := buckets.settings(config)) is None:
        return MemoryStore()
    from stackyard.storage.objects import ObjectStore  # its library is large, and most have no bucket

    try:
        return ObjectStore(found)
    except ValueError as error:
        raise StartError(f"storage.{buckets.driver(config)}: {error}") from error


def open_small_files(config: Config) -> SmallFiles | None:
    """What Distribution keeps beside its blobs, where it can have written to the store."""
    filesystem = config.storage.filesystem
    return None if filesystem is None else FilesystemSmallFiles(Path(filesystem.rootdirectory))
