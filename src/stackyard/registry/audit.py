"""What administrators changed, as it was recorded."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from stackyard.metadata import audit
from stackyard.metadata.audit import Entry
from stackyard.metadata.database import Database

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit log of this registry."""

    database: Database

    async def page(self, **wanted: Any) -> list[Entry]:
        """Entries from the youngest to the oldest; see `metadata.audit.page`."""
        return await self.database.read(audit.page, **wanted)

    async def trim(self, *, keep: timedelta, most: int) -> int:
        """Forget entries that are older than `keep`, and the oldest beyond the `most` youngest; how many."""
        trimmed = 0
        while count := await self.database.write_relaxed(audit.trim, keep=keep, most=most, limit=_BATCH):
            trimmed += count
        return trimmed
