"""Collection: what nothing needs goes, while everybody pushes and pulls.

Row first, bytes second: a blob is marked, so that no reader sees it, and only when every reader who may have seen it
before has opened it are its bytes deleted, and then its row. Killed at any point, the next round goes on from the rows.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import Connection

from stackyard.metadata import audit, collection, due, hiding, holds, reclaimable, rounds, unneeded
from stackyard.metadata.blobs import PENDING_SPAN, READER_SPAN
from stackyard.metadata.collection import NO_GRACE, Doomed, Look
from stackyard.metadata.database import Database
from stackyard.metadata.due import FIRST, Entry
from stackyard.metadata.hiding import Untagged as Untagged
from stackyard.metadata.reclaimable import Reclaimable
from stackyard.oci.errors import Unavailable
from stackyard.registry import clockwatch
from stackyard.registry.clockwatch import ClockWatch
from stackyard.registry.leases import Lease, Leases
from stackyard.storage.driver import BlobStore, StorageError

log = structlog.get_logger("stackyard.collection")

INTERVAL = timedelta(seconds=5)
_HEARTBEAT = 3600.0  # seconds between two looks at the clock while nothing is due
_SHARE = 0.2  # of its time that the background takes at most, so that whoever pushes finds the way free
_FEW, _MANY = 25, 500  # entries per transaction: in the background, and when somebody waits for the end
_DELETIONS = 64  # between two looks at the lease
_AT_A_TIME = 8  # of them in one thread: a change of thread costs as much as a deletion, and disks like company
_FAILED_SPAN = timedelta(minutes=10)
_PATIENCE = timedelta(seconds=30)
_TURN = timedelta(seconds=20)
"""How long the background keeps the lease while much is due: less than the patience of who asks for a run."""
_AT_ONCE = timedelta()
_MARGIN = timedelta(seconds=1)


@dataclass(slots=True)
class Freed:
    """What a run took away so far."""

    manifests: int = 0
    links: int = 0
    repositories: int = 0
    blobs: int = 0
    size: int = 0
    """Bytes."""
    untagged: int = 0
    """Manifests that the run itself deleted, as nothing needed them."""

    def add(self, looks: Mapping[Entry, Look]) -> None:
        """Count what went in one transaction."""
        for entry, look in looks.items():
            self.manifests += look.manifests
            if entry.kind == "manifest":
                self.manifests += look.gone
            elif entry.kind == "link":
                self.links += look.gone
            elif entry.kind == "repository":
                self.repositories += look.gone


Tell = Callable[[Freed], Awaitable[None]]


async def silent(freed: Freed) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class _Style:
    """How a run goes about it."""

    readers: timedelta
    grace: timedelta = NO_GRACE
    chunk: int = _FEW
    share: float = _SHARE
    untagged: Untagged | None = None
    tell: Tell = silent
    turn: timedelta = timedelta.max


class Held(Unavailable):
    """Somebody needs everything to stay."""


@dataclass(slots=True)
class Collection:
    """The collector of this process. One of all processes works at a time, under a lease."""

    store: BlobStore
    database: Database
    leases: Leases
    undo: timedelta
    """What a rule hides can be restored for so long."""
    untagged: Untagged | None = None
    """Which manifests go that nobody deleted; None: none."""
    linger: timedelta = READER_SPAN
    """How long bytes outlive their mark, for those who saw their row just before."""
    watch: ClockWatch = field(default_factory=ClockWatch)
    turn: timedelta = _TURN
    """After so long the background gives way to whoever waits to collect, and goes on later."""
    _beat: float = field(default=-math.inf, init=False)

    # -- by itself

    async def keep(self) -> None:
        """Collect in the background, for ever and slowly; cancel to stop."""
        await self.leases.keep_running(holds.COLLECTION, self._round, every=INTERVAL, when=self._is_time)

    async def _is_time(self) -> bool:
        return time.monotonic() - self._beat > _HEARTBEAT or bool(await self.database.read(due.ready, limit=1))

    async def _round(self, lease: Lease) -> None:
        self._beat = time.monotonic()
        if reason := await self.watch.paused(lease):
            log.warning("collection is paused; if the clock is right, say: stackyard gc --resume", reason=reason)
            self._beat += _HEARTBEAT / 2
            return
        freed = Freed()
        try:
            await self._drain(lease, freed, _Style(self.linger, untagged=self.untagged, turn=self.turn))
        except Held as held:
            log.info("nothing is collected for now", reason=held.text)
        if freed != Freed():
            log.info("collected", **_named(freed))

    # -- on demand

    async def run(
        self,
        *,
        grace: timedelta | None = None,
        readers: timedelta | None = None,
        untagged: Untagged | None = None,
        tell: Tell = silent,
    ) -> Freed:
        """Collect all that can go now, as fast as possible, and wait until its bytes are gone.

        Args:
            grace: Cuts the undo spans of what was deleted before; what was promised stays so long in any case.
            readers: In place of `linger`; zero when nobody reads.
            untagged: Delete, as it says, every manifest that nothing needs.
            tell: Called with what went so far.

        Raises:
            Held: A backup or an export needs everything to stay.
            Unavailable: The clock is not to be believed, or another process collects and does not end.
        """
        style = _Style(
            self.linger if readers is None else readers,
            NO_GRACE if grace is None else grace,
            _MANY,
            1.0,
            untagged or self.untagged,
            tell,
        )
        freed = Freed()

        async def work(lease: Lease) -> Freed:
            if reason := await self.watch.paused(lease):
                raise Unavailable(f"{reason}; if the clock is right, say: stackyard gc --resume")
            if untagged:
                loose = await self.database.survey(unneeded.manifests)
                await self._queue_untagged(lease, untagged)
                await self._drain(lease, freed, style)
                freed.untagged = len(loose) - await self.database.survey(unneeded.count_left, loose)
            if grace is not None:
                await self._pass(lease, freed, style, ahead=NO_GRACE)
            await self._drain(lease, freed, style)
            while await self._wait_for_readers(lease, style):
                await self._drain(lease, freed, style)
            return freed

        return await self.leases.insist(holds.COLLECTION, work, patience=_PATIENCE)

    async def resume(self, *, actor: str) -> None:
        """The clock is right: go on."""

        async def work(lease: Lease) -> None:
            await clockwatch.resume(lease)
            await lease.write(audit.record, actor=actor, action="gc.resume")

        await self.leases.insist(holds.COLLECTION, work, patience=_PATIENCE)

    async def survey(self, *, grace: timedelta | None = None, delete_untagged: bool = False) -> Reclaimable:
        """What `run` would take away now. Changes nothing and waits for nobody."""
        return await self.database.survey(
            reclaimable.survey,
            grace=NO_GRACE if grace is None else grace,
            pending=PENDING_SPAN,
            delete_untagged=delete_untagged,
        )

    # -- one look after the other

    async def _queue_untagged(self, lease: Lease, untagged: Untagged) -> None:
        part, last, read = hiding.Part(_MANY, untagged.span, _AT_ONCE), 0, 1
        while read:
            last, read = await lease.write(hiding.queue_new, part, after=last)

    async def _drain(self, lease: Lease, freed: Freed, style: _Style) -> None:
        """Until nothing is due, or the turn is over."""
        end = time.monotonic() + style.turn.total_seconds()
        while await self._pass(lease, freed, style, end=end) and time.monotonic() < end:
            pass

    async def _pass(
        self, lease: Lease, freed: Freed, style: _Style, *, ahead: timedelta = _AT_ONCE, end: float = math.inf
    ) -> bool:
        """Look once at every entry that is due within `ahead`, as long as there is time; whether there was any.

        The bytes that one look gives free go while the next one looks.
        """
        last, deletions = FIRST, _Deletions()
        try:
            while entries := await self.database.read(due.ready, limit=style.chunk, ahead=ahead, after=last):
                last = entries[-1]
                await self._look(lease, entries, freed, style, deletions)
                if time.monotonic() > end:
                    break
        finally:
            await deletions.settle()
        await style.tell(freed)
        return last is not FIRST

    async def _wait_for_readers(self, lease: Lease, style: _Style) -> bool:
        """Sleep until marked bytes may go; False when there are none."""
        marked = await self.database.read(collection.count_marked, readers=style.readers + _MARGIN)
        if marked:
            await asyncio.sleep(min(1.0, style.readers.total_seconds() + 0.002))
        return bool(marked)

    async def _look(
        self, lease: Lease, entries: list[Entry], freed: Freed, style: _Style, deletions: "_Deletions"
    ) -> None:
        began = time.monotonic()
        # A power cut may take it back, and then it is done again.
        looks = await lease.write_relaxed(_collect, entries, style, self.undo)
        freed.add(looks)
        await deletions.settle()
        deletions.begin(self._delete(lease, looks, freed))
        if style.share < 1:
            await deletions.settle()
        await style.tell(freed)
        await asyncio.sleep((time.monotonic() - began) * (1 / style.share - 1))

    async def _delete(self, lease: Lease, looks: Mapping[Entry, Look], freed: Freed) -> None:
        """Bytes, then rows, then the entries that told of them."""
        told = [(entry, look) for entry, look in looks.items() if look.doomed]
        if not told:
            return
        doomed = {one.blob_id: one for _, look in told for one in look.doomed}  # two entries may tell of one
        gone: dict[int, Doomed] = {}
        await lease.write(_nothing)  # no power cut may show a blob again whose bytes are gone
        for batch in _parts(list(doomed.values()), _DELETIONS):
            lease.require()
            for deleted in await asyncio.gather(*map(self._delete_bytes, _parts(batch, _AT_A_TIME))):
                gone.update((one.blob_id, one) for one in deleted)
        forgotten = await lease.write_relaxed(_forget, told, gone)
        freed.blobs += len(forgotten)
        freed.size += sum(gone[blob_id].size for blob_id in forgotten)

    async def _delete_bytes(self, doomed: Sequence[Doomed]) -> Sequence[Doomed]:
        """The blobs whose bytes are gone."""
        try:
            await self.store.delete(*(one.location for one in doomed))
        except StorageError as error:
            if len(doomed) > 1:
                return [deleted for one in doomed for deleted in await self._delete_bytes([one])]
            log.error("bytes could not be deleted; trying again later", location=doomed[0].location, reason=str(error))
            return []
        return doomed


@dataclass(slots=True)
class _Deletions:
    """The one deletion of bytes that is under way."""

    _task: asyncio.Task[None] | None = None

    def begin(self, deletion: Coroutine[Any, Any, None]) -> None:
        """Start it. None may be under way."""
        self._task = asyncio.create_task(deletion)

    async def settle(self) -> None:
        """Wait for it. Raises what it does."""
        task, self._task = self._task, None
        if task:
            await task


def _nothing(c: Connection) -> None:
    """Be durable, and all that was committed before."""


def _collect(c: Connection, entries: list[Entry], style: _Style, undo: timedelta) -> dict[Entry, Look]:
    if hold := holds.current(c):
        raise Held(f"nothing is collected while {hold} needs everything to stay")
    return rounds.collect(c, entries, grace=style.grace, readers=style.readers, undo=undo, untagged=style.untagged)


def _forget(c: Connection, batch: list[tuple[Entry, Look]], gone: Mapping[int, Doomed]) -> list[int]:
    forgotten = collection.forget_blobs(c, gone.values())
    due.done(c, [entry for entry, _ in batch])
    waits = {
        entry: _FAILED_SPAN if any(one.blob_id not in gone for one in look.doomed) else look.again
        for entry, look in batch
    }
    due.add_again(c, {entry: wait for entry, wait in waits.items() if wait})
    return forgotten


def _parts(doomed: Sequence[Doomed], length: int) -> Iterable[Sequence[Doomed]]:
    return (doomed[start : start + length] for start in range(0, len(doomed), length))


def _named(freed: Freed) -> dict[str, int]:
    return {
        name: count
        for name, count in (
            ("manifests", freed.manifests),
            ("links", freed.links),
            ("repositories", freed.repositories),
            ("blobs", freed.blobs),
            ("bytes", freed.size),
        )
        if count
    }
