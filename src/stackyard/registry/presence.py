"""Are the files that rows tell of still there, after somebody else had the volume?

docker-registry's own garbage collection removes the bytes of whatever no manifest that it sees names: what was deleted
here and could still be restored, layers that no image needs yet. Rows tell of them on. A client that is told "I have
it", or that sends the bytes again and sees them dropped as known, would lose its push. So whoever finds that folders of
blobs have changed since they were last known to be right asks the disk for each blob that a push relies on, until the
background has looked at every row of those folders. After that nobody asks any more, and it costs nothing.

Our own writes change the folders as well: while we run, what is known is renewed once a minute.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

import structlog

from stackyard.metadata import checking, imports, leases, scrubbing
from stackyard.metadata.database import Database
from stackyard.metadata.scrubbing import Copy
from stackyard.oci import layout
from stackyard.oci.digests import Digest, is_digest
from stackyard.registry.distribution import batches
from stackyard.registry.leases import Lease, Leases
from stackyard.storage.smallfiles import SmallFiles

log = structlog.get_logger("stackyard.presence")

LEASE = "presence"
MISSING = "its file is missing"
_EVERY = timedelta(minutes=1)
_PAGE = 200
_SHARE = 0.5  # of its time that the background takes at most

Times: TypeAlias = dict[str, int]
"""When each folder of blobs changed last, as the file system tells it."""


@dataclass(slots=True)
class Presence:
    """What this process knows of it."""

    database: Database
    files: SmallFiles | None
    """None: nobody else can have had the store."""
    doubtful: bool = False
    """Whether a row may tell of a file that is gone."""
    _turn: int = field(default=0)
    """How often what is known had been renewed when this process began to doubt; 0: never yet."""
    _looked: bool = field(default=False)
    """Whether this process has looked at what changed before it: what changes later is our own work."""

    async def look(self) -> None:
        """Find out whether there is reason for doubt. To be awaited before the first request is answered."""
        if self.files is not None:
            turn, known = _parsed(await self.database.read(leases.state, LEASE))
            self._turn, self.doubtful = turn, known != await _times(self.files)
            self._looked = not self.doubtful

    async def settle(self, digests: Iterable[Digest]) -> None:
        """Of these blobs none is shown that is not there. To be awaited while `doubtful`, before a push needs them."""
        turn, _ = _parsed(await self.database.read(leases.state, LEASE))
        if turn > self._turn:
            self.doubtful = False
            return
        wanted = sorted(set(digests))
        copies = [copy for one in wanted for copy in await self.database.read(scrubbing.live, one, one, limit=1)]
        await self._judge(copies, self.database.write)

    async def strangers(self) -> int:
        """How many blobs came to the volume that no row tells of, since what is known was renewed.

        0 where nothing is known yet. To be asked before anybody of ours writes.
        """
        if self.files is None:
            return 0
        turn, known = _parsed(await self.database.read(leases.state, LEASE))
        if not turn:
            return 0
        changed = [folder for folder, at in (await _times(self.files)).items() if known.get(folder) != at]
        return sum([await self._count_strangers(folder) for folder in changed])

    async def _count_strangers(self, folder: str) -> int:
        assert self.files
        algorithm = folder.partition("/")[0]
        digests = [f"{algorithm}:{name}" for name in await self.files.folders(f"{layout.BLOBS}/{folder}")]
        count = 0
        for some in batches([Digest(each) for each in digests if is_digest(each)], _PAGE):
            strange = await self.database.read(checking.strange, some)
            sizes = await self.files.sizes([layout.blob(each, 0) for each in strange])
            count += sum(size is not None for size in sizes)
        return count

    async def keep(self, leased: Leases) -> None:
        """Look at what changed while nobody of ours was here, then keep what is known current; cancel to stop."""
        if self.files is not None:
            await leased.keep_running(LEASE, self.renew, every=_EVERY, when=self._is_due)

    async def _is_due(self) -> bool:
        assert self.files
        if (await self.database.read(imports.progress)).state in ("listing", "reading"):
            return False  # whoever reads the volume looks at each file
        turn, known = _parsed(await self.database.read(leases.state, LEASE))
        return not turn or known != await _times(self.files)

    async def renew(self, lease: Lease) -> None:
        """What the rows tell of is there, or quarantined, as of now."""
        assert self.files
        turn, known = _parsed(lease.state)
        now = await _times(self.files)
        if not self._looked:
            changed = {folder for folder, at in now.items() if known.get(folder) != at}
            if not await self._look_through(sorted(changed | (known.keys() - now.keys())), lease):
                return
            self._looked = True
        await lease.save(json.dumps({"turn": turn + 1, "folders": now}))
        self.doubtful = False

    async def _look_through(self, folders: Sequence[str], lease: Lease) -> bool:
        """Quarantine what is not there. False when it seems to be the store that is not there."""
        gone, hurt = 0, set[str]()
        for folder in folders:
            began = time.monotonic()
            algorithm, prefix = folder.split("/")
            after, last = f"{algorithm}:{prefix}", f"{algorithm}:{prefix}g"
            while copies := await self.database.read(scrubbing.live, after, last, limit=_PAGE):
                found = await self._judge(copies, lease.write)
                if found is None:
                    log.warning("the volume has no note of ours: is the storage mounted?", note=layout.IN_USE)
                    return False
                gone, hurt = gone + len(found), hurt.union(*found)
                after = copies[-1].digest + "~"
                await asyncio.sleep((time.monotonic() - began) * (1 / _SHARE - 1))
                began = time.monotonic()
        if gone:
            log.warning(
                "blobs are gone that were here before: did docker-registry collect its garbage?",
                blobs=gone,
                tags=sorted(hurt),
            )
        return True

    async def _judge(
        self, copies: Sequence[Copy], write: Callable[..., Awaitable[list[str] | None]]
    ) -> list[list[str]] | None:
        """Quarantine those that are not there: for each the tags that it hurts. None: the store itself is away."""
        assert self.files
        note, *sizes = await self.files.sizes([layout.IN_USE, *(copy.location for copy in copies)])
        if note is None:
            return None
        found = []
        for copy, size in zip(copies, sizes, strict=True):
            if size is None and (tags := await write(scrubbing.quarantine, copy, MISSING)) is not None:
                found.append(tags)
                if tags:
                    log.error("a blob is gone: push it again", digest=copy.digest, tags=tags)
        return found


async def _times(files: SmallFiles) -> Times:
    folders = [
        f"{algorithm}/{prefix}"
        for algorithm in await files.folders(layout.BLOBS)
        for prefix in await files.folders(f"{layout.BLOBS}/{algorithm}")
    ]
    changed = await files.changed([f"{layout.BLOBS}/{folder}" for folder in folders])
    return {folder: at for folder, at in zip(folders, changed, strict=True) if at is not None}


def _parsed(state: str | None) -> tuple[int, Times]:
    note = json.loads(state or "{}")
    return note.get("turn", 0), note.get("folders", {})
