"""Taking over what Distribution left on the volume, in place: rows are written, and no byte of it is moved or changed.

A repository is imported as a whole, when somebody first asks for it or when its turn comes in the background,
whichever is first. Nobody sees a part of one. Any process may do it, also several at once: see `metadata/takeover.py`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from stackyard.metadata import imports, takeover
from stackyard.metadata.database import Database
from stackyard.metadata.imports import Problem, Progress
from stackyard.metadata.takeover import FoundBlob, Settled
from stackyard.oci import layout
from stackyard.oci.digests import Digest, is_digest
from stackyard.registry.distribution import Tree, batches
from stackyard.registry.leases import Lease
from stackyard.registry.settings import Settings
from stackyard.registry.takeover import Takeover
from stackyard.storage.driver import BlobStore
from stackyard.storage.smallfiles import SmallFiles

T = TypeVar("T")

log = structlog.get_logger("stackyard.import")

LEASE = "import"
# Per transaction.
_PROBLEMS = 100
_NAMES = 200
_UNREFERENCED = 100
_SECONDS_PER_LINE = 5.0
# Seconds that a catalogue waits for the names, and how often it looks.
_PATIENCE, _POLL = 5.0, 0.05


@dataclass(slots=True)
class Imports:
    """The import of this volume, as one process sees it."""

    store: BlobStore
    database: Database
    settings: Settings
    files: SmallFiles | None
    """None: nothing can have been there before."""
    recovering: bool = False
    """Whether a database of ours, which is lost, knew of later copies on this volume."""
    share: float = 1.0
    """Of its time that an import takes at most, so that whoever pushes finds the way free."""
    pending: bool = False
    """Whether something may not be imported yet. Once it is False it stays False, and costs nothing."""
    _under_way: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    @classmethod
    def over_files(cls, files: SmallFiles, settings: Settings) -> "Imports":
        """For a `survey`, which needs nothing else."""
        nothing: Any = None
        return cls(nothing, nothing, settings, files)

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
                await self.database.write_relaxed(takeover.adopt, digest, lies, size)

    async def progress(self) -> Progress:
        """How far the import is."""
        return await self.database.read(imports.progress)

    async def page(self, *, after: int, limit: int) -> list[tuple[int, Problem]]:
        """Some of the problems with their numbers, in the order in which they were found, after number `after`."""
        return await self.database.read(imports.problems, after=after, limit=limit)

    async def problems(self) -> list[Problem]:
        """Everything that could not be taken over as it was."""
        found: list[Problem] = []
        last = 0
        while batch := await self.page(after=last, limit=_NAMES):
            found += [problem for _, problem in batch]
            last = batch[-1][0]
        return found

    async def run(self, lease: Lease | None) -> None:
        """Import everything that is not imported yet. Ended at any point, the next run goes on from there."""
        if self.files is None or (await self.progress()).state not in ("listing", "reading"):
            self.pending = False
            return
        await _Background(self, self.files, lease).run()
        self.pending = False

    async def survey(self, tell: Callable[[Progress], None]) -> list[Problem]:
        """Read everything that an import would, and write nothing. What would not be taken over as it is."""
        assert self.files
        tree, problems = Tree(self.files), list[Problem]()
        names = sorted([found.name async for found in tree.repositories(problems)])
        manifests = tags = 0
        for done, name in enumerate(names, start=1):
            work = Takeover(self, tree, name, await tree.contents(name), dry=True)
            tags += len(await work.look())
            manifests += len(work.held)
            problems += work.contents.problems
            tell(Progress("reading", len(names), len(names) - done, manifests, tags, len(problems)))
        return problems

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
        if await self.database.write_relaxed(takeover.open_repository, name) is None:
            return
        tree = Tree(self.files)
        work = Takeover(self, tree, name, await tree.contents(name))
        try:
            await work.run()
        except Settled:
            return


@dataclass(slots=True)
class _Background:
    """The import of everything, in its turn."""

    imports: Imports
    files: SmallFiles
    lease: Lease | None
    """None: nobody else does it, or it does not matter."""
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
        for some in batches(problems, _PROBLEMS):
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
            copy = layout.copy_number(name)
            if is_digest(digest) and (copy == 0 or (copy is not None and self.imports.recovering)):
                batch.append(FoundBlob(Digest(digest), found.size, found.modified, copy))
            if len(batch) == _UNREFERENCED:
                await self._write(takeover.adopt_unreferenced, batch, wait=self.imports.settings.undo)
                batch = []
        if batch:
            await self._write(takeover.adopt_unreferenced, batch, wait=self.imports.settings.undo)

    async def _write(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        write = self.lease.write if self.lease else self.imports.database.write
        return await write(function, *args, **kwargs)


class Unfinished(Exception):
    """Not everything could be imported; what could is."""
