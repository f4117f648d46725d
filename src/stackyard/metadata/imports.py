"""Taking over what another registry left on the volume: how far it is, and what could not be taken over."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sqlalchemy import Connection, Text, bindparam, func, literal_column, select, union_all
from sqlalchemy.dialects.postgresql import insert

from stackyard.metadata import clock, holds
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import (
    import_problem,
    import_repository,
    installation,
    repository,
)

HOLD = "import"
_FOR_EVER = timedelta(days=36_500)

State = Literal["listing", "reading", "done"]

WAITING = literal_column("'waiting'", Text())

STATE = Prepared(
    select(
        installation.c.import_state,
        select(import_repository.c.state).where(import_repository.c.name == bindparam("name")).scalar_subquery(),
    ),
    "name",
)
"""(repository) to (state of the whole import, state of this repository); the second None when it was not found."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be taken over as it was."""

    path: str
    """Below the root of the volume."""
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the import is."""

    state: State | None
    """None: nobody has looked yet."""
    repositories: int
    waiting: int
    """Repositories that are not imported yet."""
    manifests: int
    tags: int
    problems: int


_IS_NEW = Prepared(select(installation.c.import_state, select(repository.c.id).limit(1).scalar_subquery()))
_SET_STATE = Prepared(installation.update().values(import_state=bindparam("state")))
_SET_COMPLETE = Prepared(installation.update().values(view_complete=bindparam("complete")))
_IS_COMPLETE = Prepared(select(installation.c.view_complete))
_FOUND = Prepared(
    insert(import_repository)
    .values(name=bindparam("name"), state="waiting", listed=bindparam("listed"), manifests=0, tags=0)
    .on_conflict_do_nothing()
)
_AGAIN = Prepared(import_repository.update().values(state="waiting", repository_id=None))
_NEXT = Prepared(
    select(import_repository.c.name)
    .where(import_repository.c.state == WAITING, import_repository.c.name > bindparam("after"))
    .order_by(import_repository.c.name)
    .limit(bindparam("limit"))
)
_PROGRESS = Prepared(
    select(
        select(installation.c.import_state).scalar_subquery(),
        func.count(),
        func.coalesce(func.sum(import_repository.c.manifests), 0),
        func.coalesce(func.sum(import_repository.c.tags), 0),
        select(func.count())
        .select_from(import_repository)
        .where(import_repository.c.state == WAITING)
        .scalar_subquery(),
        select(func.count()).select_from(import_problem).scalar_subquery(),
    ).select_from(import_repository)
)
_listed_now = select(repository.c.name.label("name")).where(
    repository.c.deleted_at.is_(None), repository.c.listed, repository.c.name > bindparam("after")
)
_listed_later = select(import_repository.c.name.label("name")).where(
    import_repository.c.state == WAITING, import_repository.c.listed, import_repository.c.name > bindparam("after")
)
_both = union_all(_listed_now, _listed_later).subquery()
_PAGE = Prepared(select(_both.c.name).distinct().order_by(_both.c.name).limit(bindparam("limit")))
_PROBLEM = Prepared(
    insert(import_problem)
    .values(path=bindparam("path"), reason=bindparam("reason"), found_at=clock.now())
    .on_conflict_do_nothing()
)
_FORGET_PROBLEMS = Prepared(import_problem.delete())
_PROBLEMS = Prepared(
    select(import_problem.c.id, import_problem.c.path, import_problem.c.reason)
    .where(import_problem.c.id > bindparam("after"))
    .order_by(import_problem.c.id)
    .limit(bindparam("limit"))
)


def is_new(c: Connection) -> bool:
    """Whether nobody has looked yet whether there is something to import, and nothing was ever pushed here."""
    row = _IS_NEW.one(c)
    return row is not None and row[0] is None and row[1] is None


def has_content(c: Connection) -> bool:
    """Whether anything but an import has written here."""
    row = _IS_NEW.one(c)
    return row is not None and row[0] == "done" and row[1] is not None


def settle(c: Connection, *, written: bool) -> None:
    """Decide, once for each database, whether there is something to import: when it is new and the volume is not.

    A database that was in use before says itself what is on the volume, and Distribution's view of that was not kept.
    """
    row = _IS_NEW.one(c)
    if row is not None and row[0] is None:
        begin(c, "listing" if row[1] is None and written else "done")
        view_complete(c, row[1] is None)


def begin(c: Connection, state: State) -> None:
    """Go on to `state`. From `done`, `listing` begins an import that adds what is new on the volume.

    Nothing is collected until it is done: repositories that are not imported yet may need what no row says.
    """
    _SET_STATE.run(c, state=state)
    if state == "listing":
        _AGAIN.run(c)
        _FORGET_PROBLEMS.run(c)
        holds.place(c, HOLD, "volume", span=_FOR_EVER)
    elif state == "done":
        holds.release(c, HOLD, "volume")


def progress(c: Connection) -> Progress:
    """How far the import is."""
    row = _PROGRESS.one(c)
    assert row is not None
    state, repositories, manifests, tags, waiting, problems = row
    return Progress(state, repositories, waiting, manifests, tags, problems)


def view_complete(c: Connection, complete: bool) -> None:
    """Note whether Distribution's view of the volume shows everything but what `follow` tells of."""
    _SET_COMPLETE.run(c, complete=complete)


def is_view_complete(c: Connection) -> bool:
    """Whether Distribution's view of the volume shows everything but what `follow` tells of."""
    return bool(_IS_COMPLETE.scalar(c))


def found(c: Connection, repositories: Sequence[tuple[str, bool]]) -> None:
    """Remember repositories of the volume: name, and whether Distribution lists it. Known ones stay as they are."""
    _FOUND.many(c, [{"name": name, "listed": listed} for name, listed in repositories])


def waiting(c: Connection, *, after: str, limit: int) -> list[str]:
    """Names of repositories not imported yet, in byte order, strictly after `after`."""
    return _NEXT.column(c, after=after, limit=limit)


def page(c: Connection, *, after: str, limit: int) -> list[str]:
    """As `repositories.page`, with those that are still to be imported."""
    return _PAGE.column(c, after=after, limit=limit)


def add_problems(c: Connection, problems: Sequence[Problem]) -> None:
    """Remember these, each once."""
    _PROBLEM.many(c, [{"path": one.path, "reason": one.reason} for one in problems])


def problems(c: Connection, *, after: int, limit: int) -> list[tuple[int, Problem]]:
    """Problems with their numbers, in the order in which they were found, strictly after number `after`."""
    return [(number, Problem(path, reason)) for number, path, reason in _PROBLEMS.all(c, after=after, limit=limit)]
