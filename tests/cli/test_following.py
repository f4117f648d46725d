"""Waiting for a job."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

import httpx
import pytest

from stackyard.api.mount import Mount
from stackyard.auth import opening
from stackyard.auth.settings import Settings as AuthSettings
from stackyard.cli.client import Client, Problem
from stackyard.cli.following import accepted, follow
from stackyard.cli.output import Output
from stackyard.http.app import App
from stackyard.http.origin import Origins
from stackyard.metadata.database import Database
from stackyard.oci.errors import Denied
from stackyard.registry.jobs import Jobs, Work
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.storage.memory import MemoryStore
from stackyard.telemetry.access import AccessLog


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


@pytest.fixture
async def app(database: Database) -> AsyncIterator[App]:
    store = MemoryStore()
    registry = Registry.over(store, database, Settings())
    access = opening.open_access(AuthSettings())
    yield App(registry, access, Origins(), AccessLog(enabled=False), {}, api=Mount(registry, access))
    await store.close()


@pytest.fixture
def jobs(app: App) -> Jobs:
    return app.registry.jobs


@pytest.fixture
async def api(app: App) -> AsyncIterator[Client]:
    transport = httpx.ASGITransport(partial(app.local, os.geteuid()))
    async with httpx.AsyncClient(transport=transport, base_url="http://local") as http:
        yield Client(http)


async def asked(api: Client, jobs: Jobs, **request: Any) -> dict[str, Any]:
    job = await jobs.ask("x", request, actor="local:root")
    found: dict[str, Any] = await api.get(f"/jobs/{job.id}")
    return found


async def test_it_tells_how_far_the_work_is_and_returns_the_job_at_its_end(
    api: Client, jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    told = asyncio.Event()

    async def work(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        await work.report("reading", 1536, 4096, unit="bytes", at_once=True)
        await told.wait()
        return {"read": 4096}

    job = await asked(api, jobs)
    following = asyncio.create_task(follow(api, job))
    doing = asyncio.create_task(jobs.do("x", work))
    shown = ""
    async with asyncio.timeout(20):
        while "reading" not in shown:
            await asyncio.sleep(0.01)
            shown += capsys.readouterr().err
    told.set()
    done = await following
    await doing

    assert f"job {job['id']}: reading: 1.5 KiB of 4.0 KiB\n" in shown
    assert (done["state"], done["result"]) == ("done", {"read": 4096})


@pytest.mark.parametrize(("how", "said"), [("fail", "not like this"), ("cancel", "was cancelled")])
async def test_an_end_that_is_not_good_is_a_problem(api: Client, jobs: Jobs, how: str, said: str) -> None:
    async def fail(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        raise Denied("not like this")

    job = await asked(api, jobs)
    if how == "cancel":
        await api.delete(f"/jobs/{job['id']}")
    await jobs.do("x", fail)

    with pytest.raises(Problem, match=said):
        await follow(api, job)


async def test_interrupted_it_says_that_the_work_goes_on(
    api: Client, jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    job = await asked(api, jobs)
    following = asyncio.create_task(follow(api, job))
    shown = ""
    async with asyncio.timeout(20):
        while "queued" not in shown:
            await asyncio.sleep(0.01)
            shown += capsys.readouterr().err
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)

    assert f"`stackyard job follow {job['id']}` waits for it again" in capsys.readouterr().err
    assert (await jobs.find(job["id"])).state == "queued"


async def test_without_waiting_it_says_where_to_look(
    api: Client, jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    job = await asked(api, jobs)

    assert await accepted(api, Output(as_json=False), job, wait=False) is None
    assert f"stackyard job follow {job['id']}" in capsys.readouterr().out


async def test_a_terminal_gets_a_bar(
    api: Client, jobs: Jobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        await work.report("reading", 1, 2, unit="blobs", at_once=True)
        return {}

    job = await asked(api, jobs)
    await jobs.do("x", work)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)

    assert (await follow(api, job))["state"] == "done"
    assert "job" not in capsys.readouterr().err
