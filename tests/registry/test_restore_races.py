"""Restoring beside retention on PostgreSQL, in each order in which two transactions can meet.

Both hold the same manifest: one brings back what names it, the other takes away what else did. It is there at the end.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection
from tests.metadata.making import ACTOR, NOTHING, WEEK, child, pushed, put
from tests.metadata.test_locks import Step, Transaction
from tests.metadata.test_locks import _transaction as transaction

from stackyard.metadata import history, manifests, retention
from stackyard.metadata.database import Database, open_database
from stackyard.metadata.manifests import Pushed
from stackyard.metadata.retention import Doomed
from stackyard.registry.guards import TagGuard
from stackyard.registry.rules import Rules

IMAGE = pushed(b"image")
SIGNATURE = pushed(b"signature", subject=IMAGE.digest)
INDEX, OTHER_INDEX = pushed(b"index", [child(IMAGE.digest)]), pushed(b"other index", [child(IMAGE.digest)])


@dataclass(frozen=True)
class Case:
    """Three manifests: `hidden` was taken away with its tag v1, `held` is to be seen for as long as `other` has v2."""

    hidden: Pushed
    held: Pushed
    other: Pushed


@pytest.fixture(
    params=[
        pytest.param(Case(INDEX, IMAGE, OTHER_INDEX), id="a child of another index"),
        pytest.param(Case(IMAGE, SIGNATURE, SIGNATURE), id="a signature with a tag of its own"),
    ]
)
async def case(request: pytest.FixtureRequest, database: Database) -> Case:
    found: Case = request.param
    await database.write(put, "a", IMAGE, promise=NOTHING)
    await database.write(put, "a", found.hidden, "v1", promise=NOTHING)
    await database.write(put, "a", found.other, "v2", promise=NOTHING)
    assert await database.write(remove(database, "v1")) == ["v1"]
    assert not await database.read(manifests.find, "a", found.hidden.digest)
    assert await database.read(manifests.find, "a", found.held.digest)
    return found


@pytest.fixture
async def database(postgresql_url: str) -> AsyncIterator[Database]:
    opened = await open_database(postgresql_url)
    yield opened
    await opened.close()


@pytest.fixture
async def restorer(postgresql_url: str) -> AsyncIterator[Transaction]:
    async with transaction(postgresql_url) as opened:
        yield opened


@pytest.fixture
async def retainer(postgresql_url: str) -> AsyncIterator[Transaction]:
    async with transaction(postgresql_url) as opened:
        yield opened


def remove(database: Database, tag: str) -> Step:
    guard = TagGuard(Rules(database), "a", "retention")

    def run(c: Connection) -> list[str]:
        doomed = [Doomed(one, "old") for one in retention.page(c, "a", after="", limit=9) if one.name == tag]
        return retention.remove(c, "a", doomed, actor="retention", undo=WEEK, guard=guard)

    return run


def restore(c: Connection) -> str:
    return history.restore_tag(c, repository="a", tag="v1", actor=ACTOR, promise=NOTHING, undo=WEEK)


async def test_who_restores_first_keeps_it(
    case: Case, database: Database, restorer: Transaction, retainer: Transaction
) -> None:
    await restorer.run(restore)

    removing = asyncio.create_task(retainer.outcome(remove(database, "v2")))
    await retainer.wait_blocked(restorer)
    await restorer.commit()

    assert await removing == ["v2"]
    assert await database.read(manifests.find, "a", case.held.digest)


async def test_who_restores_second_brings_it_back(
    case: Case, database: Database, restorer: Transaction, retainer: Transaction
) -> None:
    assert await retainer.run(remove(database, "v2")) == ["v2"]

    restoring = asyncio.create_task(restorer.outcome(restore))
    await restorer.wait_blocked(retainer)
    await retainer.commit()

    assert await restoring == case.hidden.digest
    assert await database.read(manifests.find, "a", case.held.digest)
