"""The due-time queue."""

from datetime import timedelta

from sqlalchemy import Connection, select
from tests.metadata.making import HOUR, NOTHING

from stackyard.metadata import clock, due, repositories, schema
from stackyard.metadata.database import Database
from stackyard.oci.digests import Digest

DIGEST = Digest.of(b"content")


async def test_an_entry_says_what_to_look_at_and_when(database: Database) -> None:
    repository_id = await database.write(repositories.ensure_locked, "a")
    await database.write(due.add_blob, DIGEST, wait=NOTHING)
    await database.write(due.add_link, repository_id, DIGEST, wait=HOUR)
    await database.write(due.add_manifest, repository_id, DIGEST, wait=2 * HOUR)

    queue = await database.read(_queue)

    assert [entry for entry, _ in queue] == [
        ("blob", 0, DIGEST),
        ("link", repository_id, DIGEST),
        ("manifest", repository_id, DIGEST),
    ]
    first, second, third = (left for _, left in queue)
    assert first <= NOTHING < second <= HOUR < third <= 2 * HOUR


async def test_a_later_entry_does_not_move_an_earlier_one(database: Database) -> None:
    await database.write(due.add_blob, DIGEST, wait=NOTHING)
    await database.write(due.add_blob, DIGEST, wait=HOUR)

    first, second = (left for _, left in await database.read(_queue))

    assert first <= NOTHING < second


def _queue(c: Connection) -> list[tuple[tuple[str, int, str], timedelta]]:
    """What is looked at, and how long from now."""
    entry = schema.due.c
    rows = c.execute(
        select(entry.kind, entry.repository_id, entry.digest, clock.until(entry.due_at)).order_by(entry.due_at)
    )
    return [((kind, repository_id, digest), timedelta(microseconds=left)) for kind, repository_id, digest, left in rows]
