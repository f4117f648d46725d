"""Single images, from files and into files: OCI layouts, in a folder or a tar, and what `docker save` writes.

What comes in is pushed as any client would, under every rule of the registry. What goes out is an OCI layout that
`docker load` reads as well. Bytes are never rewritten, but for the layers of an old `docker save`, which are raw and
are compressed as `docker push` does.
"""

import asyncio
import gzip
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from stackyard.oci import manifests
from stackyard.oci.digests import Digest, is_digest
from stackyard.oci.errors import BlobUnknown, ManifestUnknown
from stackyard.oci.manifests import DOCKER_MANIFEST, INDEXES, Kind, Manifest
from stackyard.registry.archives import Archive, ArchiveUnusable, Target
from stackyard.registry.blobs import Blobs
from stackyard.registry.chunks import Chunk
from stackyard.registry.manifests import Manifests
from stackyard.registry.uploads import Uploads

_PIECE = 1 << 20
_MOST_JSON = 4 << 20
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_NAME, _REF = "io.containerd.image.name", "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class Moved:
    """What came in or went out."""

    digest: Digest
    manifests: int
    blobs: int
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Images:
    """Images on their way."""

    blobs: Blobs
    uploads: Uploads
    manifests: Manifests

    async def take(self, archive: Archive, repository: str, tag: str, *, choice: str | None, actor: str) -> Moved:
        """Push the image that `archive` holds, or of several the one called `choice`.

        Raises:
            ArchiveUnusable: It holds no such image, or not all of it.
            And what a push does.
        """
        work = _Taking(self, archive, repository, actor)
        if archive.has("index.json"):
            top = _chosen(_json(archive, "index.json").get("manifests"), choice, _names_of_descriptor)
            payload = await work.document(top["digest"])
            media_type = top.get("mediaType")
        elif archive.has("manifest.json"):
            saved = _chosen(_json(archive, "manifest.json"), choice, _names_of_saved)
            payload, media_type = await work.convert(saved), DOCKER_MANIFEST
        else:
            raise ArchiveUnusable(
                "it is neither an OCI layout nor what docker save writes: no index.json, no manifest.json"
            )
        return await work.push(payload, media_type, tag)

    async def give(self, repository: str, reference: str, target: Target) -> Moved:
        """Write an image, with all its platforms that are here, as an OCI layout.

        Raises:
            ManifestUnknown, BlobUnknown: It is not here, or not whole.
        """
        return await _Giving(self, repository, target).give(reference)


@dataclass(slots=True)
class _Taking:
    """One image on its way in."""

    images: Images
    archive: Archive
    repository: str
    actor: str
    pushed: int = 0
    blobs: int = 0
    size: int = 0

    async def push(self, payload: bytes, media_type: str | None, reference: str) -> Moved:
        manifest = manifests.parse(payload, media_type)
        for one in manifest.references:
            if one.foreign:
                continue
            if one.kind is Kind.CHILD and (one.media_type in manifests.IMAGES or one.media_type in INDEXES):
                if self.archive.has(_path(one.digest)):
                    await self.push(await self.document(one.digest), one.media_type, one.digest)
            else:
                await self._push_blob(one.digest)
        self.pushed += 1
        self.size += len(payload)
        reference_ = Digest.parse(reference) if is_digest(reference) else reference
        await self.images.manifests.put(self.repository, reference_, (), payload, manifest.media_type, actor=self.actor)
        return Moved(manifest.digest, self.pushed, self.blobs, self.size)

    async def document(self, digest: Any) -> bytes:
        """The bytes of a manifest; that they are the digest's is seen when they are pushed under it."""
        if not isinstance(digest, str) or not is_digest(digest):
            raise ArchiveUnusable("index.json names something by no digest")
        content = await asyncio.to_thread(self.archive.read, _path(digest), _MOST_JSON)
        if Digest.of(content, digest.partition(":")[0]) != digest:
            raise ArchiveUnusable(f"the bytes of {digest} have another digest")
        return content

    async def convert(self, saved: Mapping[str, Any]) -> bytes:
        """Make a manifest for what an old docker saved, pushing its parts."""
        config = await asyncio.to_thread(self.archive.read, _text(saved, "Config"), _MOST_JSON)
        described = [await self._push_bytes(config, _CONFIG)]
        for layer in saved.get("Layers") or ():
            with tempfile.TemporaryFile() as file:
                descriptor = await asyncio.to_thread(_compress, self.archive, str(layer), file)
                await self._push_file(Digest(descriptor["digest"]), file, descriptor["size"])
                described.append(descriptor)
        body = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": described[0], "layers": described[1:]}
        return json.dumps(body, indent=3).encode()

    async def _push_blob(self, digest: Digest) -> None:
        if await self._is_there(digest):
            return
        with self.archive.open(_path(digest)) as (file, size):
            await self._push_file(digest, file, size)

    async def _push_bytes(self, content: bytes, media_type: str) -> dict[str, Any]:
        digest = Digest.of(content)
        if not await self._is_there(digest):
            await self._upload(digest, _once(content), len(content))
        return {"mediaType": media_type, "size": len(content), "digest": digest}

    async def _push_file(self, digest: Digest, file: IO[bytes], size: int) -> None:
        if not await self._is_there(digest):
            await self._upload(digest, _pieces(file), size)

    async def _upload(self, digest: Digest, body: AsyncIterator[bytes], size: int) -> None:
        await self.images.uploads.push(self.repository, digest, Chunk(body, length=size), actor=self.actor)
        self.blobs += 1
        self.size += size

    async def _is_there(self, digest: Digest) -> bool:
        try:
            await self.images.blobs.promise(self.repository, digest)
        except BlobUnknown:
            return False
        return True


