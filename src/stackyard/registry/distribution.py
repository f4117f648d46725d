"""What Distribution's tree on a volume says: read, never changed, and believed only where it can be checked."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from stackyard.metadata.imports import Problem
from stackyard.metadata.takeover import FoundBlob, FoundTag
from stackyard.oci import layout, manifests
from stackyard.oci.digests import ALGORITHMS, Digest, is_digest
from stackyard.oci.errors import ManifestInvalid
from stackyard.oci.manifests import Manifest
from stackyard.oci.names import is_repository, is_tag
from stackyard.storage.smallfiles import SmallFile, SmallFiles

T = TypeVar("T")

_LINK = 1024  # bytes; a digest has 135 at most
_BATCH = 200  # files per change of thread


@dataclass(frozen=True, slots=True)
class FoundRepository:
    """A repository's folder."""

    name: str
    listed: bool
    """Whether it has manifests: only then does Distribution list it."""


@dataclass(slots=True)
class Contents:
    """What the links of one repository say."""

    layers: dict[Digest, datetime] = field(default_factory=dict)
    """What was pushed as a blob, and when."""
    revisions: dict[Digest, datetime] = field(default_factory=dict)
    """What was pushed as a manifest, and when."""
    tags: list[FoundTag] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Document:
    """The bytes at a manifest's place."""

    place: FoundBlob
    file: SmallFile | None


class Tree:
    """Distribution's tree, through whatever holds it."""

    def __init__(self, files: SmallFiles) -> None:
        """Reads nothing yet."""
        self.files = files

    async def repositories(self, problems: list[Problem]) -> AsyncIterator[FoundRepository]:
        """Every repository, in no order. Folders whose names are none of a repository go to `problems`."""
        waiting = [""]
        while waiting:
            above = waiting.pop()
            names = await self.files.folders(f"{layout.REPOSITORIES}/{above}" if above else layout.REPOSITORIES)
            if layout.MANIFESTS in names or layout.LAYERS in names:
                yield FoundRepository(above, layout.MANIFESTS in names)
            elif layout.UNFINISHED in names:
                path = f"{layout.repository(above)}/{layout.UNFINISHED}"
                problems.append(Problem(path, "skipped: nothing was ever finished here"))
            for name in names:
                below = f"{above}/{name}" if above else name
                if is_repository(below):
                    waiting.append(below)
                elif name not in (layout.MANIFESTS, layout.LAYERS, layout.UNFINISHED):
                    problems.append(Problem(layout.repository(below), "skipped: not the name of a repository"))

    async def is_repository(self, name: str) -> FoundRepository | None:
        """The repository of this name, None when there is none."""
        names = await self.files.folders(layout.repository(name))
        if layout.MANIFESTS not in names and layout.LAYERS not in names:
            return None
        return FoundRepository(name, layout.MANIFESTS in names)

    async def contents(self, name: str) -> Contents:
        """All links of a repository."""
        found = Contents()
        found.layers = await self._links(layout.layers(name), found.problems)
        found.revisions = await self._links(layout.revisions(name), found.problems)
        await self._tags(name, found)
        for upload in await self.files.folders(f"{layout.repository(name)}/{layout.UNFINISHED}"):
            path = f"{layout.repository(name)}/{layout.UNFINISHED}/{upload}"
            found.problems.append(Problem(path, "skipped: an upload that was not finished"))
        return found

    async def blobs(self, links: Sequence[tuple[Digest, datetime]]) -> list[FoundBlob]:
        """The bytes that links stand for."""
        sizes = await self.files.sizes([layout.blob(digest, 0) for digest, _ in links])
        return [FoundBlob(digest, size, at) for (digest, at), size in zip(links, sizes, strict=True)]

    async def documents(self, found: Sequence[FoundBlob]) -> list[Document]:
        """The bytes of manifests, where they are not too many for one."""
        places = [layout.blob(one.digest, one.copy) for one in found]
        files = await self.files.read(places, limit=manifests.MAX_SIZE)
        return [Document(one, file) for one, file in zip(found, files, strict=True)]

    async def _links(self, folder: str, problems: list[Problem]) -> dict[Digest, datetime]:
        found: dict[Digest, datetime] = {}
        for algorithm in await self.files.folders(folder):
            names = await self.files.folders(f"{folder}/{algorithm}")
            if algorithm not in ALGORITHMS and names:
                reason = f"skipped: digests by {algorithm} cannot be verified here"
                problems.append(Problem(f"{folder}/{algorithm}", reason))
                continue
            for batch in batches(names, _BATCH):
                paths = [f"{folder}/{algorithm}/{name}/link" for name in batch]
                files = await self.files.read(paths, limit=_LINK)
                for name, path, file in zip(batch, paths, files, strict=True):
                    digest = _link(path, f"{algorithm}:{name}", file, problems)
                    if digest and file:
                        found[digest] = file.modified
        return found

    async def _tags(self, name: str, found: Contents) -> None:
        for batch in batches(await self.files.folders(layout.tags(name)), _BATCH):
            paths = [layout.tag(name, each) for each in batch]
            for tag, path, file in zip(batch, paths, await self.files.read(paths, limit=_LINK), strict=True):
                text = _text(file)
                if not is_tag(tag):
                    found.problems.append(Problem(path, "skipped: not the name of a tag"))
                elif file is None:
                    found.problems.append(Problem(path, "skipped: the tag has no link to what it points to"))
                elif not is_digest(text):
                    reason = "skipped: the link is empty" if not text else "skipped: the link is no digest"
                    found.problems.append(Problem(path, f"{reason}, so nobody knows what the tag pointed to"))
                else:
                    found.tags.append(FoundTag(tag, Digest(text), file.modified))


def read_manifest(document: Document) -> Manifest:
    """The manifest, byte for byte. Raises ManifestInvalid with the reason that it is skipped for."""
    if document.file is None:
        raise ManifestInvalid("its bytes are not there")
    payload = document.file.content
    if payload is None:
        raise ManifestInvalid(f"it has {document.file.size} bytes, and {manifests.MAX_SIZE} are the most")
    digest = document.place.digest
    if Digest.of(payload, digest.algorithm) != digest:
        raise ManifestInvalid("its bytes have another digest")
    try:
        return manifests.parse(payload, None, algorithm=digest.algorithm)
    except ManifestInvalid:
        media_type = _sniff(payload)
        if media_type is None:
            raise
    return manifests.parse(payload, media_type, algorithm=digest.algorithm)


def batches(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The values in order, at most `size` at a time."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _link(path: str, named: str, file: SmallFile | None, problems: list[Problem]) -> Digest | None:
    """The digest that a link stands for: what it holds, or where a crash left nothing in it, what its folder says."""
    text = _text(file)
    if file is None:
        problems.append(Problem(path, "skipped: there is no link in the folder"))
    elif is_digest(text):
        if text != named:
            problems.append(Problem(path, f"skipped under this digest: it is another name of {text}"))
        return Digest(text)
    elif is_digest(named):
        problems.append(Problem(path, "the link was damaged; its folder told what it stands for"))
        return Digest(named)
    else:
        problems.append(Problem(path, "skipped: no digest"))
    return None


def _text(file: SmallFile | None) -> str:
    return (file.content or b"").decode("ascii", "replace").strip() if file else ""


def _sniff(payload: bytes) -> str | None:
    """The media type, which Distribution keeps nowhere: the document's own, else that of its form."""
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or isinstance(document.get("mediaType"), str):
        return None
    if document.get("schemaVersion") == 1:
        return None  # and is told apart by `parse`
    return manifests.OCI_INDEX if "manifests" in document else manifests.OCI_MANIFEST
