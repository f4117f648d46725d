"""Tags as retention and expiry see them, and their removal.

Whoever judged a tag did so some time before: in the transaction that removes it, it must still be as it was seen.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, select

from stackyard.metadata import audit, clock, hiding, reach, repositories, tags
from stackyard.metadata.hiding import By
from stackyard.metadata.prepared import Prepared, Row
from stackyard.metadata.schema import manifest, repository, tag, tag_pull
from stackyard.metadata.tags import Guard
from stackyard.oci.errors import TagImmutable


@dataclass(frozen=True, slots=True)
class Seen:
    """A tag at some moment."""

    name: str
    digest: str
    pushed: datetime
    """When it was made to point there."""
    pulled: datetime | None
    """When it, or by digest what it reaches, was last pulled."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """A tag that is to go, if it is still as it was seen."""

    seen: Seen
    reason: str


_columns = (tag.c.name, manifest.c.digest, tag.c.updated_at, tag_pull.c.pulled_at)
_SEEN = (
    select(*_columns)
    .select_from(tag)
    .join(manifest, manifest.c.id == tag.c.manifest_id)
    .outerjoin(tag_pull, (tag_pull.c.repository_id == tag.c.repository_id) & (tag_pull.c.name == tag.c.name))
    .where(tag.c.repository_id == bindparam("repository_id"))
)
_PAGE = Prepared(_SEEN.where(tag.c.name > bindparam("after")).order_by(tag.c.name).limit(bindparam("limit")))
_ONE = Prepared(_SEEN.where(tag.c.name == bindparam("tag")))
_ID = Prepared(
    select(repository.c.id).where(repository.c.name == bindparam("repository"), repository.c.deleted_at.is_(None))
)
_NOW = Prepared(select(clock.now()))
_EXPIRED = Prepared(
    select(repository.c.name, repository.c.id, tag.c.name, tag.c.expires_at)
    .select_from(tag)
    .join(repository, repository.c.id == tag.c.repository_id)
    .where(tag.c.expires_at <= clock.now(), repository.c.deleted_at.is_(None))
    .order_by(tag.c.expires_at)
    .limit(bindparam("limit"))
)
_mine = (tag.c.repository_id == bindparam("repository_id_"), tag.c.name == bindparam("tag"))
_EXPIRES_AT = Prepared(select(tag.c.expires_at).where(*_mine))
_NEVER = Prepared(tag.update().where(*_mine).values(expires_at=None))


class _Changed(Exception):
    """It is not as it was seen."""


@dataclass(frozen=True, slots=True)
class _Unchanged:
    """A `Guard` that makes sure of it, then asks the next one."""

    check: Callable[[Connection], bool]
    guard: Guard

    def on_point(self, c: Connection, tag: str, *, moves: bool) -> None:
        """Not asked."""

    def on_delete(self, c: Connection, tag: str) -> None:
        """Raises _Changed, and what the next guard does."""
        if not self.check(c):
            raise _Changed
        self.guard.on_delete(c, tag)

    def on_delete_manifest(self, c: Connection, repository_id: int, digest: str) -> None:
        """Not asked."""


def now(c: Connection) -> datetime:
    """The database's clock."""
    found: datetime = _NOW.scalar(c)
    return found


def is_any_expired(c: Connection) -> bool:
    """Whether there is something for `remove_expired`."""
    return _EXPIRED.one(c, limit=1) is not None


def page(c: Connection, name: str, *, after: str, limit: int) -> list[Seen]:
    """Tags of a repository in byte order, strictly after `after` ('': from the first)."""
    repository_id = _ID.scalar(c, repository=name)
    if repository_id is None:
        return []
    return _seen(c, repository_id, _PAGE.all(c, repository_id=repository_id, after=after, limit=limit))


def remove(
    c: Connection, name: str, doomed: Sequence[Doomed], *, actor: str, undo: timedelta, guard: Guard
) -> list[str]:
    """Remove these tags, and the manifests that only they held; all of it can be restored for `undo`.

    Those that moved, were pulled meanwhile or have become immutable stay. Returns the names of those that went.
    """
    gone = []
    repository_id = repositories.find_locked(c, name)
    if repository_id is None:
        return []
    how = _How(name, repository_id, actor, undo, guard)
    for one in doomed:
        with suppress(TagImmutable):
            if _remove(c, how, one, _is_as_seen(repository_id, one.seen)):
                gone.append(one.seen.name)
    return gone


def remove_expired(
    c: Connection, *, limit: int, undo: timedelta, guard: Callable[[str], Guard]
) -> tuple[list[tuple[str, str]], int]:
    """Remove tags whose time has come, with what only they held, at most `limit`.

    An immutable one does not expire any more.

    Returns:
        Repository and name of those that went, and how many were looked at.
    """
    gone = []
    due = _EXPIRED.all(c, limit=limit)
    for name, repository_id, tag_name, expires_at in due:
        if repositories.find_locked(c, name) != repository_id:
            continue
        seen = _seen(c, repository_id, _ONE.all(c, repository_id=repository_id, tag=tag_name))
        how = _How(name, repository_id, "expiry", undo, guard(name))
        reason = f"expired at {expires_at:%Y-%m-%dT%H:%M:%SZ}, as its image asked for"
        try:
            if seen and _remove(c, how, Doomed(seen[0], reason), _expires_at(repository_id, tag_name, expires_at)):
                gone.append((name, tag_name))
        except TagImmutable:
            _NEVER.run(c, repository_id_=repository_id, tag=tag_name)
    return gone, len(due)


@dataclass(frozen=True, slots=True)
class _How:
    repository: str
    repository_id: int
    actor: str
    undo: timedelta
    guard: Guard


def _remove(c: Connection, how: _How, one: Doomed, check: Callable[[Connection], bool]) -> bool:
    """Whether it went. Raises TagImmutable."""
    actor, undo = how.actor, how.undo
    guard = _Unchanged(check, how.guard)
    try:
        if not tags.delete(c, how.repository, one.seen.name, actor=actor, undo=undo, guard=guard):
            return False
    except _Changed:
        return False
    digest = one.seen.digest
    wait = hiding.hide(c, how.repository, how.repository_id, digest, By(actor, undo))
    hiding.queue_rest(c, how.repository_id, digest, wait)
    audit.record(
        c,
        actor=actor,
        action="tag.delete",
        repository=how.repository,
        tag=one.seen.name,
        digest=digest,
        reason=one.reason,
    )
    return True


def _is_as_seen(repository_id: int, seen: Seen) -> Callable[[Connection], bool]:
    def check(c: Connection) -> bool:
        return _seen(c, repository_id, _ONE.all(c, repository_id=repository_id, tag=seen.name)) == [seen]

    return check


def _expires_at(repository_id: int, name: str, expires_at: datetime) -> Callable[[Connection], bool]:
    def check(c: Connection) -> bool:
        return bool(_EXPIRES_AT.scalar(c, repository_id_=repository_id, tag=name) == expires_at)

    return check


def _seen(c: Connection, repository_id: int, rows: Sequence[Row]) -> list[Seen]:
    by_digest = reach.last_pulls(c, repository_id, {row[1] for row in rows})
    return [
        Seen(name, digest, pushed, max((one for one in (pulled, by_digest.get(digest)) if one), default=None))
        for name, digest, pushed, pulled in rows
    ]
