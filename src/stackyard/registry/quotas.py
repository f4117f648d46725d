"""Quotas: set, show, count and prove them. That pushes keep to them is the business of `metadata/quotas.py`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

import structlog
from sqlalchemy import Connection

from stackyard.metadata import audit, counting, quotas, recount
from stackyard.metadata.database import Database
from stackyard.metadata.quotas import Quota
from stackyard.metadata.recount import Recount
from stackyard.oci import names
from stackyard.oci.errors import BadRequest, QuotaDeclared, QuotaUnknown
from stackyard.oci.units import human
from stackyard.registry.leases import Lease, Leases

_STEP = 250
"""Digests per transaction, so that none takes long."""
_PATIENCE = 5.0
"""Seconds that whoever sets a quota waits for its first count; then it goes on in the background."""
_EVERY = timedelta(seconds=5)
_LEASE = "quotas"
_MOST = 2**63 - 1
_WORK: Sequence[Callable[..., bool]] = (counting.count, counting.settle, counting.sweep)
_DECLARER = "config"

Shown: TypeAlias = Quota
"""A quota as it is shown."""

log = structlog.get_logger("stackyard.quotas")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the repositories below a prefix may hold together. None: any amount."""

    prefix: str
    """`team-a/`; '' for the whole registry."""
    bytes: int | None
    repositories: int | None


def check(prefix: str, max_bytes: int | None, max_repositories: int | None) -> Limits:
    """The limits, if there can be such. Raises BadRequest, which says what to write instead."""
    prefix = "" if prefix == "/" else prefix
    if prefix and not (prefix.endswith("/") and names.is_repository(prefix[:-1])):
        if names.is_repository(prefix):
            raise BadRequest(f"a quota is on all repositories below a path: write {prefix}/, or / for all there are")
        raise BadRequest("the prefix is not the beginning of repository names: write it as team-a/, or / for all")
    if max_bytes is None and max_repositories is None:
        raise BadRequest("the quota limits nothing: give bytes, repositories or both")
    for what, limit in (("bytes", max_bytes), ("repositories", max_repositories)):
        if limit is not None and not 1 <= limit <= _MOST:
            raise BadRequest(
                f"the limit on {what} is not a number from 1 on; to refuse every push, take the right away"
            )
    return Limits(prefix, max_bytes, max_repositories)


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quotas of this installation."""

    database: Database
    leases: Leases

    async def page(self, *, after: str | None, limit: int) -> list[Quota]:
        """In the order of their prefixes, strictly after `after`."""
        return await self.database.read(quotas.page, after=after, limit=limit)

    async def find(self, prefix: str) -> Quota:
        """The quota on this prefix. Raises QuotaUnknown."""
        found = await self.database.read(quotas.find, "" if prefix == "/" else prefix)
        if found is None:
            raise QuotaUnknown(prefix=prefix)
        return found

    async def set(self, limits: Limits, *, actor: str) -> Quota:
        """Set or change a quota, and count what is there already, or begin to. Raises QuotaDeclared."""
        await self.database.write(_set, limits, actor=actor)
        end = time.monotonic() + _PATIENCE
        await self.work(until=lambda: time.monotonic() > end)
        return await self.find(limits.prefix)

    async def remove(self, prefix: str, *, actor: str) -> None:
        """There is no limit any more. Raises QuotaUnknown and QuotaDeclared."""
        await self.database.write(_remove, "" if prefix == "/" else prefix, actor=actor)

    async def declare(self, wanted: Sequence[Limits]) -> None:
        """Make the quotas of the configuration file those that stand in it now."""
        if await self.database.read(_differs, wanted) and await self.database.write(_declare, wanted):
            log.info("the quotas of the configuration file have changed", quotas=len(wanted))

    async def verify(self, prefix: str | None = None) -> list[Recount]:
        """Count everything again and compare, for one prefix or for all. Raises QuotaUnknown."""
        if prefix is not None:
            prefix = (await self.find(prefix)).prefix
        return await self.database.survey(recount.recount, prefix)

    async def keep(self) -> None:
        """Do whenever there is something to do what is too long for one transaction; cancel to stop."""
        await self.leases.keep_running(_LEASE, self._work_off, every=_EVERY, when=self._is_due)

    async def work(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """Do it now, unless somebody does."""
        if await self._is_due():
            await self.leases.run(_LEASE, lambda lease: self._work_off(lease, until=until))

    async def _is_due(self) -> bool:
        return await self.database.read(counting.has_work)

    async def _work_off(self, lease: Lease, *, until: Callable[[], bool] = lambda: False) -> None:
        for step in _WORK:
            while not until() and await lease.write(step, limit=_STEP):
                pass


def warning(quota: Quota) -> str | None:
    """What whoever set a quota should know of it."""
    if quota.counting:
        return "what was there before is still being counted; until then pushes may pass the limit"
    if quota.max_bytes is not None and quota.used_bytes > quota.max_bytes:
        used, limit = human(quota.used_bytes, like=quota.max_bytes), human(quota.max_bytes, like=quota.max_bytes)
        return f"{used} are used already, more than {limit}: pushes of new content are refused until it is less"
    if quota.max_repositories is not None and quota.used_repositories > quota.max_repositories:
        return f"there are {quota.used_repositories} repositories already: no new one can be pushed to"
    return None


def _set(c: Connection, limits: Limits, *, actor: str) -> None:
    found = quotas.find(c, limits.prefix)
    if found and found.source == "config":
        raise QuotaDeclared(prefix=limits.prefix)
    _put(c, limits, "api", actor)


def _put(c: Connection, limits: Limits, source: quotas.Source, actor: str) -> None:
    quotas.put(
        c,
        prefix=limits.prefix,
        max_bytes=limits.bytes,
        max_repositories=limits.repositories,
        source=source,
        actor=actor,
    )
    audit.record(
        c,
        actor=actor,
        action="quota.set",
        prefix=limits.prefix,
        bytes=limits.bytes,
        repositories=limits.repositories,
    )


def _remove(c: Connection, prefix: str, *, actor: str) -> None:
    found = quotas.find(c, prefix)
    if found is None:
        raise QuotaUnknown(prefix=prefix)
    if found.source == "config":
        raise QuotaDeclared(prefix=prefix)
    _drop(c, prefix, actor)


def _drop(c: Connection, prefix: str, actor: str) -> None:
    quotas.remove(c, prefix)
    audit.record(c, actor=actor, action="quota.remove", prefix=prefix)


def _declared(c: Connection) -> dict[str, Limits]:
    return {
        each.prefix: Limits(each.prefix, each.max_bytes, each.max_repositories)
        for each in quotas.every(c)
        if each.source == "config"
    }


def _differs(c: Connection, wanted: Sequence[Limits]) -> bool:
    return _declared(c) != {each.prefix: each for each in wanted}


def _declare(c: Connection, wanted: Sequence[Limits]) -> bool:
    """False when another process was first."""
    quotas.lock(c)
    if not _differs(c, wanted):
        return False
    found = _declared(c)
    for each in wanted:
        if found.pop(each.prefix, None) != each:
            _put(c, each, "config", _DECLARER)
    for prefix in found:
        _drop(c, prefix, _DECLARER)
    return True
