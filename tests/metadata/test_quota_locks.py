"""Quotas on PostgreSQL, where two transactions can be in each other's middle: driven step by step."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from tests.metadata.making import ACTOR, layer, push, pushed, put
from tests.metadata.test_locks import Transaction, _transaction
from tests.metadata.test_quotas import delete_manifest, differences, limit, used

from stackyard.metadata import counting, quotas, repositories
from stackyard.metadata.database import Database, open_database
from stackyard.oci.digests import Digest
from stackyard.oci.errors import QuotaExceeded

LAYER = b"12345"
_put_quota = partial(quotas.put, prefix="", max_bytes=8, max_repositories=None, source="api", actor=ACTOR)


@pytest.fixture
async def database(postgresql_url: str) -> AsyncIterator[Database]:
    opened = await open_database(postgresql_url)
    yield opened
    assert await opened.read(differences) == []
    await opened.close()


@pytest.fixture
async def first(postgresql_url: str) -> AsyncIterator[Transaction]:
    async with _transaction(postgresql_url) as transaction:
        yield transaction


@pytest.fixture
async def second(postgresql_url: str) -> AsyncIterator[Transaction]:
    async with _transaction(postgresql_url) as transaction:
        yield transaction


async def test_a_quota_waits_for_repositories_that_do_not_know_of_it(
    database: Database, first: Transaction, second: Transaction
) -> None:
    await first.run(lambda c: push(c, "a", LAYER))

    setting = asyncio.create_task(second.outcome(_put_quota))
    await second.wait_blocked(first)
    await first.commit()
    await setting

    while await database.write(counting.count, limit=9):
        pass
    assert await database.read(used, "") == (5, 0)


async def test_a_new_repository_waits_for_a_quota_under_way(
    database: Database, first: Transaction, second: Transaction
) -> None:
    await first.run(_put_quota)

    pushing = asyncio.create_task(second.outcome(lambda c: push(c, "a", LAYER)))
    await second.wait_blocked(first)
    await first.commit()
    await pushing

    assert await database.read(used, "") == (5, 0)
    while await database.write(counting.count, limit=9):
        pass
    assert await database.read(used, "") == (5, 0)


async def test_counting_waits_for_pushes_that_do_not_know_of_the_quota(
    database: Database, first: Transaction, second: Transaction
) -> None:
    await database.write(repositories.ensure_locked, "a")
    await first.run(lambda c: push(c, "a", LAYER))
    await database.write(_put_quota)

    working = asyncio.create_task(second.outcome(lambda c: counting.count(c, limit=9)))
    await second.wait_blocked(first)
    await first.commit()
    await working

    while await database.write(counting.count, limit=9):
        pass
    assert await database.read(used, "") == (5, 0)


async def test_the_second_of_two_pushes_that_fit_alone_waits_and_is_refused(
    database: Database, first: Transaction, second: Transaction
) -> None:
    await database.write(limit, "", 8)
    await database.write(repositories.ensure_locked, "a")
    await first.run(lambda c: push(c, "a", LAYER))

    pushing = asyncio.create_task(second.outcome(lambda c: push(c, "a", b"abcde")))
    await second.wait_blocked(first)
    await first.commit()

    assert await pushing is QuotaExceeded
    assert await database.read(used, "") == (5, 0)


async def test_the_second_of_two_pushes_of_the_same_blob_adds_nothing(
    database: Database, first: Transaction, second: Transaction
) -> None:
    await database.write(limit, "", 8)
    await database.write(push, "base", LAYER)
    await database.write(repositories.ensure_locked, "a")
    await first.run(lambda c: push(c, "a", LAYER))

    pushing = asyncio.create_task(second.outcome(lambda c: push(c, "a", LAYER)))
    await second.wait_blocked(first)
    await first.commit()
    await pushing

    assert await database.read(used, "") == (5, 0)


async def test_two_images_that_go_at_once_take_the_layer_with_them_that_they_share(
    database: Database, first: Transaction, second: Transaction
) -> None:
    """Where no quota keeps them apart; one that comes later counts what they left."""
    await database.write(push, "a", LAYER)
    images = [pushed(name, [layer(Digest.of(LAYER))]) for name in (b"1", b"2")]
    for each in images:
        await database.write(put, "a", each, "v1")
    await first.run(lambda c: delete_manifest(c, "a", images[0].digest))

    deleting = asyncio.create_task(second.outcome(lambda c: delete_manifest(c, "a", images[1].digest)))
    await second.wait_blocked(first)
    await first.commit()
    assert await deleting is True

    await database.write(limit, "", 99)
    assert await database.read(used, "") == (0, 1)


async def test_of_two_first_manifests_one_makes_the_repository_known(
    database: Database, first: Transaction, second: Transaction
) -> None:
    await database.write(limit, "", 99)
    await database.write(repositories.ensure_locked, "a")
    await first.run(lambda c: put(c, "a", pushed(b"1"), "v1"))

    putting = asyncio.create_task(second.outcome(lambda c: put(c, "a", pushed(b"2"), "v2")))
    await second.wait_blocked(first)
    await first.commit()
    await putting

    assert await database.read(used, "") == (2, 1)
