"""Long work that somebody asked for: asking, watching, cancelling, and doing it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

import structlog

from stackyard.metadata import jobs
from stackyard.metadata.database import Database
from stackyard.metadata.errors import DatabaseUnavailable, LeaseLost
from stackyard.metadata.jobs import Job
from stackyard.oci.errors import JobUnknown
from stackyard.registry import failures
from stackyard.registry.leases import Lease, Leases

log = structlog.get_logger("stackyard.jobs")

_BETWEEN_REPORTS = 0.5  # seconds
_MOST_ATTEMPTS = 10
_TRIM_BATCH = 500


class Cancelled(Exception):
    """Somebody asked for the end of this job."""


@dataclass(slots=True)
class Work:
    """A job as those see it who do it."""

    job: Job
    lease: Lease
    """Held by one process of all for the jobs of this kind."""
    _reported: float = 0.0
    _progress: dict[str, Any] = field(default_factory=dict)

    @property
    def request(self) -> dict[str, Any]:
        """What was asked for."""
        return self.job.request

    @property
    def checkpoint(self) -> Any:
        """What an attempt that did not come to its end last kept as `checkpoint`; None in a first attempt."""
        return self.job.progress.get("checkpoint")

    async def report(
        self,
        step: str,
        done: int = 0,
        total: int | None = None,
        *,
        unit: str = "",
        checkpoint: Any = None,
        at_once: bool = False,
    ) -> None:
        """Say how far it is; to be called at every step, as only every so often one is written down.

        Args:
            step: What is being done, in words for people.
            done: How much of `total` is done, which is None where nobody knows.
            unit: What is counted: bytes, blobs …
            checkpoint: A JSON value from which another process could go on. Kept until another is given.
            at_once: Write it down now.

        Raises:
            Cancelled: The work is to end here.
            LeaseLost: Another process does it now.
        """
        progress = {"step": step, "done": done, "total": total, "unit": unit}
        kept = self._progress.get("checkpoint", self.checkpoint) if checkpoint is None else checkpoint
        self._progress = progress if kept is None else progress | {"checkpoint": kept}
        now = time.monotonic()
        if not at_once and now - self._reported < _BETWEEN_REPORTS:
            return
        self._reported = now
        if not await self.lease.write_relaxed(jobs.report, self.job.id, self._progress):
            raise Cancelled

    async def flush(self) -> None:
        """Write down what was said last."""
        if self._progress:
            await self.lease.write_relaxed(jobs.report, self.job.id, self._progress)


Kind: TypeAlias = Callable[[Work, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Does a job: from the work and what was asked for to the result, both JSON objects.

It may be begun again after a crash, with the `checkpoint` of the attempt before. A RegistryError that it raises is what
the job failed with; anything else is our fault.
"""


@dataclass(frozen=True, slots=True)
class Jobs:
    """The jobs of this registry."""

    database: Database
    leases: Leases
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when this process asked for work, so that its own runner need not wait for its next look."""

    async def ask(self, kind: str, request: Mapping[str, Any], *, actor: str) -> Job:
        """Have work done in the background. `request` is a JSON object and shown to whoever sees the job."""
        job = await self.database.write(jobs.add, kind, request, actor=actor)
        self.asked.set()
        return job

    async def find(self, job_id: int) -> Job:
        """One job. Raises JobUnknown."""
        found = await self.database.read(jobs.find, job_id)
        if found is None:
            raise JobUnknown(job=job_id)
        return found

    async def page(self, *, before: int | None, limit: int, only_open: bool = False) -> list[Job]:
        """Jobs from the youngest to the oldest, strictly older than `before`."""
        return await self.database.read(jobs.page, before=before, limit=limit, only_open=only_open)

    async def cancel(self, job_id: int, *, actor: str) -> Job:
        """Ask for the end of a job. Raises JobUnknown."""
        found = await self.database.write(jobs.cancel, job_id, actor=actor)
        if found is None:
            raise JobUnknown(job=job_id)
        return found

    async def waiting(self) -> list[str]:
        """The kinds of which there is something to do."""
        return await self.database.read(jobs.open_kinds)

    async def do(self, kind: str, function: Kind) -> bool:
        """Do the open jobs of this kind, one after the other, unless another process does. Whether this one did."""

        async def work(lease: Lease) -> bool:
            while (number := await self.database.read(jobs.first_open, kind)) is not None:
                await self._do_one(lease, number, function)
            return True

        return await self.leases.run(f"job.{kind}", work) or False

    async def trim(self, *, keep: timedelta) -> int:
        """Forget jobs that ended longer ago than `keep`; how many."""
        trimmed = 0
        while count := await self.database.write_relaxed(jobs.trim, keep=keep, limit=_TRIM_BATCH):
            trimmed += count
        return trimmed

    async def _do_one(self, lease: Lease, number: int, function: Kind) -> None:
        job = await lease.write(jobs.start, number)
        if job is None:
            return
        work = Work(job, lease)
        if job.attempts > _MOST_ATTEMPTS:
            result = {"code": "UNKNOWN", "detail": f"given up: its process ended {_MOST_ATTEMPTS} times on the way"}
            await lease.write(jobs.finish, number, jobs.FAILED, result)
            return
        state, result = await _outcome(work, function)
        await work.flush()
        await lease.write(jobs.finish, number, state, result)


async def _outcome(work: Work, function: Kind) -> tuple[str, dict[str, Any]]:
    """The state in which the job ended, and its result. Raises LeaseLost and DatabaseUnavailable: it is open still."""
    job = work.job
    try:
        if job.cancelled:
            raise Cancelled
        return jobs.DONE, dict(await function(work, job.request))
    except Cancelled:
        return jobs.CANCELLED, {}
    except (LeaseLost, DatabaseUnavailable):
        raise
    except Exception as error:
        refused = failures.refusal(error)
        if refused is None:
            log.exception("a job failed", kind=job.kind, job=job.id)
            return jobs.FAILED, {"code": "UNKNOWN", "detail": "unexpected error: the server's log tells more"}
        return jobs.FAILED, {"code": refused.code, "detail": refused.text}
