"""Quotas: what the repositories below a prefix may hold together, and what they do.

A distinct digest counts once per quota, however many repositories link it: `quota_digest` counts its links, and its
size is in `used_bytes` while there are any. Whoever makes a link or a manifest visible, or hides one, changes these
counts in the same transaction, so usage is exact at all times.

A repository's row lists the quotas that count it, so that a write learns of them from the row that it reads anyway.
The list is complete: who makes a repository looks for quotas under a share lock on `installation`, which whoever makes
a quota changes first. And who makes a quota has every older repository added to it, under a lock on the repository's
row that no write under way is older than (`counting`).

The quotas' rows are locked last of all and by ascending id, and the limit is looked at after the change: of two pushes
that do not both fit, one is refused, and everything that its transaction did with it.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert

from stackyard.metadata import clock
from stackyard.metadata.prepared import Prepared
from stackyard.metadata.schema import installation, quota, quota_digest, repository
from stackyard.oci.errors import QuotaExceeded
from stackyard.oci.units import human

Source = Literal["config", "api"]
LAST = "~"
"""Sorts after every digest."""


class Account(NamedTuple):
    """Where a repository's content is counted."""

    repository_id: int
    quotas: str | None
    """The ids of its quotas with commas between; None: nothing to do."""
    uncounted_to: str | None = None
    """Digests up to this one do not count."""

    @property
    def ids(self) -> list[int]:
        """Of its quotas, ascending."""
        return [int(one) for one in self.quotas.split(",")] if self.quotas else []


@dataclass(frozen=True, slots=True)
class Quota:
    """A quota as it is shown. Sizes in bytes; a limit of None is none."""

    id: int
    prefix: str
    max_bytes: int | None
    max_repositories: int | None
    used_bytes: int
    used_repositories: int
    source: Source
    updated_at: datetime
    updated_by: str
    counting: bool
    """Not everything that was there before the quota is counted yet."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the tightest quota of a repository leaves."""

    prefix: str
    used: int
    limit: int

    @property
    def free(self) -> int:
        """Bytes, 0 at least."""
        return max(self.limit - self.used, 0)

    def refusal(self, more: int | None) -> QuotaExceeded:
        """Why `more` bytes are not taken, or more bytes than are free, when nobody knows how many."""
        used, limit = human(self.used, like=self.limit), human(self.limit, like=self.limit)
        if more is None and self.free:
            needed = f", more needed than the {human(self.free, like=self.limit)} left"
        else:
            needed = f", {human(more, like=self.limit)} more needed" if more else ""
        return QuotaExceeded(
            f"the quota of {shown(self.prefix)} is exceeded: {used} of {limit} used{needed}"
            "; delete what is not needed, or ask an administrator for more",
            prefix=self.prefix,
            used=self.used,
            limit=self.limit,
        )


class Hints:
    """Which quotas were far from their limits a moment ago: there an upload may begin without a look.

    The one thing about quotas that is remembered, and only so that pushes cost less: nothing is refused because of it,
    and what is let pass by mistake the commit refuses.
    """

    _SPAN = 1.0  # seconds
    _FAR = 64 << 20  # bytes

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def hold(self, ids: str) -> bool:
        """Whether a repository with these quotas had much room."""
        return self._until.get(ids, 0.0) > time.monotonic()

    def learn(self, ids: str, found: Allowance | None) -> None:
        """What was seen."""
        if found is None or found.free > self._FAR:
            if len(self._until) > 1000:
                self._until.clear()
            self._until[ids] = time.monotonic() + self._SPAN


def shown(prefix: str) -> str:
    """A prefix as people are told it."""
    return prefix or "the whole registry"


_ALL = select(
    quota.c.id,
    quota.c.prefix,
    quota.c.max_bytes,
    quota.c.max_repositories,
    quota.c.used_bytes,
    quota.c.used_repositories,
    quota.c.source,
    quota.c.updated_at,
    quota.c.updated_by,
    quota.c.counted_to.is_not(None),
)
_PAGE = Prepared(_ALL.where(quota.c.prefix > bindparam("after")).order_by(quota.c.prefix).limit(bindparam("limit")))
_EVERY = Prepared(_ALL.order_by(quota.c.prefix))
_LOCK_POLICY = Prepared(select(installation.c.policy_epoch).with_for_update())
_FIND = Prepared(_ALL.where(quota.c.prefix == bindparam("prefix")))
_LIMITS = Prepared(
    select(
        quota.c.prefix, quota.c.max_bytes, quota.c.used_bytes, quota.c.max_repositories, quota.c.used_repositories
    ).where(quota.c.id == bindparam("id_"))
)
LOCK = Prepared(
    select(quota.c.counted_to, quota.c.counted_digest).where(quota.c.id == bindparam("id_")).with_for_update()
)
ADD = Prepared(
    quota.update()
    .where(quota.c.id == bindparam("id_"))
    .values(used_bytes=quota.c.used_bytes + bindparam("more"))
    .returning(quota.c.prefix, quota.c.max_bytes, quota.c.used_bytes, quota.c.counted_to, quota.c.counted_digest)
)
_ADD_REPOSITORY = Prepared(
    quota.update()
    .where(quota.c.id == bindparam("id_"))
    .values(used_repositories=quota.c.used_repositories + bindparam("more"))
    .returning(quota.c.prefix, quota.c.max_repositories, quota.c.used_repositories)
)
UP = Prepared(
    insert(quota_digest)
    .values(
        quota_id=bindparam("quota_id"), digest=bindparam("digest"), size=bindparam("size"), links=bindparam("links")
    )
    .on_conflict_do_update(
        index_elements=["quota_id", "digest"], set_={"links": quota_digest.c.links + bindparam("links")}
    )
    .returning(quota_digest.c.links)
)
_of_digest = (quota_digest.c.quota_id == bindparam("quota_id_"), quota_digest.c.digest == bindparam("digest_"))
DOWN = Prepared(
    quota_digest.update()
    .where(*_of_digest)
    .values(links=quota_digest.c.links - bindparam("less"))
    .returning(quota_digest.c.links, quota_digest.c.size)
)
FORGET = Prepared(quota_digest.delete().where(*_of_digest))
_COUNTS = Prepared(select(quota_digest.c.links).where(*_of_digest))

