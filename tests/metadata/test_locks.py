"""The lock protocol on PostgreSQL: each write that relies on a row, against the collector that wants the row.

Two transactions are driven step by step, so every interleaving is forced, not hoped for.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool
from tests.metadata import checks
from tests.metadata.making import (
    ACTOR,
    HOUR,
    NOTHING,
    child,
    claim,
    commit,
    drop_link,
    drop_manifest,
    layer,
    push,
    pushed,
    put,
    start,
)

from stackyard.metadata import blobs, collection, manifests, repositories, tags
from stackyard.metadata.database import Database, open_database
from stackyard.metadata.errors import BlobVanished
from stackyard.metadata.manifests import Pushed
from stackyard.oci.digests import Digest
from stackyard.oci.errors import ManifestBlobUnknown, QuotaExceeded

LAYER = b"layer"
DIGEST = Digest.of(LAYER)
IMAGE = pushed(b"image")
NAMING = pushed(b"naming", [layer(DIGEST)])
INDEX = pushed(b"index", [child(IMAGE.digest)])
CACHE = pushed(b"cache", [child(DIGEST)])

Step = Callable[[Connection], Any]


@dataclass(frozen=True)
class Pair:
    """Somebody who relies on a row, and the collector of that row."""

    name: str
    prepare: Step
    """Make the row, so that it can be collected."""
    rely: Step
    lock: Step
    """The collector's first statement alone."""
    collect: Step
    """All of the collector's work: true when the row is taken away."""
    lost: Any
    """The class of what `rely` raises, or what it returns, when the collector was first."""


def _unlinked_blob(c: Connection) -> None:
    """A live blob that no repository links, and a session of `a` that has the same bytes."""
    push(c, "gone", LAYER, promise=NOTHING)
    blobs.unlink(c, "gone", DIGEST, actor=ACTOR, undo=NOTHING)
    _drop_link(c, "gone")
    start(c, "a", "session")


def _idle_link(c: Connection) -> None:
    push(c, "a", LAYER, promise=NOTHING)


def _deleted_link(c: Connection) -> None:
    _idle_link(c)
    blobs.unlink(c, "a", DIGEST, actor=ACTOR, undo=NOTHING)


def _deleted_image(c: Connection) -> None:
    put(c, "a", IMAGE, "v1", promise=NOTHING)
    manifests.delete(c, "a", IMAGE.digest, actor=ACTOR, undo=NOTHING)


def _put(manifest: Pushed, *tags: str) -> Step:
    return lambda c: put(c, "a", manifest, *tags)


def _link_live(c: Connection) -> Any:
    return commit(c, claim(c, "a", "session"), None, DIGEST)


def _commit_copy(c: Connection) -> Any:
    blob_id, _ = blobs.allocate(c, DIGEST, len(LAYER))
    return commit(c, claim(c, "a", "session"), blob_id, DIGEST).published


def _drop_link(c: Connection, repository: str = "a") -> bool:
    return drop_link(c, _id(c, repository), DIGEST)


def _id(c: Connection, repository: str) -> int:
    found = repositories.find_locked(c, repository)
    assert found is not None
    return found


def _lock_blob(c: Connection) -> Any:
    return collection._LOCK_BLOBS.one(c, digests=[DIGEST], pending=NOTHING, readers=NOTHING)


def _lock_link(c: Connection) -> Any:
    return collection._LOCK_LINKS.one(c, repository_id=_id(c, "a"), digests=[DIGEST], grace=NOTHING)


def _lock_image(c: Connection) -> Any:
    return collection._LOCK_MANIFEST.one(c, repository_id=_id(c, "a"), digest=IMAGE.digest, grace=NOTHING)


def _drop_image(c: Connection) -> bool:
    return drop_manifest(c, _id(c, "a"), IMAGE.digest)


def _mark(c: Connection) -> Any:
    return collection.mark_blobs(c, DIGEST).gone


_BLOB = Pair("", _unlinked_blob, _link_live, _lock_blob, _mark, BlobVanished)
_LINK = Pair("", _idle_link, _put(NAMING, "v1"), _lock_link, _drop_link, ManifestBlobUnknown)
_MANIFEST = Pair("", _deleted_image, _put(IMAGE, "v1"), _lock_image, _drop_image, IMAGE.digest)
PAIRS = [
    replace(_BLOB, name="link a live blob / mark the blob"),
    replace(_BLOB, name="commit a second copy / mark the first", rely=_commit_copy, lost=True),
    replace(_LINK, name="manifest PUT / drop the link"),
    replace(_LINK, name="build cache PUT / drop the link", rely=_put(CACHE)),
    replace(
        _LINK,
        name="promise / drop the link",
        rely=lambda c: blobs.promise(c, "a", DIGEST, HOUR),
        lost=False,
    ),
    replace(
        _LINK,
        name="push again / drop the deleted link",
        prepare=_deleted_link,
        rely=lambda c: push(c, "a", LAYER).published,
        lost=False,
    ),
    replace(_MANIFEST, name="PUT and tag again / drop the deleted manifest"),
]


