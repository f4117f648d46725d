"""The runner: what is asked for is done soon, whoever asked."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Connection
from structlog.testing import capture_logs

from stackyard.jobs.runner import Runner
from stackyard.metadata.database import Database
from stackyard.metadata.schema import lease
from stackyard.registry.jobs import Jobs, Kind, Work
from stackyard.registry.leases import Leases


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


@asynccontextmanager
async def running(jobs: Jobs, kinds: Mapping[str, Kind]) -> AsyncIterator[None]:
    task = asyncio.create_task(Runner(jobs, kinds).run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_jobs_of_several_kinds_are_done_beside_each_other(database: Database) -> None:
    jobs = Jobs(database, Leases(database))
    met = asyncio.Barrier(2)

    async def meet(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        await met.wait()
        return {}

    async with running(jobs, {"a": meet, "b": meet}):
        asked = [await jobs.ask(kind, {}, actor="local:root") for kind in ("a", "b", "unknown")]
        async with asyncio.timeout(20):
            while await jobs.waiting() != ["unknown"]:
                await asyncio.sleep(0.01)

    assert [(await jobs.find(job.id)).state for job in asked] == ["done", "done", "queued"]


async def test_what_another_process_asked_for_is_found(database: Database) -> None:
    done = asyncio.Event()

    async def finish(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        done.set()
        return {}

    async with running(Jobs(database, Leases(database)), {"a": finish}):
        await Jobs(database, Leases(database)).ask("a", {}, actor="local:root")
        async with asyncio.timeout(20):
            await done.wait()


async def test_a_job_that_another_process_took_over_is_told_in_one_line(database: Database) -> None:
    taken_over = asyncio.Event()

    def take_over(c: Connection) -> None:
        c.execute(lease.update().values(fence=lease.c.fence + 1))

    async def freeze(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        await database.write(take_over)
        taken_over.set()
        await work.report("going on", at_once=True)
        return {}

    jobs = Jobs(database, Leases(database))
    with capture_logs() as logs:
        async with running(jobs, {"a": freeze}):
            await jobs.ask("a", {}, actor="local:root")
            async with asyncio.timeout(20):
                await taken_over.wait()
                while not logs:
                    await asyncio.sleep(0.01)

    assert logs == [{"event": "jobs were taken over by another process", "log_level": "warning", "kind": "a"}]


async def test_a_runner_that_is_told_to_end_and_to_look_at_once_ends(database: Database) -> None:
    """asyncio.wait_for in Python 3.11 takes the event and forgets the end."""
    jobs = Jobs(database, Leases(database))
    work = asyncio.create_task(Runner(jobs, {}).run())
    while not jobs.asked._waiters:
        await asyncio.sleep(0)

    jobs.asked.set()
    await asyncio.sleep(0)
    work.cancel()

    async with asyncio.timeout(20):
        await asyncio.gather(work, return_exceptions=True)
    assert work.cancelled()