_NAMED = Prepared(
    select(repository.c.id, repository.c.quotas, repository.c.uncounted_to).where(
        repository.c.name == bindparam("name"), repository.c.deleted_at.is_(None)
    )
)
# KEY SHARE: whoever adds the repository to a quota, or takes it off, waits for us.
_ACCOUNT = Prepared(
    select(repository.c.id, repository.c.quotas, repository.c.uncounted_to)
    .where(repository.c.id == bindparam("id_"))
    .with_for_update(read=True, key_share=True)
)
_HOLD_POLICY = Prepared(select(installation.c.policy_epoch).with_for_update(read=True))
_APPLYING = Prepared(
    select(quota.c.id)
    .where(func.substr(bindparam("name", type_=quota.c.prefix.type), 1, func.length(quota.c.prefix)) == quota.c.prefix)
    .order_by(quota.c.id)
)
_NEW_EPOCH = Prepared(
    installation.update().values(policy_epoch=installation.c.policy_epoch + 1).returning(installation.c.policy_epoch)
)
_INSERT = Prepared(
    quota.insert().values(
        id=bindparam("id"),
        prefix=bindparam("prefix"),
        max_bytes=bindparam("max_bytes"),
        max_repositories=bindparam("max_repositories"),
        used_bytes=0,
        used_repositories=0,
        counted_to=0,
        counted_digest=LAST,
        source=bindparam("source"),
        updated_at=clock.now(),
        updated_by=bindparam("actor"),
    )
)
_UPDATE = Prepared(
    quota.update()
    .where(quota.c.prefix == bindparam("prefix_"))
    .values(
        max_bytes=bindparam("max_bytes"),
        max_repositories=bindparam("max_repositories"),
        source=bindparam("source"),
        updated_at=clock.now(),
        updated_by=bindparam("actor"),
    )
)
_DELETE = Prepared(quota.delete().where(quota.c.prefix == bindparam("prefix_")))


def page(c: Connection, *, after: str | None = None, limit: int) -> list[Quota]:
    """Quotas in byte order of their prefixes, strictly after `after` (None: from the first, which may be '')."""
    first = [] if after is not None else _FIND.all(c, prefix="")
    rows = first + _PAGE.all(c, after=after or "", limit=limit)
    return [Quota(*row) for row in rows[:limit]]


def every(c: Connection) -> list[Quota]:
    """All quotas, in the order of their prefixes."""
    return [Quota(*row) for row in _EVERY.all(c)]


def lock(c: Connection) -> None:
    """Nobody else changes policy before this transaction ends."""
    _LOCK_POLICY.one(c)


def find(c: Connection, prefix: str) -> Quota | None:
    """The quota on exactly this prefix, or None."""
    row = _FIND.one(c, prefix=prefix)
    return Quota(*row) if row else None


def put(
    c: Connection,
    *,
    prefix: str,
    max_bytes: int | None,
    max_repositories: int | None,
    source: Source,
    actor: str,
) -> None:
    """Limit what the repositories whose names begin with `prefix` hold.

    A new quota counts from now on what is made from now on; `counting.count` adds what was there before.
    """
    epoch: int = _NEW_EPOCH.scalar(c)
    values = {"max_bytes": max_bytes, "max_repositories": max_repositories, "source": source, "actor": actor}
    if not _UPDATE.run(c, prefix_=prefix, **values):
        _INSERT.run(c, id=epoch, prefix=prefix, **values)


def remove(c: Connection, prefix: str) -> bool:
    """There is no limit on `prefix` any more. False when there was none. `counting.sweep` removes its counts."""
    _NEW_EPOCH.scalar(c)
    return bool(_DELETE.run(c, prefix_=prefix))


