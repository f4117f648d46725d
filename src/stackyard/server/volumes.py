"""Whole volumes, from the command line: taken over, recovered, and made ready for docker-registry.

All of it works on the database and the files themselves, in this process. Where a server runs on them, it may go on.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stackyard.config.model import Config
from stackyard.metadata import imports
from stackyard.metadata.errors import MetadataError
from stackyard.metadata.imports import Problem
from stackyard.metadata.imports import Progress as Progress
from stackyard.oci import layout
from stackyard.registry.following import Written as Written
from stackyard.registry.imports import LEASE, Imports
from stackyard.registry.leases import Leases
from stackyard.server import assembly, mapping, volume
from stackyard.server.errors import StartError
from stackyard.server.opened import Opened, open_registry, open_small_files
from stackyard.storage.driver import StorageError

_BETWEEN_LOOKS = 0.2  # seconds

Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Report:
    """What an import came to."""

    progress: Progress
    problems: list[Problem]
    """What was not taken over as it was."""


def check(config: Config) -> Path:
    """The volume's root, when there is something to import. Raises StartError."""
    filesystem = config.storage.filesystem
    if filesystem is None:
        raise StartError("only a volume can be imported, and storage.filesystem is not set")
    root = Path(filesystem.rootdirectory)
    with assembly.told_in_one_sentence(root):
        volume.check(root)
        if not (root / layout.DISTRIBUTION).is_dir():
            raise StartError(f"{root} is no volume of docker-registry: it holds no {layout.DISTRIBUTION}")
    return root


async def is_pending(config: Config) -> bool:
    """Whether the import of a prepared volume is not at its end."""
    async with _opened(config) as opened:
        return opened.registry.imports.pending


async def survey(config: Config, tell: Tell) -> Report:
    """What an import would do. Writes nothing."""
    files = open_small_files(config)
    assert files  # `check` has seen to it
    last = Progress("reading", 0, 0, 0, 0, 0)

    def told(progress: Progress) -> None:
        nonlocal last
        last = progress
        tell(progress)

    try:
        with _in_words():
            problems = await Imports.over_files(files, mapping.registry(config, 1)).survey(told)
    finally:
        await files.close()
    return Report(last, problems)


async def take_over(config: Config, tell: Tell, *, recovering: bool = False) -> Report:
    """Import everything; the database was prepared. What is here already stays as it is, and gets what it lacks."""
    async with _opened(config) as opened:
        found = opened.registry.imports
        found.recovering = recovering
        if (await found.progress()).state == "done":
            await opened.database.write(imports.begin, "listing")
        watching = asyncio.create_task(_watch(found, tell))
        try:
            while (await found.progress()).state != "done":
                await Leases(opened.database).run(LEASE, found.run)
                await asyncio.sleep(_BETWEEN_LOOKS)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        progress = await found.progress()
        tell(progress)
        if recovering:  # nobody knows what the lost database had not written yet
            await opened.database.write(imports.view_complete, False)
        return Report(progress, await found.problems())


async def follow_now(config: Config, tell: Callable[[Written], None]) -> tuple[Written | None, list[tuple[str, str]]]:
    """Bring Distribution's view of the volume up to date, and name what it cannot serve."""
    async with _opened(config) as opened:
        following = opened.registry.following
        assert following
        written = await following.update(Leases(opened.database), tell)
        return written, await following.unservable()


@contextlib.asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[Opened]:
    with _in_words():
        opened = await open_registry(config, mapping.database_url(config), workers=1)
        try:
            yield opened
        finally:
            await opened.close()


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """Raises StartError for what disk and database refuse."""
    try:
        yield
    except (MetadataError, StorageError) as error:
        raise StartError(str(error)) from error


async def _watch(found: Imports, tell: Tell) -> None:
    while True:
        tell(await found.progress())
        await asyncio.sleep(_BETWEEN_LOOKS)
