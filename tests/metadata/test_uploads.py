"""Upload sessions: claims, fences, takeovers."""

import pytest
from sqlalchemy import Connection
from tests.metadata.making import ACTOR, HOUR, NOTHING, claim, new_id, start

from stackyard.metadata import clock, uploads
from stackyard.metadata.database import Database
from stackyard.metadata.errors import FenceLost
from stackyard.metadata.schema import upload
from stackyard.metadata.uploads import Claim
from stackyard.oci import layout
from stackyard.oci.digests import Digest
from stackyard.oci.errors import UploadBusy, UploadUnknown

DIGEST = Digest.of(b"so far")


async def test_a_started_session_is_found_in_its_repository_only(database: Database) -> None:
    upload_id = new_id()

    started = await database.write_relaxed(start, "a/b", upload_id)

    assert started.location == layout.upload(upload_id, 0)
    assert (started.offset, started.fence, started.hashed, started.taken_over_from) == (0, 0, None, None)
    assert started.actor == ACTOR
    assert await database.read(uploads.find, "a/b", upload_id) == started
    assert await database.read(uploads.find, "a", upload_id) is None
    assert await database.read(uploads.find, "a/b", "other") is None


async def test_a_session_can_start_claimed(database: Database) -> None:
    upload_id = new_id()

    started = await database.write_relaxed(
        uploads.start,
        repository="a",
        upload_id=upload_id,
        algorithm="sha512",
        actor=ACTOR,
        claim=Claim("first", HOUR),
    )

    assert (started.fence, started.algorithm) == (1, "sha512")
    with pytest.raises(UploadBusy):
        await database.write_relaxed(claim, "a", upload_id)
    await database.write_relaxed(uploads.release, upload_id, 1, location=started.location, offset=3, hashed=None)


async def test_a_live_claim_keeps_others_out(database: Database) -> None:
    upload_id = new_id()
    await database.write_relaxed(start, "a", upload_id)
    await database.write_relaxed(claim, "a", upload_id, holder="first")

    with pytest.raises(UploadBusy):
        await database.write_relaxed(claim, "a", upload_id, holder="second")


async def test_a_claim_needs_the_session_and_its_repository(database: Database) -> None:
    upload_id = new_id()
    await database.write_relaxed(start, "a", upload_id)

    for repository, name in (("b", upload_id), ("a", "other")):
        with pytest.raises(UploadUnknown):
            await database.write_relaxed(claim, repository, name)


async def test_a_released_session_goes_on_at_the_same_location(database: Database) -> None:
    upload_id = new_id()
    started = await database.write_relaxed(start, "a", upload_id)
    first = await database.write_relaxed(claim, "a", upload_id)
    await database.write_relaxed(
        uploads.release, upload_id, first.fence, location=first.location, offset=6, hashed=DIGEST
    )

    second = await database.write_relaxed(claim, "a", upload_id)

    assert second.fence == first.fence + 1
    assert (second.offset, second.hashed) == (6, DIGEST)
    assert second.location == started.location
    assert second.taken_over_from is None
    assert second.locations == (started.location,)


async def test_a_location_left_empty_is_not_used_again(database: Database) -> None:
    """Its file may or may not be there, so nobody could create it."""
    upload_id = new_id()
    started = await database.write_relaxed(start, "a", upload_id)
    first = await database.write_relaxed(claim, "a", upload_id)
    await database.write_relaxed(
        uploads.release, upload_id, first.fence, location=first.location, offset=0, hashed=None
    )

    second = await database.write_relaxed(claim, "a", upload_id)

    assert first.location == started.location
    assert second.location == layout.upload(upload_id, 1)
    assert second.locations == (first.location, second.location)


async def test_whoever_takes_over_writes_elsewhere_and_the_sleeper_changes_nothing(database: Database) -> None:
    upload_id = new_id()
    await database.write_relaxed(start, "a", upload_id)
    first = await database.write_relaxed(claim, "a", upload_id)
    await database.write_relaxed(
        uploads.release, upload_id, first.fence, location=first.location, offset=6, hashed=DIGEST
    )
    slept = await database.write_relaxed(claim, "a", upload_id, NOTHING, "sleeper")

    taken = await database.write_relaxed(claim, "a", upload_id, HOUR, "next")

    assert taken.location == layout.upload(upload_id, 1)
    assert taken.taken_over_from == slept.location
    assert (taken.offset, taken.hashed) == (6, DIGEST)
    with pytest.raises(FenceLost):
        await database.write_relaxed(uploads.renew, upload_id, slept.fence, HOUR)
    with pytest.raises(FenceLost):
        await database.write_relaxed(
            uploads.release, upload_id, slept.fence, location=slept.location, offset=99, hashed=None
        )
    with pytest.raises(FenceLost):
        await database.write_relaxed(uploads.give_up, upload_id, slept.fence)
    await database.write_relaxed(
        uploads.release, upload_id, taken.fence, location=taken.location, offset=9, hashed=None
    )
    found = await database.read(uploads.find, "a", upload_id)
    assert found is not None
    assert (found.location, found.offset, found.hashed) == (taken.location, 9, None)


