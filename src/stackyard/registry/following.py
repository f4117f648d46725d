"""Distribution's view of the volume, kept current behind the database: with it docker-registry can serve the volume.

Every write that changes what a repository shows leaves an entry in `follow`. Whoever holds the lease takes the
entries, asks the rows what holds *now*, and makes the files say so: links to blobs, manifests and tags, and the bytes
of manifests. So order, repetition and a crash at any point do no harm, and no request waits for any of it.

The argument about bytes. A location is owned by one row, and what the follower writes is no exception: the bytes of a
manifest get a blob row of their own, pending before the first byte and live when they are durable, which collection
leaves alone while a manifest of that digest exists. Distribution looks for a blob only at its first location. Where the
live copy is a later one, because the first was collected once, the first location is a *second name* of its file. That
name is no row's: once there was a second copy of a digest, no row is ever given the first location again. A row that
still has it, because collection is not done with it, comes first: the name is made when that row is forgotten, which
leaves an entry. The name goes when the last copy is forgotten, which leaves one, too.

A collector that slept past its lease, and woke between the forgetting of the first copy's row and its own deletion of
that path, deletes the second name: never bytes, since the copy has a name of its own, which only its own row's
collector deletes. Stackyard serves on; Distribution lacks one blob until the next `stackyard export --distribution`,
which looks at every file. The same holds for a follower that slept. Both look at their lease's deadline just before.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from stackyard.metadata import blobs, follow, imports, views
from stackyard.metadata.database import Database
from stackyard.metadata.prepared import Row
from stackyard.metadata.views import View
from stackyard.oci import layout
from stackyard.oci.digests import Digest
from stackyard.registry.leases import Lease, Leases
from stackyard.storage.driver import BlobStore, LocationGone
from stackyard.storage.smallfiles import SmallFiles

log = structlog.get_logger("stackyard.follow")

LEASE = "follow"
_BATCH = 1000
_PAGE = 200
_FORGOTTEN = 500
_POLL = 1.0  # seconds
_REST = 7  # times as long as it worked
_LONGEST_REST = 5.0  # seconds
_COPIES = 1000
_PAYLOADS = 8 << 20  # bytes of manifests at a time
_WATCH = 0.2  # seconds
_NAMED = 1000
_REASONS = {
    "missing": "incomplete: it names content that is not here",
    "quarantined": "its bytes are damaged: push it again",
}


@dataclass(slots=True)
class Written:
    """What a look at everything changed, and what cannot be shown."""

    repositories: int = 0
    written: int = 0
    """Links that were not there or said something else."""
    removed: int = 0


@dataclass(frozen=True, slots=True)
class Following:
    """The follower of this volume."""

    store: BlobStore
    database: Database
    files: SmallFiles

    async def run(self, lease: Lease) -> None:
        """Follow for as long as the lease is held; cancel to stop."""
        while True:
            if not await self.database.read(imports.is_view_complete):
                await self.write_all(lease)
            began = time.monotonic()
            await self.catch_up(lease)
            # Pushes come first: what they leave costs about as much as they do, most of it in making folders.
            await asyncio.sleep(min(max(_POLL, _REST * (time.monotonic() - began)), _LONGEST_REST))

    async def finish(self, lease: Lease) -> None:
        """Follow all that is there to follow."""
        while await self.catch_up(lease):
            pass

    async def update(self, leases: Leases, tell: Callable[[Written], None] = lambda so_far: None) -> Written | None:
        """Look at every repository now, here or in the process that follows already.

        Returns:
            What was changed; None when another process did it.
        """

        async def work(lease: Lease) -> Written:
            written = await self.write_all(lease, tell)
            await self.finish(lease)
            return written

        await self.database.write(imports.view_complete, False)
        while not await self.database.read(imports.is_view_complete):
            written = await leases.run(LEASE, work)
            if written is not None:
                return written
            await asyncio.sleep(_WATCH)
        return None

    async def unservable(self) -> list[tuple[str, str]]:
        """What Distribution cannot serve, and why: pairs of what and why."""
        return [(what, _REASONS[why]) for what, why in await self.database.survey(views.unservable, limit=_NAMED)]

    async def catch_up(self, lease: Lease) -> int:
        """Follow the oldest entries; how many there were."""
        entries = await self.database.read(follow.waiting, limit=_BATCH)
        if entries:
            view = await self.database.read(views.resolve, _distinct(entries))
            await self.show(view, lease)
            for repository_id, name in view.whole:
                await self._write_repository(lease, repository_id, name, Written())
            await lease.write(follow.done, [entry[0] for entry in entries])
        return len(entries)

    async def write_all(self, lease: Lease, tell: Callable[[Written], None] = lambda so_far: None) -> Written:
        """Look at every repository, and write what its files lack. Then the view is complete."""
        written, last = Written(), 0
        while page := await self.database.read(views.repositories, after=last, limit=_PAGE):
            for repository_id, name in page:
                await self._write_repository(lease, repository_id, name, written)
                written.repositories += 1
                tell(written)
            last = page[-1][0]
        await lease.write(imports.view_complete, True)
        return written

    async def show(self, view: View, lease: Lease) -> None:
        """Make the files say it, in an order in which each moment's view can be served."""
        await self._house([*dict.fromkeys(view.homeless)], lease)
        for digest, location in view.copies.items():
            await self._alias(digest, location)
        lease.require()
        await self.files.remove([*_gone(view)])
        await self.files.write(dict(_files(view)))
        for digest in view.loose:
            lease.require()
            await self.store.delete(layout.blob(digest, 0))

    async def _house(self, digests: Sequence[Digest], lease: Lease) -> None:
        """Keep manifests' bytes in the store, in blobs of their own."""
        waiting = digests
        while waiting:
            payloads = await self.database.read(views.payloads, waiting, limit=_PAYLOADS)
            waiting = waiting[len(payloads) :]
            await self._house_together({digest: found for digest, found in payloads if found is not None}, lease)

    async def _house_together(self, payloads: Mapping[Digest, bytes], lease: Lease) -> None:
        for _ in range(_COPIES):
            if not payloads:
                return
            sizes = {digest: len(payload) for digest, payload in payloads.items()}
            places = await lease.write(blobs.allocate_all, sizes)
            contents = {location: payloads[digest] for digest, (_, location) in places.items()}
            taken = set(await self.store.put_all(contents))
            # A file that no row knew: never trusted, owned and collected from now on. The next number is tried.
            refused = [digest for digest, (_, location) in places.items() if location in taken]
            rows = {digest: blob_id for digest, (blob_id, _) in places.items()}
            for digest in await lease.write(views.settle_all, rows, refused):
                if not places[digest][1].endswith("/data"):
                    await self._alias(digest, places[digest][1])
            payloads = {digest: payloads[digest] for digest in refused}

    async def _alias(self, digest: Digest, location: str) -> None:
        try:
            if not await self.files.alias(location, layout.blob(digest, 0)):
                log.warning("docker-registry will not find a blob: its place is taken", digest=digest)
        except LocationGone:
            log.info("a blob was collected while it was shown", digest=digest)

    async def _write_repository(self, lease: Lease, repository_id: int, name: str, written: Written) -> None:
        """Look at all that a repository shows, page by page."""

        async def look(page: Sequence[Row], kind: follow.Kind) -> None:
            entries = [(0, repository_id, kind, row[0]) for row in page]
            await self._write_page(lease, await self.database.read(views.resolve, entries), written)

        await self._pages(views.links, repository_id, lambda page: look(page, "link"))
        await self._pages(views.manifests, repository_id, lambda page: look(page, "manifest"))
        await self._pages(views.ended, repository_id, lambda page: look(page, "tag"))
        await self._pages(views.tags, repository_id, lambda page: look(page, "tag"))

    async def _pages(
        self, query: Callable[..., list[Row]], repository_id: int, each: Callable[[Sequence[Row]], Awaitable[None]]
    ) -> None:
        after = ""
        while page := await self.database.read(query, repository_id, after=after, limit=_PAGE):
            await each(page)
            after = page[-1][0]

    async def _has_entries(self, folder: str) -> bool:
        (files,) = await self.files.entries([folder])
        return bool(files or await self.files.folders(folder))

    async def _write_page(self, lease: Lease, view: View, written: Written) -> None:
        """As `show`, leaving alone what is right already."""
        files = dict(_files(view))
        found = await self.files.read([*files], limit=1024)
        for path, one in zip([*files], found, strict=True):
            if one is not None and one.content == files[path]:
                del files[path]
        folders = [folder for folder in _gone(view) if await self._has_entries(folder)]
        written.written += len(files)
        written.removed += len(folders)
        lease.require()
        await self.show(View(copies=view.copies, homeless=view.homeless), lease)
        await self.files.remove(folders)
        await self.files.write(files)


