"""Counting for quotas what is not one link: what was there before a quota, and repositories deleted or restored.

All of it in steps of a bounded number of digests, in the order of digests, each a transaction of its own; the rows
keep how far it is, so that pushes meanwhile change exactly the counts that are settled already (`quotas.is_counted`).

Usage is therefore never less than what can be seen, but for a quota that is still being counted. It is more only while
a repository of many digests, which nobody sees, is being taken off its quotas or is about to come back.

Locks: repositories by id, then quotas.
"""

from collections import Counter
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, bindparam, func, select

from stackyard.metadata import clock, quotas
from stackyard.metadata.prepared import Prepared, Row
from stackyard.metadata.quotas import LAST, Account
from stackyard.metadata.schema import LIVE, QUARANTINED, blob, blob_link, manifest, quota, quota_digest, repository

_REPOSITORIES = 100
"""At most so many are locked by one step."""
_RESTORING = timedelta(minutes=1)
"""A restore that says nothing for so long has ended."""

_WAITING = Prepared(
    select(quota.c.id, quota.c.prefix, quota.c.counted_to, quota.c.counted_digest)
    .where(quota.c.counted_to.is_not(None))
    .order_by(quota.c.id)
    .limit(1)
)
_PROGRESS = Prepared(
    quota.update()
    .where(quota.c.id == bindparam("id_"))
    .values(
        counted_to=bindparam("to"),
        counted_digest=bindparam("digest"),
        used_bytes=quota.c.used_bytes + bindparam("bytes"),
        used_repositories=quota.c.used_repositories + bindparam("repositories"),
    )
)
_BELOW = Prepared(
    select(repository.c.id)
    .where(
        repository.c.id >= bindparam("first"),
        func.substr(repository.c.name, 1, func.length(bindparam("prefix", type_=quota.c.prefix.type)))
        == bindparam("prefix", type_=quota.c.prefix.type),
    )
    .order_by(repository.c.id)
    .limit(bindparam("limit"))
)
# No write that began with the row as it was is under way any more.
_LOCK = Prepared(
    select(
        repository.c.id,
        repository.c.name,
        repository.c.listed,
        repository.c.deleted_at,
        repository.c.quotas,
        repository.c.uncounted_to,
    )
    .where(repository.c.id == bindparam("id_"))
    .with_for_update()
)
_SET = Prepared(
    repository.update()
    .where(repository.c.id == bindparam("id_"))
    .values(quotas=bindparam("quotas"), uncounted_to=bindparam("uncounted_to"))
)
_BE_RESTORED = Prepared(
    repository.update().where(repository.c.id == bindparam("id_")).values(settle_after=clock.after("span"))
)
_UNSETTLED = Prepared(
    select(repository.c.id)
    .where(
        repository.c.deleted_at.is_not(None),
        repository.c.quotas.is_not(None),
        repository.c.settle_after.is_(None) | (repository.c.settle_after <= clock.now()),
    )
    .order_by(repository.c.id)
    .limit(1)
)

_size = func.coalesce(
    select(blob.c.size).where(blob.c.digest == blob_link.c.digest, blob.c.state == LIVE).scalar_subquery(),
    select(func.max(blob.c.size))
    .where(blob.c.digest == blob_link.c.digest, blob.c.state == QUARANTINED)
    .scalar_subquery(),
    0,
)
_LINKS = select(blob_link.c.digest, _size).where(
    blob_link.c.repository_id == bindparam("repository_id"), blob_link.c.counted
)
_MANIFESTS = select(manifest.c.digest, manifest.c.size).where(
    manifest.c.repository_id == bindparam("repository_id"), manifest.c.deleted_at.is_(None)
)


def _after(column: ColumnElement[str]) -> ColumnElement[bool]:
    return (column > bindparam("start")) & (column <= bindparam("stop"))


_UPWARDS = [
    Prepared(
        query.where(_after(query.selected_columns[0])).order_by(query.selected_columns[0]).limit(bindparam("limit"))
    )
    for query in (_LINKS, _MANIFESTS)
]
_DOWNWARDS = [
    Prepared(
        query.where(_after(query.selected_columns[0]))
        .order_by(query.selected_columns[0].desc())
        .limit(bindparam("limit"))
    )
    for query in (_LINKS, _MANIFESTS)
]
# One look into the index for each quota that has counts; there may be millions of those.
_NEXT_COUNTED = Prepared(select(func.min(quota_digest.c.quota_id)).where(quota_digest.c.quota_id > bindparam("after")))
_IDS = Prepared(select(quota.c.id))
_ORPHANS = Prepared(
    select(quota_digest.c.digest).where(quota_digest.c.quota_id == bindparam("quota_id")).limit(bindparam("limit"))
)


