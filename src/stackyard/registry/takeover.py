"""One repository of Distribution's, from its links to the rows that it becomes."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from stackyard.metadata import imports, takeover
from stackyard.metadata.imports import Problem
from stackyard.metadata.takeover import FoundBlob, FoundManifest, FoundTag
from stackyard.oci import configs, layout
from stackyard.oci.digests import Digest
from stackyard.oci.errors import ManifestInvalid
from stackyard.oci.manifests import Kind, Manifest
from stackyard.registry.copies import Copies
from stackyard.registry.distribution import Contents, Document, Tree, batches, read_manifest
from stackyard.registry.expiry import Inside
from stackyard.registry.manifests import pushed

if TYPE_CHECKING:
    from stackyard.registry.imports import Imports

T = TypeVar("T")

# Per transaction; two or three rows for each link, ten or so for each manifest.
_LINKS = 100
_MANIFESTS = 10
_COUNTED = 200


@dataclass(slots=True)
class Takeover:
    """One repository on its way."""

    imports: "Imports"
    tree: Tree
    name: str
    contents: Contents
    here: set[str] = field(default_factory=set)
    """Digests of blobs that the repository links."""
    held: set[str] = field(default_factory=set)
    """Digests of its manifests."""
    named: set[str] = field(default_factory=set)
    children: set[str] = field(default_factory=set)
    """What its manifests need as children."""
    skipped: list[tuple[Digest, datetime]] = field(default_factory=list)
    dry: bool = False
    """Whether everything is only looked at."""

    async def look(self) -> list[FoundTag]:
        """Read everything, and unless `dry` write the rows of blobs and manifests. The tags that point to any."""
        contents = self.contents
        await self._links(list(contents.layers.items()))
        # The first release of Distribution 2.1 kept the links of manifests among those of blobs.
        old = {tag.digest: tag.updated_at for tag in contents.tags if tag.digest in contents.layers}
        revisions = old | contents.revisions
        for batch in batches(list(revisions.items()), _MANIFESTS):
            began = time.monotonic()
            await self._manifests(batch)
            await asyncio.sleep((time.monotonic() - began) * (1 / self.imports.share - 1))
        await self._lacking()
        tags = [tag for tag in contents.tags if tag.digest in self.held]
        for tag in contents.tags:
            if tag.digest not in self.held:
                self._problem(layout.tag(self.name, tag.name), f"skipped: it points to {tag.digest}, which is not here")
        return tags

    async def run(self) -> None:
        """Write all its rows, then show it. Raises Settled."""
        contents, database = self.contents, self.imports.database
        tags = await self.look()
        for some in batches(tags, _LINKS):
            await self._write(takeover.add_tags, some, undo=self.imports.settings.undo)
        await self._keep()
        for problems in batches(contents.problems, _LINKS):
            await database.write_relaxed(imports.add_problems, problems)
        times = [*contents.revisions.values(), *contents.layers.values()]
        shown = False
        while not shown:
            shown = await database.write(
                takeover.finish,
                self.name,
                created_at=min(times, default=datetime.now(UTC)),
                manifests=len(self.held),
                tags=len(tags),
                limit=_COUNTED,
            )

    async def _links(self, links: Sequence[tuple[Digest, datetime]]) -> None:
        for batch in batches(links, _LINKS):
            found = await (self._places(batch) if self.imports.recovering else self.tree.blobs(batch))
            if self.dry:
                live = {str(one.digest) for one in found if one.size is not None}
            else:
                live = await self._write(takeover.add_blobs, found)
            self.here |= live
            for one in found:
                if one.digest not in live:
                    self._problem(layout.layer(self.name, one.digest), "skipped: the blob's bytes are not there")

    async def _places(self, links: Sequence[tuple[Digest, datetime]]) -> list[FoundBlob]:
        assert self.imports.files
        return await Copies(self.imports.store, self.imports.files).find(links)

    async def _manifests(self, links: Sequence[tuple[Digest, datetime]]) -> None:
        places = (
            await self._places(links) if self.imports.recovering else [FoundBlob(digest, 0, at) for digest, at in links]
        )
        documents = await self.tree.documents(places)
        read = await asyncio.to_thread(lambda: [_read(each) for each in documents])
        platforms = await self._platforms([each for each in read if isinstance(each, Manifest)])
        found = []
        for document, manifest in zip(documents, read, strict=True):
            place = document.place
            if isinstance(manifest, str):
                self._problem(layout.revision(self.name, place.digest), f"skipped: {manifest}")
                if document.file is not None:
                    self.skipped.append((place.digest, place.created_at))
                continue
            found.append(
                FoundManifest(
                    pushed(self.imports.settings, manifest, Inside(platforms.get(manifest.digest))),
                    replace(place, size=len(manifest.payload)),
                    place.created_at,
                )
            )
        if found and not self.dry:
            await self._write(takeover.add_manifests, found, self.here)
        for one in found:
            self._note(one)

    async def _platforms(self, found: Sequence[Manifest]) -> dict[Digest, str | None]:
        """For which platforms images are, as far as their configurations can be read; by the manifest's digest."""
        named = {
            manifest.digest: one
            for manifest in found
            for one in manifest.references
            if one.kind is Kind.CONFIG and one.digest in self.here and one.media_type in configs.MEDIA_TYPES
        }
        places = [layout.blob(one.digest, 0) for one in named.values()]
        read = await self.tree.files.read(places, limit=configs.MAX_SIZE)
        contents = [(each.content if each else None) or b"" for each in read]
        parsed = await asyncio.to_thread(lambda: [configs.parse(each) for each in contents])
        return {digest: each.platform for digest, each in zip(named, parsed, strict=True)}

    def _note(self, found: FoundManifest) -> None:
        self.held.add(found.pushed.digest)
        self.named.update(each.digest for each in found.pushed.references)
        needed = [each for each in found.pushed.references if each.required]
        self.children.update(each.digest for each in needed if each.kind == "child")
        for each in needed:
            if each.kind != "child" and each.digest not in self.here:
                path = layout.revision(self.name, found.pushed.digest)
                self._problem(path, f"incomplete: it names {each.digest}, which is not here")

    async def _lacking(self) -> None:
        lacking = sorted(self.children - self.held - self.here)
        for batch in batches(lacking, _LINKS):
            if not self.dry:
                await self._write(takeover.lacking, batch)
        for digest in lacking:
            path = layout.revision(self.name, Digest(digest))
            self._problem(path, "incomplete: an index names it, and it is not here")

    async def _keep(self) -> None:
        """Let collection look at what no manifest names, unless there are manifests that could not be read.

        What those may need, and their own bytes, stays linked, and is never looked at by itself.
        """
        if self.skipped:
            await self._links(self.skipped)
            return
        loose = sorted(self.here - self.named)
        for batch in batches(loose, _LINKS):
            await self._write(takeover.add_due, batch, wait=self.imports.settings.undo)

    def _problem(self, path: str, reason: str) -> None:
        self.contents.problems.append(Problem(path, reason))

    async def _write(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Not durable by itself: who shows the repository waits for all of it."""
        return await self.imports.database.write_relaxed(function, self.name, *args, **kwargs)


def _read(document: Document) -> Manifest | str:
    try:
        return read_manifest(document)
    except ManifestInvalid as error:
        return error.text.removeprefix("manifest invalid: ")
