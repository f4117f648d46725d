"""Scrub: every stored blob is read back now and then, so that damage is found before somebody needs the bytes.

A damaged copy is quarantined: clients get 404 and not wrong bytes, and a push of the same image, which then uploads
the blob again, heals every repository at once.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from stackyard.metadata import imports, scrubbing
from stackyard.metadata.database import Database
from stackyard.metadata.scrubbing import Copy
from stackyard.oci.digests import Digest
from stackyard.oci.errors import Unavailable
from stackyard.registry.leases import Lease, Leases
from stackyard.storage.driver import BlobStore, LocationGone, StorageError

log = structlog.get_logger("stackyard.scrub")

LEASE = "scrub"
_INTERVAL = timedelta(minutes=1)
_PAGE = 100
_PATIENCE = timedelta(seconds=30)
# So many in a row without a file: not damage, but a store that is not there.
_TOO_MANY_MISSING = 20
_MISSING = "its file is missing"


@dataclass(slots=True)
class Scrubbed:
    """What a pass found so far."""

    blobs: int = 0
    size: int = 0
    """Bytes read."""
    damaged: list[str] = field(default_factory=list)
    """Digests that were quarantined in it."""
    healed: list[str] = field(default_factory=list)
    """Digests that were in quarantine and turned out right."""
    last: int = 0
    """Row of the last blob looked at: where the pass goes on after an interruption."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A blob in quarantine."""

    digest: str
    location: str
    size: int
    """Bytes that it should have."""
    damage: str
    tags: list[str]
    """Who misses it, `repository:tag`; a hundred at most."""


Tell = Callable[[Scrubbed], Awaitable[None]]


async def silent(so_far: Scrubbed) -> None:
    """Nobody wants to know."""


class StoreMissing(Unavailable):
    """So much is missing that the store itself must be."""


@dataclass(slots=True)
class Scrub:
    """The scrubber of this process. One of all processes works at a time, under a lease."""

    store: BlobStore
    database: Database
    leases: Leases
    rate: int = 8 << 20
    """Bytes per second in the background; 0: never."""
    every: timedelta = timedelta(days=30)
    """From the beginning of one pass to that of the next."""

    async def keep(self) -> None:
        """Scrub in the background, for ever and slowly; cancel to stop."""
        if self.rate:
            await self.leases.keep_running(LEASE, self._pass_when_due, every=_INTERVAL)

    async def _pass_when_due(self, lease: Lease) -> None:
        if (await self.database.read(imports.progress)).state in ("listing", "reading"):
            return  # or the pass would be over, for a month, before most of the volume is known
        note = json.loads(lease.state or "{}")
        now = datetime.now(UTC)
        found = Scrubbed(**note.pop("found")) if "found" in note else None
        if found is None:
            if "began" in note and now - datetime.fromisoformat(note["began"]) < self.every:
                return
            found, note = Scrubbed(), {"began": now.isoformat()}
        await self._go_on(lease, note, found, self.rate, silent)
        log.info("scrubbed", blobs=found.blobs, bytes=found.size, damaged=len(found.damaged))

    async def run(self, *, rate: int = 0, tell: Tell = silent) -> Scrubbed:
        """One whole pass now, from the beginning, at `rate` bytes per second (0: as fast as possible).

        Raises:
            StoreMissing: Nothing was quarantined any more, as the store itself seems to be away.
            Unavailable: Another process scrubs and does not end.
        """

        async def work(lease: Lease) -> Scrubbed:
            found = Scrubbed()
            await self._go_on(lease, {"began": datetime.now(UTC).isoformat()}, found, rate, tell)
            return found

        return await self.leases.insist(LEASE, work, patience=_PATIENCE)

    async def damaged(self, *, after: str, limit: int) -> list[Damaged]:
        """What is in quarantine, by digest, strictly after `after`, and whom it hurts."""
        return [
            Damaged(*row, await self.database.read(scrubbing.hurt, row[0]))
            for row in await self.database.read(scrubbing.damaged, after=after, limit=limit)
        ]

    async def _go_on(self, lease: Lease, note: dict[str, object], found: Scrubbed, rate: int, tell: Tell) -> None:
        after, missing = found.last, list[Copy]()
        while copies := await self.database.read(scrubbing.page, after=after, limit=_PAGE):
            right: list[int] = []
            for copy in copies:
                began = time.monotonic()
                damage = await self._damage(copy)
                if damage == _MISSING:
                    missing.append(copy)
                    _require_store(missing)
                else:
                    await self._judge_missing(lease, missing, found)
                    await self._judge(lease, copy, damage, found, right)
                found.blobs, found.size = found.blobs + 1, found.size + copy.size
                await tell(found)
                if rate:
                    await asyncio.sleep(max(0.0, copy.size / rate - (time.monotonic() - began)))
            after = copies[-1].id
            found.last = missing[0].id - 1 if missing else after
            await lease.write(scrubbing.verified, right)
            await lease.save(json.dumps({**note, "found": asdict(found)}))
        await self._judge_missing(lease, missing, found)
        await lease.save(json.dumps(note))

    async def _judge_missing(self, lease: Lease, missing: list[Copy], found: Scrubbed) -> None:
        """The store is there, so these are really not."""
        while missing:
            await self._judge(lease, missing.pop(), _MISSING, found, [])

    async def _judge(self, lease: Lease, copy: Copy, damage: str, found: Scrubbed, right: list[int]) -> None:
        if not damage and not copy.quarantined:
            right.append(copy.id)
        elif not damage and await lease.write(scrubbing.release, copy):
            found.healed.append(copy.digest)
            log.info("a quarantined blob is whole after all", digest=copy.digest)
        elif damage and not copy.quarantined:
            tags = await lease.write(scrubbing.quarantine, copy, damage)
            if tags is not None:
                found.damaged.append(copy.digest)
                log.error("a damaged blob is quarantined: push it again", digest=copy.digest, damage=damage, tags=tags)

    async def _damage(self, copy: Copy) -> str:
        """What is wrong with its bytes; '' for nothing."""
        digest = Digest.parse(copy.digest)
        try:
            reader = await self.store.open(copy.location)
        except LocationGone:
            return _MISSING
        except StorageError as error:
            self._require_file(error)
            return f"its file cannot be opened: {error}"
        try:
            if reader.size != copy.size:
                return f"its file has {reader.size} bytes instead of {copy.size}"
            hasher = hashlib.new(digest.algorithm)
            async for chunk in reader.chunks(0, reader.size):
                hasher.update(chunk)
        except StorageError as error:
            self._require_file(error)
            return f"its bytes cannot be read: {error}"
        finally:
            reader.close()
        if hasher.hexdigest() != digest.hex:
            return f"its bytes have the digest {digest.algorithm}:{hasher.hexdigest()}"
        return ""

    def _require_file(self, error: StorageError) -> None:
        """Raises the error of a bucket: what does not answer is not damaged. A disk that fails has lost its bytes."""
        if not self.store.renames:
            raise error


def _require_store(missing: list[Copy]) -> None:
    if len(missing) >= _TOO_MANY_MISSING:
        raise StoreMissing(f"{len(missing)} blobs in a row have no file: is the storage mounted?")
