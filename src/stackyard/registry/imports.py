"""Taking over what Distribution left on the volume, in place: rows are written, and no byte of it is moved or changed.

A repository is imported as a whole, when somebody first asks for it or when its turn comes in the background,
whichever is first. Nobody sees a part of one. Any process may do it, also several at once: see `metadata/imports.py`.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog

from stackyard.metadata import imports
from stackyard.metadata.database import Database
from stackyard.metadata.imports import FoundBlob, FoundManifest, Problem, Progress, Settled
from stackyard.oci import layout
from stackyard.oci.digests import Digest, is_digest
from stackyard.oci.errors import ManifestInvalid
from stackyard.oci.manifests import Manifest
from stackyard.registry.distribution import Contents, Document, Tree, batches, read_manifest
from stackyard.registry.leases import Lease
from stackyard.registry.manifests import Manifests
from stackyard.registry.settings import Settings
from stackyard.storage.driver import BlobStore
from stackyard.storage.smallfiles import SmallFiles

T = TypeVar("T")

log = structlog.get_logger("stackyard.import")

LEASE = "import"
# Per transaction; two or three rows for each link, ten or so for each manifest.
_LINKS = 100
_MANIFESTS = 20
_NAMES = 200
_UNREFERENCED = 100
_COUNTED = 200
_SECONDS_PER_LINE = 5.0
# Seconds that a catalogue waits for the names, and how often it looks.
_PATIENCE, _POLL = 5.0, 0.05

Tell = Callable[[str, int, int], None]
"""Called with a repository's name when it is done, its manifests and its tags."""


@dataclass(slots=True)
class Imports:
    """The import of this volume, as one process sees it."""

    store: BlobStore
    database: Database
    manifests: Manifests
    settings: Settings
    files: SmallFiles | None
    """None: nothing can have been there before."""
    pending: bool = False
    """Whether something may not be imported yet. Once it is False it stays False, and costs nothing."""
    _under_way: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def look(self) -> None:
        """Find out whether there is something to import. To be awaited before the first request is answered."""
        if self.files is not None:
            state = (await self.database.read(imports.progress)).state
            self.pending = state in ("listing", "reading")

    async def ensure(self, repository: str) -> None:
        """All of the repository is imported, if it is on the volume. To be awaited while `pending`.

        With '' it only finds out whether something is still pending.
        """
        row = await self.database.fetch(imports.STATE, repository)
        state, of_repository = row or ("done", None)
        if state not in ("listing", "reading"):
            self.pending = False
        elif of_repository == "waiting" or (
            of_repository is None and repository and state == "listing" and await self._discover(repository)
        ):
            await self._import_once(repository)

    async def listed(self) -> None:
        """The names of all repositories on the volume are known, or `_PATIENCE` is over."""
        for _ in range(int(_PATIENCE / _POLL)):
            if not self.pending or (await self.progress()).state != "listing":
                return
            await asyncio.sleep(_POLL)

    async def adopt(self, digest: Digest, size: int) -> None:
        """Own what lies where a pushed blob would lie. To be awaited while `pending`, before it looks for a place.

        Otherwise the push would take the location for its own, find it taken, and have its bytes collected.
        """
        if self.files is not None:
            (lies,) = await self.files.sizes([layout.blob(digest, 0)])
            if lies is not None:
                await self.database.write_relaxed(imports.adopt, digest, lies, size)

    async def progress(self) -> Progress:
        """How far the import is."""
        return await self.database.read(imports.progress)

    async def problems(self) -> list[Problem]:
        """Everything that could not be taken over as it was."""
        found: list[Problem] = []
        last = 0
        while batch := await self.database.read(imports.problems, after=last, limit=_NAMES):
            found += [problem for _, problem in batch]
            last = batch[-1][0]
        return found

    async def run(self, lease: Lease | None, tell: Tell | None = None) -> None:
        """Import everything that is not imported yet. Ended at any point, the next run goes on from there."""
        if self.files is None or (await self.progress()).state not in ("listing", "reading"):
            self.pending = False
            return
        work = _Background(self, self.files, lease, tell)
        await work.run()
        self.pending = False

    async def _discover(self, name: str) -> bool:
        """Whether the volume has this repository, which nobody has come across yet. Then it is known from now on."""
        assert self.files
        found = await Tree(self.files).is_repository(name)
        if found is None:
            return False
        await self.database.write_relaxed(imports.found, [(found.name, found.listed)])
        return True

    async def _import_once(self, name: str) -> None:
        """Import a repository, with all who wait for it in this process."""
        task = self._under_way.get(name)
        if task is None:
            task = self._under_way[name] = asyncio.create_task(self.import_repository(name))
            task.add_done_callback(lambda _: self._under_way.pop(name, None))
        await asyncio.shield(task)

    async def import_repository(self, name: str) -> None:
        """Import one repository. Returns when it is imported, by whomever."""
        assert self.files
        if await self.database.write_relaxed(imports.open_repository, name) is None:
            return
        tree = Tree(self.files)
        work = _Repository(self, tree, name, await tree.contents(name))
        try:
            await work.run()
        except Settled:
            return


