"""A store made by script, a tenth of which is to become garbage: rows and files, written straight to their places.

Repositories of a hundred images. Each image has a config and eight layers of its own, shares two layers with its
neighbour, and names one layer that every image of the whole store names. So a repository has a thousand blobs, and
deleting its first ten images makes garbage of exactly a hundred of them, and of the bytes of ten manifests.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import content
from bench.content import Blob
from stackyard.metadata.driver import module as sqlite

IMAGES, BLOBS = 100, 1000
"""Of a repository. Manifests are not counted among the blobs."""
_OWN, _PAIR = 8, 2
_DELETED = 10
"""Images of each repository: neighbours in pairs."""
_ROOT = "docker/registry/v2"
_DATABASE = "stackyard/stackyard.db"
_CACHE_KIB = 1 << 20
_DAY = 86_400_000_000  # microseconds
_ACTOR = "anonymous"
_PATIENCE = 60  # seconds

_KNOW = (
    "INSERT INTO lease (name, fence, state) VALUES ('presence', 1, ?) "
    "ON CONFLICT (name) DO UPDATE SET state = excluded.state"
)
_INSERTS = {
    "repository": "(id, name, listed, created_at) VALUES (?, ?, 1, ?)",
    "blob": "(digest, copy, location, size, state, created_at) VALUES (?, 0, ?, ?, 'live', ?)",
    "blob_link": "(repository_id, digest, created_at, created_by, promised_until, counted) VALUES (?, ?, ?, ?, ?, 1)",
    "manifest": "(id, repository_id, digest, media_type, size, total_size, config_media_type, created_at, created_by, "
    "promised_until, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "manifest_reference": "(repository_id, digest, manifest_id, kind, required) VALUES (?, ?, ?, ?, 1)",
    "tag": "(repository_id, name, manifest_id, updated_at, updated_by) VALUES (?, ?, ?, ?, ?)",
}


@dataclass(frozen=True)
class Image:
    """A tagged image."""

    repository: str
    tag: str
    config: Blob
    layers: Sequence[Blob]
    manifest: Blob

    @property
    def named(self) -> Sequence[Blob]:
        """What its manifest names."""
        return (self.config, *self.layers)

    @property
    def path(self) -> str:
        """Of its manifest, by digest."""
        return f"/v2/{self.repository}/manifests/{self.manifest.digest}"


@dataclass(frozen=True)
class Store:
    """What a store of this many blobs holds. The same number gives the same store."""

    blobs: int
    """A multiple of BLOBS."""

    @property
    def repositories(self) -> int:
        return self.blobs // BLOBS

    @property
    def manifests(self) -> int:
        return self.repositories * IMAGES

    @property
    def garbage_manifests(self) -> int:
        return self.repositories * _DELETED

    @property
    def garbage_blobs(self) -> int:
        """Whose bytes nobody needs once the garbage is deleted, the manifests' own among them."""
        return self.repositories * (_DELETED * (1 + _OWN) + _DELETED // 2 * _PAIR) + self.garbage_manifests

    def images(self, number: int) -> list[Image]:
        """Those of one repository, in order."""
        pairs = [[_layer(number, 2 * pair, f"shared {each}") for each in range(_PAIR)] for pair in range(IMAGES // 2)]
        return [self._image(number, image, pairs[image // 2]) for image in range(IMAGES)]

    def garbage(self) -> Iterator[Image]:
        """The images that are to be deleted."""
        return (image for number in range(self.repositories) for image in self.images(number)[:_DELETED])

    def kept(self) -> Iterator[Image]:
        """The images that stay."""
        return (image for number in range(self.repositories) for image in self.images(number)[_DELETED:])

    def garbage_bytes(self) -> Iterator[Blob]:
        """What nobody needs once the garbage is deleted."""
        return (blob for number in range(self.repositories) for blob in self.garbage_of(self.images(number)))

    def garbage_of(self, images: Sequence[Image]) -> Iterator[Blob]:
        """That of one repository."""
        needed = {blob for image in images[_DELETED:] for blob in image.named}
        for image in images[:_DELETED]:
            yield image.manifest
            yield from (blob for blob in dict.fromkeys(image.named) if blob not in needed)
            needed.update(image.named)

    def _image(self, number: int, image: int, shared: Sequence[Blob]) -> Image:
        config = content.blob(b'{"os": "linux", "n": [%d, %d]}' % (number, image))
        own = [_layer(number, image, str(each)) for each in range(_OWN)]
        layers = list(dict.fromkeys([_COMMON, *shared, *own]))
        repository = f"team-{number // 100:03}/app-{number % 100:02}"
        return Image(
            repository, f"v{image}", config, layers, content.blob(content.manifest(config, layers, indent=None))
        )


def _layer(number: int, image: int, name: str) -> Blob:
    return content.blob(b"layer %s of image %d of repository %d\n" % (name.encode(), image, number))


# One of the thousand of the first repository, where it stands for a layer that its last pair would share otherwise.
_COMMON = _layer(0, IMAGES - 2, "shared 0")


def write_files(store: Store, data: Path, *, links: int, kept: bool = True) -> None:
    """The blobs, as Distribution writes them, and of so many images per repository its view of them.

    Without `kept` only the blobs that become garbage: collection looks at no other file.
    """
    for prefix in range(256):
        (data / _ROOT / f"blobs/sha256/{prefix:02x}").mkdir(parents=True, exist_ok=True)
    for number in range(store.repositories):
        images = store.images(number)
        for blob in _distinct(number, images) if kept else store.garbage_of(images):
            write_blob(data, blob)
        if links:
            _write_view(data / _ROOT / "repositories", images[:links])


def write_blob(data: Path, blob: Blob) -> None:
    """The bytes at their place, unless they are there."""
    with suppress(FileExistsError):
        _write(f"{data}/{location(blob.digest)}".removesuffix("/data"), "data", b"".join(blob.body))


def _distinct(number: int, images: Sequence[Image]) -> list[Blob]:
    """The repository's blobs and manifests, each once; what all repositories share belongs to the first."""
    blobs = {blob.digest: blob for image in images for blob in (image.config, *image.layers, image.manifest)}
    if number:
        del blobs[_COMMON.digest]
    return list(blobs.values())


def _write_view(root: Path, images: Sequence[Image]) -> None:
    base = root / images[0].repository
    linked = {blob.digest for image in images for blob in image.named}
    for folder in ("_layers/sha256", "_manifests/revisions/sha256", "_manifests/tags"):
        (base / folder).mkdir(parents=True)
    for digest in linked:
        _write(f"{base}/_layers/sha256/{digest[7:]}", "link", digest.encode())
    for image in images:
        digest = image.manifest.digest
        _write(f"{base}/_manifests/revisions/sha256/{digest[7:]}", "link", digest.encode())
        tag = f"{base}/_manifests/tags/{image.tag}"
        os.makedirs(f"{tag}/index/sha256")
        _write(f"{tag}/current", "link", digest.encode())
        _write(f"{tag}/index/sha256/{digest[7:]}", "link", digest.encode())


def _write(folder: str, name: str, data: bytes) -> None:
    os.mkdir(folder)
    file = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    os.write(file, data)
    os.close(file)


def write_rows(store: Store, data: Path) -> None:
    """The same into the database, which a server has made and left: all of it pushed yesterday, promised no more."""
    pushed = time.time_ns() // 1000 - _DAY
    with connect(data / _DATABASE) as connection:
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE installation SET import_state = 'done', view_complete = 1")
        for number in range(store.repositories):
            for table, rows in _rows(number, store.images(number), pushed).items():
                connection.executemany(f"INSERT INTO {table} {_INSERTS[table]}", rows)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def know(data: Path) -> None:
    """What the rows tell of is taken to be there, as if the server had looked."""
    with connect(data / _DATABASE) as connection:
        connection.execute(_KNOW, (json.dumps({"turn": 1, "folders": _times(data / _ROOT / "blobs")}),))


def _times(blobs: Path) -> dict[str, int]:
    """When each folder of blobs changed last."""
    return {f"{each.parent.name}/{each.name}": each.stat().st_mtime_ns for each in blobs.glob("*/*")}


@contextmanager
def connect(database: Path) -> Iterator[Any]:
    """A connection of its own that begins no transaction by itself."""
    with closing(sqlite.connect(database, isolation_level=None, timeout=_PATIENCE)) as connection:
        yield connection


def _rows(number: int, images: Sequence[Image], pushed: int) -> dict[str, list[tuple[Any, ...]]]:
    repository = number + 1
    row_ids = range(number * IMAGES + 1, (number + 1) * IMAGES + 1)
    linked = sorted({blob.digest for image in images for blob in image.named})
    return {
        "repository": [(repository, images[0].repository, pushed)],
        "blob": [(blob.digest, location(blob.digest), blob.size, pushed) for blob in _distinct(number, images)],
        "blob_link": [(repository, digest, pushed, _ACTOR, pushed) for digest in linked],
        "manifest": [_manifest_row(repository, row, image, pushed) for row, image in zip(row_ids, images, strict=True)],
        "manifest_reference": sorted(
            (repository, blob.digest, row, "layer" if blob is not image.config else "config")
            for row, image in zip(row_ids, images, strict=True)
            for blob in image.named
        ),
        "tag": [(repository, image.tag, row, pushed, _ACTOR) for row, image in zip(row_ids, images, strict=True)],
    }


def _manifest_row(repository: int, row: int, image: Image, pushed: int) -> tuple[Any, ...]:
    payload = b"".join(image.manifest.body)
    total = len(payload) + sum(blob.size for blob in image.named)
    return (
        *(row, repository, image.manifest.digest, content.MANIFEST, len(payload), total),
        *(content.CONFIG, pushed, _ACTOR, pushed, payload),
    )


def location(digest: str) -> str:
    """Where its bytes lie below the data folder."""
    return f"{_ROOT}/blobs/sha256/{digest[7:9]}/{digest[7:]}/data"
