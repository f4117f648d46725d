"""Upload sessions that nobody came back to are ended (Distribution's `storage.maintenance.uploadpurging`).

And what killed processes left of sessions that are no more is removed.
"""

import asyncio
import random
from dataclasses import dataclass
from datetime import timedelta

import structlog

from stackyard.registry.uploads import Uploads

log = structlog.get_logger("stackyard.jobs")


@dataclass(frozen=True, slots=True)
class Purge:
    """When a session is too old, and how often to look."""

    uploads: Uploads
    age: timedelta = timedelta(days=7)
    interval: timedelta = timedelta(days=1)
    dry_run: bool = False

    async def run(self) -> None:
        """Purge for ever; cancel to stop.

        The first run comes within a tenth of the interval, at random, so that workers and nodes do not all look at
        once. Two that do take different sessions: cancelling one that is gone is no error.
        """
        await asyncio.sleep(random.random() * self.interval.total_seconds() / 10)  # noqa: S311 - spreads load, no secret
        while True:
            try:
                await self._purge()
            except Exception:  # the disk may be full or the database away: that ends a round, and no more
                log.exception("unfinished uploads could not be purged; trying again later")
            await asyncio.sleep(self.interval.total_seconds())

    async def _purge(self) -> None:
        purged = await self.uploads.purge(self.age, dry_run=self.dry_run)
        if purged:
            log.info("unfinished uploads purged", count=purged, dry_run=self.dry_run)
        reaped = await self.uploads.reap(dry_run=self.dry_run)
        if reaped:
            log.info("files of ended uploads removed", count=reaped, dry_run=self.dry_run)
