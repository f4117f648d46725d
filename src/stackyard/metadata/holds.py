"""Holds: while there is one, collection takes nothing away that was there when it was placed."""

from datetime import timedelta

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from stackyard.metadata import clock
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import hold, lease

# Every transaction of the collector shares a lock on its lease's row: after this one none is under way that did not
# see the hold.
_WAIT_FOR_COLLECTOR = Prepared(select(lease.c.name).where(lease.c.name == bindparam("name")).with_for_update())
_new = insert(hold).values(kind=bindparam("kind"), id=bindparam("id"), expires_at=clock.after("span"))
_PLACE = Prepared(
    _new.on_conflict_do_update(index_elements=["kind", "id"], set_={"expires_at": _new.excluded.expires_at})
)
_RELEASE = Prepared(hold.delete().where(hold.c.kind == bindparam("kind_"), hold.c.id == bindparam("id_")))
_CURRENT = Prepared(
    select(hold.c.kind, hold.c.id).where(hold.c.expires_at > clock.now()).order_by(hold.c.kind, hold.c.id).limit(1)
)

COLLECTION = "collection"
"""The lease of whoever collects."""


def place(c: Connection, kind: str, hold_id: str, *, span: timedelta) -> None:
    """Keep everything that is here for `span`; placing it again prolongs it.

    Once this is committed, nothing is marked, dropped or deleted until it is released or runs out. What was marked
    before is not part of what it keeps.
    """
    _WAIT_FOR_COLLECTOR.one(c, name=COLLECTION)
    _PLACE.run(c, kind=kind, id=hold_id, span=span)


def release(c: Connection, kind: str, hold_id: str) -> None:
    """End it before its time."""
    _RELEASE.run(c, kind_=kind, id_=hold_id)


def current(c: Connection) -> str | None:
    """A hold that is in force, as `kind id`, or None."""
    row = _CURRENT.one(c)
    return f"{row[0]} {row[1]}" if row else None
