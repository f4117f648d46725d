"""The volume is imported in the background, until all of it is."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import structlog

from stackyard.registry.imports import LEASE, Imports, Unfinished
from stackyard.registry.leases import LeaseLost, Leases

_SHARE = 0.75

log = structlog.get_logger("stackyard.import")


@dataclass(frozen=True, slots=True)
class Import:
    """What is on the volume, repository by repository."""

    imports: Imports
    leases: Leases
    pause: timedelta = timedelta(seconds=10)
    """Between two tries, where something failed or another process does it."""

    async def run(self) -> None:
        """Import until nothing is left; cancel to stop."""
        self.imports.share = _SHARE
        while self.imports.pending:
            try:
                await self.leases.run(LEASE, self.imports.run)
            except LeaseLost:
                log.warning("the import was taken over by another process")
            except Unfinished as error:
                log.error("the import is not complete; trying again", reason=str(error))
            except Exception:  # the disk may be full or the database away: that ends a round, and no more
                log.exception("the import failed; trying again")
            if self.imports.pending:
                await asyncio.sleep(self.pause.total_seconds())
                await self.imports.look()
