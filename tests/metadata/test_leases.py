"""Leases: one holder at a time, and a fence that grows."""

import asyncio
from datetime import timedelta

import pytest

from stackyard.metadata import leases
from stackyard.metadata.database import Database
from stackyard.metadata.errors import LeaseLost
from stackyard.metadata.leases import Grant

LONG = timedelta(minutes=5)
OVER = timedelta(0)


async def acquire(database: Database, holder: str, span: timedelta = LONG) -> Grant | None:
    return await database.write(leases.acquire, "gc", holder=holder, span=span)


async def test_of_many_one_gets_it(database: Database) -> None:
    grants = await asyncio.gather(*(acquire(database, f"n{n}") for n in range(5)))

    assert len([one for one in grants if one]) == 1


async def test_one_that_ran_out_goes_to_the_next_with_a_higher_fence(database: Database) -> None:
    first = await acquire(database, "a", OVER)
    second = await acquire(database, "b")

    assert first is not None
    assert second is not None
    assert second.fence > first.fence
    assert not await database.write(leases.renew, first, span=LONG)
    with pytest.raises(LeaseLost):
        await database.write(leases.check, first)
    await database.write(leases.check, second)


async def test_given_back_it_is_free_at_once_and_keeps_its_note(database: Database) -> None:
    first = await acquire(database, "a")
    assert first is not None
    await database.write(leases.save, first, '{"at": 7}')
    await database.write(leases.release, first)

    second = await acquire(database, "b")

    assert second is not None
    assert second.state == '{"at": 7}'
    assert await database.read(leases.state, "gc") == '{"at": 7}'


async def test_a_lost_lease_saves_nothing(database: Database) -> None:
    first = await acquire(database, "a", OVER)
    assert first is not None

    with pytest.raises(LeaseLost):
        await database.write(leases.save, first, "{}")
    await database.write(leases.release, first)
    assert await database.read(leases.state, "gc") is None
