"""What was read before is believed only until somebody commits."""

from collections.abc import AsyncIterator

import pytest

from stackyard.metadata import repositories
from stackyard.metadata.database import Database, open_database
from stackyard.registry.remembered import Remembered


@pytest.fixture
async def database(sqlite_url: str) -> AsyncIterator[Database]:
    opened = await open_database(sqlite_url)
    yield opened
    await opened.close()


async def test_it_is_there_until_another_worker_commits(database: Database, sqlite_url: str) -> None:
    remembered = Remembered[int](database, 10)
    held = remembered.now()
    assert remembered.keep(held, "a", 1) == 1
    assert remembered.now() == {"a": 1}

    worker = await open_database(sqlite_url)
    await worker.write(repositories.ensure_listed, "a")

    assert remembered.now() == {}
    await worker.close()


async def test_what_was_read_before_a_commit_is_not_kept_after_it(database: Database) -> None:
    remembered = Remembered[int](database, 10)
    held = remembered.now()
    await database.write(repositories.ensure_listed, "a")
    remembered.now()

    remembered.keep(held, "a", 1)

    assert remembered.now() == {}


async def test_it_holds_no_more_than_it_may(database: Database) -> None:
    remembered = Remembered[int](database, 2)
    for number in range(5):
        remembered.keep(remembered.now(), number, number)

    assert remembered.now() == {0: 0, 1: 1}