async def forget(database: Database, lease: Lease) -> None:
    """Nobody follows: entries are thrown away, and who follows again has to look at everything.

    For moments only, so that `update` finds the lease free.
    """
    while entries := await database.read(follow.waiting, limit=_FORGOTTEN):
        await lease.write(imports.view_complete, False)
        await lease.write(follow.done, [entry[0] for entry in entries])


def _distinct(entries: Sequence[Row]) -> list[Row]:
    return list({entry[1:]: entry for entry in entries}.values())


def _files(view: View) -> "list[tuple[str, bytes]]":
    """Links to what is there, before those that lead to it: a view that is cut short shows less, and nothing wrong."""
    blobs = [(layout.layer(*key), key[1]) for key, shown in view.links.items() if shown]
    manifests = [(layout.revision(*key), key[1]) for key, shown in view.manifests.items() if shown]
    tags = [
        (path, digest) for (name, tag), digest in view.tags.items() if digest for path in _of_tag(name, tag, digest)
    ]
    return [(path, digest.encode()) for path, digest in (*blobs, *manifests, *tags)]


def _of_tag(name: str, tag: str, digest: Digest) -> tuple[str, str]:
    return layout.tag_entry(name, tag, digest), layout.tag(name, tag)


def _gone(view: View) -> list[str]:
    """Folders of what is not there, the ones that lead elsewhere first."""
    tags = [f"{layout.tags(name)}/{tag}" for (name, tag), digest in view.tags.items() if not digest]
    manifests = [_folder(layout.revision(*key)) for key, shown in view.manifests.items() if not shown]
    links = [_folder(layout.layer(*key)) for key, shown in view.links.items() if not shown]
    whole = [f"{layout.repository(name)}/{part}" for name in view.gone for part in (layout.MANIFESTS, layout.LAYERS)]
    return [*tags, *whole, *manifests, *links]


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
