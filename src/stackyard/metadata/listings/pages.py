"""What all listings share."""

from datetime import datetime
from typing import Any

from sqlalchemy import CTE, BindParameter, Select, and_, bindparam

from stackyard.metadata.schema import repository

LIMIT: BindParameter[int] = bindparam("limit")
SHOWN = and_(repository.c.deleted_at.is_(None), repository.c.listed)
"""Repositories that clients see."""
HERE = (repository.c.name == bindparam("repository"), repository.c.deleted_at.is_(None))
"""The repository that is asked about."""


def picked(statement: Select[Any]) -> CTE:
    """The rows of a page, for the rest to be looked up for."""
    return statement.cte("page")


def latest(*times: datetime | None) -> datetime | None:
    """The last of those that are known."""
    return max((time for time in times if time is not None), default=None)
