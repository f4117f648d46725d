"""What lies in the registries before anything is measured."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import content, pushing
from bench.content import Blob
from bench.profiles import MIB
from bench.servers import Server
from bench.wire import Connection

_CLIENTS = 16


@dataclass(frozen=True)
class Population:
    """An image of a common shape, a blob of 1 MiB and a large one, all in one repository."""

    config: Blob
    layers: Sequence[Blob]
    medium: Blob
    large: Blob
    manifest: bytes

    @property
    def blobs(self) -> Sequence[Blob]:
        return [self.config, *self.layers, self.medium, self.large]

    def write(self, root: Path, repository: str, tag: str) -> None:
        """As files at the paths of their URLs, for a server of files."""
        top = root / "v2" / repository
        for folder in (top / "blobs", top / "manifests"):
            folder.mkdir(parents=True)
        (top / "manifests" / tag).write_bytes(self.manifest)
        for blob in self.blobs:
            (top / "blobs" / blob.digest).write_bytes(b"".join(blob.body))


def make(layer: int) -> Population:
    """New content, the large blob of `layer` bytes."""
    small, medium, large = content.unique(1024), content.unique(MIB), content.unique(layer)
    config, *layers = [next(small) for _ in range(pushing.LAYERS + 1)]
    return Population(config, layers, next(medium), next(large), content.manifest(config, layers))


def catalog(repositories: int) -> list[str]:
    """The names of the catalogue, in its order."""
    return [f"team-{number // 100:03}/app-{number % 100:02}" for number in range(repositories)]


async def push_catalog(server: Server, repositories: int, manifests: int) -> None:
    """That many repositories of that many manifests each, every one with a config and a layer, tagged."""
    blob = content.blob(os.urandom(1024))
    with Connection(server) as connection:
        await pushing.monolithic(connection, "team-base", blob)

    async def fill(connection: Connection, name: str) -> None:
        await pushing.mount(connection, "team-base", name, blob)
        for number in range(manifests):
            payload = content.manifest(blob, [blob], repository=name, number=str(number))
            await pushing.manifest(connection, name, f"v{number}", payload)

    await pushing.by_many(server, _CLIENTS, catalog(repositories), fill)


def write_catalog(root: Path, repositories: int) -> None:
    """The same names in Distribution's layout: for each, the folders that its catalogue looks at, and a manifest's."""
    digest = content.digest(b"{}").replace(":", "/")
    for name in catalog(repositories):
        folder = root / "docker/registry/v2/repositories" / name
        for part in ("_layers", "_uploads", f"_manifests/revisions/{digest}"):
            (folder / part).mkdir(parents=True)
