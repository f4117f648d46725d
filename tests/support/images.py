"""Images made from nothing, without any network.

Each is one tar that every client reads: `docker save`'s format and an OCI
layout at once, over the same blobs.
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

Descriptor = dict[str, Any]


@dataclass(frozen=True)
class Image:
    """An image on disk, not yet in any registry."""

    name: str
    """Its repository and tag inside the archive."""
    archive: Path
    layout: Path
    digest: str
    """Of its manifest or index."""
    config: str
    """Digest of its config: what docker and podman call the image's id. Empty for an index."""
    children: Mapping[str, str] = field(default_factory=dict)
    """Of an index: architecture to the config's digest."""


def small(folder: Path, name: str, *, layers: int = 2, architecture: str = "amd64") -> Image:
    """An image of tiny layers whose digests nobody else has: they hold `name` and random bytes."""
    layout = _Layout(folder)
    manifest, config = _image(layout, _tiny_layers(name, layers), architecture)
    return layout.finish(name, manifest, config)


def shared(folder: Path, name: str, layers: Sequence[bytes]) -> Image:
    """An image with a layer for each of these contents: other images of the same contents have the same layers."""
    layout = _Layout(folder)
    blobs = [_Blob.gzipped(tar({f"file-{_digest(content)[7:19]}": content})) for content in layers]
    manifest, config = _image(layout, blobs, "amd64")
    return layout.finish(name, manifest, config)


def big(folder: Path, name: str, *, size: int) -> Image:
    """An image whose one layer holds `size` bytes that no compression makes smaller."""
    layout = _Layout(folder)
    manifest, config = _image(layout, [_Blob.random_tar(layout.scratch, size)], "amd64")
    return layout.finish(name, manifest, config)


def multi_arch(folder: Path, name: str, architectures: Sequence[str] = ("amd64", "arm64")) -> Image:
    """An index with one small image per architecture."""
    layout = _Layout(folder)
    manifests, configs = [], {}
    for architecture in architectures:
        manifest, config = _image(layout, _tiny_layers(f"{name} {architecture}", 2), architecture)
        manifests.append(manifest | {"platform": {"os": "linux", "architecture": architecture}})
        configs[architecture] = config["digest"]
    body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    return layout.finish(name, layout.add_json(INDEX, body), None, configs)


def tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of these files, owned by root, without times."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@dataclass(frozen=True)
class _Blob:
    """A layer: its bytes in a file, and the digest of its uncompressed form."""

    file: Path | bytes
    diff_id: str
    media_type: str

    @classmethod
    def gzipped(cls, content: bytes) -> "_Blob":
        return cls(gzip.compress(content, mtime=0), _digest(content), LAYER + "+gzip")

    @classmethod
    def random_tar(cls, folder: Path, size: int) -> "_Blob":
        payload, file = folder / "payload", folder / "layer.tar"
        piece = 1 << 20
        with payload.open("wb") as output:
            for start in range(0, size, piece):
                output.write(os.urandom(min(piece, size - start)))
        with tarfile.open(file, "w") as archive:
            archive.add(payload, "payload")
        payload.unlink()
        with file.open("rb") as content:
            return cls(file, "sha256:" + hashlib.file_digest(content, "sha256").hexdigest(), LAYER)


class _Layout:
    """An OCI layout being filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "layout"
        self.scratch = folder / "scratch"
        self.blobs = self.folder / "blobs/sha256"
        self.blobs.mkdir(parents=True)
        self.scratch.mkdir()

    def add(self, media_type: str, content: bytes | Path, digest: str | None = None) -> Descriptor:
        """Put a blob in; a file is moved, and is believed to have `digest`."""
        if isinstance(content, Path):
            assert digest is not None
            target = self.blobs / digest.removeprefix("sha256:")
            content.rename(target)
            return {"mediaType": media_type, "digest": digest, "size": target.stat().st_size}
        digest = _digest(content)
        (self.blobs / digest.removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def add_json(self, media_type: str, value: object) -> Descriptor:
        return self.add(media_type, json.dumps(value, indent=3).encode())

    def finish(
        self, name: str, top: Descriptor, config: Descriptor | None, children: Mapping[str, str] | None = None
    ) -> Image:
        names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
        self._write("oci-layout", {"imageLayoutVersion": "1.0.0"})
        self._write("index.json", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [top | {"annotations": names}]})
        if config is not None:
            manifest = json.loads((self.blobs / top["digest"].removeprefix("sha256:")).read_text())
            layers = [_path(layer) for layer in manifest["layers"]]
            self._write("manifest.json", [{"Config": _path(config), "RepoTags": [name], "Layers": layers}])
        shutil.rmtree(self.scratch)
        archive = self.folder.parent / "image.tar"
        with tarfile.open(archive, "w") as output:
            for path in sorted(self.folder.rglob("*")):
                output.add(path, str(path.relative_to(self.folder)), recursive=False)
        return Image(name, archive, self.folder, top["digest"], config["digest"] if config else "", children or {})

    def _write(self, path: str, value: object) -> None:
        (self.folder / path).write_text(json.dumps(value))


def _image(layout: _Layout, layers: Sequence[_Blob], architecture: str) -> tuple[Descriptor, Descriptor]:
    """The descriptors of an image's manifest and of its config."""
    config = layout.add_json(
        CONFIG,
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created_by": f"layer {number}"} for number, _ in enumerate(layers)],
        },
    )
    # A file is an uncompressed layer, so its own digest is the one of its uncompressed form.
    described = [
        layout.add(layer.media_type, layer.file, layer.diff_id if isinstance(layer.file, Path) else None)
        for layer in layers
    ]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described}
    return layout.add_json(MANIFEST, manifest), config


def _tiny_layers(text: str, count: int) -> list[_Blob]:
    salt = os.urandom(16).hex()
    contents = (f"{text} {salt} {number}\n".encode() for number in range(count))
    return [_Blob.gzipped(tar({f"file{number}": content})) for number, content in enumerate(contents)]


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _path(descriptor: Descriptor) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/")
