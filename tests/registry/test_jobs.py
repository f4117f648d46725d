"""Long work: asked for, done once, watched, cancelled, and gone on with after a crash."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from stackyard.metadata.database import Database
from stackyard.metadata.errors import DatabaseUnavailable
from stackyard.oci.errors import Denied, JobUnknown
from stackyard.registry.audit import Audit
from stackyard.registry.jobs import Jobs, Work
from stackyard.registry.leases import Leases

ACTOR = "local:root"
NOTHING: dict[str, Any] = {}


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database, Leases(database))


async def count(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
    for done in range(request["to"]):
        await work.report("counting", done, request["to"], unit="numbers", at_once=True)
    return {"counted": request["to"]}


async def test_a_job_is_done_and_its_result_kept(jobs: Jobs) -> None:
    asked = await jobs.ask("count", {"to": 3}, actor=ACTOR)

    assert (asked.state, asked.progress, asked.result) == ("queued", {}, None)
    assert await jobs.waiting() == ["count"]
    assert await jobs.do("count", count)
    done = await jobs.find(asked.id)
    assert (done.state, done.result, done.attempts) == ("done", {"counted": 3}, 1)
    assert done.progress == {"step": "counting", "done": 2, "total": 3, "unit": "numbers"}
    assert done.created_at <= (done.started_at or done.created_at) <= (done.finished_at or done.created_at)
    assert await jobs.waiting() == []


async def test_jobs_of_a_kind_are_done_in_their_order(jobs: Jobs) -> None:
    order = []

    async def note(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        order.append(request["n"])
        return {}

    for n in range(3):
        await jobs.ask("note", {"n": n}, actor=ACTOR)
    await jobs.do("note", note)

    assert order == [0, 1, 2]


async def test_what_another_process_does_is_left_to_it(jobs: Jobs, database: Database) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def wait(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        started.set()
        await go_on.wait()
        return {}

    await jobs.ask("wait", NOTHING, actor=ACTOR)
    first = asyncio.create_task(jobs.do("wait", wait))
    await started.wait()

    assert not await Jobs(database, Leases(database)).do("wait", wait)
    go_on.set()
    assert await first


async def test_another_process_goes_on_where_one_ended(jobs: Jobs) -> None:
    started = asyncio.Event()

    async def work_on(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        if work.checkpoint is None:
            await work.report("half", 1, 2, checkpoint={"at": 1}, at_once=True)
            await work.report("half", 1, 2, at_once=True)
            started.set()
            await asyncio.Event().wait()
        return {"from": work.checkpoint}

    asked = await jobs.ask("x", NOTHING, actor=ACTOR)
    killed = asyncio.create_task(jobs.do("x", work_on))
    await started.wait()
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)
    assert (await jobs.find(asked.id)).state == "running"
    await jobs.do("x", work_on)

    done = await jobs.find(asked.id)
    assert (done.state, done.result, done.attempts) == ("done", {"from": {"at": 1}}, 2)


async def test_a_job_that_ends_its_process_each_time_is_given_up(jobs: Jobs) -> None:
    async def die(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        raise asyncio.CancelledError

    asked = await jobs.ask("die", NOTHING, actor=ACTOR)
    for _ in range(10):
        with pytest.raises(asyncio.CancelledError):
            await jobs.do("die", die)
    await jobs.do("die", die)

    given_up = await jobs.find(asked.id)
    assert (given_up.state, given_up.attempts) == ("failed", 11)


async def test_cancelling_ends_work_at_its_next_step(jobs: Jobs) -> None:
    asked = await jobs.ask("endless", NOTHING, actor=ACTOR)

    async def endless(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        await work.report("working", at_once=True)
        running = await jobs.cancel(asked.id, actor=ACTOR)
        assert (running.state, running.cancelled) == ("running", True)
        await work.report("working", at_once=True)
        raise AssertionError("it went on")

    await jobs.do("endless", endless)

    assert (await jobs.find(asked.id)).state == "cancelled"


async def test_cancelling_what_nobody_began_ends_it_at_once(jobs: Jobs) -> None:
    asked = await jobs.ask("count", {"to": 1}, actor=ACTOR)

    cancelled = await jobs.cancel(asked.id, actor=ACTOR)
    again = await jobs.cancel(asked.id, actor=ACTOR)

    assert cancelled.state == "cancelled"
    assert again == cancelled
    assert await jobs.waiting() == []


async def test_failures_say_why_and_ours_only_that_they_are(jobs: Jobs) -> None:
    async def fail(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        raise Denied("not like this") if request["whose"] == "theirs" else RuntimeError("secret")

    theirs, ours = [await jobs.ask("fail", {"whose": whose}, actor=ACTOR) for whose in ("theirs", "ours")]
    await jobs.do("fail", fail)

    assert (await jobs.find(theirs.id)).result == {"code": "DENIED", "detail": "not like this"}
    failed = await jobs.find(ours.id)
    assert failed.state == "failed"
    assert "secret" not in str(failed.result)


async def test_jobs_are_listed_youngest_first_and_recorded(jobs: Jobs, database: Database) -> None:
    numbers = [(await jobs.ask("count", {"to": n}, actor=ACTOR)).id for n in range(4)]
    await jobs.cancel(numbers[2], actor="user:alice")

    page = await jobs.page(before=None, limit=2)
    rest = await jobs.page(before=page[-1].id, limit=5)

    assert [job.id for job in page + rest] == numbers[::-1]
    assert [job.id for job in await jobs.page(before=None, limit=5, only_open=True)] == [numbers[n] for n in (3, 1, 0)]
    assert [(one.actor, one.action) for one in await Audit(database).page(before=None, limit=2)] == [
        ("user:alice", "count.cancel"),
        (ACTOR, "count.start"),
    ]
    with pytest.raises(JobUnknown):
        await jobs.find(numbers[-1] + 1)
    with pytest.raises(JobUnknown):
        await jobs.cancel(numbers[-1] + 1, actor=ACTOR)


async def test_finished_jobs_are_forgotten_after_their_time(jobs: Jobs, database: Database) -> None:
    old, young, waiting = [(await jobs.ask("count", {"to": 0}, actor=ACTOR)).id for _ in range(3)]
    for number in (old, young):
        await jobs.cancel(number, actor=ACTOR)
    hour = 3600 * 10**6
    await database.write(
        lambda c: c.execute(text(f"UPDATE job SET finished_at = finished_at - {hour} WHERE id = {old}"))
    )

    assert await jobs.trim(keep=timedelta(minutes=30)) == 1
    assert [job.id for job in await jobs.page(before=None, limit=9)] == [waiting, young]


async def test_a_job_that_lost_the_database_is_done_when_it_is_back(jobs: Jobs) -> None:
    async def fail_once(work: Work, request: Mapping[str, Any]) -> dict[str, Any]:
        if work.job.attempts == 1:
            raise DatabaseUnavailable("a lock that nobody let go")
        return {"counted": 1}

    asked = await jobs.ask("count", NOTHING, actor=ACTOR)
    with pytest.raises(DatabaseUnavailable):
        await jobs.do("count", fail_once)
    assert await jobs.waiting() == ["count"]

    assert await jobs.do("count", fail_once)

    done = await jobs.find(asked.id)
    assert (done.state, done.result, done.attempts) == ("done", {"counted": 1}, 2)
