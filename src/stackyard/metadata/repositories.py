"""Repositories: names that were pushed to."""

from sqlalchemy import Connection, bindparam, select

from stackyard.metadata import clock
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import repository

_PAGE = Prepared(
    select(repository.c.name)
    .where(repository.c.deleted_at.is_(None), repository.c.listed, repository.c.name > bindparam("after"))
    .order_by(repository.c.name)
    .limit(bindparam("limit"))
)
# KEY SHARE: pushes do not wait for each other, and the one who deletes the repository (FOR UPDATE) waits for all.
_LOCKED = Prepared(
    select(repository.c.id, repository.c.listed)
    .where(repository.c.name == bindparam("name"), repository.c.deleted_at.is_(None))
    .with_for_update(read=True, key_share=True)
)
_INSERT = Prepared(
    repository.insert().values(name=bindparam("name"), listed=False, created_at=clock.now()).returning(repository.c.id)
)
_LIST = Prepared(repository.update().where(repository.c.id == bindparam("id_")).values(listed=True))
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
    row = _LOCKED.one(c, name=name)
    found: int = row[0] if row else _INSERT.scalar(c, name=name)
    return found


def ensure_listed(c: Connection, name: str) -> int:
    """As `ensure_locked`, and the repository is known from now on."""
    row = _LOCKED.one(c, name=name)
    if row is None or not row[1]:
        repository_id: int = row[0] if row else _INSERT.scalar(c, name=name)
        _LIST.run(c, id_=repository_id)
        return repository_id
    found: int = row[0]
    return found
