"""Repositories: names that were pushed to."""

from sqlalchemy import Connection, bindparam, select

from stackyard.metadata import clock, quotas
from stackyard.metadata.prepared import Prepared, Row
from stackyard.metadata.quotas import Account
from stackyard.metadata.schema import repository

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


def page(c: Connection, *, after: str, limit: int) -> list[str]:
    """Names of repositories that ever held a manifest, in byte order, strictly after `after` ('': from the first)."""
    return _PAGE.column(c, after=after, limit=limit)


def exists(c: Connection, name: str) -> bool:
    """Whether the repository ever held a manifest and is not deleted."""
    return _EXISTS.one(c, name=name) is not None


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
