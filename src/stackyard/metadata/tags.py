"""Tags: names that point to a manifest of their repository, and what they pointed to before.

A tag row is locked before anything is decided about it.
"""

from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy import Connection, Text, bindparam, literal_column, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from stackyard.metadata import clock, due, follow, pulls, repositories
from stackyard.metadata.prepared import Prepared, Row
from stackyard.metadata.schema import manifest, repository, tag, tag_history

_PAGE = (
    select(tag.c.name)
    .join(repository, repository.c.id == tag.c.repository_id)
    .where(
        repository.c.name == bindparam("repository"),
        repository.c.deleted_at.is_(None),
        tag.c.name > bindparam("after"),
    )
    .order_by(tag.c.name)
)
_LIMITED = Prepared(_PAGE.limit(bindparam("limit")))


class json_list(FunctionElement[str]):
    """The values of a column as the text of a JSON array, in the order of the rows."""

    type = Text()
    inherit_cache = True


@compiles(json_list, "sqlite")
def _json_list_sqlite(element: json_list, compiler: SQLCompiler, **options: Any) -> str:
    # Aggregates take the rows of an ordered and limited subquery as they come; a sorter would cost twice the rest.
    return f"json_group_array({compiler.process(element.clauses, **options)})"


@compiles(json_list, "postgresql")
def _json_list_postgresql(element: json_list, compiler: SQLCompiler, **options: Any) -> str:
    name = compiler.process(element.clauses, **options)
    return f"CAST(json_agg({name} ORDER BY {name}) AS TEXT)"


_batch = _PAGE.limit(bindparam("limit")).subquery()
_JSON = Prepared(select(json_list(_batch.c.name)))

_mine = (tag.c.repository_id == bindparam("repository_id_"), tag.c.name == bindparam("tag"))
_LOCK = Prepared(
    select(tag.c.manifest_id, manifest.c.digest, tag.c.updated_at, tag.c.updated_by)
    .outerjoin(manifest, manifest.c.id == tag.c.manifest_id)
    .where(*_mine)
    .with_for_update(of=tag)
)
_DIGEST = Prepared(select(manifest.c.digest).where(manifest.c.id == bindparam("manifest_id")))
_INSERT = Prepared(
    tag.insert().values(
        repository_id=bindparam("repository_id"),
        name=bindparam("tag"),
        manifest_id=bindparam("manifest_id"),
        updated_at=clock.now(),
        updated_by=bindparam("actor"),
        expires_at=clock.after("expires_after"),
    )
)
_MOVE = Prepared(
    tag.update()
    .where(*_mine)
    .values(
        manifest_id=bindparam("manifest_id"),
        updated_at=clock.now(),
        updated_by=bindparam("actor"),
        expires_at=clock.after("expires_after"),
    )
)
_EXPIRE_LATER = Prepared(tag.update().where(*_mine).values(expires_at=clock.after("expires_after")))
_DELETE = Prepared(tag.delete().where(*_mine))
_REMEMBER = Prepared(
    tag_history.insert().values(
        repository_id=bindparam("repository_id"),
        name=bindparam("tag"),
        digest=bindparam("digest"),
        set_at=bindparam("set_at"),
        set_by=bindparam("set_by"),
        ended_at=clock.now(),
        ended_by=bindparam("actor"),
        reason=bindparam("reason"),
        restorable_until=clock.after("undo"),
    )
)

_LOCK_OF_MANIFEST = Prepared(
    select(tag.c.name)
    .where(tag.c.manifest_id == bindparam("manifest_id"))
    .order_by(tag.c.repository_id, tag.c.name)
    .with_for_update()
)
_REMEMBER_OF_MANIFEST = Prepared(
    tag_history.insert().from_select(
        [
            "repository_id",
            "name",
            "digest",
            "set_at",
            "set_by",
            "ended_at",
            "ended_by",
            "reason",
            "restorable_until",
        ],
        select(
            tag.c.repository_id,
            tag.c.name,
            bindparam("digest", type_=tag_history.c.digest.type),
            tag.c.updated_at,
            tag.c.updated_by,
            clock.now(),
            bindparam("actor", type_=tag_history.c.ended_by.type),
            literal_column("'manifest'"),
            clock.after("undo"),
        ).where(tag.c.manifest_id == bindparam("manifest_id")),
    )
)
_DELETE_OF_MANIFEST = Prepared(tag.delete().where(tag.c.manifest_id == bindparam("manifest_id")))


RULES = ("retention", "expiry", "untagged")
"""Actors that are rules, not people: what they delete together comes back together."""
BY_RULE = [literal_column(f"'{one}'", Text()) for one in RULES]