@dataclass(slots=True)
class _Repository:
    """One repository on its way."""

    imports: Imports
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

    async def run(self) -> None:
        """Write all its rows, then show it. Raises Settled."""
        contents, database = self.contents, self.imports.database
        await self._links(list(contents.layers.items()))
        # The first release of Distribution 2.1 kept the links of manifests among those of blobs.
        old = {tag.digest: tag.updated_at for tag in contents.tags if tag.digest in contents.layers}
        revisions = old | contents.revisions
        for batch in batches(list(revisions.items()), _MANIFESTS):
            await self._manifests(batch)
        await self._lacking()
        tags = [tag for tag in contents.tags if tag.digest in self.held]
        for tag in contents.tags:
            if tag.digest not in self.held:
                self._problem(layout.tag(self.name, tag.name), f"skipped: it points to {tag.digest}, which is not here")
        for some in batches(tags, _LINKS):
            await self._write(imports.add_tags, some)
        await self._keep()
        for problems in batches(contents.problems, _LINKS):
            await database.write_relaxed(imports.add_problems, problems)
        times = [*contents.revisions.values(), *contents.layers.values()]
        shown = False
        while not shown:
            shown = await database.write(
                imports.finish,
                self.name,
                created_at=min(times, default=datetime.now(UTC)),
                manifests=len(self.held),
                tags=len(tags),
                limit=_COUNTED,
            )

    async def _links(self, links: Sequence[tuple[Digest, datetime]]) -> None:
        for batch in batches(links, _LINKS):
            found = await self.tree.blobs(batch)
            live = await self._write(imports.add_blobs, found)
            self.here |= live
            for one in found:
                if one.digest not in live:
                    self._problem(layout.layer(self.name, one.digest), "skipped: the blob's bytes are not there")

    async def _manifests(self, links: Sequence[tuple[Digest, datetime]]) -> None:
        documents = await self.tree.documents(links)
        read = await asyncio.to_thread(lambda: [_read(each) for each in documents])
        found = []
        for document, manifest in zip(documents, read, strict=True):
            if isinstance(manifest, str):
                self._problem(layout.revision(self.name, document.digest), f"skipped: {manifest}")
                if document.file is not None:
                    self.skipped.append((document.digest, document.linked_at))
                continue
            found.append(FoundManifest(self.imports.manifests.pushed(manifest), document.linked_at))
        if found:
            await self._write(imports.add_manifests, found, self.here)
        for one in found:
            self._note(one)

    def _note(self, found: FoundManifest) -> None:
        pushed = found.pushed
        self.held.add(pushed.digest)
        self.named.update(each.digest for each in pushed.references)
        needed = [each for each in pushed.references if each.required]
        self.children.update(each.digest for each in needed if each.kind == "child")
        for each in needed:
            if each.kind != "child" and each.digest not in self.here:
                path = layout.revision(self.name, pushed.digest)
                self._problem(path, f"incomplete: it names {each.digest}, which is not here")

    async def _lacking(self) -> None:
        lacking = sorted(self.children - self.held - self.here)
        for batch in batches(lacking, _LINKS):
            await self._write(imports.lacking, batch)
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
            await self._write(imports.add_due, batch, wait=self.imports.settings.undo)

    def _problem(self, path: str, reason: str) -> None:
        self.contents.problems.append(Problem(path, reason))

    async def _write(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Not durable by itself: who shows the repository waits for all of it."""
        return await self.imports.database.write_relaxed(function, self.name, *args, **kwargs)


@dataclass(slots=True)
class _Background:
    """The import of everything, in its turn."""

    imports: Imports
    files: SmallFiles
    lease: Lease | None
    """None: nobody else does it, or it does not matter."""
    tell: Tell | None
    told: float = 0.0

    async def run(self) -> None:
        progress = await self.imports.progress()
        if progress.state == "listing":
            await self._list()
        await self._read()
        await self._adopt()
        await self._write(imports.begin, "done")
        progress = await self.imports.progress()
        log.info(
            "the volume is imported",
            repositories=progress.repositories,
            manifests=progress.manifests,
            tags=progress.tags,
            problems=progress.problems,
        )

    async def _list(self) -> None:
        problems: list[Problem] = []
        names: list[tuple[str, bool]] = []
        async for found in Tree(self.files).repositories(problems):
            names.append((found.name, found.listed))
            if len(names) == _NAMES:
                await self._write(imports.found, names)
                names = []
        await self._write(imports.found, names)
        for some in batches(problems, _LINKS):
            await self._write(imports.add_problems, some)
        await self._write(imports.begin, "reading")

    async def _read(self) -> None:
        failures = 0
        last = ""
        while batch := await self.imports.database.read(imports.waiting, after=last, limit=_NAMES):
            for name in batch:
                last = name
                try:
                    await self._read_one(name)
                except Exception:  # one damaged folder must not keep the others waiting
                    failures += 1
                    log.exception("a repository could not be imported; trying again later", repository=name)
        if failures:
            raise Unfinished(f"{failures} repositories could not be imported")

    async def _read_one(self, name: str) -> None:
        if self.lease:
            self.lease.require()
        await self.imports._import_once(name)
        if self.tell:
            self.tell(name, 0, 0)
        now = asyncio.get_running_loop().time()
        if now - self.told > _SECONDS_PER_LINE:
            self.told = now
            progress = await self.imports.progress()
            log.info(
                "importing the volume",
                repositories=progress.repositories,
                waiting=progress.waiting,
                manifests=progress.manifests,
            )

    async def _adopt(self) -> None:
        """Own the blobs that no repository links, so that they do not lie there for ever."""
        batch: list[FoundBlob] = []
        async for found in self.imports.store.walk(layout.BLOBS):
            *_, algorithm, _, hexadecimal, name = found.location.split("/")
            digest = f"{algorithm}:{hexadecimal}"
            if name == "data" and is_digest(digest):
                batch.append(FoundBlob(Digest(digest), found.size, found.modified))
            if len(batch) == _UNREFERENCED:
                await self._write(imports.adopt_unreferenced, batch, wait=self.imports.settings.undo)
                batch = []
        if batch:
            await self._write(imports.adopt_unreferenced, batch, wait=self.imports.settings.undo)

    async def _write(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        write = self.lease.write if self.lease else self.imports.database.write
        return await write(function, *args, **kwargs)


class Unfinished(Exception):
    """Not everything could be imported; what could is."""


def _read(document: Document) -> Manifest | str:
    try:
        return read_manifest(document)
    except ManifestInvalid as error:
        return error.text.removeprefix("manifest invalid: ")
