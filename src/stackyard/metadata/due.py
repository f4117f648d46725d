"""The due-time queue: what may have become garbage, and when to look.

An entry is a hint. Whoever takes one checks everything again under locks, so an entry too many costs a look, and only
a missing one would cost space for ever. Therefore entries are added, never moved, and go when they were looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlalchemy import Connection, bindparam, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from stackyard.metadata import clock, schema
from stackyard.metadata.prepared import Prepared

Kind = Literal["blob", "link", "manifest", "repository"]

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
    .inline()  # nobody asks for the key that the database's clock made
)
_columns = (schema.due.c.due_at, schema.due.c.kind, schema.due.c.repository_id, schema.due.c.digest)
_READY = Prepared(
    select(*_columns)
    .where(
        tuple_(*_columns) > tuple_(*(bindparam(f"after_{column.name}", type_=column.type) for column in _columns)),
        schema.due.c.due_at <= clock.after("ahead"),
    )
    .order_by(*_columns)
    .limit(bindparam("limit"))
)
_DONE = Prepared(
    schema.due.delete().where(*(column == bindparam(f"{column.name}_", type_=column.type) for column in _columns))
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A hint that was added."""

    due_at: datetime
    kind: Kind
    repository_id: int
    """0 where the matter belongs to no repository."""
    digest: str
    """'' for a repository."""


FIRST = Entry(datetime.fromtimestamp(0, tz=UTC), "blob", 0, "")
"""Before every entry there can be."""


def add_blob(c: Connection, digest: str, *, wait: timedelta) -> None:
    """Look after `wait` whether bytes of this digest can go."""
    _ADD.run(c, kind="blob", repository_id=0, digest=digest, wait=wait)


def add_blobs(c: Connection, digests: Sequence[str], *, wait: timedelta) -> None:
    """As `add_blob`, for many."""
    _ADD.many(c, [{"kind": "blob", "repository_id": 0, "digest": digest, "wait": wait} for digest in digests])


def add_link(c: Connection, repository_id: int, digest: str, *, wait: timedelta) -> None:
    """Look after `wait` whether the repository still needs its link to this blob."""
    _ADD.run(c, kind="link", repository_id=repository_id, digest=digest, wait=wait)


def add_links(c: Connection, repository_id: int, digests: Sequence[str], *, wait: timedelta) -> None:
    """As `add_link`, for many."""
    values = {"kind": "link", "repository_id": repository_id, "wait": wait}
    _ADD.many(c, [{**values, "digest": digest} for digest in digests])


def add_manifest(c: Connection, repository_id: int, digest: str, *, wait: timedelta) -> None:
    """Look after `wait` whether the repository still needs this manifest."""
    _ADD.run(c, kind="manifest", repository_id=repository_id, digest=digest, wait=wait)


def add_repository(c: Connection, repository_id: int, *, wait: timedelta) -> None:
    """Look after `wait` whether what a deleted repository held can go."""
    _ADD.run(c, kind="repository", repository_id=repository_id, digest="", wait=wait)


def add_again(c: Connection, waits: Mapping[Entry, timedelta]) -> None:
    """Look at the same things once more, each after its own wait."""
    _ADD.many(
        c,
        [
            {"kind": one.kind, "repository_id": one.repository_id, "digest": one.digest, "wait": wait}
            for one, wait in waits.items()
        ],
    )


def ready(c: Connection, *, limit: int, ahead: timedelta = timedelta(), after: Entry = FIRST) -> list[Entry]:
    """The first entries past `after` that are due now, or will be within `ahead`."""
    rows = _READY.all(
        c,
        after_due_at=after.due_at,
        after_kind=after.kind,
        after_repository_id=after.repository_id,
        after_digest=after.digest,
        ahead=ahead,
        limit=limit,
    )
    return [Entry(*row) for row in rows]


def done(c: Connection, entries: Sequence[Entry]) -> None:
    """Forget these entries: they were looked at."""
    _DONE.many(
        c,
        [
            {
                "due_at_": one.due_at,
                "kind_": one.kind,
                "repository_id_": one.repository_id,
                "digest_": one.digest,
            }
            for one in entries
        ],
    )