class Guard(Protocol):
    """Rules about the tags of one repository, asked inside the transaction and once what they are about is locked.

    Each method raises the refusal that the client is told.
    """

    def on_point(self, c: Connection, tag: str, *, moves: bool) -> None:
        """The tag is to be set, or made to point elsewhere."""
        ...

    def on_delete(self, c: Connection, tag: str) -> None:
        """The tag is to go."""
        ...

    def on_delete_manifest(self, c: Connection, repository_id: int, digest: str) -> None:
        """The manifest is to go, and every tag that points to it; or the blob is to go."""
        ...


def page(c: Connection, repository: str, *, after: str, limit: int) -> list[str]:
    """Tag names in byte order, strictly after `after` ('' starts at the first), at most `limit`."""
    return _LIMITED.column(c, repository=repository, after=after, limit=limit)


def page_as_json(c: Connection, repository: str, *, after: str, limit: int) -> tuple[int, str, str]:
    """As `page`, as the text of a JSON array: a fifth of the cost for a long list.

    Returns:
        How many tags, the last one ('' when there is none), and the array.
    """
    array: str = _JSON.scalar(c, repository=repository, after=after, limit=limit) or "[]"
    if array == "[]":
        return 0, "", array
    # A name of the grammar holds neither commas nor quotes. Aggregates for this would more than double the cost.
    return array.count(",") + 1, array[array.rindex('"', 0, -2) + 1 : -2], array


def point(  # noqa: PLR0913 - who, where, what and until when
    c: Connection,
    *,
    repository_id: int,
    tag: str,
    manifest_id: int,
    actor: str,
    undo: timedelta,
    expires_after: timedelta | None = None,
    guard: Guard | None = None,
) -> None:
    """Make the tag point to a manifest that this transaction holds locked. What it pointed to goes to its history.

    Where it points there already nothing changes, but that it expires later. Raises what the guard does.
    """
    row = _lock(c, repository_id, tag)
    if row is not None and row[0] == manifest_id:
        if expires_after:
            _EXPIRE_LATER.run(c, repository_id_=repository_id, tag=tag, expires_after=expires_after)
        return
    if guard:
        guard.on_point(c, tag, moves=row is not None)
    follow.add(c, repository_id, "tag", tag)
    values = {"tag": tag, "manifest_id": manifest_id, "actor": actor, "expires_after": expires_after}
    if row is None:
        _INSERT.run(c, repository_id=repository_id, **values)
        return
    _, digest, set_at, set_by = row
    _MOVE.run(c, repository_id_=repository_id, **values)
    _remember(c, repository_id, tag, (digest, set_at, set_by), actor=actor, reason="moved", undo=undo)


def delete(
    c: Connection, repository: str, tag: str, *, actor: str, undo: timedelta, guard: Guard | None = None
) -> bool:
    """Remove the tag, not its manifest; it can be restored for `undo`. False when there is no such tag.

    Raises what the guard does.
    """
    repository_id = repositories.find_locked(c, repository)
    row = _lock(c, repository_id, tag)
    if row is None or repository_id is None:
        return False
    if guard:
        guard.on_delete(c, tag)
    _DELETE.run(c, repository_id_=repository_id, tag=tag)
    follow.add(c, repository_id, "tag", tag)
    pulls.forget_tags(c, repository_id, [tag])
    _remember(c, repository_id, tag, row[1:], actor=actor, reason="deleted", undo=undo)
    return True


def delete_all_of(
    c: Connection, repository_id: int, *, manifest_id: int, digest: str, actor: str, undo: timedelta
) -> list[str]:
    """Remove every tag that points to this manifest, which the transaction holds locked; their names."""
    names = _LOCK_OF_MANIFEST.column(c, manifest_id=manifest_id)
    if names:
        _REMEMBER_OF_MANIFEST.run(c, manifest_id=manifest_id, digest=digest, actor=actor, undo=undo)
        _DELETE_OF_MANIFEST.run(c, manifest_id=manifest_id)
        pulls.forget_tags(c, repository_id, names)
        follow.add_all(c, repository_id, "tag", names)
    return names


def _lock(c: Connection, repository_id: int | None, tag: str) -> Row | None:
    """(manifest id, its digest, set at, set by) of a tag that nobody else changes before this transaction ends."""
    row = _LOCK.one(c, repository_id_=repository_id, tag=tag)
    if row is None or row[1] is not None:
        return row
    # PostgreSQL waited for somebody who moved the tag, and looked for its new manifest among those from before.
    manifest_id, _, set_at, set_by = row
    return manifest_id, _DIGEST.scalar(c, manifest_id=manifest_id), set_at, set_by


def _remember(c: Connection, repository_id: int, tag: str, was: Row, **how: Any) -> None:
    digest, set_at, set_by = was
    _REMEMBER.run(c, repository_id=repository_id, tag=tag, digest=digest, set_at=set_at, set_by=set_by, **how)
    due.add_manifest(c, repository_id, digest, wait=how["undo"])
