"""Pull times: counted in memory by each process, written together every few seconds."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import Protocol

import structlog

from stackyard.metadata import pulls
from stackyard.metadata.database import Database
from stackyard.metadata.pulls import Pulled
from stackyard.registry import failures

log = structlog.get_logger("stackyard.pulls")

EVERY = 10.0
"""Seconds between two batches, and so how many seconds of pulls a crash forgets."""
_LARGE = 2_000
"""So many different tags and digests are written at once, without waiting."""
_LARGEST = 50_000
"""So many are held at most while the database cannot be written."""
_PER_TRANSACTION = 250


class Actor(Protocol):
    """Somebody who pulls."""

    @property
    def actor(self) -> str:
        """`kind:name`."""
        ...


@dataclass(slots=True)
class Pulls:
    """What this process served since it last wrote."""

    database: Database
    _seen: dict[tuple[str, str], tuple[float, Actor, int]] = field(default_factory=dict)
    _large: asyncio.Event = field(default_factory=asyncio.Event)

    def record(self, repository: str, reference: str, who: Actor) -> None:
        """Somebody pulled this tag or digest. Called for each pull: a fraction of a microsecond, nothing is waited for.

        Who it was is asked only when it is written.
        """
        key = (repository, reference)
        seen = self._seen.get(key)
        if seen is not None:
            self._seen[key] = (monotonic(), who, seen[2] + 1)
        elif len(self._seen) < _LARGEST:
            self._seen[key] = (monotonic(), who, 1)
            if len(self._seen) == _LARGE:
                self._large.set()

    async def flush(self) -> None:
        """Write what is known by now. What cannot be written is kept for the next time, and the error raised."""
        seen, self._seen = self._seen, {}
        self._large.clear()
        keys = list(seen)
        try:
            while keys:
                now, some = monotonic(), keys[-_PER_TRANSACTION:]
                batch = [
                    Pulled(*key, ago=timedelta(seconds=now - when), actor=who.actor, times=count)
                    for key in some
                    for when, who, count in (seen[key],)
                ]
                await self.database.write_relaxed(pulls.record, batch)
                del keys[-_PER_TRANSACTION:]
        finally:
            for key in keys:
                self._put_back(key, seen[key])

    async def run(self) -> None:
        """Write every few seconds, for ever; cancel to stop, then `flush` once more."""
        while True:
            try:
                async with asyncio.timeout(EVERY):
                    await self._large.wait()
            except TimeoutError:
                pass
            try:
                await self.flush()
            except Exception as error:  # the disk may be full or the database away
                failures.tell("pull times could not be written; trying again later", error)
                await asyncio.sleep(EVERY)

    async def close(self) -> None:
        """Write for the last time; what cannot be written is lost."""
        try:
            await self.flush()
        except Exception as error:  # it must not keep the rest from closing
            failures.tell("the last pull times could not be written", error)

    def _put_back(self, key: tuple[str, str], earlier: tuple[float, Actor, int]) -> None:
        later = self._seen.get(key)
        if later is not None:
            self._seen[key] = (later[0], later[1], later[2] + earlier[2])
        elif len(self._seen) < _LARGEST:
            self._seen[key] = earlier
