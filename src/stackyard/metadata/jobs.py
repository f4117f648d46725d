"""Jobs: long work that somebody asked for, how far it is, and what came of it.

A job is open until it is finished. Whoever works on the open ones of a kind holds that kind's lease.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, case, select, true
from sqlalchemy.sql.elements import ColumnElement

from stackyard.metadata import audit, clock
from stackyard.metadata.prepared import Prepared, Row
from stackyard.metadata.schema import job

DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
_ENDLESS = 2**62

_COLUMNS = (
    job.c.id,
    job.c.kind,
    job.c.state,
    job.c.request,
    job.c.progress,
    job.c.result,
    job.c.cancelled,
    job.c.attempts,
    job.c.created_at,
    job.c.created_by,
    job.c.started_at,
    job.c.finished_at,
)


@dataclass(frozen=True, slots=True)
class Job:
    """Long work."""

    id: int
    kind: str
    state: str
    """queued, running, done, failed or cancelled."""
    request: dict[str, Any]
    progress: dict[str, Any]
    """What the work last said; empty before it began."""
    result: dict[str, Any] | None
    """Of a job that is finished."""
    cancelled: bool
    """Somebody asked for it to end early."""
    attempts: int
    """How often it was begun: more than once when processes ended on the way."""
    created_at: datetime
    created_by: str
    started_at: datetime | None
    finished_at: datetime | None


_id = job.c.id == bindparam("id_")
_open = job.c.finished_at.is_(None)
_ADD = Prepared(
    job.insert()
    .values(
        kind=bindparam("kind"),
        state="queued",
        request=bindparam("request"),
        cancelled=False,
        attempts=0,
        created_at=clock.now(),
        created_by=bindparam("actor"),
    )
    .returning(*_COLUMNS)
)
_FIND = Prepared(select(*_COLUMNS).where(_id))
_LOCK = Prepared(select(*_COLUMNS).where(_id).with_for_update())
_OPEN_KINDS = Prepared(select(job.c.kind).where(_open).distinct())
_FIRST = Prepared(select(job.c.id).where(_open, job.c.kind == bindparam("kind")).order_by(job.c.id).limit(1))
_START = Prepared(
    job.update()
    .where(_id, _open)
    .values(
        state="running",
        attempts=job.c.attempts + 1,
        started_at=case((job.c.started_at.is_(None), clock.now()), else_=job.c.started_at),
    )
    .returning(*_COLUMNS)
)
_REPORT = Prepared(job.update().where(_id, _open).values(progress=bindparam("progress")).returning(job.c.cancelled))
_FINISH = Prepared(
    job.update().where(_id, _open).values(state=bindparam("state"), result=bindparam("result"), finished_at=clock.now())
)
_ASK_TO_END = Prepared(job.update().where(_id, _open).values(cancelled=True))
_TRIM = Prepared(
    job.delete().where(
        job.c.id.in_(
            select(job.c.id)
            .where(job.c.finished_at <= clock.before("keep"))
            .order_by(job.c.id)
            .limit(bindparam("limit"))
            .scalar_subquery()
        )
    )
)


def _page(*conditions: ColumnElement[bool]) -> Prepared:
    return Prepared(
        select(*_COLUMNS)
        .where(job.c.id < bindparam("before"), *conditions)
        .order_by(job.c.id.desc())
        .limit(bindparam("limit"))
    )


_PAGES = {False: _page(true()), True: _page(_open)}


def add(c: Connection, kind: str, request: Mapping[str, Any], *, actor: str) -> Job:
    """Ask for work of this kind, recorded in the audit log."""
    row = _ADD.one(c, kind=kind, request=json.dumps(dict(request)), actor=actor)
    assert row is not None
    added = _job(row)
    audit.record(c, actor=actor, action=f"{kind}.start", job=added.id, **added.request)
    return added


def find(c: Connection, job_id: int) -> Job | None:
    """The job, or None."""
    row = _FIND.one(c, id_=job_id)
    return _job(row) if row else None


def page(c: Connection, *, before: int | None, limit: int, only_open: bool = False) -> list[Job]:
    """Jobs from the youngest to the oldest, strictly older than the one of the number `before`."""
    values = {"before": _ENDLESS if before is None else before, "limit": limit}
    return [_job(row) for row in _PAGES[only_open].all(c, **values)]


def open_kinds(c: Connection) -> list[str]:
    """The kinds of which there are open jobs."""
    return _OPEN_KINDS.column(c)


def first_open(c: Connection, kind: str) -> int | None:
    """The number of the oldest open job of this kind."""
    found: int | None = _FIRST.scalar(c, kind=kind)
    return found


def start(c: Connection, job_id: int) -> Job | None:
    """Somebody works on it from now on, for the first time or again. None when it is finished."""
    row = _START.one(c, id_=job_id)
    return _job(row) if row else None


def report(c: Connection, job_id: int, progress: Mapping[str, Any]) -> bool:
    """Keep how far it is. Whether it goes on: False when it was cancelled."""
    return _REPORT.scalar(c, id_=job_id, progress=json.dumps(dict(progress))) is not True


def finish(c: Connection, job_id: int, state: str, result: Mapping[str, Any]) -> None:
    """Nobody works on it any more."""
    _FINISH.run(c, id_=job_id, state=state, result=json.dumps(dict(result)))


def cancel(c: Connection, job_id: int, *, actor: str) -> Job | None:
    """Ask for its end: one that nobody works on yet ends at once, any other at its next step. None: no such job."""
    row = _LOCK.one(c, id_=job_id)
    if row is None:
        return None
    found = _job(row)
    if found.finished_at is not None or found.cancelled:
        return found
    _ASK_TO_END.run(c, id_=job_id)
    if found.started_at is None:
        finish(c, job_id, CANCELLED, {})
    audit.record(c, actor=actor, action=f"{found.kind}.cancel", job=job_id)
    return find(c, job_id)


def trim(c: Connection, *, keep: timedelta, limit: int) -> int:
    """Forget finished jobs that ended longer ago than `keep`, at most `limit`; how many."""
    return _TRIM.run(c, keep=keep, limit=limit)


def _job(row: Row) -> Job:
    number, kind, state, request, progress, result, *rest = row
    return Job(
        number,
        kind,
        state,
        json.loads(request),
        json.loads(progress) if progress else {},
        json.loads(result) if result else None,
        *rest,
    )
