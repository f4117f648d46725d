"""What every BlobStore does. A driver is done when its subclass of this suite passes."""

import asyncio
import hashlib
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from stackyard.oci.digests import Digest, Hasher
from stackyard.storage.driver import BlobReader, BlobStore, LocationGone, LocationTaken, StorageError

UPLOAD = "stackyard/uploads/0190/1"
OTHER_UPLOAD = "stackyard/uploads/0191/1"
BLOB = "docker/registry/v2/blobs/sha256/ab/abcd/data"
SECOND_COPY = "docker/registry/v2/blobs/sha256/ab/abcd/data.1"
CONTENT = b"a layer, some config, and a manifest"
KIB = 1 << 10
MIB = 1 << 20

NOT_LOCATIONS = [
    "",
    "/",
    "/absolute",
    "a//b",
    "a/",
    "./a",
    "../a",
    "a/../b",
    "a/./b",
    "a/..",
    "a b",
    "a\\b",
    "a\x00b",
    "a\n",
    "ä",
    "a:b",
    "~/*",
]


def made_up(size: int, seed: int = 1) -> bytes:
    """Bytes without structure, the same ones for the same seed."""
    return random.Random(seed).randbytes(size)


async def put(store: BlobStore, location: str, content: bytes = CONTENT) -> None:
    """Durable bytes at a location."""
    async with store.writer(location, 0) as writer:
        await writer.write(content)
        await writer.finish(durable=True)


async def put_pieces(store: BlobStore, location: str, pieces: Iterable[bytes]) -> Digest:
    """Bytes in the given pieces at a location; returns the digest that the writer's hasher saw."""
    return (await add_pieces(store, location, pieces, offset=0))[0]


async def add_pieces(store: BlobStore, location: str, pieces: Iterable[bytes], *, offset: int) -> tuple[Digest, str]:
    """More bytes at a location; returns the digest that the writer's hasher saw, and where all of them lie."""
    hasher = Hasher()
    async with store.writer(location, offset, hasher) as writer:
        for piece in pieces:
            await writer.write(piece)
        await writer.finish(durable=False)
    return hasher.digest(), writer.location


async def publish(store: BlobStore, source: str, target: str) -> str:
    """All that lies at a location, as what it is to be; returns where it lies then."""
    return await store.publish(source, target, await store.size(source) or 0)


async def drain(reader: BlobReader, start: int, stop: int) -> bytes:
    """What a reader yields for a range."""
    return b"".join([chunk async for chunk in reader.chunks(start, stop)])


async def get(store: BlobStore, location: str, start: int = 0, stop: int | None = None) -> bytes:
    """The bytes at a location."""
    reader = await store.open(location)
    try:
        return await drain(reader, start, reader.size if stop is None else stop)
    finally:
        reader.close()


async def locations(store: BlobStore, prefix: str) -> list[str]:
    """What a walk meets, sorted."""
    return sorted([found.location async for found in store.walk(prefix)])


