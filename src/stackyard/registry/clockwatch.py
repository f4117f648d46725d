"""Whether the clock can be believed: what counts days must not run when days went by in a moment.

Times in rows are the database's. A clock that was set wrong for an hour, or a machine that comes back with another
year, would end every undo span at once.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from stackyard.metadata import clock
from stackyard.metadata.prepared import Prepared
from stackyard.registry.leases import Lease

LEAP = timedelta(days=1)
"""Wall time may run so far ahead of, or behind, the time that really passed while this process runs."""
ABSENCE = timedelta(days=30)
"""Longest time that a registry may have been off without being asked."""

_NOW = Prepared(select(clock.now()))


@dataclass(slots=True)
class ClockWatch:
    """What one process knows of the clock. The rest is in the note of the collector's lease."""

    monotonic: Callable[[], float] = time.monotonic
    _last: tuple[datetime, float] | None = field(default=None, init=False)

    async def paused(self, lease: Lease) -> str:
        """Why nothing may be collected now, or ''. Remembers, for the next round, the time that it saw."""
        note = json.loads(lease.state or "{}")
        now: datetime = await lease.database.read(_now)
        reason: str = note.get("paused") or self._suspicion(now, note.get("seen"))
        await lease.save(json.dumps({"seen": now.isoformat(), "paused": reason}))
        self._last = now, self.monotonic()
        return reason

    def _suspicion(self, now: datetime, seen: str | None) -> str:
        if self._last is not None:
            wall, monotonic = self._last
            leap = (now - wall) - timedelta(seconds=self.monotonic() - monotonic)
            if abs(leap) > LEAP:
                return f"the clock leapt by {leap} at {now:%Y-%m-%d %H:%M} UTC"
        elif seen is not None and abs(now - datetime.fromisoformat(seen)) > ABSENCE:
            return f"the registry last ran at {seen[:16]} UTC and it is {now:%Y-%m-%d %H:%M} UTC now"
        return ""


async def resume(lease: Lease) -> None:
    """The clock is right, an administrator says: go on from now."""
    now: datetime = await lease.database.read(_now)
    await lease.save(json.dumps({"seen": now.isoformat(), "paused": ""}))


def _now(c: Connection) -> datetime:
    found: datetime = _NOW.scalar(c)
    return found
