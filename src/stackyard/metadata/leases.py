"""Leases: who does a kind of background work, on which turn.

A lease runs out by the database's clock. Its fence number grows with each new holder, and every transaction of the
work checks it: one that slept past its lease changes nothing any more.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects.postgresql import insert

from stackyard.metadata import clock
from stackyard.metadata.errors import LeaseLost
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import lease

_new = insert(lease).values(
    name=bindparam("name"), holder=bindparam("holder"), fence=1, leased_until=clock.after("span")
)
_ACQUIRE = Prepared(
    _new.on_conflict_do_update(
        index_elements=["name"],
        set_={
            "holder": _new.excluded.holder,
            "fence": lease.c.fence + 1,
            "leased_until": _new.excluded.leased_until,
        },
        where=lease.c.holder.is_(None) | (lease.c.leased_until <= clock.now()),
    ).returning(lease.c.fence, lease.c.state)
)
_mine = (
    lease.c.name == bindparam("name_"),
    lease.c.fence == bindparam("fence_"),
    lease.c.holder.is_not(None),
    lease.c.leased_until > clock.now(),
)
_RENEW = Prepared(lease.update().where(*_mine).values(leased_until=clock.after("span")))
_CHECK = Prepared(select(lease.c.fence).where(*_mine).with_for_update(read=True))
_SAVE = Prepared(lease.update().where(*_mine).values(state=bindparam("state")))
_RELEASE = Prepared(lease.update().where(*_mine).values(holder=None, leased_until=None))
_STATE = Prepared(select(lease.c.state).where(lease.c.name == bindparam("name")))


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease as it was given."""

    name: str
    fence: int
    state: str | None
    """What the last holder left with `save`."""


def acquire(c: Connection, name: str, *, holder: str, span: timedelta) -> Grant | None:
    """Take the lease for `span`, unless somebody holds it. `holder` is for people who look."""
    row = _ACQUIRE.one(c, name=name, holder=holder, span=span)
    return Grant(name, *row) if row else None


def renew(c: Connection, grant: Grant, *, span: timedelta) -> bool:
    """Hold it for `span` from now. False when it ran out or went to another holder."""
    return bool(_RENEW.run(c, name_=grant.name, fence_=grant.fence, span=span))


def check(c: Connection, grant: Grant) -> None:
    """Make sure that the lease is held until this transaction ends. Raises LeaseLost."""
    if _CHECK.one(c, name_=grant.name, fence_=grant.fence) is None:
        raise LeaseLost(grant.name)


def save(c: Connection, grant: Grant, state: str) -> None:
    """Leave a note, as JSON, for whoever holds the lease next. Raises LeaseLost."""
    if not _SAVE.run(c, name_=grant.name, fence_=grant.fence, state=state):
        raise LeaseLost(grant.name)


def state(c: Connection, name: str) -> str | None:
    """The note of the last holder."""
    found: str | None = _STATE.scalar(c, name=name)
    return found


def release(c: Connection, grant: Grant) -> None:
    """Let others have it at once."""
    _RELEASE.run(c, name_=grant.name, fence_=grant.fence)
