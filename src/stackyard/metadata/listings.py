"""What administrators are shown: lists of repositories, tags and manifests, page by page."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import repository


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as it is listed."""

    name: str
    created_at: datetime


_repository = select(repository.c.name, repository.c.created_at).where(
    repository.c.deleted_at.is_(None), repository.c.listed
)
_REPOSITORIES = Prepared(
    _repository.where(repository.c.name > bindparam("after")).order_by(repository.c.name).limit(bindparam("limit"))
)
_REPOSITORY = Prepared(_repository.where(repository.c.name == bindparam("name")))


def repositories(c: Connection, *, after: str, limit: int) -> list[Repository]:
    """Repositories in byte order of names, strictly after `after` ('': from the first)."""
    return [Repository(*row) for row in _REPOSITORIES.all(c, after=after, limit=limit)]


def find_repository(c: Connection, name: str) -> Repository | None:
    """The one of this name."""
    row = _REPOSITORY.one(c, name=name)
    return Repository(*row) if row else None
