"""Single images from the command line: out of files into the registry, and back."""

import contextlib
import os
import pwd
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from stackyard.config.model import Config
from stackyard.metadata.errors import MetadataError
from stackyard.oci.digests import Digest, is_digest
from stackyard.oci.errors import RegistryError
from stackyard.oci.names import is_repository, is_tag
from stackyard.registry import archives
from stackyard.registry.archives import ArchiveUnusable
from stackyard.registry.images import Images
from stackyard.registry.images import Moved as Moved
from stackyard.registry.registry import Registry
from stackyard.server import mapping
from stackyard.server.errors import StartError
from stackyard.server.opened import open_registry
from stackyard.storage.driver import StorageError


async def take(config: Config, path: Path, name: str, *, choice: str | None) -> Moved:
    """Push the image in a file or folder as `name`; the database was prepared. Raises StartError."""
    repository, tag = _parts(name)
    if not is_tag(tag):
        raise StartError(f"{name} is no REPO:TAG, such as team/app:v1, without the name of the server")

    async def work(registry: Registry) -> Moved:
        with archives.opened(path) as archive:
            return await _images(registry).take(archive, repository, tag, choice=choice, actor=_actor())

    return await _with_registry(config, repository, work)


async def give(config: Config, name: str, path: Path) -> Moved:
    """Write an image to a file or folder that is not there yet. Raises StartError."""
    repository, reference = _parts(name)

    async def work(registry: Registry) -> Moved:
        with archives.created(path) as target:
            meant = Digest.parse(reference) if is_digest(reference) else reference
            return await _images(registry).give(repository, meant, target)

    return await _with_registry(config, repository, work)


async def _with_registry(
    config: Config, repository: str, work: Callable[[Registry], Coroutine[Any, Any, Moved]]
) -> Moved:
    with _in_words():
        opened = await open_registry(config, mapping.database_url(config), workers=1)
        try:
            if opened.registry.imports.pending:
                await opened.registry.imports.ensure(repository)
            return await work(opened.registry)
        finally:
            await opened.close()


def _images(registry: Registry) -> Images:
    return Images(registry.blobs, registry.uploads, registry.manifests)


def _parts(name: str) -> tuple[str, str]:
    repository, _, reference = name.partition("@") if "@" in name else name.rpartition(":")
    if not is_repository(repository) or not (is_tag(reference) or is_digest(reference)):
        raise StartError(f"{name} is no REPO:TAG, such as team/app:v1, without the name of the server")
    return repository, reference


def _actor() -> str:
    try:
        return f"local:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"local:{os.getuid()}"


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """Raises StartError for whatever the image, the registry, disk or database refuse."""
    try:
        yield
    except RegistryError as error:
        details = ", ".join(f"{key} {value}" for key, value in error.detail.items())
        raise StartError(f"{error.text}{f' ({details})' if details else ''}") from error
    except (ArchiveUnusable, MetadataError, StorageError) as error:
        raise StartError(str(error)) from error
