"""`gc.untagged`: finds the manifests that lost their last tag or never had one, for the collector to look at.

Two notes of how far it has read, in the manifests and in the history of tags, make it follow what happens: each row is
read once, also those from before the setting was switched on and those that an import brings. Nothing is written on
the path of a push.
"""

import json
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from stackyard.metadata import hiding, retention
from stackyard.metadata.database import Database
from stackyard.registry.leases import Lease, Leases
from stackyard.registry.settings import Settings

_NAME = "untagged"
_EVERY = timedelta(minutes=5)
_PER_TRANSACTION = 200
_SETTLED = timedelta(minutes=10)
"""No transaction takes so long; the numbers of rows younger than this may not be complete."""


@dataclass(frozen=True, slots=True)
class Untagged:
    """The search of this process."""

    database: Database
    settings: Settings
    leases: Leases
    settled: timedelta = _SETTLED

    async def keep(self) -> None:
        """Search for ever; cancel to stop."""
        await self.leases.keep_running(_NAME, self.round, every=_EVERY)

    async def round(self, lease: Lease) -> int:
        """Queue what came since the last round; how many rows were read."""
        span = self.settings.untagged
        assert span is not None
        note: dict[str, int] = json.loads(lease.state or "{}")
        seconds = int(span.total_seconds())
        if note.get("span") != seconds:
            note = {"span": seconds, "manifest": 0, "tag": 0}
        read = 0
        while True:
            new = await lease.write(self._queue, note["manifest"], note["tag"], span)
            note["manifest"], note["tag"], count = new
            await lease.save(json.dumps(note))
            read += count
            if not count:
                return read

    def _queue(self, c: Connection, manifest: int, tag: int, span: timedelta) -> tuple[int, int, int]:
        part = hiding.Part(_PER_TRANSACTION, span, self.settled)
        manifest, manifests = hiding.queue_new(c, part, after=manifest)
        tag, tags = hiding.queue_ended(c, part, after=tag, now=retention.now(c))
        return manifest, tag, manifests + tags
