"""Background work that one process of all does at a time."""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar

import structlog
from sqlalchemy import Connection

from stackyard.metadata import leases
from stackyard.metadata.database import Database
from stackyard.metadata.errors import LeaseLost as LeaseLost
from stackyard.metadata.leases import Grant
from stackyard.oci.errors import Unavailable
from stackyard.registry import failures

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger("stackyard.jobs")

_RETRY = 0.2  # seconds
_TO_OUTLAST = 1.5  # spans, as there are moments between two tries, and before the first

SPAN = timedelta(seconds=30)
"""How long a holder that says nothing keeps a lease: a crash costs the work so much."""


@dataclass(slots=True)
class Lease:
    """A lease that is held now, as far as this process knows."""

    database: Database
    grant: Grant
    span: timedelta
    deadline: float
    """`time.monotonic()` until which nobody else can have it, also when the database is out of reach."""

    @property
    def state(self) -> str | None:
        """The note that the last holder left."""
        return self.grant.state

    def require(self) -> None:
        """To be called before anything that cannot be taken back, such as deleting bytes. Raises LeaseLost."""
        if time.monotonic() >= self.deadline:
            raise LeaseLost(self.grant.name)

    async def write(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `Database.write`, in a transaction that also makes sure of the lease. Raises LeaseLost."""
        return await self.database.write(_fenced, self.grant, function, args, kwargs)

    async def write_relaxed(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `write`, for what a power cut may take back, such as progress. Raises LeaseLost."""
        return await self.database.write_relaxed(_fenced, self.grant, function, args, kwargs)

    async def save(self, state: str) -> None:
        """Leave a note for the next holder. Raises LeaseLost."""
        await self.database.write_relaxed(leases.save, self.grant, state)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self.span.total_seconds() / 3)
            asked = time.monotonic()
            if not await self.database.write_relaxed(leases.renew, self.grant, span=self.span):
                raise LeaseLost(self.grant.name)
            self.deadline = asked + self.span.total_seconds()


@dataclass(frozen=True, slots=True)
class Leases:
    """The leases of this process."""

    database: Database
    span: timedelta = SPAN
    holder: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}")

    async def run(self, name: str, work: Callable[[Lease], Awaitable[T]]) -> T | None:
        """Do the work under the lease, which is given back at its end. None, at once, when another has it.

        Work that runs on when the lease is lost is cancelled. Raises what the work does, and LeaseLost.
        """
        asked = time.monotonic()
        grant = await self.database.write_relaxed(leases.acquire, name, holder=self.holder, span=self.span)
        if grant is None:
            return None
        lease = Lease(self.database, grant, self.span, asked + self.span.total_seconds())
        try:
            return await _first_to_end(work(lease), lease._renew())
        finally:
            await asyncio.shield(self.database.write_relaxed(leases.release, grant))

    async def insist(self, name: str, work: Callable[[Lease], Awaitable[T]], *, patience: timedelta) -> T:
        """As `run`, waiting for another holder to end. Raises Unavailable after `patience`.

        A holder that died or stands still is outwaited, whatever the patience is.
        """
        done: list[T] = []

        async def remember(lease: Lease) -> bool:
            done.append(await work(lease))
            return True

        try:
            async with asyncio.timeout(max(patience, self.span * _TO_OUTLAST).total_seconds()) as limit:
                while True:
                    if await self.run(name, _unlimited(limit, remember)):
                        return done[0]
                    await asyncio.sleep(_RETRY)
        except TimeoutError:
            raise Unavailable(f"another process is at {name} and does not end; try again later") from None

    async def keep_running(
        self,
        name: str,
        work: Callable[[Lease], Awaitable[Any]],
        *,
        every: timedelta,
        when: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """Do the work whenever nobody else does, `every` so often, for ever; cancel to stop.

        `when` says whether there is any; a lease costs two writes. What the work raises is logged and ends its round.
        """
        while True:
            try:
                if when is None or await when():
                    await self.run(name, work)
            except LeaseLost:
                log.warning("background work was taken over by another process", work=name)
            except Exception as error:  # the disk may be full or the database away: that ends a round, and no more
                failures.tell("background work failed; trying again later", error, work=name)
            await asyncio.sleep(every.total_seconds())


def _unlimited(limit: asyncio.Timeout, work: Callable[[Lease], Awaitable[T]]) -> Callable[[Lease], Awaitable[T]]:
    """The work, which once it begins takes as long as it takes."""

    async def begin(lease: Lease) -> T:
        limit.reschedule(None)
        return await work(lease)

    return begin


async def _first_to_end(work: Awaitable[T], renewing: Awaitable[None]) -> T:
    """The work's result; what the renewing raises ends the work."""
    worker, renewer = asyncio.ensure_future(work), asyncio.ensure_future(renewing)
    try:
        await asyncio.wait((worker, renewer), return_when=asyncio.FIRST_COMPLETED)
        if not worker.done():
            renewer.result()
        return await worker
    finally:
        for task in (worker, renewer):
            task.cancel()
        await asyncio.gather(worker, renewer, return_exceptions=True)


def _fenced(
    c: Connection, grant: Grant, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> T:
    leases.check(c, grant)
    return function(c, *args, **kwargs)
