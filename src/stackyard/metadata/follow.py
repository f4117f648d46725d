"""What may not have reached Distribution's view of the volume.

Entries are hints, as in `due`: whoever takes one writes what the other tables say by then, so order does not matter,
and an entry too many costs a look.
"""

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import Connection, bindparam, select

from stackyard.metadata import schema
from stackyard.metadata.prepared import Prepared, Row

Kind = Literal["repository", "manifest", "tag", "link", "blob"]

_ADD = Prepared(
    schema.follow.insert().values(
        repository_id=bindparam("repository_id"), kind=bindparam("kind"), name=bindparam("name")
    )
)
_NEXT = Prepared(
    select(schema.follow.c.id, schema.follow.c.repository_id, schema.follow.c.kind, schema.follow.c.name)
    .order_by(schema.follow.c.id)
    .limit(bindparam("limit"))
)
_DONE = Prepared(schema.follow.delete().where(schema.follow.c.id == bindparam("id_")))


def add(c: Connection, repository_id: int, kind: Kind, name: str) -> None:
    """Look at this tag, or at this manifest, link or blob by digest, once the transaction is committed."""
    _ADD.run(c, repository_id=repository_id, kind=kind, name=name)


def add_all(c: Connection, repository_id: int, kind: Kind, names: Sequence[str]) -> None:
    """As `add`, for many."""
    _ADD.many(c, [{"repository_id": repository_id, "kind": kind, "name": name} for name in names])


def waiting(c: Connection, *, limit: int) -> list[Row]:
    """(id, repository id, kind, name) of the oldest entries."""
    return _NEXT.all(c, limit=limit)


def done(c: Connection, ids: Sequence[int]) -> None:
    """Forget these entries: what they told of is written, durably."""
    _DONE.many(c, [{"id_": one} for one in ids])
