"""Work under a lease: by one process, fenced, and ended when the lease is lost."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from stackyard.metadata import leases as rows
from stackyard.metadata.database import Database
from stackyard.metadata.errors import LeaseLost
from stackyard.registry.leases import Lease, Leases


async def test_while_one_works_another_does_not(database: Database) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def work(lease: Lease) -> str:
        started.set()
        await go_on.wait()
        return "done"

    first = asyncio.create_task(Leases(database).run("gc", work))
    await started.wait()

    assert await Leases(database).run("gc", work) is None
    go_on.set()
    assert await first == "done"


async def test_it_is_given_back_at_the_end_also_of_a_failure(database: Database) -> None:
    async def fail(lease: Lease) -> None:
        raise ValueError("no")

    async def work(lease: Lease) -> int:
        return lease.grant.fence

    with pytest.raises(ValueError, match="no"):
        await Leases(database).run("gc", fail)
    assert await Leases(database).run("gc", work) == 2


async def test_work_whose_lease_is_lost_is_ended_and_changes_nothing(database: Database) -> None:
    ended = asyncio.Event()

    async def work(lease: Lease) -> None:
        await database.write(rows.release, lease.grant)  # as if it had run out
        try:
            with pytest.raises(LeaseLost):
                await lease.write(lambda c: c.execute(text("DELETE FROM installation")))
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(LeaseLost):
        await Leases(database, span=timedelta(milliseconds=300)).run("gc", work)
    assert ended.is_set()
    assert await database.read(lambda c: c.execute(text("SELECT count(*) FROM installation")).scalar()) == 1


async def test_a_lease_is_renewed_while_the_work_lasts(database: Database) -> None:
    async def work(lease: Lease) -> None:
        first = lease.deadline
        while lease.deadline < first + 0.3:
            await asyncio.sleep(0.01)
        await lease.write(lambda c: None)

    await Leases(database, span=timedelta(milliseconds=300)).run("gc", work)


async def test_a_holder_that_died_is_outwaited_whatever_the_patience(database: Database) -> None:
    async def work(lease: Lease) -> int:
        return lease.grant.fence

    span = timedelta(milliseconds=500)
    await database.write(rows.acquire, "gc", holder="dead", span=span)

    assert await Leases(database, span).insist("gc", work, patience=span / 10) == 2


async def test_past_its_deadline_nothing_irreversible_is_begun(database: Database) -> None:
    async def work(lease: Lease) -> None:
        lease.require()
        lease.deadline = 0
        with pytest.raises(LeaseLost):
            lease.require()

    await Leases(database).run("gc", work)