class Transaction:
    """One connection in one transaction, driven by the test."""

    def __init__(self, connection: AsyncConnection, pid: int) -> None:
        self._connection = connection
        self._pid = pid
        self.commit = connection.commit
        self.rollback = connection.rollback

    async def run(self, step: Step) -> Any:
        return await self._connection.run_sync(step)

    async def outcome(self, step: Step) -> Any:
        """What the step returns, or the class of what it raises; then its transaction is over."""
        try:
            result = await self.run(step)
        except (ManifestBlobUnknown, BlobVanished, QuotaExceeded) as refusal:
            await self.rollback()
            return type(refusal)
        await self.commit()
        return result

    async def wait_blocked(self, other: "Transaction") -> None:
        """Return once this transaction waits for a lock of `other`."""
        async with asyncio.timeout(20):
            while self._pid not in await other._waiting_for_me():
                await asyncio.sleep(0.005)

    async def _waiting_for_me(self) -> list[int]:
        rows = await self._connection.execute(
            text("SELECT pid FROM pg_stat_activity WHERE :me = ANY(pg_blocking_pids(pid))"), {"me": self._pid}
        )
        return list(rows.scalars())


@asynccontextmanager
async def _transaction(url: str) -> AsyncIterator[Transaction]:
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"), poolclass=NullPool)
    async with engine.connect() as connection:
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await connection.rollback()
        yield Transaction(connection, pid)
        await connection.rollback()


@pytest.fixture
async def relier(postgresql_url: str) -> AsyncIterator[Transaction]:
    async with _transaction(postgresql_url) as transaction:
        yield transaction


@pytest.fixture
async def collector(postgresql_url: str) -> AsyncIterator[Transaction]:
    async with _transaction(postgresql_url) as transaction:
        yield transaction


@pytest.fixture
async def third(postgresql_url: str) -> AsyncIterator[Transaction]:
    async with _transaction(postgresql_url) as transaction:
        yield transaction


@pytest.fixture
async def database(postgresql_url: str) -> AsyncIterator[Database]:
    opened = await open_database(postgresql_url)
    yield opened
    await database_is_sound(opened)
    await opened.close()


async def database_is_sound(database: Database) -> None:
    assert await database.read(checks.broken_promises) == []


@pytest.fixture(params=PAIRS, ids=lambda pair: pair.name)
async def pair(request: pytest.FixtureRequest, database: Database) -> Pair:
    found: Pair = request.param
    await database.write(found.prepare)
    return found


async def test_the_row_can_be_collected_when_nobody_relies_on_it(pair: Pair, collector: Transaction) -> None:
    """Otherwise the tests below would prove nothing."""
    assert await collector.run(pair.collect)
    await collector.commit()


async def test_a_collector_skips_a_row_that_somebody_relies_on(
    pair: Pair, relier: Transaction, collector: Transaction
) -> None:
    await relier.run(pair.rely)

    async with asyncio.timeout(10):
        assert not await collector.run(pair.collect)
    await collector.commit()
    await relier.commit()

    assert not await collector.run(pair.collect)
    await collector.commit()


async def test_a_collector_takes_the_row_when_who_relied_on_it_gave_up(
    pair: Pair, relier: Transaction, collector: Transaction
) -> None:
    await relier.run(pair.rely)
    assert not await collector.run(pair.collect)
    await collector.commit()
    await relier.rollback()

    assert await collector.run(pair.collect)
    await collector.commit()


async def test_who_relies_waits_for_the_collector_and_loses(
    pair: Pair, relier: Transaction, collector: Transaction
) -> None:
    assert await collector.run(pair.collect)

    relying = asyncio.create_task(relier.outcome(pair.rely))
    await relier.wait_blocked(collector)
    await collector.commit()

    assert await relying == pair.lost


async def test_who_relies_between_the_lock_and_the_look_waits_too(
    pair: Pair, relier: Transaction, collector: Transaction
) -> None:
    assert await collector.run(pair.lock) is not None

    relying = asyncio.create_task(relier.outcome(pair.rely))
    await relier.wait_blocked(collector)
    assert await collector.run(pair.collect)
    await collector.commit()

    assert await relying == pair.lost


async def test_who_relies_waits_for_the_collector_and_goes_on_when_it_gives_up(
    pair: Pair, relier: Transaction, collector: Transaction
) -> None:
    assert await collector.run(pair.collect)

    relying = asyncio.create_task(relier.outcome(pair.rely))
    await relier.wait_blocked(collector)
    await collector.rollback()

    assert await relying not in (ManifestBlobUnknown, BlobVanished)
    assert not await collector.run(pair.collect)
    await collector.commit()


async def test_a_mounted_blob_is_not_marked_though_its_source_goes(
    database: Database, relier: Transaction, collector: Transaction
) -> None:
    await database.write(_idle_link)
    assert await relier.run(_mount) is not None

    assert await collector.run(_drop_link)
    assert not await collector.run(_mark)
    await collector.commit()
    await relier.commit()

    assert not await collector.run(_mark)
    await collector.commit()


