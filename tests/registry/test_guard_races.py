"""Rules about tags on PostgreSQL, in each order in which two transactions can meet: never a moment's gap."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection
from tests.metadata.making import ACTOR, HOUR, WEEK, child, layer, push, pushed, put
from tests.metadata.test_locks import Step, Transaction
from tests.metadata.test_locks import _transaction as transaction

from stackyard.metadata import manifests, rules, tags
from stackyard.metadata.database import Database, open_database
from stackyard.metadata.manifests import Pushed
from stackyard.oci.digests import Digest
from stackyard.oci.errors import ManifestBlobUnknown, RegistryError, TagImmutable
from stackyard.registry.blobs import _delete
from stackyard.registry.guards import TagGuard
from stackyard.registry.rules import IMMUTABLE, Rules

FIRST, SECOND, THIRD = pushed(b"first"), pushed(b"second"), pushed(b"third")
INDEX = pushed(b"index", [child(FIRST.digest)])
LAYER = b"layer"
NAMING = pushed(b"naming", [layer(Digest.of(LAYER))])
RELEASES = {"repositories": "**", "tags": ["v*"]}


@pytest.fixture
async def database(postgresql_url: str) -> AsyncIterator[Database]:
    opened = await open_database(postgresql_url)
    yield opened
    await opened.close()


@pytest.fixture
async def first(postgresql_url: str) -> AsyncIterator[Transaction]:
    async with transaction(postgresql_url) as opened:
        yield opened


@pytest.fixture
async def second(postgresql_url: str) -> AsyncIterator[Transaction]:
    async with transaction(postgresql_url) as opened:
        yield opened


async def outcome(transaction: Transaction, step: Step) -> Any:
    """What the step returns, or the class of the refusal."""
    try:
        result = await transaction.run(step)
    except RegistryError as refused:
        await transaction.rollback()
        return type(refused)
    await transaction.commit()
    return result


@pytest.fixture
def guard(database: Database) -> TagGuard:
    return TagGuard(Rules(database), "a", ACTOR)


def guarded(c: Connection, guard: TagGuard, manifest: Pushed, tag: str) -> None:
    how = {"actor": ACTOR, "promise": HOUR, "undo": WEEK, "guard": guard}
    manifests.put(c, repository="a", manifest=manifest, tags=[tag], **how)  # type: ignore[arg-type]


def delete(c: Connection, guard: TagGuard, manifest: Pushed) -> bool:
    return manifests.delete(c, "a", manifest.digest, actor=ACTOR, undo=WEEK, guard=guard)


def add_rule(c: Connection) -> None:
    rules.lock(c)
    rules.add(c, IMMUTABLE, RELEASES, source="api", actor=ACTOR)


async def test_a_push_that_waited_for_the_tag_meets_the_rule_made_meanwhile(
    database: Database,
    first: Transaction,
    second: Transaction,
    guard: TagGuard,
) -> None:
    await database.write(put, "a", FIRST, "v1")
    await first.run(partial(guarded, guard=guard, manifest=SECOND, tag="v1"))

    waiting = asyncio.create_task(outcome(second, partial(guarded, guard=guard, manifest=THIRD, tag="v1")))
    await second.wait_blocked(first)
    await database.write(add_rule)
    await first.commit()

    assert await waiting is TagImmutable
    resolved = await database.fetch(manifests.RESOLVE, "a", "v1")
    assert resolved is not None
    assert resolved[0] == SECOND.digest


async def test_a_delete_that_waited_for_the_tag_meets_it_too(
    database: Database,
    first: Transaction,
    second: Transaction,
    guard: TagGuard,
) -> None:
    await database.write(put, "a", FIRST, "v1")
    await first.run(partial(guarded, guard=guard, manifest=SECOND, tag="v1"))

    waiting = asyncio.create_task(
        outcome(second, partial(tags.delete, repository="a", tag="v1", actor=ACTOR, undo=WEEK, guard=guard))
    )
    await second.wait_blocked(first)
    await database.write(add_rule)
    await first.commit()

    assert await waiting is TagImmutable


async def test_an_image_is_not_deleted_under_an_index_that_becomes_immutable(
    database: Database,
    first: Transaction,
    second: Transaction,
    guard: TagGuard,
) -> None:
    await database.write(put, "a", FIRST)
    await database.write(add_rule)
    await first.run(partial(guarded, guard=guard, manifest=INDEX, tag="v1"))

    waiting = asyncio.create_task(outcome(second, partial(delete, guard=guard, manifest=FIRST)))
    await second.wait_blocked(first)
    await first.commit()

    assert await waiting is TagImmutable


async def test_an_index_is_not_pushed_over_an_image_that_is_being_deleted(
    database: Database,
    first: Transaction,
    second: Transaction,
    guard: TagGuard,
) -> None:
    await database.write(put, "a", FIRST)
    await database.write(add_rule)
    await first.run(partial(delete, guard=guard, manifest=FIRST))

    waiting = asyncio.create_task(outcome(second, partial(guarded, guard=guard, manifest=INDEX, tag="v1")))
    await second.wait_blocked(first)
    await first.commit()

    assert await waiting is ManifestBlobUnknown


async def test_a_layer_is_not_deleted_under_an_image_that_becomes_immutable(
    database: Database,
    first: Transaction,
    second: Transaction,
    guard: TagGuard,
) -> None:
    await database.write(push, "a", LAYER)
    await database.write(add_rule)
    await first.run(partial(guarded, guard=guard, manifest=NAMING, tag="v1"))

    deletion = partial(_delete, repository="a", digest=Digest.of(LAYER), guard=guard, undo=WEEK)
    waiting = asyncio.create_task(outcome(second, deletion))
    await second.wait_blocked(first)
    await first.commit()

    assert await waiting is TagImmutable


async def test_an_image_is_not_pushed_over_a_layer_that_is_being_deleted(
    database: Database,
    first: Transaction,
    second: Transaction,
    guard: TagGuard,
) -> None:
    await database.write(push, "a", LAYER)
    await database.write(add_rule)
    await first.run(partial(_delete, repository="a", digest=Digest.of(LAYER), guard=guard, undo=WEEK))

    waiting = asyncio.create_task(outcome(second, partial(guarded, guard=guard, manifest=NAMING, tag="v1")))
    await second.wait_blocked(first)
    await first.commit()

    assert await waiting is ManifestBlobUnknown
