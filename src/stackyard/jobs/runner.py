"""Doing the jobs that were asked for: one process of all for each kind at a time."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import structlog

from stackyard.registry import failures
from stackyard.registry.jobs import Jobs, Kind
from stackyard.registry.leases import LeaseLost

log = structlog.get_logger("stackyard.jobs")

_LOOK = 0.5  # seconds between two looks for work: one read each
_STEP_BACK = 3.0  # seconds before a kind that another process does, or that failed, is tried again


@dataclass(slots=True)
class Runner:
    """The runner of one process."""

    jobs: Jobs
    kinds: Mapping[str, Kind]
    """What can be asked for, by name, and how it is done."""
    _doing: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self) -> None:
        """Do what is asked for, for ever; cancel to stop. What is not finished then goes on elsewhere, or later."""
        try:
            while True:
                await self._look()
                # Not wait_for, which in Python 3.11 forgets that it was cancelled when the event comes at that moment.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        await self.jobs.asked.wait()
                self.jobs.asked.clear()
        finally:
            for task in self._doing.values():
                task.cancel()
            await asyncio.gather(*self._doing.values(), return_exceptions=True)

    async def _look(self) -> None:
        try:
            waiting = await self.jobs.waiting()
        except Exception as error:  # the database may be away: that ends a look, and no more
            failures.tell("jobs cannot be looked for; trying again", error)
            await asyncio.sleep(_STEP_BACK)
            return
        for kind in waiting:
            if kind in self.kinds and kind not in self._doing:
                task = asyncio.create_task(self._do(kind))
                self._doing[kind] = task
                task.add_done_callback(partial(self._ended, kind))

    def _ended(self, kind: str, _: asyncio.Task[None]) -> None:
        self._doing.pop(kind, None)

    async def _do(self, kind: str) -> None:
        try:
            if await self.jobs.do(kind, self.kinds[kind]):
                return
        except LeaseLost:
            log.warning("jobs were taken over by another process", kind=kind)
        except Exception as error:  # the disk may be full, or the database away
            failures.tell("jobs of this kind cannot be done now; trying again", error, kind=kind)
        await asyncio.sleep(_STEP_BACK)
