"""Distribution's view of the volume is kept current."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog

from stackyard.jobs.imports import Import
from stackyard.registry import failures
from stackyard.registry.following import LEASE, Following, forget
from stackyard.registry.leases import Leases
from stackyard.registry.registry import Registry

log = structlog.get_logger("stackyard.follow")

_AT_THE_END = 4.0  # seconds; a container is killed ten after it was asked to stop


@dataclass(frozen=True, slots=True)
class Follow:
    """What changes is shown, or, where nobody wants that, only forgotten."""

    registry: Registry
    importing: Import
    follow: bool = True
    pause: timedelta = timedelta(seconds=10)
    """Between two looks whether another process has stopped doing it."""

    async def run(self) -> None:
        """Follow for ever; cancel to stop, which takes the moment that it takes to follow what was left."""
        database, following = self.registry.imports.database, self.registry.following
        leases = Leases(database)
        await self.importing.run()  # what is still being read must not change
        work = following.run if following and self.follow else partial(forget, database)
        try:
            await leases.keep_running(LEASE, work, every=self.pause)
        except asyncio.CancelledError:
            if following and self.follow:
                await self._finish(leases, following)
            raise

    async def _finish(self, leases: Leases, following: Following) -> None:
        try:
            async with asyncio.timeout(_AT_THE_END):
                await leases.run(LEASE, following.finish)
        except TimeoutError:
            log.warning(
                "docker-registry's view of the volume is behind; before it serves the volume, run: "
                "stackyard export --distribution CONFIG"
            )
        except Exception as error:  # the disk may be full or the database away
            failures.tell("docker-registry's view of the volume could not be brought up to date", error)
