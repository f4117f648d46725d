"""The due-time queue: what may have become garbage, and when to look.

An entry is a hint. Whoever takes one checks everything again under locks, so an entry too many costs a look, and only
a missing one would cost space for ever. Therefore entries are added, never moved.
"""

from datetime import timedelta

from sqlalchemy import Connection, bindparam
from sqlalchemy.dialects.postgresql import insert

from stackyard.metadata import clock, schema
from stackyard.metadata.prepared import Prepared

# PostgreSQL's INSERT construct: its ON CONFLICT is SQLite's too, word for word.
_ADD = Prepared(
    insert(schema.due)
    .values(
        due_at=clock.after("wait"),
        kind=bindparam("kind"),
        repository_id=bindparam("repository_id"),
        digest=bindparam("digest"),
    )
    .on_conflict_do_nothing()
)


def add_blob(c: Connection, digest: str, *, wait: timedelta) -> None:
    """Look after `wait` whether bytes of this digest can go."""
    _ADD.run(c, kind="blob", repository_id=0, digest=digest, wait=wait)


def add_link(c: Connection, repository_id: int, digest: str, *, wait: timedelta) -> None:
    """Look after `wait` whether the repository still needs its link to this blob."""
    _ADD.run(c, kind="link", repository_id=repository_id, digest=digest, wait=wait)


def add_manifest(c: Connection, repository_id: int, digest: str, *, wait: timedelta) -> None:
    """Look after `wait` whether the repository still needs this manifest."""
    _ADD.run(c, kind="manifest", repository_id=repository_id, digest=digest, wait=wait)
