"""Retention, restores and the collector beside pushes of few names, on both engines: nothing is lost or left."""

import asyncio
import random
import time
from datetime import timedelta

import pytest
from sqlalchemy import text
from tests.metadata import checks
from tests.metadata.making import ACTOR, HOUR, NOTHING, WEEK, child, layer, push, pushed, put

from stackyard.metadata import retention
from stackyard.metadata.database import Database
from stackyard.metadata.errors import BlobVanished
from stackyard.metadata.retention import Doomed
from stackyard.oci.digests import Digest
from stackyard.oci.errors import ManifestBlobUnknown, NotRestorable
from stackyard.registry.guards import TagGuard
from stackyard.registry.registry import Registry
from stackyard.registry.settings import Settings
from stackyard.storage.memory import MemoryStore

ROUNDS = 25
CONTENTS = [b"one", b"two", b"three"]
TAGS = ["a", "b", "c", "d"]

HALF = """SELECT child.digest FROM tag t JOIN manifest_reference r ON r.manifest_id = t.manifest_id AND r.kind = 'child'
          JOIN manifest child ON child.repository_id = r.repository_id AND child.digest = r.digest
          WHERE child.deleted_at IS NOT NULL"""
"""Images that a tag reaches through an index, and that are hidden."""


MOMENT = timedelta(milliseconds=30)


@pytest.mark.parametrize("promise", [NOTHING, MOMENT, HOUR], ids=["no promise", "a moment", "an hour"])
async def test_what_a_tag_reaches_is_to_be_seen_whatever_goes_and_comes_back(  # noqa: C901 - five who meet
    database: Database, promise: timedelta
) -> None:
    """With a promise also no push fails: what was acknowledged a moment ago is there when it is named."""
    registry = Registry.over(MemoryStore(), database, Settings(promise=promise, undo=WEEK))
    randomness = random.Random(4)

    async def client(number: int) -> None:
        for step in range(ROUNDS):
            content = randomness.choice(CONTENTS)
            began = time.monotonic()
            try:
                await database.write(push, "x", content, promise=promise)
                image = pushed(b"image of " + content, [layer(Digest.of(content))])
                await database.write(put, "x", image, promise=promise, undo=WEEK)
                index = pushed(b"%d %d" % (number, step % 3), [child(image.digest)])
                await database.write(put, "x", index, randomness.choice(TAGS), promise=promise, undo=WEEK)
            except (ManifestBlobUnknown, BlobVanished):
                # Neither of the two could be gone yet, on a clock that counts milliseconds.
                if timedelta(seconds=time.monotonic() - began) < promise - timedelta(milliseconds=1):
                    raise

    async def cleaner() -> None:
        guard = TagGuard(registry.rules, "x", "retention")
        for _ in range(ROUNDS):
            seen = await database.read(retention.page, "x", after="", limit=10)
            doomed = [Doomed(one, "chance") for one in randomness.sample(seen, min(2, len(seen)))]
            await database.write(retention.remove, "x", doomed, actor="retention", undo=WEEK, guard=guard)
            await asyncio.sleep(0)

    async def restorer() -> None:
        for _ in range(ROUNDS):
            try:
                await registry.tags.restore("x", randomness.choice(TAGS), digest=None, at=None, actor=ACTOR)
            except (NotRestorable, LookupError):
                continue

    async def collector() -> None:
        for _ in range(5):
            await registry.collection.run(readers=NOTHING)

    await database.write(put, "x", pushed(b"first"), "first")
    await asyncio.gather(*(client(number) for number in range(3)), cleaner(), cleaner(), restorer(), collector())

    assert await database.read(checks.broken_promises) == []
    assert await database.read(lambda c: c.execute(text(HALF)).all()) == []
