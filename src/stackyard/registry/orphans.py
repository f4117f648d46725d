"""Bytes of upload sessions that are no more."""

from datetime import UTC, datetime, timedelta

from stackyard.metadata import checking, uploads
from stackyard.metadata.database import Database
from stackyard.oci import layout
from stackyard.registry.batches import batches
from stackyard.storage.driver import BlobStore

_BATCH = 500
# A session's row comes before its first byte, so bytes without one are nobody's at once; the day is for clocks.
AGE = timedelta(days=1)


async def reap(store: BlobStore, database: Database, *, dry_run: bool, age: timedelta = AGE) -> int:
    """Remove the bytes of sessions that are no more and have become no blob; how many locations there were.

    They are left when a process is killed between the end of a session's row and that of its bytes, and when a power
    cut takes the row of a session that had just begun. No session ever has the id of an earlier one.
    """
    reaped, latest = 0, datetime.now(UTC) - age
    async for batch in batches(store.walk(layout.UPLOADS), _BATCH):
        old = {one.location: {one.location, *one.part_of} for one in batch if one.modified < latest}
        # In this order: what ends its session now, and becomes a blob where it lies, is seen either way.
        open_ones = await database.read(uploads.open_ones, sorted(map(layout.upload_id, old)))
        unknown = set(await database.read(checking.unknown, sorted(set().union(*old.values()))))
        orphans = [
            location
            for location, owners in old.items()
            if layout.upload_id(location) not in open_ones and owners <= unknown
        ]
        if not dry_run:
            await store.delete(*orphans)
        reaped += len(orphans)
    return reaped if dry_run else reaped + await store.sweep(age)
