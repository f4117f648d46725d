"""Distribution's view of the volume is kept current."""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from stackyard.jobs.imports import Import
from stackyard.registry.following import LEASE, forget
from stackyard.registry.leases import Leases
from stackyard.registry.registry import Registry


@dataclass(frozen=True, slots=True)
class Follow:
    """What changes is shown, or, where nobody wants that, only forgotten."""

    registry: Registry
    importing: Import
    follow: bool = True
    pause: timedelta = timedelta(seconds=10)
    """Between two looks whether another process has stopped doing it."""

    async def run(self) -> None:
        """Follow for ever; cancel to stop."""
        database, following = self.registry.imports.database, self.registry.following
        await self.importing.run()  # what is still being read must not change
        work = following.run if following and self.follow else partial(forget, database)
        await Leases(database).keep_running(LEASE, work, every=self.pause)