async def test_a_takeover_that_crashed_is_taken_over_from_the_same_old_location(database: Database) -> None:
    upload_id = new_id()
    await database.write_relaxed(start, "a", upload_id)
    first = await database.write_relaxed(claim, "a", upload_id)
    await database.write_relaxed(
        uploads.release, upload_id, first.fence, location=first.location, offset=6, hashed=None
    )
    await database.write_relaxed(claim, "a", upload_id, NOTHING)
    crashed = await database.write_relaxed(claim, "a", upload_id, NOTHING)

    third = await database.write_relaxed(claim, "a", upload_id, HOUR)

    assert third.taken_over_from == crashed.taken_over_from == first.location
    assert third.location not in (crashed.location, first.location)
    assert third.offset == 6
    assert third.locations == tuple(layout.upload(upload_id, n) for n in range(3))
    found = await database.read(uploads.find, "a", upload_id)
    assert found is not None
    assert found.location == first.location


async def test_a_claim_given_up_is_taken_over_at_once_and_elsewhere(database: Database) -> None:
    upload_id = new_id()
    await database.write_relaxed(start, "a", upload_id)
    first = await database.write_relaxed(claim, "a", upload_id)
    await database.write_relaxed(
        uploads.release, upload_id, first.fence, location=first.location, offset=6, hashed=None
    )
    second = await database.write_relaxed(claim, "a", upload_id)
    await database.write_relaxed(uploads.give_up, upload_id, second.fence)

    third = await database.write_relaxed(claim, "a", upload_id)

    assert third.taken_over_from == first.location
    assert third.location != first.location


async def test_a_claim_that_ran_out_can_be_renewed_while_nobody_came(database: Database) -> None:
    upload_id = new_id()
    await database.write_relaxed(start, "a", upload_id)
    claimed = await database.write_relaxed(claim, "a", upload_id, NOTHING)

    await database.write_relaxed(uploads.renew, upload_id, claimed.fence, HOUR)

    with pytest.raises(UploadBusy):
        await database.write_relaxed(claim, "a", upload_id)


async def test_a_released_claim_is_over(database: Database) -> None:
    upload_id = new_id()
    await database.write_relaxed(start, "a", upload_id)
    claimed = await database.write_relaxed(claim, "a", upload_id)
    await database.write_relaxed(
        uploads.release, upload_id, claimed.fence, location=claimed.location, offset=1, hashed=None
    )

    with pytest.raises(FenceLost):
        await database.write_relaxed(uploads.renew, upload_id, claimed.fence, HOUR)
    with pytest.raises(FenceLost):
        await database.write_relaxed(
            uploads.release, upload_id, claimed.fence, location=claimed.location, offset=2, hashed=None
        )


async def test_cancel_ends_the_session_under_its_writer(database: Database) -> None:
    upload_id = new_id()
    started = await database.write_relaxed(start, "a", upload_id)
    claimed = await database.write_relaxed(claim, "a", upload_id)

    with pytest.raises(UploadUnknown):
        await database.write_relaxed(uploads.cancel, "b", upload_id)
    cancelled = await database.write_relaxed(uploads.cancel, "a", upload_id)

    assert cancelled.locations == (started.location,)
    assert await database.read(uploads.find, "a", upload_id) is None
    with pytest.raises(FenceLost):
        await database.write_relaxed(uploads.renew, upload_id, claimed.fence, HOUR)
    with pytest.raises(UploadUnknown):
        await database.write_relaxed(uploads.cancel, "a", upload_id)


async def test_a_session_is_open_until_it_ends_whoever_asks(database: Database) -> None:
    upload_id, other = new_id(), new_id()
    await database.write_relaxed(start, "a", upload_id)
    await database.write_relaxed(start, "b", other)

    assert await database.read(uploads.open_ones, [upload_id, new_id()]) == {upload_id}
    assert await database.read(uploads.open_ones, []) == set()
    await database.write_relaxed(claim, "a", upload_id)
    assert await database.read(uploads.open_ones, [upload_id, new_id()]) == {upload_id}
    await database.write_relaxed(uploads.cancel, "a", upload_id)
    assert await database.read(uploads.open_ones, [upload_id]) == set()
    assert await database.read(uploads.open_ones, [upload_id, other]) == {other}


async def test_stale_lists_old_sessions_that_nobody_writes_to(database: Database) -> None:
    old, busy, dead, new = (new_id() for _ in range(4))
    for upload_id in (old, busy, dead):
        await database.write_relaxed(start, "a", upload_id)
    await database.write_relaxed(claim, "a", busy, HOUR)
    await database.write_relaxed(claim, "a", dead, NOTHING)
    await database.write(_age)
    await database.write_relaxed(start, "a", new)

    found = await database.read(uploads.stale, age=HOUR, limit=10)

    assert {one.id for one in found} == {old, dead}
    assert len(await database.read(uploads.stale, age=HOUR, limit=1)) == 1
    assert await database.read(uploads.count_open) == 4


def _age(c: Connection) -> None:
    c.execute(upload.update().values(started_at=clock.before("age")), {"age": 2 * HOUR})
