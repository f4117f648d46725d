"""Forgetting what nobody will ask for any more: old jobs, old entries of the audit log."""

from dataclasses import dataclass
from datetime import timedelta

import structlog

from stackyard.registry.leases import Lease
from stackyard.registry.registry import Registry

log = structlog.get_logger("stackyard.jobs")

_EVERY = timedelta(hours=1)
_KEEP_JOBS = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Trimming:
    """How much is kept."""

    registry: Registry
    keep: timedelta = timedelta(days=365)
    """Of the audit log, as the next one."""
    most: int = 1_000_000

    async def run(self) -> None:
        """Trim for ever; cancel to stop."""
        await self.registry.jobs.leases.keep_running("trim", self._trim, every=_EVERY)

    async def _trim(self, _: Lease) -> None:
        jobs = await self.registry.jobs.trim(keep=_KEEP_JOBS)
        entries = await self.registry.audit.trim(keep=self.keep, most=self.most)
        if jobs or entries:
            log.info("trimmed", jobs=jobs, audit=entries)