class Links:
    """Links and manifests of one repository, by digest."""

    def __init__(self, rows: list[Row]) -> None:
        self.counts = Counter[str]()
        self.sizes: dict[str, int] = {}
        for digest, size in rows:
            self.counts[digest] += 1
            self.sizes[digest] = max(size, self.sizes.get(digest, 0))


def has_work(c: Connection) -> bool:
    """Whether there is anything for `count`, `settle` or `sweep`."""
    return _WAITING.one(c) is not None or _UNSETTLED.one(c) is not None or _orphan(c) is not None


def count(c: Connection, *, limit: int) -> bool:
    """Add to a new quota the next of what was there before it, some `limit` digests; False when there is nothing."""
    row = _WAITING.one(c)
    if row is None:
        return False
    quota_id, prefix, first, digest = row
    ids = _BELOW.column(c, first=first, prefix=prefix, limit=_REPOSITORIES)
    found = [row for each in ids if (row := _LOCK.one(c, id_=each))]
    if quotas.LOCK.one(c, id_=quota_id) is None:
        return True  # it was removed
    walk = _Walk(c, quota_id, limit)
    for each in found:
        walk.visit(each, digest if each[0] == first else "")
        if walk.left <= 0:
            break
    to, reached = (walk.to, walk.digest) if walk.left <= 0 or len(ids) == _REPOSITORIES else (None, None)
    _PROGRESS.run(c, id_=quota_id, to=to, digest=reached, bytes=walk.bytes, repositories=walk.repositories)
    return True


class _Walk:
    """One step of counting a quota."""

    def __init__(self, c: Connection, quota_id: int, limit: int) -> None:
        self._c, self._quota_id, self.left = c, quota_id, limit
        self.bytes, self.repositories = 0, 0
        self.to, self.digest = 0, LAST

    def visit(self, row: Row, done: str) -> None:
        """Count what the repository has after the digest `done`, as far as the step allows."""
        repository_id, _, listed, deleted_at, ids, uncounted_to = row
        account = Account(repository_id, ids)
        self.to, self.digest = repository_id, LAST
        if not done:
            if deleted_at is not None or self._quota_id in account.ids:
                return  # it is counted when it is restored; or was made after the quota
            self._join(account, uncounted_to)
            self.repositories += bool(listed)
        elif done == LAST or self._quota_id not in account.ids:
            return
        links, self.digest = _upwards(self._c, repository_id, start=done, stop=LAST, limit=self.left)
        self.left -= 1 + len(links.counts)
        for digest, number in links.counts.items():
            if uncounted_to is None or digest > uncounted_to:
                self.bytes += _raise(self._c, self._quota_id, digest, links.sizes[digest], number)

    def _join(self, account: Account, uncounted_to: str | None) -> None:
        ids = ",".join(map(str, sorted([*account.ids, self._quota_id])))
        _SET.run(self._c, id_=account.repository_id, quotas=ids, uncounted_to=uncounted_to)


def close(c: Connection, repository_id: int, *, limit: int) -> None:
    """Take a repository that this transaction deletes off its quotas; of many digests only some, `settle` the rest."""
    row = _LOCK.one(c, id_=repository_id)
    if row is None or row[4] is None:
        return
    if row[2]:
        quotas.unlist_repository(c, Account(repository_id, row[4]))
    _settle(c, row, limit)


def settle(c: Connection, *, limit: int) -> bool:
    """Take the next digests of a deleted repository off its quotas; False when there is none such."""
    repository_id = _UNSETTLED.scalar(c)
    if repository_id is None:
        return False
    row = _LOCK.one(c, id_=repository_id)
    if row and row[3] is not None and row[4] is not None:
        _settle(c, row, limit)
    return True


def settle_one(c: Connection, repository_id: int, *, limit: int) -> bool:
    """As `settle`, for this deleted repository; True, when no quota counts anything of it any more."""
    row = _LOCK.one(c, id_=repository_id)
    return row is None or row[4] is None or _settle(c, row, limit)