def applying(c: Connection, name: str) -> str | None:
    """The ids of the quotas on a repository of this name, as its row lists them. No other comes before the commit."""
    _HOLD_POLICY.one(c)
    return ",".join(map(str, _APPLYING.column(c, name=name))) or None


def account(c: Connection, repository_id: int) -> Account:
    """The repository's account, which keeps its quotas until this transaction ends."""
    row = _ACCOUNT.one(c, id_=repository_id)
    return Account(*row) if row else Account(repository_id, None)


def allowance(c: Connection, account: Account, *, listed: bool = True) -> Allowance | None:
    """What the tightest of its quotas leaves now; None when none limits bytes. Not locked: the commit decides.

    Raises QuotaExceeded when the repository is not `listed` yet and there may be no more repositories.
    """
    tightest: Allowance | None = None
    for quota_id in account.ids:
        row = _LIMITS.one(c, id_=quota_id)
        if row is None:
            continue
        prefix, limit, used, max_repositories, repositories = row
        if not listed and max_repositories is not None and repositories >= max_repositories:
            raise _too_many(prefix, repositories, max_repositories)
        if limit is not None and (tightest is None or limit - used < tightest.limit - tightest.used):
            tightest = Allowance(prefix, used, limit)
    return tightest


def allowance_for(c: Connection, name: str, digest: str) -> Allowance | None:
    """As `allowance`, for a blob of this digest in the repository: quotas that count it already leave it all."""
    row = _NAMED.one(c, name=name)
    if row is None:
        return None
    new = [each for each in Account(*row).ids if not _COUNTS.one(c, quota_id_=each, digest_=digest)]
    return allowance(c, Account(row[0], ",".join(map(str, new)) or None))


def charge(c: Connection, account: Account, sizes: Mapping[str, int], *, enforce: bool = True) -> None:
    """One link more for each of these digests.

    To be called after every other lock of the transaction was taken. `enforce` False is for what is there already,
    such as an import.

    Raises:
        QuotaExceeded: They do not fit; the transaction must not be committed.
    """
    for quota_id in account.ids:
        _charge(c, quota_id, account, sizes, enforce=enforce)


def discharge(c: Connection, account: Account, digests: Collection[str]) -> None:
    """One link less for each of these digests. To be called as `charge`."""
    for quota_id in account.ids:
        lower(c, quota_id, account, dict.fromkeys(digests, 1))


def list_repository(c: Connection, account: Account, *, enforce: bool = True) -> None:
    """One repository more. Raises QuotaExceeded, if it is to be enforced."""
    for quota_id in account.ids:
        row = _ADD_REPOSITORY.one(c, id_=quota_id, more=1)
        if enforce and row and row[1] is not None and row[2] > row[1]:
            raise _too_many(row[0], row[2] - 1, row[1])


def unlist_repository(c: Connection, account: Account) -> None:
    """One repository less."""
    for quota_id in account.ids:
        _ADD_REPOSITORY.one(c, id_=quota_id, more=-1)


def _charge(c: Connection, quota_id: int, account: Account, sizes: Mapping[str, int], *, enforce: bool) -> None:
    # As if all of it were new, which also locks: for a push of new content that is the only change of the row.
    row = ADD.one(c, id_=quota_id, more=sum(sizes.values()))
    if row is None:
        return  # the quota was removed
    prefix, limit, used, *progress = row
    known = 0
    for digest, size in sizes.items():
        counts = is_counted(account, progress, digest)
        if not counts or UP.scalar(c, quota_id=quota_id, digest=digest, size=size, links=1) > 1:
            known += size
    if known:
        ADD.one(c, id_=quota_id, more=-known)
    more = sum(sizes.values()) - known
    if enforce and limit is not None and more and used - known > limit:
        raise Allowance(prefix, used - known - more, limit).refusal(more)


def lower(c: Connection, quota_id: int, account: Account, links: Mapping[str, int]) -> None:
    """So many links less for each digest, in one quota."""
    progress = LOCK.one(c, id_=quota_id)
    if progress is None:
        return
    freed = 0
    for digest, less in links.items():
        if is_counted(account, progress, digest):
            row = DOWN.one(c, quota_id_=quota_id, digest_=digest, less=less)
            if row and row[0] <= 0:
                FORGET.run(c, quota_id_=quota_id, digest_=digest)
                freed += row[1]
    if freed:
        ADD.one(c, id_=quota_id, more=-freed)


def is_counted(account: Account, progress: Sequence[Any], digest: str) -> bool:
    """Whether a digest of this repository is part of a quota's counts, which go as far as `progress`."""
    counted_to, counted_digest = progress
    return (counted_to != account.repository_id or digest <= counted_digest) and (
        account.uncounted_to is None or digest > account.uncounted_to
    )


def _too_many(prefix: str, used: int, limit: int) -> QuotaExceeded:
    return QuotaExceeded(
        f"the quota of {shown(prefix)} is exceeded: {used} of {limit} repositories used; delete one, or ask an "
        "administrator for more",
        prefix=prefix,
        used=used,
        limit=limit,
    )