class BlobStoreContract:
    """Subclassed once per driver, with a `store` fixture."""

    # Names

    @pytest.mark.parametrize("location", NOT_LOCATIONS)
    async def test_no_method_takes_what_is_not_a_location(self, store: BlobStore, location: str) -> None:
        await put(store, UPLOAD)

        with pytest.raises(ValueError, match="not a location"):
            await put(store, location)
        with pytest.raises(ValueError, match="not a location"):
            await store.open(location)
        with pytest.raises(ValueError, match="not a location"):
            await store.publish(UPLOAD, location, len(CONTENT))
        with pytest.raises(ValueError, match="not a location"):
            await store.publish(location, BLOB, len(CONTENT))
        with pytest.raises(ValueError, match="not a location"):
            await store.copy(UPLOAD, location, 1)
        with pytest.raises(ValueError, match="not a location"):
            await store.copy(location, BLOB, 1)
        with pytest.raises(ValueError, match="not a location"):
            await store.delete(location)
        with pytest.raises(ValueError, match="not a location"):
            await store.size(location)
        with pytest.raises(ValueError, match="not a location"):
            await locations(store, location)
        assert await get(store, UPLOAD) == CONTENT

    @pytest.mark.parametrize("location", ["a", ".hidden/-/_", "a.b/..c/...", "UPPER/lower-0_9.z", "a/" * 20 + "b"])
    async def test_every_name_in_the_grammar_holds_bytes(self, store: BlobStore, location: str) -> None:
        await put(store, location)

        assert await get(store, location) == CONTENT

    # Writing

    @pytest.mark.parametrize(
        "content",
        [b"\x00", b"\xff\xfe\x80\x00\xc3\x28", "é, 中, 🐳".encode(), bytes(range(256)), b"\r\n\n\r", b"\x00" * 5000],
    )
    async def test_any_bytes_come_back_as_they_were(self, store: BlobStore, content: bytes) -> None:
        await put(store, UPLOAD, content)

        assert await get(store, await publish(store, UPLOAD, BLOB)) == content

    @pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1, MIB, 3 * MIB + 7])
    async def test_every_size_comes_back_whole_with_its_digest(self, store: BlobStore, size: int) -> None:
        content = made_up(size)

        digest = await put_pieces(store, UPLOAD, [content])

        assert digest == Digest.of(content)
        assert await store.size(UPLOAD) == size
        assert await get(store, UPLOAD) == content

    @pytest.mark.parametrize("piece", [1 * KIB, 10_007, 64 * KIB, 100_000, 256 * KIB, 300_000, 2 * MIB])
    async def test_pieces_of_any_length_are_kept_in_order(self, store: BlobStore, piece: int) -> None:
        content = made_up(5 * MIB + 3)

        digest = await put_pieces(store, UPLOAD, [content[i : i + piece] for i in range(0, len(content), piece)])

        assert digest == Digest.of(content)
        assert await get(store, UPLOAD) == content

    async def test_chunks_of_single_bytes_are_kept_in_order(self, store: BlobStore) -> None:
        content = made_up(20_000)

        digest = await put_pieces(store, UPLOAD, [content[i : i + 1] for i in range(len(content))])

        assert digest == Digest.of(content)
        assert await get(store, UPLOAD) == content

    async def test_a_stream_of_many_mebibytes_is_kept_whole(self, store: BlobStore) -> None:
        piece = made_up(MIB)
        expected = hashlib.sha256()
        for _ in range(64):
            expected.update(piece)

        digest = await put_pieces(store, UPLOAD, (piece for _ in range(64)))
        blob = await publish(store, UPLOAD, BLOB)

        seen = hashlib.sha256()
        reader = await store.open(blob)
        async for chunk in reader.chunks(0, reader.size):
            seen.update(chunk)
        reader.close()
        assert reader.size == 64 * MIB
        assert digest.hex == seen.hexdigest() == expected.hexdigest()

    async def test_a_finished_writer_without_bytes_makes_an_empty_location(self, store: BlobStore) -> None:
        digest = await put_pieces(store, UPLOAD, [])
        blob = await publish(store, UPLOAD, BLOB)

        assert digest == Digest.of(b"")
        assert await store.size(blob) == 0
        assert await get(store, blob) == b""

    async def test_empty_chunks_change_nothing(self, store: BlobStore) -> None:
        digest = await put_pieces(store, UPLOAD, [b"", CONTENT, b"", b""])

        assert digest == Digest.of(CONTENT)
        assert await get(store, UPLOAD) == CONTENT

    async def test_a_writer_left_without_bytes_makes_nothing(self, store: BlobStore) -> None:
        async with store.writer(UPLOAD, 0):
            pass

        assert await store.size(UPLOAD) is None

    @pytest.mark.parametrize("before", [b"", b"what a refused request had brought"])
    async def test_offset_0_begins_again(self, store: BlobStore, before: bytes) -> None:
        await put(store, UPLOAD, before)

        await put(store, UPLOAD, CONTENT[:5])

        assert await get(store, UPLOAD) == CONTENT[:5]

    async def test_size_counts_every_accepted_byte_at_once(self, store: BlobStore) -> None:
        async with store.writer(UPLOAD, 0) as writer:
            sizes = [writer.size]
            for chunk in (b"one", made_up(300 * KIB), made_up(300 * KIB), b"four"):
                await writer.write(chunk)
                sizes.append(writer.size)
            await writer.finish(durable=False)
            sizes.append(writer.size)

        assert sizes == [0, 3, 307203, 614403, 614407, 614407]

    async def test_leaving_without_finish_keeps_what_was_accepted(self, store: BlobStore) -> None:
        content = made_up(MIB + 5)

        async with store.writer(UPLOAD, 0) as writer:
            for i in range(0, len(content), 60_000):
                await writer.write(content[i : i + 60_000])

        assert await get(store, UPLOAD) == content

    async def test_leaving_by_an_error_keeps_what_was_accepted_and_lets_the_error_pass(self, store: BlobStore) -> None:
        class Disconnected(Exception):
            """The client's end of the connection went away."""

        async def push() -> None:
            async with store.writer(UPLOAD, 0, hasher) as writer:
                await writer.write(CONTENT)
                raise Disconnected

        hasher = Hasher()
        with pytest.raises(Disconnected):
            await push()

        assert await get(store, UPLOAD) == CONTENT
        assert hasher.digest() == Digest.of(CONTENT)

    async def test_leaving_by_cancellation_keeps_what_was_accepted(self, store: BlobStore) -> None:
        content = made_up(700 * KIB)
        accepted = asyncio.Event()

        async def push() -> None:
            async with store.writer(UPLOAD, 0) as writer:
                await writer.write(content[: 300 * KIB])
                await writer.write(content[300 * KIB :])
                accepted.set()
                await asyncio.Event().wait()

        pushing = asyncio.create_task(push())
        await accepted.wait()
        pushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pushing

        assert await get(store, UPLOAD) == content

    async def test_nothing_can_be_written_after_the_end(self, store: BlobStore) -> None:
        async with store.writer(UPLOAD, 0) as writer:
            await writer.write(CONTENT)
            await writer.finish(durable=True)

            with pytest.raises(StorageError):
                await writer.write(b"more")
            with pytest.raises(StorageError):
                await writer.finish(durable=True)

        assert await get(store, UPLOAD) == CONTENT

    async def test_many_writers_do_not_mix(self, store: BlobStore) -> None:
        async def stream(number: int) -> Digest:
            content = made_up(MIB + number, seed=number)
            pieces = [content[i : i + 50_000] for i in range(0, len(content), 50_000)]
            return await put_pieces(store, f"stackyard/uploads/{number}/0", pieces)

        digests = await asyncio.gather(*(stream(number) for number in range(24)))

        assert digests == [Digest.of(made_up(MIB + number, seed=number)) for number in range(24)]
        for number in range(24):
            assert await get(store, f"stackyard/uploads/{number}/0") == made_up(MIB + number, seed=number)

    # Adding to what lies there

    @pytest.mark.parametrize("size", [1, 4096, 600 * KIB])
    async def test_a_later_writer_goes_on_at_the_offset(self, store: BlobStore, size: int) -> None:
        first, second, third = made_up(size, 1), made_up(size, 2), made_up(size, 3)

        await put_pieces(store, UPLOAD, [first])
        digest, upload = await add_pieces(store, UPLOAD, [second], offset=size)
        _, upload = await add_pieces(store, upload, [third], offset=2 * size)

        assert digest == Digest.of(second)
        assert await store.size(upload) == 3 * size
        assert await get(store, upload) == first + second + third
        assert await get(store, upload, size - 1, 2 * size + 1) == (first + second + third)[size - 1 : 2 * size + 1]

    async def test_size_counts_earlier_writers_bytes(self, store: BlobStore) -> None:
        await put_pieces(store, UPLOAD, [CONTENT])

        async with store.writer(UPLOAD, len(CONTENT)) as writer:
            await writer.write(b"more")

            assert writer.size == len(CONTENT) + 4

    async def test_going_on_past_the_end_is_refused(self, store: BlobStore) -> None:
        await put_pieces(store, UPLOAD, [CONTENT])

        with pytest.raises(LocationGone):
            await add_pieces(store, UPLOAD, [b"!"], offset=len(CONTENT) + 1)

        assert await get(store, UPLOAD) == CONTENT

    async def test_going_on_with_nothing_is_refused(self, store: BlobStore) -> None:
        with pytest.raises(LocationGone):
            await add_pieces(store, UPLOAD, [b"!"], offset=1)

        assert await store.size(UPLOAD) is None

    async def test_a_refusal_is_raised_on_leaving_at_the_latest(self, store: BlobStore) -> None:
        async def push() -> None:
            async with store.writer(UPLOAD, 5) as writer:
                await writer.write(b"!")

        with pytest.raises(LocationGone):
            await push()

    # Reading

    @pytest.mark.parametrize(
        ("start", "stop"),
        [(0, 0), (0, 1), (3, 3), (5, 8), (0, 700_001), (700_000, 700_001), (700_001, 700_001), (262_143, 524_289)],
    )
    async def test_chunks_are_the_half_open_range(self, store: BlobStore, start: int, stop: int) -> None:
        content = made_up(700_001)
        await put(store, UPLOAD, content)

        assert await get(store, UPLOAD, start, stop) == content[start:stop]

    async def test_one_reader_gives_many_ranges_in_any_order(self, store: BlobStore) -> None:
        content = made_up(MIB)
        await put(store, UPLOAD, content)
        reader = await store.open(UPLOAD)

        late, early = await asyncio.gather(drain(reader, 500_000, MIB), drain(reader, 0, 500_000))
        again = await drain(reader, 10, 20)
        reader.close()

        assert early + late == content
        assert again == content[10:20]

    async def test_chunks_are_never_empty(self, store: BlobStore) -> None:
        await put(store, UPLOAD, made_up(MIB + 1))
        reader = await store.open(UPLOAD)

        sizes = [len(chunk) async for chunk in reader.chunks(0, reader.size)]
        reader.close()

        assert all(sizes)
        assert sum(sizes) == MIB + 1

    async def test_reading_past_the_end_raises_after_the_bytes_there_are(self, store: BlobStore) -> None:
        await put(store, UPLOAD)
        reader = await store.open(UPLOAD)
        chunks = aiter(reader.chunks(2, len(CONTENT) + 1))

        got = await anext(chunks)
        with pytest.raises(StorageError):
            await anext(chunks)
        reader.close()

        assert got == CONTENT[2:]

    async def test_opening_nothing_is_refused(self, store: BlobStore) -> None:
        await put(store, BLOB)

        with pytest.raises(LocationGone):
            await store.open(UPLOAD)
        with pytest.raises(LocationGone):
            await store.open("docker/registry")
        with pytest.raises(LocationGone):
            await store.open(f"{BLOB}/below")

    async def test_a_reader_may_be_closed_twice(self, store: BlobStore) -> None:
        await put(store, UPLOAD)
        reader = await store.open(UPLOAD)

        reader.close()
        reader.close()

    async def test_many_readers_of_one_location_do_not_disturb_each_other(self, store: BlobStore) -> None:
        content = made_up(2 * MIB)
        await put(store, UPLOAD, content)

        got = await asyncio.gather(*(get(store, UPLOAD, number * 1000) for number in range(16)))

        assert got == [content[number * 1000 :] for number in range(16)]

    # Whole blobs

    @pytest.mark.parametrize("size", [0, 1, 4096, 300_000])
    async def test_put_keeps_the_bytes(self, store: BlobStore, size: int) -> None:
        content = made_up(size)

        await store.put(BLOB, content)

        assert await get(store, BLOB) == content
        assert await locations(store, "docker") == [BLOB]

    @pytest.mark.parametrize("count", [0, 1, 100])
    async def test_many_that_are_put_together_keep_their_bytes(self, store: BlobStore, count: int) -> None:
        contents = {f"docker/{number % 7}/{number}/data": made_up(number * 11) for number in range(count)}

        assert await store.put_all(contents) == []

        assert {location: await get(store, location) for location in contents} == contents
        assert sorted(await locations(store, "docker")) == sorted(contents)

    # Publishing

    # Copying

    @pytest.mark.parametrize("size", [0, 1, 300_000, 700_001])
    async def test_copy_takes_the_first_bytes_and_leaves_the_source(self, store: BlobStore, size: int) -> None:
        content = made_up(700_001)
        await put(store, UPLOAD, content)

        await store.copy(UPLOAD, OTHER_UPLOAD, size)

        assert await get(store, OTHER_UPLOAD) == content[:size]
        assert await get(store, UPLOAD) == content

    async def test_a_copy_goes_on_by_itself(self, store: BlobStore) -> None:
        await put(store, UPLOAD, b"common ")
        await store.copy(UPLOAD, OTHER_UPLOAD, 7)

        _, other = await add_pieces(store, OTHER_UPLOAD, [b"new"], offset=7)
        _, upload = await add_pieces(store, UPLOAD, [b"old"], offset=7)

        assert await get(store, other) == b"common new"
        assert await get(store, upload) == b"common old"

    async def test_a_copy_of_what_several_writers_wrote_goes_on_too(self, store: BlobStore) -> None:
        await put(store, UPLOAD, b"first ")
        _, upload = await add_pieces(store, UPLOAD, [b"second "], offset=6)
        _, upload = await add_pieces(store, upload, [b"third"], offset=13)

        other = await store.copy(upload, OTHER_UPLOAD, 13)
        _, other = await add_pieces(store, other, [b"other"], offset=13)
        other = await publish(store, other, BLOB)
        await store.delete(upload)

        assert await get(store, other) == b"first second other"
        assert await store.size(upload) is None

    async def test_copy_of_more_than_there_is_makes_nothing(self, store: BlobStore) -> None:
        await put(store, UPLOAD)

        with pytest.raises(LocationGone):
            await store.copy(UPLOAD, OTHER_UPLOAD, len(CONTENT) + 1)
        with pytest.raises(LocationGone):
            await store.copy("stackyard/uploads/none/0", OTHER_UPLOAD, 0)

        assert await store.size(OTHER_UPLOAD) is None

    # Deleting

    async def test_delete_removes_only_what_is_named(self, store: BlobStore) -> None:
        neighbours = [f"{BLOB}x", SECOND_COPY, f"{BLOB[:-1]}", "docker/registry/v2/blobs/sha256/ab/abce/data"]
        for location in (BLOB, *neighbours):
            await put(store, location)

        await store.delete(BLOB)

        assert await store.size(BLOB) is None
        assert await locations(store, "docker") == sorted(neighbours)

    async def test_delete_removes_all_that_are_named_and_needs_none(self, store: BlobStore) -> None:
        for location in (BLOB, SECOND_COPY, OTHER_UPLOAD):
            await put(store, location)

        await store.delete()
        await store.delete(f"{BLOB}x", BLOB, OTHER_UPLOAD)

        assert await store.size(OTHER_UPLOAD) is None
        assert await locations(store, "docker") == [SECOND_COPY]

    async def test_delete_of_a_folder_removes_nothing(self, store: BlobStore) -> None:
        await put(store, BLOB)

        await store.delete("docker")
        await store.delete("docker/registry/v2/blobs/sha256/ab/abcd")

        assert await get(store, BLOB) == CONTENT

    async def test_delete_of_nothing_is_not_an_error(self, store: BlobStore) -> None:
        await put(store, BLOB)

        await store.delete(UPLOAD)
        await store.delete(f"{BLOB}/below")
        await store.delete(BLOB)
        await store.delete(BLOB)

        assert await locations(store, "docker") == []

    async def test_a_location_can_be_made_again_where_the_last_one_of_its_folder_went(self, store: BlobStore) -> None:
        await put(store, UPLOAD)
        await store.delete(await publish(store, UPLOAD, BLOB))
        await put(store, UPLOAD)

        assert await get(store, await publish(store, UPLOAD, SECOND_COPY)) == CONTENT

    async def test_publishing_survives_deletions_that_empty_its_folder(self, store: BlobStore) -> None:
        async def publish_and_delete(number: int) -> None:
            for turn in range(15):
                upload, blob = f"uploads/shared/{number}.{turn}", f"blobs/shared/{number}.{turn}"
                await put(store, upload)
                blob = await publish(store, upload, blob)
                assert await get(store, blob) == CONTENT
                await store.delete(blob)

        await asyncio.gather(*(publish_and_delete(number) for number in range(12)))

        assert await locations(store, "blobs") == []
        assert await locations(store, "uploads") == []

    # Looking around

    async def test_size_is_none_where_no_bytes_lie(self, store: BlobStore) -> None:
        await put(store, BLOB)

        assert await store.size(BLOB) == len(CONTENT)
        assert await store.size(UPLOAD) is None
        assert await store.size("docker/registry/v2") is None
        assert await store.size(f"{BLOB}/below") is None

    async def test_walk_names_every_location_below_the_folder_once(self, store: BlobStore) -> None:
        below = [f"top/{a}/{b}/data" for a in range(30) for b in range(40)]
        for location in (*below, "topmost/data", "other/top/data"):
            async with store.writer(location, 0) as writer:
                await writer.write(b"12345")

        found = [one async for one in store.walk("top")]

        assert sorted(one.location for one in found) == sorted(below)
        assert {one.size for one in found} == {5}
        assert all(abs(datetime.now(UTC) - one.modified) < timedelta(minutes=5) for one in found)

    async def test_walk_of_a_missing_folder_or_a_location_yields_nothing(self, store: BlobStore) -> None:
        await put(store, BLOB)

        assert await locations(store, "nowhere") == []
        assert await locations(store, BLOB) == []

    async def test_walk_goes_on_while_what_it_meets_is_deleted(self, store: BlobStore) -> None:
        everything = [f"top/{number}/data" for number in range(1200)]
        for location in everything:
            async with store.writer(location, 0) as writer:
                await writer.write(b"x")

        met = []
        async for found in store.walk("top"):
            met.append(found.location)
            await store.delete(found.location)

        assert sorted(met) == sorted(everything)
        assert await locations(store, "top") == []

    async def test_check_passes_and_leaves_nothing(self, store: BlobStore) -> None:
        await store.check()

        assert await locations(store, "stackyard") == []

    async def test_redirect_is_a_url_or_none(self, store: BlobStore) -> None:
        await put(store, BLOB)

        url = await store.redirect(BLOB)

        assert url is None or httpx.get(url, headers={"Range": "bytes=2-5"}).content == CONTENT[2:6]


