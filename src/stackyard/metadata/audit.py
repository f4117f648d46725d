"""The audit log: what was changed, by whom. Written in the transaction that it tells of."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, select

from stackyard.metadata import clock
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import audit

_RECORD = Prepared(
    audit.insert().values(
        happened_at=clock.now(),
        actor=bindparam("actor"),
        action=bindparam("action"),
        repository=bindparam("repository"),
        detail=bindparam("detail"),
    )
)


def record(c: Connection, /, *, actor: str, action: str, repository: str | None = None, **detail: Any) -> None:
    """Remember it.

    Args:
        actor: `kind:name`, as `Principal.actor` gives it.
        action: A noun and a verb, such as `tag.restore`.
        detail: JSON values that say what exactly; nothing secret.
    """
    _RECORD.run(
        c,
        actor=actor,
        action=action,
        repository=repository,
        detail=json.dumps(detail, separators=(",", ":")) if detail else None,
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was changed."""

    id: int
    happened_at: datetime
    actor: str
    action: str
    repository: str | None
    detail: dict[str, Any]


_ENDLESS = 2**62
_COLUMNS = (audit.c.id, audit.c.happened_at, audit.c.actor, audit.c.action, audit.c.repository, audit.c.detail)


def _first_since(name: str) -> ColumnElement[int]:
    """The number of the first entry since then, so that time is a range of numbers, in whose order pages are read."""
    found = select(audit.c.id).where(audit.c.happened_at >= bindparam(name)).order_by(audit.c.happened_at, audit.c.id)
    return func.coalesce(found.limit(1).scalar_subquery(), _ENDLESS)


_FILTERS: dict[str, ColumnElement[bool]] = {
    "actor": audit.c.actor == bindparam("actor"),
    "action": audit.c.action == bindparam("action"),
    "repository": audit.c.repository == bindparam("repository"),
    "since": audit.c.id >= _first_since("since"),
    "until": audit.c.id < _first_since("until"),
}
_oldest = select(audit.c.id).order_by(audit.c.id).limit(bindparam("limit")).scalar_subquery()
_TRIM = Prepared(
    audit.delete().where(
        audit.c.id.in_(_oldest),
        (audit.c.happened_at <= clock.before("keep"))
        # Numbers are never used twice: so many at most are younger than the one that is `most` below the last.
        | (audit.c.id <= select(func.max(audit.c.id)).scalar_subquery() - bindparam("most")),
    )
)


def page(c: Connection, /, *, before: int | None, limit: int, **wanted: Any) -> list[Entry]:
    """Entries from the youngest to the oldest, strictly older than number `before`.

    Args:
        before: None: from the youngest.
        wanted: `actor`, `action` and `repository` that an entry must have, `since` and `until` when it happened, the
            latter exclusive; None: any.
    """
    filters = {name: value for name, value in wanted.items() if value is not None}
    statement = _page(frozenset(filters))
    rows = statement.all(c, before=_ENDLESS if before is None else before, limit=limit, **filters)
    return [
        Entry(number, happened_at, actor, action, repository, json.loads(detail) if detail else {})
        for number, happened_at, actor, action, repository, detail in rows
    ]


@cache
def _page(filters: frozenset[str]) -> Prepared:
    return Prepared(
        select(*_COLUMNS)
        .where(audit.c.id < bindparam("before"), *(_FILTERS[name] for name in sorted(filters)))
        .order_by(audit.c.id.desc())
        .limit(bindparam("limit"))
    )


def trim(c: Connection, *, keep: timedelta, most: int, limit: int) -> int:
    """Forget some of the oldest entries, as far as they are older than `keep` or not among the `most` youngest."""
    return _TRIM.run(c, keep=keep, most=most, limit=limit)