async def test_a_mount_that_saw_the_source_but_came_after_the_mark_finds_nothing(
    database: Database, relier: Transaction, collector: Transaction, third: Transaction
) -> None:
    await database.write(_idle_link)
    await database.write(put, "target", IMAGE)
    await third.run(lambda c: c.execute(text("SELECT id FROM repository WHERE name = 'target' FOR UPDATE")))
    mounting = asyncio.create_task(relier.outcome(_mount))
    await relier.wait_blocked(third)

    assert await collector.run(_drop_link)
    assert await collector.run(_mark)
    await collector.commit()
    await third.rollback()

    assert await mounting is None


@pytest.mark.parametrize(
    ("prepare", "rely", "delete"),
    [
        pytest.param(
            lambda c: put(c, "a", IMAGE),
            _put(INDEX, "v1"),
            lambda c: manifests.delete(c, "a", IMAGE.digest, actor=ACTOR, undo=NOTHING),
            id="index PUT / delete the child",
        ),
        pytest.param(
            _idle_link,
            _put(NAMING, "v1"),
            lambda c: blobs.unlink(c, "a", DIGEST, actor=ACTOR, undo=NOTHING),
            id="manifest PUT / delete the blob",
        ),
    ],
)
class TestDeleting:
    """A client's delete waits instead of skipping; the bytes stay in either order."""

    async def test_first_it_makes_the_put_fail(
        self, database: Database, relier: Transaction, collector: Transaction, prepare: Step, rely: Step, delete: Step
    ) -> None:
        await database.write(prepare)
        assert await collector.run(delete)

        relying = asyncio.create_task(relier.outcome(rely))
        await relier.wait_blocked(collector)
        await collector.commit()

        assert await relying is ManifestBlobUnknown

    async def test_second_it_hides_what_the_put_still_holds(
        self, database: Database, relier: Transaction, collector: Transaction, prepare: Step, rely: Step, delete: Step
    ) -> None:
        await database.write(prepare)
        await relier.run(rely)

        deleting = asyncio.create_task(collector.outcome(delete))
        await collector.wait_blocked(relier)
        await relier.commit()

        assert await deleting is True
        assert not await database.write(_drop_image)
        assert not await database.write(lambda c: _is_linked(c) and _drop_link(c))


async def test_a_repository_is_not_deleted_under_a_push(
    database: Database, relier: Transaction, collector: Transaction
) -> None:
    await database.write(put, "a", IMAGE, "v1")
    await relier.run(lambda c: put(c, "a", pushed(b"second"), "v2"))

    deleting = asyncio.create_task(collector.outcome(_delete_repository))
    await collector.wait_blocked(relier)
    await relier.commit()
    await deleting

    assert not await database.read(repositories.exists, "a")


async def test_a_push_under_a_deletion_makes_a_new_repository(
    database: Database, relier: Transaction, collector: Transaction
) -> None:
    await database.write(put, "a", IMAGE, "v1")
    await collector.run(_delete_repository)

    pushing = asyncio.create_task(relier.outcome(lambda c: put(c, "a", pushed(b"second"), "v2")))
    await relier.wait_blocked(collector)
    await collector.commit()
    await pushing

    assert await database.read(tags.page, "a", after="", limit=100) == ["v2"]


async def test_first_pushes_to_one_repository_and_one_tag_do_not_fail_each_other(database: Database) -> None:
    images = [pushed(b"%d" % number) for number in range(12)]

    await asyncio.gather(*(database.write(put, "new", image, "latest", "common") for image in images))

    assert await database.read(tags.page, "new", after="", limit=100) == ["common", "latest"]
    resolved = await database.fetch(manifests.RESOLVE, "new", "latest")
    assert resolved is not None
    assert resolved[0] in {image.digest for image in images}


async def test_uploads_of_one_blob_at_once_make_one_live_blob(database: Database) -> None:
    commits = await asyncio.gather(*(database.write(push, "a", LAYER) for _ in range(8)))

    assert sum(one.published for one in commits) == 1
    assert len({one.blob for one in commits}) == 1


async def test_writers_that_lock_in_opposite_order_do_not_fail(database: Database) -> None:
    first, second = pushed(b"first"), pushed(b"second")
    for image in (first, second):
        await database.write(put, "a", image, "x", "y")

    def both(c: Connection, one: Pushed, other: Pushed) -> None:
        put(c, "a", one, "x")
        put(c, "a", other, "y")

    await asyncio.gather(
        *(database.write(both, *pair) for pair in [(first, second), (second, first)] for _ in range(10))
    )


def _mount(c: Connection) -> Any:
    return blobs.mount(c, source="a", target="target", digest=DIGEST, actor=ACTOR, promise=HOUR)


def _is_linked(c: Connection) -> bool:
    return c.execute(text("SELECT 1 FROM blob_link")).first() is not None


def _delete_repository(c: Connection) -> None:
    c.execute(text("SELECT id FROM repository WHERE name = 'a' AND deleted_at IS NULL FOR UPDATE"))
    c.execute(text("UPDATE repository SET deleted_at = 1 WHERE name = 'a' AND deleted_at IS NULL"))