def _settle(c: Connection, row: Row, limit: int) -> bool:
    """Whether that was all."""
    repository_id, _, _, _, ids, done = row
    links, reached = _upwards(c, repository_id, start=done or "", stop=LAST, limit=limit)
    account = Account(repository_id, ids, done)
    for quota_id in account.ids:
        quotas.lower(c, quota_id, account, links.counts)
    if reached == LAST:
        _SET.run(c, id_=repository_id, quotas=None, uncounted_to=None)
    else:
        _SET.run(c, id_=repository_id, quotas=ids, uncounted_to=reached)
    return reached == LAST


def reopen(c: Connection, repository_id: int, *, limit: int, enforce: bool = True) -> bool:
    """Count a deleted repository again, some `limit` digests of it. To be called until it is True.

    The transaction in which it is True has to make the repository visible, and list it only if it was. After an
    earlier one nothing else is needed: what is not gone on with for a minute is taken back by `settle`.

    Raises:
        QuotaExceeded: It does not fit, and that is to be enforced.
    """
    row = _LOCK.one(c, id_=repository_id)
    assert row is not None
    _, name, listed, _, ids, done = row
    wanted = quotas.applying(c, name)
    _BE_RESTORED.run(c, id_=repository_id, span=_RESTORING)
    if ids is None:
        ids, done = wanted, LAST
    elif ids != wanted:  # quotas came or went since it was deleted: off the old ones first
        _settle(c, row, limit)
        return False
    account = Account(repository_id, ids)
    links, rest = _downwards(c, repository_id, stop=done or "", limit=limit) if done else (Links([]), None)
    _SET.run(c, id_=repository_id, quotas=ids, uncounted_to=rest)
    for quota_id in account.ids:
        _recount(c, quota_id, account, links, enforce=enforce)
    if rest is not None:
        return False
    if listed:
        quotas.list_repository(c, account, enforce=enforce)
    return True


def _recount(c: Connection, quota_id: int, account: Account, links: Links, *, enforce: bool) -> None:
    progress = quotas.LOCK.one(c, id_=quota_id)
    if progress is None:
        return
    more = sum(
        _raise(c, quota_id, digest, links.sizes[digest], number)
        for digest, number in links.counts.items()
        if quotas.is_counted(account, progress, digest)
    )
    row = quotas.ADD.one(c, id_=quota_id, more=more)
    if enforce and row and row[1] is not None and more and row[2] > row[1]:
        raise quotas.Allowance(row[0], row[2] - more, row[1]).refusal(more)


def sweep(c: Connection, *, limit: int) -> bool:
    """Remove some counts of a quota that was removed; False when there are none."""
    quota_id = _orphan(c)
    if quota_id is None:
        return False
    for digest in _ORPHANS.column(c, quota_id=quota_id, limit=limit):
        quotas.FORGET.run(c, quota_id_=quota_id, digest_=digest)
    return True


def _orphan(c: Connection) -> int | None:
    """A quota that was removed and has counts left."""
    known = set(_IDS.column(c))
    quota_id: int | None = 0
    while (quota_id := _NEXT_COUNTED.scalar(c, after=quota_id)) in known:
        pass
    return quota_id


def _raise(c: Connection, quota_id: int, digest: str, size: int, links: int) -> int:
    """So many links more; the bytes that this adds."""
    now: int = quotas.UP.scalar(c, quota_id=quota_id, digest=digest, size=size, links=links)
    return size if now == links else 0


def _upwards(c: Connection, repository_id: int, *, start: str, stop: str, limit: int) -> tuple[Links, str]:
    """What lies after `start`, and the digest that it goes to; LAST, when that is all."""
    batches = [query.all(c, repository_id=repository_id, start=start, stop=stop, limit=limit) for query in _UPWARDS]
    reached = min((rows[-1][0] for rows in batches if len(rows) == limit), default=LAST)
    return Links([row for rows in batches for row in rows if row[0] <= reached]), reached


def _downwards(c: Connection, repository_id: int, *, stop: str, limit: int) -> tuple[Links, str | None]:
    """What lies at and before `stop`, and the digest before that; None, when that is all."""
    batches = [query.all(c, repository_id=repository_id, start="", stop=stop, limit=limit + 1) for query in _DOWNWARDS]
    rest = max((rows[-1][0] for rows in batches if len(rows) > limit), default=None)
    return Links([row for rows in batches for row in rows if rest is None or row[0] > rest]), rest
