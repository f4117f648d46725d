"""Collecting while others push, on both engines: nothing that a row names ever goes."""

import asyncio
import random
from datetime import timedelta

from sqlalchemy import Connection, select
from tests.metadata import checks
from tests.metadata.making import ACTOR, HOUR, NOTHING, drop_link, drop_manifest, forget, layer, mark, push, pushed, put

from stackyard.metadata import blobs, manifests
from stackyard.metadata.collection import Look, forget_blobs, mark_blobs
from stackyard.metadata.database import Database
from stackyard.metadata.errors import BlobVanished
from stackyard.metadata.repositories import find_account
from stackyard.metadata.schema import blob, due
from stackyard.oci.digests import Digest
from stackyard.oci.errors import ManifestBlobUnknown

CONTENTS = [b"one", b"two", b"three"]
REPOSITORIES = ["a", "b"]
ROUNDS = 15
BATCH = 10


async def test_nothing_that_a_row_names_goes_while_all_push_delete_and_collect(database: Database) -> None:
    """No promises and no undo spans, few names, many tasks: every race that the locks are for."""
    randomness = random.Random(2)

    async def client(number: int) -> None:
        for step in range(ROUNDS):
            repository, content = randomness.choice(REPOSITORIES), randomness.choice(CONTENTS)
            try:
                await database.write(push, repository, content, promise=NOTHING)
                image = pushed(b"%d %d" % (number, step), [layer(Digest.of(content))])
                await database.write(put, repository, image, f"tag{step % 3}", promise=NOTHING, undo=NOTHING)
                await database.write(_mount, repository, content)
                await database.write(manifests.delete, repository, image.digest, actor=ACTOR, undo=NOTHING)
            except (ManifestBlobUnknown, BlobVanished):
                continue  # the collector was first, and said so

    async def collector() -> None:
        for _ in range(ROUNDS):
            looks = await database.read(_looks)
            for kind, repository_id, digest in randomness.sample(looks, min(len(looks), BATCH)):
                await database.write(_collect, kind, repository_id, digest)
            assert await database.read(checks.broken_promises) == []

    await asyncio.gather(*(client(number) for number in range(4)), collector(), collector())

    assert await database.read(checks.broken_promises) == []


async def test_bytes_that_no_reader_is_waited_for_are_doomed_by_the_look_that_marks_them(database: Database) -> None:
    digest = Digest.of(CONTENTS[0])
    await database.write(push, "a", CONTENTS[0], promise=NOTHING)
    assert await database.write(_drop_link, "a", digest)

    waited = await database.write(_undone, digest, HOUR)
    (first,) = (await database.write(mark_blobs, digest, readers=NOTHING)).doomed
    (again,) = (await database.write(mark_blobs, digest, readers=NOTHING)).doomed

    assert (waited.gone, waited.again, waited.doomed) == (1, HOUR, ())
    assert first == again
    assert await database.write(forget_blobs, [first]) == [first.blob_id]
    assert await database.write(forget_blobs, [again]) == []


def _drop_link(c: Connection, repository: str, digest: Digest) -> bool:
    account = find_account(c, repository)
    return account is not None and drop_link(c, account.repository_id, digest)


def _undone(c: Connection, digest: str, readers: timedelta) -> Look:
    """What the look comes to, without doing it."""
    savepoint = c.begin_nested()
    look = mark_blobs(c, digest, readers=readers)
    savepoint.rollback()
    return look


async def test_what_nothing_needs_goes_to_the_last_row(database: Database) -> None:
    for repository in REPOSITORIES:
        await database.write(push, repository, CONTENTS[0], promise=NOTHING)
        image = pushed(b"image", [layer(Digest.of(CONTENTS[0]))])
        await database.write(put, repository, image, "v1", promise=NOTHING)
        await database.write(manifests.delete, repository, image.digest, actor=ACTOR, undo=NOTHING)

    for _ in range(3):  # the manifest, then its link, then the bytes: each makes the next one due
        for kind, repository_id, digest in await database.read(_looks):
            await database.write(_collect, kind, repository_id, digest)

    assert await database.read(lambda c: c.execute(select(blob)).all()) == []


def _mount(c: Connection, source: str, content: bytes) -> None:
    target = REPOSITORIES[1 - REPOSITORIES.index(source)]
    blobs.mount(c, source=source, target=target, digest=Digest.of(content), actor=ACTOR, promise=NOTHING)


def _looks(c: Connection) -> list[tuple[str, int, Digest]]:
    rows = c.execute(select(due.c.kind, due.c.repository_id, due.c.digest).distinct()).all()
    return [(kind, repository_id, Digest(digest)) for kind, repository_id, digest in rows]


def _collect(c: Connection, kind: str, repository_id: int, digest: Digest) -> None:
    """As the collector will: mark, and forget at once what nobody reads here."""
    if kind == "manifest":
        drop_manifest(c, repository_id, digest)
    elif kind == "link":
        drop_link(c, repository_id, digest)
    else:
        for blob_id in mark(c, digest):
            forget(c, blob_id)
