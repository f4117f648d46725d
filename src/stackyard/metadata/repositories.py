"""Repositories: names that were pushed to."""

from datetime import timedelta

from sqlalchemy import Connection, bindparam, select

from stackyard.metadata import audit, clock, counting, due, follow, quotas
from stackyard.metadata.prepared import Prepared, Row
from stackyard.metadata.quotas import Account
from stackyard.metadata.schema import repository
from stackyard.oci.errors import AlreadyThere, NotRestorable

_DIGESTS = 500
"""Counted in one transaction."""

_PAGE = Prepared(
    select(repository.c.name)
    .where(repository.c.deleted_at.is_(None), repository.c.listed, repository.c.name > bindparam("after"))
    .order_by(repository.c.name)
    .limit(bindparam("limit"))
)
# KEY SHARE: pushes do not wait for each other, and the one who deletes the repository (FOR UPDATE) waits for all.
_LOCKED = Prepared(
    select(repository.c.id, repository.c.listed, repository.c.quotas, repository.c.uncounted_to)
    .where(repository.c.name == bindparam("name"), repository.c.deleted_at.is_(None))
    .with_for_update(read=True, key_share=True)
)
_INSERT = Prepared(
    repository.insert()
    .values(name=bindparam("name"), listed=False, created_at=clock.now(), quotas=bindparam("quotas"))
    .returning(repository.c.id)
)
# Of two that list it at once, one changes the row.
_LIST = Prepared(
    repository.update().where(repository.c.id == bindparam("id_"), ~repository.c.listed).values(listed=True)
)
_EXISTS = Prepared(
    select(repository.c.id).where(
        repository.c.name == bindparam("name"), repository.c.deleted_at.is_(None), repository.c.listed
    )
)


_LOCK_FOR_DELETION = Prepared(
    select(repository.c.id)
    .where(repository.c.name == bindparam("name"), repository.c.deleted_at.is_(None))
    .with_for_update()
)
_DELETE = Prepared(
    repository.update()
    .where(repository.c.id == bindparam("id_"))
    .values(deleted_at=clock.now(), deleted_by=bindparam("actor"), restorable_until=clock.after("undo"))
)
_LOCK_LAST_DELETED = Prepared(
    select(repository.c.id)
    .where(
        repository.c.name == bindparam("name"),
        repository.c.deleted_at.is_not(None),
        repository.c.restorable_until > clock.now(),
        repository.c.listed,
    )
    .order_by(repository.c.deleted_at.desc(), repository.c.id.desc())
    .limit(1)
    .with_for_update()
)
_RESTORE = Prepared(
    repository.update()
    .where(repository.c.id == bindparam("id_"))
    .values(deleted_at=None, deleted_by=None, restorable_until=None)
)


def page(c: Connection, *, after: str, limit: int) -> list[str]:
    """Names of repositories that ever held a manifest, in byte order, strictly after `after` ('': from the first)."""
    return _PAGE.column(c, after=after, limit=limit)


def exists(c: Connection, name: str) -> bool:
    """Whether the repository ever held a manifest and is not deleted."""
    return _EXISTS.one(c, name=name) is not None


def delete(c: Connection, name: str, *, actor: str, undo: timedelta) -> bool:
    """Hide the repository with all it holds; it can be restored for `undo`. False when there is none.

    Waits for pushes to it that are being committed. The next push makes a new repository of this name.
    """
    repository_id = _LOCK_FOR_DELETION.scalar(c, name=name)
    if repository_id is None:
        return False
    _hide(c, repository_id, name, actor, undo)
    audit.record(c, actor=actor, action="repository.delete", repository=name)
    return True


def restore(c: Connection, name: str, *, actor: str) -> bool:
    """Show the repository of this name that was deleted last, as it was. To be called until it is True.

    Raises:
        NotRestorable: None was deleted, or its undo span is over.
        AlreadyThere: Meanwhile another one was pushed under the name.
        QuotaExceeded: It does not fit any more.
    """
    repository_id = _LOCK_LAST_DELETED.scalar(c, name=name)
    if repository_id is None:
        raise NotRestorable(f"no repository {name} was deleted that can still be restored")
    there = _LOCKED.one(c, name=name)
    if there is not None and there[1]:
        raise AlreadyThere(f"a new repository {name} was pushed meanwhile: delete that one first")
    if there is not None:  # only an upload was begun in it
        _hide(c, there[0], name, actor, timedelta())
    if not counting.reopen(c, repository_id, limit=_DIGESTS):
        return False
    _RESTORE.run(c, id_=repository_id)
    follow.add(c, repository_id, "repository", name)
    audit.record(c, actor=actor, action="repository.restore", repository=name)
    return True


def _hide(c: Connection, repository_id: int, name: str, actor: str, undo: timedelta) -> None:
    _DELETE.run(c, id_=repository_id, actor=actor, undo=undo)
    follow.add(c, repository_id, "repository", name)
    due.add_repository(c, repository_id, wait=undo)
    counting.close(c, repository_id, limit=_DIGESTS)


def find_locked(c: Connection, name: str) -> int | None:
    """The id of a repository that cannot be deleted before this transaction ends, or None."""
    found: int | None = _LOCKED.scalar(c, name=name)
    return found


def ensure_locked(c: Connection, name: str) -> int:
    """As `find_locked`; a repository that is not there is made, not listed yet."""
    return ensure_account(c, name)[0].repository_id


def ensure_listed(c: Connection, name: str) -> int:
    """As `ensure_locked`, and the repository is known from now on. Raises QuotaExceeded."""
    account, listed = ensure_account(c, name)
    if not listed:
        list_(c, account)
    return account.repository_id


def find_account(c: Connection, name: str) -> Account | None:
    """As `find_locked`, with where its content is counted."""
    row = _LOCKED.one(c, name=name)
    return _account(row) if row else None


def ensure_account(c: Connection, name: str) -> tuple[Account, bool]:
    """As `ensure_locked`, with where its content is counted, and whether it is listed."""
    row = _LOCKED.one(c, name=name)
    if row is not None:
        return _account(row), row[1]
    applying = quotas.applying(c, name)
    return Account(_INSERT.scalar(c, name=name, quotas=applying), applying), False


def list_(c: Connection, account: Account) -> None:
    """The repository is known from now on. Raises QuotaExceeded."""
    if _LIST.run(c, id_=account.repository_id):
        quotas.list_repository(c, account)


def _account(row: Row) -> Account:
    repository_id, _, listed_in, uncounted_to = row
    return Account(repository_id, listed_in, uncounted_to)
