"""Blobs of several objects, and the one object that takes their place."""

from sqlalchemy import Connection, bindparam, select

from stackyard.metadata import blobs, clock, due
from stackyard.metadata.errors import BlobVanished
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import DELETING, LIVE, blob
from stackyard.metadata.scrubbing import Copy
from stackyard.oci.digests import Digest

_PAGE = Prepared(
    select(blob.c.id, blob.c.digest, blob.c.location, blob.c.size)
    .where(
        blob.c.id > bindparam("after"),
        blob.c.state == LIVE,
        blob.c.location.like(bindparam("pattern")),
        blob.c.size <= bindparam("largest"),
    )
    .order_by(blob.c.id)
    .limit(bindparam("limit"))
)
_RETIRE = Prepared(
    blob.update()
    .where(blob.c.id == bindparam("blob_id"), blob.c.state == LIVE)
    .values(state=DELETING, marked_at=clock.now())
)


def page(c: Connection, ending: str, *, after: int, largest: int, limit: int) -> list[Copy]:
    """Copies that are shown, of at most `largest` bytes, whose location ends so; by row, strictly after `after`.

    Every blob is looked at: a survey, and not for a request.
    """
    rows = _PAGE.all(c, pattern=f"%{ending}", after=after, largest=largest, limit=limit)
    return [Copy(blob_id, digest, location, size, quarantined=False) for blob_id, digest, location, size in rows]


def replace(c: Connection, copy: Copy, blob_id: int) -> bool:
    """Show the durable bytes of the pending row `blob_id` in place of this copy, whose bytes go when its readers have.

    False when the copy is not shown any more. Raises BlobVanished when the collector has given the pending row up.
    """
    if not _RETIRE.run(c, blob_id=copy.id):
        return False
    due.add_blob(c, copy.digest, wait=blobs.READER_SPAN)
    if blobs.MAKE_LIVE.one(c, blob_id=blob_id, digest_=copy.digest) is None:
        raise BlobVanished(Digest(copy.digest))
    return True
