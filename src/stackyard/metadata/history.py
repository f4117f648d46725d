"""What tags pointed to before, and bringing it back."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, select

from stackyard.metadata import audit, clock, repositories, restoring
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.quotas import Account
from stackyard.metadata.schema import manifest, repository, tag, tag_history
from stackyard.metadata.tags import Guard
from stackyard.oci.digests import Digest
from stackyard.oci.errors import AlreadyThere, NameUnknown, NotRestorable


@dataclass(frozen=True, slots=True)
class Past:
    """A time during which a tag pointed to one manifest."""

    digest: str
    set_at: datetime
    set_by: str
    ended_at: datetime | None
    """None: it still does."""
    ended_by: str | None
    reason: str | None
    """moved: it points elsewhere now. deleted: the tag went. manifest: it went with its manifest."""
    restorable_until: datetime | None
    """None: nothing to restore, or nothing is left of the manifest."""


_COLUMNS = (
    tag_history.c.digest,
    tag_history.c.set_at,
    tag_history.c.set_by,
    tag_history.c.ended_at,
    tag_history.c.ended_by,
    tag_history.c.reason,
)
_of_repository = (repository.c.name == bindparam("repository"), repository.c.deleted_at.is_(None))
_PAGE = Prepared(
    select(
        tag_history.c.id,
        *_COLUMNS,
        tag_history.c.restorable_until,
        manifest.c.id,
        manifest.c.deleted_at,
        manifest.c.restorable_until,
    )
    .select_from(repository)
    .join(tag_history, tag_history.c.repository_id == repository.c.id)
    .outerjoin(
        manifest,
        (manifest.c.repository_id == tag_history.c.repository_id) & (manifest.c.digest == tag_history.c.digest),
    )
    .where(*_of_repository, tag_history.c.name == bindparam("tag"), tag_history.c.id < bindparam("before"))
    .order_by(tag_history.c.id.desc())
    .limit(bindparam("limit"))
)
_CURRENT = Prepared(
    select(manifest.c.digest, tag.c.updated_at, tag.c.updated_by)
    .select_from(repository)
    .join(tag, tag.c.repository_id == repository.c.id)
    .join(manifest, manifest.c.id == tag.c.manifest_id)
    .where(*_of_repository, tag.c.name == bindparam("tag"))
)
_LAST = Prepared(
    select(tag_history.c.digest)
    .where(
        tag_history.c.repository_id == bindparam("repository_id"),
        tag_history.c.name == bindparam("tag"),
        tag_history.c.digest != bindparam("current"),
    )
    .order_by(tag_history.c.id.desc())
    .limit(1)
)
_AT = Prepared(
    select(tag_history.c.digest)
    .where(
        tag_history.c.repository_id == bindparam("repository_id"),
        tag_history.c.name == bindparam("tag"),
        tag_history.c.set_at <= bindparam("at", type_=clock.Instant()),
        tag_history.c.ended_at > bindparam("at", type_=clock.Instant()),
    )
    .order_by(tag_history.c.id.desc())
    .limit(1)
)
_WENT_WITH = Prepared(
    select(tag_history.c.name)
    .distinct()
    .where(
        tag_history.c.repository_id == bindparam("repository_id"),
        tag_history.c.digest == bindparam("digest"),
        tag_history.c.reason == "manifest",
        tag_history.c.ended_at >= bindparam("deleted_at", type_=clock.Instant()),
        tag_history.c.name.not_in(select(tag.c.name).where(tag.c.repository_id == bindparam("repository_id"))),
    )
    .order_by(tag_history.c.name)
)


def current(c: Connection, repository: str, tag: str) -> Past | None:
    """What the tag points to now."""
    row = _CURRENT.one(c, repository=repository, tag=tag)
    if row is None:
        return None
    digest, set_at, set_by = row
    return Past(digest, set_at, set_by, None, None, None, None)


def page(c: Connection, repository: str, tag: str, *, before: int, limit: int) -> list[tuple[int, Past]]:
    """What it pointed to, the last first, with a number to go on from: entries below `before`."""
    found = []
    for row in _PAGE.all(c, repository=repository, tag=tag, before=before, limit=limit):
        number, digest, set_at, set_by, ended_at, ended_by, reason, undo, manifest_id, deleted_at, manifest_until = row
        until = None if manifest_id is None else undo if deleted_at is None else manifest_until
        found.append((number, Past(digest, set_at, set_by, ended_at, ended_by, reason, until)))
    return found


def restore_tag(  # noqa: PLR0913 - one transaction has to know all of it
    c: Connection,
    *,
    repository: str,
    tag: str,
    digest: Digest | None = None,
    at: datetime | None = None,
    actor: str,
    promise: timedelta,
    undo: timedelta,
    guard: Guard | None = None,
) -> str:
    """Make the tag point again to `digest`, to what it pointed to at a time, or without either to what it did last.

    Args:
        guard: Asked where the tag moves; it lets an administrator through, and records it.

    Returns:
        The digest.

    Raises:
        NameUnknown: There is no such repository.
        NotRestorable: Nothing is known of it, or the manifest is gone.
        QuotaExceeded: It does not fit any more.
    """
    account = _account(c, repository)
    wanted = digest or _find(c, account.repository_id, repository, tag, at)
    now = current(c, repository, tag)
    if guard and (now is None or now.digest != wanted):
        guard.on_point(c, tag, moves=now is not None)
    restoring.restore(c, account, wanted, [tag], actor=actor, promise=promise, undo=undo)
    audit.record(c, actor=actor, action="tag.restore", repository=repository, tag=tag, digest=wanted)
    return wanted


def restore_manifest(
    c: Connection, repository: str, digest: Digest, *, actor: str, promise: timedelta, undo: timedelta
) -> list[str]:
    """Show a deleted manifest again, and the tags that went with it, where nothing has taken their names.

    Returns:
        The tags.

    Raises:
        AlreadyThere: It is not deleted.
        NameUnknown, NotRestorable, QuotaExceeded: As `restore_tag`.
    """
    account = _account(c, repository)
    names: list[str] = []
    deleted_at = restoring.deleted_at(c, account.repository_id, digest)
    if deleted_at is not None:
        names = _WENT_WITH.column(c, repository_id=account.repository_id, digest=digest, deleted_at=deleted_at)
    restoring.restore(c, account, digest, names, actor=actor, promise=promise, undo=undo)
    if deleted_at is None:
        raise AlreadyThere(f"{repository}@{digest} is not deleted")
    audit.record(c, actor=actor, action="manifest.restore", repository=repository, digest=digest, tags=names)
    return names


def _account(c: Connection, repository: str) -> Account:
    account = repositories.find_account(c, repository)
    if account is None:
        raise NameUnknown(f"there is no repository {repository}")
    return account


def _find(c: Connection, repository_id: int, repository: str, tag: str, at: datetime | None) -> str:
    now = current(c, repository, tag)
    if at is None:
        values = {"repository_id": repository_id, "tag": tag, "current": now.digest if now else ""}
        found: str | None = _LAST.scalar(c, **values)
        if found is None:
            raise NotRestorable(f"{repository}:{tag} never pointed to anything else")
        return found
    if now is not None and now.set_at <= at:
        return now.digest
    found = _AT.scalar(c, repository_id=repository_id, tag=tag, at=at)
    if found is None:
        raise NotRestorable(f"{repository}:{tag} did not exist at {at.isoformat()}, as far as is known")
    return found
