"""Volumes as Distribution writes them, made by hand: what its server would take too long for, or never writes."""

import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackyard.metadata import imports
from stackyard.metadata.database import Database
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.storage.filesystem.smallfiles import FilesystemSmallFiles
from stackyard.storage.filesystem.store import FilesystemStore

ROOT = "docker/registry/v2"
IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

Descriptor = dict[str, Any]


@dataclass(frozen=True)
class Tree:
    """A volume being written."""

    root: Path

    def blob(self, content: bytes, *, digest: str = "") -> str:
        """Bytes at their place; under another digest for what is damaged."""
        digest = digest or of(content)
        self._write(self.blob_path(digest), content)
        return digest

    def blob_path(self, digest: str) -> Path:
        algorithm, _, name = digest.partition(":")
        return self.root / ROOT / "blobs" / algorithm / name[:2] / name / "data"

    def layer(self, repository: str, content: bytes) -> Descriptor:
        """A blob that the repository links."""
        digest = self.blob(content)
        self.link(repository, "_layers", digest)
        return {"mediaType": LAYER, "digest": digest, "size": len(content)}

    def image(self, repository: str, *layers: Descriptor, tag: str = "", config: bytes = b"{}") -> Descriptor:
        """An image of these layers, tagged or not."""
        described = self.layer(repository, config) | {"mediaType": CONFIG}
        body = {"schemaVersion": 2, "mediaType": IMAGE, "config": described, "layers": layers}
        return self.manifest(repository, body, tag=tag)

    def index(self, repository: str, *children: Descriptor, tag: str = "") -> Descriptor:
        return self.manifest(repository, {"schemaVersion": 2, "mediaType": INDEX, "manifests": children}, tag=tag)

    def manifest(self, repository: str, body: object, *, tag: str = "") -> Descriptor:
        """Any document as a manifest."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        digest = self.blob(payload)
        self.link(repository, "_manifests/revisions", digest)
        if tag:
            self.tag(repository, tag, digest)
        media_type = body.get("mediaType", IMAGE) if isinstance(body, dict) else IMAGE
        return {"mediaType": media_type, "digest": digest, "size": len(payload)}

    def tag(self, repository: str, tag: str, digest: str) -> None:
        self.link(repository, f"_manifests/tags/{tag}/index", digest)
        self._write(self.repository(repository) / "_manifests/tags" / tag / "current/link", digest.encode())

    def link(self, repository: str, folder: str, digest: str, content: bytes | None = None) -> Path:
        """A link to a digest, with this content instead of the digest where it is damaged."""
        path = self.repository(repository) / folder / digest.replace(":", "/") / "link"
        self._write(path, digest.encode() if content is None else content)
        return path

    def upload(self, repository: str, upload_id: str = "0a1b") -> None:
        """An upload that was not finished."""
        folder = self.repository(repository) / "_uploads" / upload_id
        self._write(folder / "data", b"half")
        self._write(folder / "startedat", b"2026-01-02T03:04:05Z")

    def repository(self, name: str) -> Path:
        return self.root / ROOT / "repositories" / name

    def everything(self) -> dict[str, bytes]:
        """Every file of Distribution's tree, for comparing before and after."""
        base = self.root / ROOT
        return {str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*") if path.is_file()}

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (1_600_000_000, 1_600_000_000))


def of(content: bytes) -> str:
    """The digest."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


@asynccontextmanager
async def opened(tree: Tree, database: Database, settings: Settings, *, written: bool) -> AsyncIterator[Registry]:
    """The registry over a tree that docker-registry has `written`, or that is new."""
    store, files = FilesystemStore(tree.root), FilesystemSmallFiles(tree.root)
    await database.write(imports.settle, written=written)
    yield Registry.over(store, database, settings, files)
    await files.close()
    await store.close()