class RenamingStoreContract(BlobStoreContract):
    """And what a store does that `renames`."""

    async def test_what_lies_past_the_offset_is_cut_off(self, store: BlobStore) -> None:
        await put_pieces(store, UPLOAD, [CONTENT])

        await add_pieces(store, UPLOAD, [b"!"], offset=7)

        assert await get(store, UPLOAD) == CONTENT[:7] + b"!"

    async def test_finishing_at_an_offset_without_bytes_cuts_off_what_lies_past_it(self, store: BlobStore) -> None:
        await put_pieces(store, UPLOAD, [CONTENT])

        await add_pieces(store, UPLOAD, [], offset=7)

        assert await get(store, UPLOAD) == CONTENT[:7]

    async def test_a_reader_outlives_the_location(self, store: BlobStore) -> None:
        content = made_up(MIB)
        await put(store, UPLOAD, content)
        reader = await store.open(UPLOAD)

        await store.delete(UPLOAD)

        assert await drain(reader, 0, reader.size) == content
        reader.close()

    @pytest.mark.parametrize("count", [3, 100])
    async def test_put_together_never_overwrites_and_tells_what_is_taken(self, store: BlobStore, count: int) -> None:
        await store.put("docker/1/data", b"first")
        contents = {f"docker/{number}/data": b"second" for number in range(count)}

        assert await store.put_all(contents) == ["docker/1/data"]

        expected = contents | {"docker/1/data": b"first"}
        assert {location: await get(store, location) for location in contents} == expected

    async def test_put_never_overwrites(self, store: BlobStore) -> None:
        await store.put(BLOB, b"first")

        with pytest.raises(LocationTaken):
            await store.put(BLOB, b"second")

        assert await get(store, BLOB) == b"first"

    async def test_what_was_put_is_published(self, store: BlobStore) -> None:
        await put(store, UPLOAD)
        await store.put(BLOB, b"first")

        with pytest.raises(LocationTaken):
            await publish(store, UPLOAD, BLOB)

        assert await get(store, BLOB) == b"first"

    async def test_of_many_that_put_one_location_exactly_one_wins(self, store: BlobStore) -> None:
        outcomes = await asyncio.gather(
            *(store.put(BLOB, str(number).encode()) for number in range(20)), return_exceptions=True
        )

        [winner] = [number for number, outcome in enumerate(outcomes) if outcome is None]
        assert sum(isinstance(outcome, LocationTaken) for outcome in outcomes) == 19
        assert await get(store, BLOB) == str(winner).encode()

    async def test_publish_moves_the_bytes(self, store: BlobStore) -> None:
        await put(store, UPLOAD)

        await publish(store, UPLOAD, BLOB)

        assert await get(store, BLOB) == CONTENT
        assert await store.size(UPLOAD) is None
        assert await locations(store, "stackyard") == []

    async def test_publish_never_overwrites(self, store: BlobStore) -> None:
        await put(store, UPLOAD, b"first")
        await publish(store, UPLOAD, BLOB)
        await put(store, OTHER_UPLOAD, b"second")

        with pytest.raises(LocationTaken):
            await publish(store, OTHER_UPLOAD, BLOB)

        assert await get(store, BLOB) == b"first"
        assert await get(store, OTHER_UPLOAD) == b"second"

    @pytest.mark.parametrize("size", [0, len(CONTENT) - 1, len(CONTENT) + 1])
    async def test_publish_of_another_size_is_refused_and_harms_nothing(self, store: BlobStore, size: int) -> None:
        await put(store, UPLOAD)

        with pytest.raises(LocationGone):
            await store.publish(UPLOAD, BLOB, size)

        assert await store.size(BLOB) is None
        assert await get(store, UPLOAD) == CONTENT

    async def test_publish_of_nothing_is_refused_and_makes_nothing(self, store: BlobStore) -> None:
        with pytest.raises(LocationGone):
            await publish(store, UPLOAD, BLOB)

        assert await store.size(BLOB) is None
        assert await locations(store, "docker") == []

    async def test_publish_onto_itself_is_refused_and_harms_nothing(self, store: BlobStore) -> None:
        await put(store, UPLOAD)

        with pytest.raises(LocationTaken):
            await publish(store, UPLOAD, UPLOAD)

        assert await get(store, UPLOAD) == CONTENT

    async def test_of_many_publishers_of_one_target_exactly_one_wins(self, store: BlobStore) -> None:
        uploads = [f"stackyard/uploads/{number}/0" for number in range(20)]
        for number, upload in enumerate(uploads):
            await put(store, upload, str(number).encode())

        outcomes = await asyncio.gather(*(publish(store, upload, BLOB) for upload in uploads), return_exceptions=True)

        winners = [number for number, outcome in enumerate(outcomes) if outcome == BLOB]
        assert len(winners) == 1
        assert sum(isinstance(outcome, LocationTaken) for outcome in outcomes) == 19
        assert await get(store, BLOB) == str(winners[0]).encode()

    async def test_copy_never_overwrites(self, store: BlobStore) -> None:
        await put(store, UPLOAD, b"first")
        await put(store, OTHER_UPLOAD, b"second")

        with pytest.raises(LocationTaken):
            await store.copy(UPLOAD, OTHER_UPLOAD, 5)

        assert await get(store, OTHER_UPLOAD) == b"second"