@dataclass(slots=True)
class _Giving:
    """One image on its way out."""

    images: Images
    repository: str
    target: Target
    written: int = 0
    blobs: int = 0
    size: int = 0

    async def give(self, reference: str) -> Moved:
        found = await self.images.manifests.find(self.repository, reference)
        top = await self._manifest(Digest(found.digest))
        assert top
        name = f"{self.repository}:{reference}" if not is_digest(reference) else f"{self.repository}@{reference}"
        names = {} if is_digest(reference) else {_NAME: name, _REF: reference}
        descriptor = {"mediaType": top.media_type, "digest": top.digest, "size": len(top.payload)}
        index = {
            "schemaVersion": 2,
            "mediaType": manifests.OCI_INDEX,
            "manifests": [descriptor | {"annotations": names}],
        }
        await self._write("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        await self._write("index.json", json.dumps(index).encode())
        if saved := await self._saved(top, [] if is_digest(reference) else [name]):
            await self._write("manifest.json", json.dumps([saved]).encode())
        return Moved(top.digest, self.written, self.blobs, self.size)

    async def _manifest(self, digest: Digest, *, required: bool = True) -> Manifest | None:
        manifest = await self._read(digest, required=required)
        if manifest is None or not await self._write(_path(digest), manifest.payload):
            return manifest
        self.written += 1
        for one in manifest.references:
            if one.kind is Kind.CHILD and await self._manifest(one.digest, required=False):
                continue
            await self._blob(one.digest, required=not one.foreign and one.kind is not Kind.CHILD)
        return manifest

    async def _read(self, digest: Digest, *, required: bool) -> Manifest | None:
        try:
            stored = await self.images.manifests.find(self.repository, digest)
        except ManifestUnknown:
            if required:
                raise
            return None  # another platform, which this registry need not have, or an old build cache's layer
        payload = await self.images.manifests.payload(self.repository, stored)
        return manifests.parse(payload, stored.media_type, algorithm=digest.algorithm)

    async def _blob(self, digest: Digest, *, required: bool) -> None:
        try:
            blob = await self.images.blobs.find(self.repository, digest)
            reader = await self.images.blobs.open(blob)
        except BlobUnknown:
            if required:
                raise
            return
        try:
            if await self.target.write(_path(digest), blob.size, reader.chunks(0, blob.size)):
                self.blobs += 1
                self.size += blob.size
        finally:
            reader.close()

    async def _write(self, path: str, content: bytes) -> bool:
        written = await self.target.write(path, len(content), _once(content))
        self.size += len(content) if written else 0
        return written

    async def _saved(self, top: Manifest, names: Sequence[str]) -> dict[str, Any] | None:
        """What `docker load` looks for; of an index, the image for linux/amd64, or else its first."""
        image: Manifest | None = top
        if top.media_type in INDEXES:
            children = sorted(top.references, key=lambda one: one.platform != "linux/amd64")
            found = [await self._read(one.digest, required=False) for one in children[:1]]
            image = found[0] if found else None
        if image is None or image.media_type not in manifests.IMAGES:
            return None
        config = next(one for one in image.references if one.kind is Kind.CONFIG)
        layers = [_path(one.digest) for one in image.references if one.kind is Kind.LAYER]
        return {"Config": _path(config.digest), "RepoTags": list(names), "Layers": layers}


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(archive: Archive, name: str) -> Any:
    try:
        return json.loads(archive.read(name, _MOST_JSON))
    except (ValueError, RecursionError):
        raise ArchiveUnusable(f"{name} is not JSON") from None


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise ArchiveUnusable(f"manifest.json: {name} is missing")
    return value


def _chosen(entries: Any, choice: str | None, names: Any) -> dict[str, Any]:
    """The image that is meant."""
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries) or not entries:
        raise ArchiveUnusable("it holds no image")
    if choice is None and len(entries) == 1:
        return dict(entries[0])
    fitting = [each for each in entries if choice is not None and choice in names(each)]
    if not fitting:
        called = ", ".join(name for each in entries for name in names(each))
        raise ArchiveUnusable(f"which image of it is meant? Choose one with --image: {called or 'none has a name'}")
    return dict(fitting[0])


def _names_of_descriptor(entry: Mapping[str, Any]) -> list[str]:
    annotations = entry.get("annotations")
    values = [annotations.get(key) for key in (_NAME, _REF)] if isinstance(annotations, dict) else []
    return [str(value) for value in (*values, entry.get("digest")) if value]


def _names_of_saved(entry: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in entry.get("RepoTags") or ()]


def _compress(archive: Archive, name: str, output: IO[bytes]) -> dict[str, Any]:
    """A layer as it is pushed, in `output`, which stands at its start again. The same bytes give the same digest."""
    with archive.open(name) as (file, _):
        first = file.read(4)
        if first.startswith((_GZIP, _ZSTD)):
            output.write(first)
            while piece := file.read(_PIECE):
                output.write(piece)
        else:
            with gzip.GzipFile(filename="", mode="wb", fileobj=output, mtime=0, compresslevel=6) as packed:
                packed.write(first)
                while piece := file.read(_PIECE):
                    packed.write(piece)
    size = output.tell()
    output.seek(0)
    digest = "sha256:" + hashlib.file_digest(output, "sha256").hexdigest()  # type: ignore[arg-type]
    output.seek(0)
    media_type = _LAYER.removesuffix("gzip") + "zstd" if first.startswith(_ZSTD) else _LAYER
    return {"mediaType": media_type, "size": size, "digest": digest}


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE):
        yield piece


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
